"""What all tests share: a few real images, and one run of the smoke profile."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

# As a fit's process has it, so that tests beside a busy neighbour take no ages: before torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
import pytest
from commands import REPORT, run
from filelock import FileLock
from hypothesis import HealthCheck, settings

from fmlib.data import Dataset, load_sample
from fmlib.project import HERE

settings.register_profile(
    "fmlib",
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("fmlib")


def class_balanced(data: Dataset, *counts: int) -> Dataset:
    """The first so many training, validation and test images of each class, in their order."""
    parts = {}
    for part, count in zip(("train", "validation", "test"), counts, strict=True):
        images, labels = getattr(data, part)
        of_classes = [np.flatnonzero(labels == c)[:count] for c in np.unique(labels)]
        chosen = np.sort(np.concatenate(of_classes))
        parts |= {f"{part}_images": images[chosen], f"{part}_labels": labels[chosen]}
    return replace(data, **parts)


@pytest.fixture(scope="session")
def sample() -> Dataset:
    """The whole embedded sample: 1,800 training, 200 validation and 500 test images."""
    return load_sample()


@pytest.fixture(scope="session")
def small(sample: Dataset) -> Dataset:
    """300 training, 100 validation and 100 test images of the sample, class-balanced."""
    return class_balanced(sample, 30, 10, 10)


@pytest.fixture(scope="session")
def few(sample: Dataset) -> Dataset:
    """100 training, 20 validation and 20 test images, for models that are large."""
    return class_balanced(sample, 10, 2, 2)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The smoke profile, run once in a copy of the project, in a path with a space.

    Its build folder, and what was said. Processes that share the tests share the run.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    clone = shared / "a clone"
    told = clone / "told.txt"
    with FileLock(shared / "a clone.lock"):
        if not told.is_file():
            for name in ("fmlib", "fmreport", "notebooks", "params", "docs/studies"):
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(HERE.root / name, clone / name, ignore=ignored)
            told.write_text(run(clone, *REPORT), encoding="utf-8")
    return clone / "build" / "smoke", told.read_text(encoding="utf-8")


FITTING = {
    "test_bench",
    "test_fast",
    "test_fitting",
    "test_html",
    "test_measure",
    "test_models",
    "test_own_data",
    "test_own_models",
    "test_pdf",
    "test_pipeline",
    "test_results",
    "test_sections",
    "test_studies",
    "test_training",
    "test_transfer",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of modules that fit much, or open a browser, are none of `make check`'s quick ones."""
    for item in items:
        if item.path.stem in FITTING:
            item.add_marker("slow")
