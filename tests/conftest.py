"""What all tests share: a few real images, one run of the smoke profile, and no progress bars."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import REPORT, run
from hypothesis import HealthCheck, settings

from fmlib.data import PROJECT_ROOT, ImageData, load_data

settings.register_profile(
    "fmlib", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("fmlib")


def class_balanced(data: ImageData, *counts: int) -> ImageData:
    """The first so many training, validation and test images of each class, in the order of the images."""
    parts = {}
    for part, count in zip(("train", "validation", "test"), counts, strict=True):
        images, labels = getattr(data, part)
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in np.unique(labels)]))
        parts |= {f"{part}_images": images[chosen], f"{part}_labels": labels[chosen]}
    return replace(data, **parts)


@pytest.fixture(scope="session")
def sample() -> ImageData:
    """The whole embedded sample: 1,800 training, 200 validation and 500 test images."""
    return load_data("sample")


@pytest.fixture(scope="session")
def small(sample: ImageData) -> ImageData:
    """300 training, 100 validation and 100 test images of the sample, class-balanced."""
    return class_balanced(sample, 30, 10, 10)


@pytest.fixture(scope="session")
def few(sample: ImageData) -> ImageData:
    """100 training, 20 validation and 20 test images, for models that are large."""
    return class_balanced(sample, 10, 2, 2)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The smoke profile, run once in a copy of the project in a path with a space: its build folder, and what was said."""
    clone = tmp_path_factory.mktemp("a clone")
    for name in ("fmlib", "fmreport", "notebooks", "params", "docs/studies"):
        if (PROJECT_ROOT / name).is_dir():
            shutil.copytree(PROJECT_ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    said = run(clone, *REPORT)
    return clone / "build" / "smoke", said


@pytest.fixture(autouse=True)
def _lines_not_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMLIB_PROGRESS", "lines")
