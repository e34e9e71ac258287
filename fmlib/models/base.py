"""What every model is: the contract, and the little that all share."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fmlib.data import Images, Labels


class Classifier(Protocol):
    """The contract. Constructors only store; attributes that ``fit`` finds end in ``_``; fitting again forgets the first fit.

    Images are raw, uint8 (n, 28, 28), and labels int64 (n,): scaling, resizing and augmentation are a model's own business.
    ``validation`` is a pair of images and labels for choices such as early stopping and calibration, never for training.
    What are no such images or labels is refused, by ``fmlib.data.check_images`` and ``check_labelled``. Probabilities have a
    column a class, also for one that training never saw. Training time, parameters and operations are above 0.
    """

    train_seconds_: float  # training steps alone, validation and calibration excluded
    history_: list[dict[str, object]]  # a row an epoch, as results.Epoch; empty where there are no epochs

    def fit(self, images: Images, labels: Labels, validation: tuple[Images, Labels]) -> Self: ...
    def predict_proba(self, images: Images) -> NDArray[np.float32]: ...
    def predict(self, images: Images) -> Labels: ...
    def parameter_count(self) -> int: ...
    def flops_per_image(self) -> float: ...


class Predictor:
    """Predicts the most probable class."""

    def predict(self, images: Images) -> Labels:
        """Class indices int64 (n,) of raw images uint8 (n, 28, 28)."""
        return self.predict_proba(images).argmax(axis=1)  # type: ignore[attr-defined]
