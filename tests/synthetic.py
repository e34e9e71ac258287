"""Made-up results whose every score follows from made-up predictions, for tests that need results
but no training."""

from __future__ import annotations

import numpy as np

from fmlib import scores
from fmlib.results import Environment, Epoch, Result, Weights

NAMES = ("top", "trousers", "pullover", "dress", "shirt")
FASHION = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
HERE = Environment(
    device="cpu",
    device_name="Test CPU",
    processor="Test CPU",
    cores=2,
    memory_gb=8,
    platform="Linux",
    versions={},
)
ELSEWHERE = HERE.model_copy(update={"device": "cuda", "device_name": "Test GPU", "cores": 16})

MEASURED = dict(
    seed=9,
    key="k",
    parameters={},
    weights=None,
    parameter_count=1000,
    flops_per_image=1e6,
    train_seconds=10,
    fit_wall_seconds=12,
    predict_seconds=1,
    latency_ms_p50=1,
    latency_ms_p95=2,
    peak_rss_mb=700,
    rss_baseline_mb=400,
    train_size=1800,
    validation_size=200,
    data_sha256="d",
    split_sha256="s",
)


def labels_of(size: int, classes: int) -> np.ndarray:
    """Balanced labels in a fixed order."""
    return np.arange(size) % classes


def predict(
    labels: np.ndarray, correct: np.ndarray, classes: int, confidence: float = 0.8
) -> np.ndarray:
    """Probabilities (n, classes) that are correct where ``correct``; a wrong one takes a class for
    the next, and the last for the first."""
    guess = np.where(correct, labels, (labels + 1) % classes)
    proba = np.full((len(labels), classes), (1 - confidence) / (classes - 1))
    proba[np.arange(len(labels)), guess] = confidence
    return proba.astype(np.float16)


def record(
    model: str,
    accuracy: float | np.ndarray,
    *,
    size: int = 2000,
    rng: int = 0,
    confidence: float = 0.8,
    names: tuple[str, ...] = NAMES,
    history: int = 0,
    machine: Environment = HERE,
    labels: np.ndarray | None = None,
    validation: np.ndarray | None = None,
    **fields: object,
) -> Result:
    """A result with ``accuracy``: a fraction, whose errors fall at random and mostly on the last
    class, or a bool an image. ``validation`` are its probabilities for 200 validation images."""
    generator = np.random.default_rng([rng, *model.encode()])
    if labels is None:
        labels = labels_of(size if np.ndim(accuracy) == 0 else len(accuracy), len(names))
    if np.ndim(accuracy) == 0:
        accuracy = _correct(generator, accuracy, labels)
    validation_labels = labels_of(200, len(names))
    proba = predict(labels, accuracy, len(names), confidence)
    if validation is None:
        drawn = generator.random(200) < np.mean(accuracy)
        validation = predict(validation_labels, drawn, len(names), confidence)
    values = MEASURED | dict(
        model=model,
        test_size=len(labels),
        history=_epochs(history),
        environment=machine,
        proba=proba,
        labels=labels,
        validation_proba=validation,
        validation_labels=validation_labels,
    )
    return Result(**values | scores.scores(proba, labels, names) | fields)


def _correct(generator: np.random.Generator, accuracy: float, labels: np.ndarray) -> np.ndarray:
    weight = np.where(labels == labels.max(), 5.0, 1.0)
    errors = len(labels) - round(accuracy * len(labels))
    wrong = generator.choice(len(labels), errors, replace=False, p=weight / weight.sum())
    return ~np.isin(np.arange(len(labels)), wrong)


def _epochs(count: int) -> list[Epoch]:
    """So many epochs, of which the middle one has the least validation loss."""
    return [
        Epoch(
            epoch=i + 1,
            lr=0.001,
            train_loss=1 / (i + 1),
            validation_loss=0.5 + abs(i - count // 2) / 20,
            validation_accuracy=0.8,
            train_seconds=1,
            rss_mb=500,
        )
        for i in range(count)
    ]


def of_seeds(model: str, *accuracies: float, **fields: object) -> list[Result]:
    """Fits of a model with the seeds from 1 on, of these accuracies."""
    return [
        record(model, accuracy, seed=seed, rng=seed, **fields)
        for seed, accuracy in enumerate(accuracies, 1)
    ]


def clear_winner(**common: object) -> list[Result]:
    """Three models: the second and third are well behind the first."""
    costly = dict(train_seconds=300, fit_wall_seconds=330, latency_ms_p50=9, peak_rss_mb=2400)
    return [
        record("Alpha", 0.95, **costly, **common),
        record("Beta", 0.88, train_seconds=20, **common),
        record("Gamma", 0.80, train_seconds=2, **common),
    ]


def all_tied() -> list[Result]:
    """Three models of nearly the same accuracy."""
    return [
        record("Alpha", 0.901, train_seconds=30),
        record("Beta", 0.9005),
        record("Gamma", 0.9, train_seconds=20),
    ]


def ten_models(size: int = 10_000, **common: object) -> list[Result]:
    """Ten models over four decades of training time, as in a full report; one pre-trained, one on
    another machine, one from scratch."""
    models = [
        *("decision_tree", "random_forest", "svm", "xgboost", "mlp", "cnn"),
        *("vgg16", "resnet34", "mobilenet_v3_small", "efficientnet_lite0"),
    ]
    weights = {"vgg16": Weights(source="none"), "efficientnet_lite0": Weights(source="package")}
    elsewhere = {"peak_vram_mb": 900, "machine": ELSEWHERE}
    return [
        record(
            model,
            0.80 + 0.14 * (i / 9) ** 0.4,
            size=size,
            weights=weights.get(model),
            history=8 if i > 3 else 0,
            train_seconds=0.5 * 3.1**i,
            fit_wall_seconds=0.7 * 3.1**i,
            latency_ms_p50=0.1 * 2**i,
            latency_ms_p95=0.2 * 2**i,
            parameter_count=1000 * 4**i,
            flops_per_image=1e4 * 6.0**i,
            peak_rss_mb=500 + 90 * i,
            **(elsewhere if model == "mobilenet_v3_small" else {}),
            **{"names": FASHION} | common,
        )
        for i, model in enumerate(models)
    ]


def stripes(shape: tuple[int, ...], classes: int, count: int = 160) -> dict[str, np.ndarray]:
    """Images whose class is the side on which they are bright, or how many stripes they have."""
    rng, made = np.random.default_rng(9), {}
    for part in ("train", "test"):
        labels = np.arange(count) % classes
        images = rng.integers(0, 60, (count, *shape), np.uint8)
        for image, label in zip(images, labels, strict=True):
            width = shape[1] // classes
            image[:, label * width : (label + 1) * width] += 150
        made |= {f"{part}_images": images, f"{part}_labels": labels}
    return made
