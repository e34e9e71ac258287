"""What all tests share: a few real images, and no progress bars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fmlib.data import ImageData, load_data

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


@pytest.fixture(autouse=True)
def _lines_not_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMLIB_PROGRESS", "lines")
