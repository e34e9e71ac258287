"""How good probabilities are: accuracy, log loss, calibration; the one place that computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special
from sklearn import metrics

from fmlib.data import Labels

SMALLEST = 1e-7  # what a probability counts as at least: about float16's smallest, as records keep
CALIBRATION_BINS = 15
TEMPERATURES = (0.05, 20.0)  # within which to look for one

Proba = NDArray[np.floating]


def log_proba(proba: Proba) -> NDArray[np.float64]:
    """Logarithms of probabilities (n, classes), none counted as smaller than ``SMALLEST``."""
    return np.log(np.maximum(proba.astype(np.float64), SMALLEST))


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of the probabilities that logits (n, classes) stand for."""
    return special.log_softmax(logits, axis=1)


def log_loss(logits: NDArray[np.float64], labels: Labels, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood, in nats, of ``labels`` (n,); NaN of no images.

    ``logits`` (n, classes) may be a network's, an SVM's scores, or :func:`log_proba`'s.
    """
    if not len(labels):
        return float("nan")
    return float(-log_softmax(logits / temperature)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: NDArray[np.float64], labels: Labels) -> float:
    """The temperature of least log loss on these images, which must be validation images.

    1 if none does better, or without images. Guo et al. (2017), https://arxiv.org/abs/1706.04599.
    """
    if not len(labels):
        return 1.0
    bounds = tuple(np.log(TEMPERATURES))
    found = optimize.minimize_scalar(
        lambda log_t: log_loss(logits, labels, np.exp(log_t)), bounds=bounds, method="bounded"
    )
    return float(np.exp(found.x)) if found.fun < log_loss(logits, labels) else 1.0


def calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[Any], bins: int = CALIBRATION_BINS
) -> float:
    """How far confidence (n,) and accuracy, by ``correct`` (n,), lie apart in equal steps.

    The mean over images; 0 of none. Naeini et al. 2015; Guo et al. 2017.
    """
    gaps = np.bincount(_steps(confidence, bins), confidence - correct, bins)
    return float(np.abs(gaps).sum() / max(len(confidence), 1))


def _steps(confidence: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """The equal step of confidence, from 0 on, into which each image falls."""
    return np.minimum((confidence * bins).astype(int), bins - 1)


def calibration_bins(
    proba: Proba, labels: Labels, bins: int = CALIBRATION_BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, accuracy and number of the images in each equal step of confidence.

    Steps without an image are left out.
    """
    confidence, correct = proba.max(1).astype(np.float64), proba.argmax(1) == labels
    step = _steps(confidence, bins)
    count, sure, right = (
        np.bincount(step, weights=weights, minlength=bins)
        for weights in (None, confidence, correct)
    )
    seen = count > 0
    return sure[seen] / count[seen], right[seen] / count[seen], count[seen]


def expected_calibration_error(proba: Proba, labels: Labels, bins: int = CALIBRATION_BINS) -> float:
    """:func:`calibration_error` of probabilities (n, classes) and labels (n,)."""
    return calibration_error(proba.max(1).astype(np.float64), proba.argmax(1) == labels, bins)


def scores(proba: Proba, labels: Labels, class_names: Sequence[str]) -> dict[str, Any]:
    """All scores of a Result, by field name, from probabilities (n, classes) and labels (n,)."""
    predicted, numbers = proba.argmax(1), range(len(class_names))
    of_classes = metrics.precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=0
    )
    rows = zip(class_names, *(column.tolist() for column in of_classes), strict=True)
    fields = ("name", "precision", "recall", "f1", "support")
    return {
        "accuracy": float((predicted == labels).mean()),
        "log_loss": log_loss(log_proba(proba), labels),
        "ece": expected_calibration_error(proba, labels),
        "confusion_matrix": metrics.confusion_matrix(labels, predicted, labels=numbers).tolist(),
        "classes": [dict(zip(fields, row, strict=True)) for row in rows],
    }
