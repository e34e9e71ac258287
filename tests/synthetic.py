"""Made-up results: records whose every number follows from a few wishes, for tests that need results but no training."""

from __future__ import annotations

import numpy as np

from fmlib.results import ClassScore, Environment, Epoch, Predictions, Record, Result, Weights

NAMES = ("top", "trousers", "pullover", "dress", "shirt")
HERE = Environment(device="cpu", device_name="Test CPU", processor="Test CPU", cores=2, memory_gb=8, platform="Linux",
                   versions={})
ELSEWHERE = HERE.model_copy(update={"device": "cuda", "device_name": "Test GPU", "cores": 16})


def labels_of(size: int, classes: int) -> np.ndarray:
    """Balanced labels in a fixed order."""
    return np.arange(size) % classes


def predict(labels: np.ndarray, right: np.ndarray, classes: int, confidence: float = 0.8) -> np.ndarray:
    """Probabilities that are right where ``right``; a wrong one takes a class for the next, and the last for the first."""
    guess = np.where(right, labels, (labels + 1) % classes)
    proba = np.full((len(labels), classes), (1 - confidence) / (classes - 1))
    proba[np.arange(len(labels)), guess] = confidence
    return proba.astype(np.float16)


def record(model: str, accuracy: float | np.ndarray, *, size: int = 2000, seed: int = 9, rng: int = 0, confidence: float = 0.8,
           names: tuple[str, ...] = NAMES, history: int = 0, machine: Environment = HERE,
           labels: np.ndarray | None = None, **fields: object) -> Record:
    """A record with ``accuracy``: a fraction, whose errors fall at random and mostly on the last class, or a bool an image."""
    classes = len(names)
    labels = labels_of(size, classes) if labels is None else labels
    size = len(labels)
    generator = np.random.default_rng([rng, *model.encode()])
    if np.ndim(accuracy) == 0:
        weight = np.where(labels == classes - 1, 5.0, 1.0)
        wrong = generator.choice(size, size - round(accuracy * size), replace=False, p=weight / weight.sum())
        accuracy = ~np.isin(np.arange(size), wrong)
    proba = predict(labels, accuracy, classes, confidence)
    validation = labels_of(200, classes)
    validation_proba = predict(validation, generator.random(200) < np.mean(accuracy), classes, confidence)
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (labels, proba.argmax(1)), 1)
    epochs = [Epoch(epoch=i + 1, lr=0.001, train_loss=1 / (i + 1), validation_loss=0.5 + abs(i - history // 2) / 20,
                    validation_accuracy=0.8, train_seconds=1, rss_mb=500) for i in range(history)]
    values = dict(
        model=model, family="mlp", display_name=model.title(), profile="test", seed=seed, parameters={}, weights=Weights(),
        parameter_count=1000, flops_per_image=1e6, train_seconds=10, fit_wall_seconds=12, predict_seconds=1,
        latency_ms_p50=1, latency_ms_p95=2, peak_rss_mb=700, rss_baseline_mb=400, train_size=1800, validation_size=200,
        test_size=size, accuracy=float(np.mean(accuracy)), log_loss=0.5, ece=0.1, classes=scores(matrix, names),
        confusion_matrix=matrix.tolist(), history=epochs, environment=machine, data_sha256="d", split_sha256="s")
    return Record(Result(**values | fields), Predictions(proba, labels, validation_proba, validation))


def scores(matrix: np.ndarray, names: tuple[str, ...]) -> list[ClassScore]:
    """Each class's scores, from confusion counts."""
    hits, rows, columns = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    return [ClassScore(name=name, precision=h / max(c, 1), recall=h / max(r, 1), f1=2 * h / max(r + c, 1), support=r)
            for name, h, r, c in zip(names, hits, rows, columns, strict=True)]


def clear_winner(**common: object) -> list[Record]:
    """Three models: the second and third are well behind the first."""
    return [record("alpha", 0.95, train_seconds=300, fit_wall_seconds=330, latency_ms_p50=9, peak_rss_mb=2400, **common),
            record("beta", 0.88, train_seconds=20, **common), record("gamma", 0.80, train_seconds=2, **common)]


def all_tied() -> list[Record]:
    """Three models of nearly the same accuracy."""
    return [record("alpha", 0.901, train_seconds=30), record("beta", 0.9005), record("gamma", 0.9, train_seconds=20)]


def ten_models(size: int = 10_000, **common: object) -> list[Record]:
    """Ten models over four decades of training time, as in a full report; one pre-trained, one on another machine."""
    names = ["Decision Tree", "Random Forest", "SVM", "XGBoost", "MLP", "Custom CNN", "VGG16, from scratch", "ResNet34",
             "MobileNetV3", "EfficientNet-Lite0"]
    classes = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
    common = {"names": classes} | common
    return [record(name.split(",")[0].lower().replace(" ", "_"), 0.80 + 0.14 * (i / 9) ** 0.4, size=size, display_name=name,
                   **common, train_seconds=0.5 * 3.1**i, fit_wall_seconds=0.7 * 3.1**i, latency_ms_p50=0.1 * 2**i,
                   latency_ms_p95=0.2 * 2**i, parameter_count=1000 * 4**i, flops_per_image=1e4 * 6.0**i,
                   peak_rss_mb=500 + 90 * i, history=8 if i > 3 else 0, peak_vram_mb=900 if i == 8 else None,
                   weights=Weights(source="package" if i == 9 else "none"), machine=ELSEWHERE if i == 8 else HERE)
            for i, name in enumerate(names)]
