"""The record one model leaves behind: its schema, and how it is saved, loaded and checked.

A record is a folder with two plain files, ``result.json`` (a :class:`Result`) and ``predictions.npz``
(:class:`Predictions`). The comparison reads these two and nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, model_validator
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from fmlib.data import ImageData
from fmlib.measure import SMALLEST, Measurement, describe_machine, expected_calibration_error, git_state
from fmlib.models.base import Classifier
from fmlib.models.registry import entry
from fmlib.training import default_device

SCHEMA_VERSION = 1
RESULT_FILE, PREDICTIONS_FILE = "result.json", "predictions.npz"
FROM_SCRATCH = ", from scratch"  # ends the name of a model whose pre-trained weights could not be had or were not wanted
Fraction = Field(ge=0, le=1)


class ResultError(ValueError):
    """A result that is missing, unreadable, or does not fit with the others."""


class Strict(BaseModel):
    """No unknown keys, no NaN or infinity: a record says exactly what its schema says."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class ClassScore(Strict):
    """One class's scores on the test images; ``support`` counts its images."""

    name: str
    precision: float = Fraction
    recall: float = Fraction
    f1: float = Fraction
    support: NonNegativeInt


class Epoch(Strict):
    """One epoch of training. ``stage`` tells the stages of a recipe apart, as in transfer learning."""

    stage: str = "train"
    epoch: int = Field(ge=1)
    lr: NonNegativeFloat
    train_loss: NonNegativeFloat
    validation_loss: NonNegativeFloat
    validation_accuracy: float = Fraction
    train_seconds: NonNegativeFloat
    rss_mb: NonNegativeFloat


class Environment(Strict):
    """Where a result was measured. Only results of equal ``machine_id`` share a time or memory chart."""

    device: Literal["cpu", "cuda"]
    device_name: str
    processor: str
    cores: int = Field(ge=1)
    memory_gb: NonNegativeFloat
    platform: str
    versions: dict[str, str]

    @property
    def machine_id(self) -> str:
        """Device, processor and cores in words, for example ``AMD EPYC with AVX2, 2 cores``."""
        cpu = f"{self.processor}, {self.cores} core{'s' if self.cores != 1 else ''}"
        return cpu if self.device == "cpu" else f"{self.device_name} ({cpu})"


class Weights(Strict):
    """Pre-trained weights a model started from; ``source`` is ``"none"`` for training from scratch."""

    source: str = "none"
    sha256: str | None = None


class Result(Strict):
    """Everything measured about one model with one seed. Units stand in the names.

    ``train_seconds`` counts training steps only, ``fit_wall_seconds`` all of ``fit``; ``predict_seconds`` is one pass over
    the test images after a warm-up, ``latency_ms_*`` one image at a time. ``peak_rss_mb`` is the process's peak during
    ``fit``, ``rss_baseline_mb`` what it held before it. Scores are on the test images.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    model: str
    family: str
    display_name: str
    profile: str
    seed: int
    parameters: dict[str, Any]
    weights: Weights = Weights()
    parameter_count: NonNegativeInt
    flops_per_image: NonNegativeFloat
    train_seconds: NonNegativeFloat
    fit_wall_seconds: NonNegativeFloat
    predict_seconds: NonNegativeFloat
    latency_ms_p50: NonNegativeFloat
    latency_ms_p95: NonNegativeFloat
    peak_rss_mb: NonNegativeFloat
    rss_baseline_mb: NonNegativeFloat
    peak_vram_mb: NonNegativeFloat | None = None
    train_size: NonNegativeInt
    validation_size: NonNegativeInt
    test_size: NonNegativeInt
    accuracy: float = Fraction
    log_loss: NonNegativeFloat
    ece: float = Fraction
    classes: list[ClassScore]
    confusion_matrix: list[list[NonNegativeInt]]
    history: list[Epoch] = []
    environment: Environment
    data_sha256: str
    split_sha256: str
    job_sha256: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None

    @model_validator(mode="after")
    def _counts_agree(self) -> Result:
        matrix = np.asarray(self.confusion_matrix)
        if matrix.shape != (len(self.classes),) * 2 or matrix.sum() != self.test_size:
            raise ValueError(f"confusion_matrix: wanted {len(self.classes)} rows and columns that sum to {self.test_size} "
                             f"test images, got shape {matrix.shape} and sum {matrix.sum()}")
        if not np.isclose(matrix.trace() / max(self.test_size, 1), self.accuracy, atol=1e-6):
            raise ValueError(f"accuracy {self.accuracy} does not follow from the confusion_matrix")
        return self

    @property
    def class_names(self) -> list[str]:
        return [score.name for score in self.classes]

    @property
    def memory_mb(self) -> float:
        """Peak memory of the fit over the process's baseline, in MiB."""
        return max(self.peak_rss_mb - self.rss_baseline_mb, 0.0)


@dataclass(frozen=True)
class Predictions:
    """Class probabilities, in data-set order: ``proba`` float16 (n_test, n_classes) and ``labels`` int64 (n_test,), and the
    same of the validation images."""

    proba: NDArray[np.float16]
    labels: NDArray[np.int64]
    validation_proba: NDArray[np.float16]
    validation_labels: NDArray[np.int64]

    def check(self, result: Result) -> None:
        """Raise ResultError unless shapes, ranges and accuracy agree with ``result``."""
        for name, proba, labels, size in (
            ("test", self.proba, self.labels, result.test_size),
            ("validation", self.validation_proba, self.validation_labels, result.validation_size),
        ):
            if proba.shape != (size, len(result.classes)) or labels.shape != (size,):
                raise ResultError(f"{name} predictions: wanted {size} rows of {len(result.classes)} classes, "
                                  f"got proba {proba.shape} and labels {labels.shape}")
            sums = proba.sum(1, dtype=np.float32)
            if not ((proba >= 0).all() and np.allclose(sums, 1, atol=0.02)):  # NaN fails both
                raise ResultError(f"{name} predictions: rows of proba must be probabilities that sum to 1, "
                                  f"got sums from {sums.min():.3g} to {sums.max():.3g}")
        got = np.mean(self.proba.argmax(1) == self.labels)
        if abs(got - result.accuracy) > 1e-6:
            raise ResultError(f"predictions give accuracy {got:.4f}, result.json says {result.accuracy:.4f}")


def scores(proba: NDArray[np.float32], labels: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, Any]:
    """The scores of a Result, by field name, from class probabilities (n, classes) and labels (n,)."""
    classes = range(len(class_names))
    predicted = proba.argmax(1)
    exact = np.maximum(proba, SMALLEST, dtype=np.float64)
    table = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0.0)
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "log_loss": float(log_loss(labels, exact / exact.sum(1, keepdims=True), labels=classes)),
        "ece": expected_calibration_error(proba, labels),
        "confusion_matrix": confusion_matrix(labels, predicted, labels=classes).tolist(),
        "classes": [
            {"name": name, "precision": precision, "recall": recall, "f1": f1, "support": support}
            for name, precision, recall, f1, support in zip(class_names, *table, strict=True)
        ],
    }


def _half(proba: NDArray[np.float32]) -> NDArray[np.float16]:
    """The probabilities (n, classes) in half precision, predicting the same classes where rounding made two of them equal."""
    half, images, predicted = proba.astype(np.float16), np.arange(len(proba)), proba.argmax(1)
    changed = half.argmax(1) != predicted
    half[images[changed], predicted[changed]] = np.nextafter(half[changed].max(1), np.float16(1))
    return half


def make_record(model: str, classifier: Classifier, data: ImageData, measured: Measurement, **job: Any) -> Record:
    """The record of a measured classifier; ``job`` gives profile, seed, parameters and what else the schema wants."""
    memory, commit, dirty = measured.memory, *git_state()
    weights = getattr(classifier, "weights_", None)  # only a model that can start from pre-trained ones has it
    scratch = FROM_SCRATCH if weights and weights["source"] == "none" else ""
    result = Result(
        model=model, family=entry(model).family, display_name=entry(model).display_name + scratch,
        weights=Weights(**(weights or {})), **vars(memory),
        parameter_count=classifier.parameter_count(), flops_per_image=classifier.flops_per_image(),
        train_seconds=measured.train_seconds, fit_wall_seconds=measured.fit_wall_seconds,
        predict_seconds=measured.predict_seconds,
        latency_ms_p50=measured.latency_ms_p50, latency_ms_p95=measured.latency_ms_p95,
        train_size=len(data.train_labels), validation_size=len(data.validation_labels), test_size=len(data.test_labels),
        **scores(measured.proba, data.test_labels, data.class_names), history=classifier.history_,
        environment=describe_machine(default_device()), data_sha256=data.data_sha256, split_sha256=data.split_sha256,
        git_commit=commit, git_dirty=dirty, **job,
    )  # fmt: skip
    half = [_half(proba) for proba in (measured.proba, measured.validation_proba)]
    return Record(result, Predictions(half[0], data.test_labels, half[1], data.validation_labels))


@dataclass(frozen=True)
class Record:
    """One loaded record."""

    result: Result
    predictions: Predictions


def record_folder(results_dir: str | os.PathLike[str], model: str, seed: int) -> Path:
    """Where the record of ``model`` and ``seed`` lies under a results folder."""
    return Path(results_dir) / model / f"seed-{seed}"


def save(record: Record, results_dir: str | os.PathLike[str]) -> Path:
    """Check and write one record under ``results_dir``; it appears whole or not at all. Returns its folder."""
    result, predictions = record.result, record.predictions
    predictions.check(result)
    folder = record_folder(results_dir, result.model, result.seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".incoming-") as scratch:
        incoming = Path(scratch) / folder.name
        incoming.mkdir()
        (incoming / RESULT_FILE).write_text(result.model_dump_json(indent=1), encoding="utf-8")
        np.savez_compressed(incoming / PREDICTIONS_FILE, **vars(predictions))
        shutil.rmtree(folder, ignore_errors=True)
        incoming.rename(folder)
    return folder


def load(folder: str | os.PathLike[str]) -> Record:
    """Read and check the record in ``folder``; raises ResultError with the reason if it cannot be trusted."""
    folder = Path(folder)
    try:
        result = Result.model_validate_json((folder / RESULT_FILE).read_text(encoding="utf-8"))
        with np.load(folder / PREDICTIONS_FILE, allow_pickle=False) as arrays:
            predictions = Predictions(**{name: arrays[name] for name in arrays})
        predictions.check(result)
    except Exception as error:  # any fault of a file means the same to the reader: this record is no good
        raise ResultError(f"{folder}: {error}") from error
    return Record(result, predictions)


def load_all(results_dir: str | os.PathLike[str]) -> list[Record]:
    """Every record under ``results_dir``, in alphabetical order of model and seed; they must agree, see :func:`check_agree`."""
    records = [load(path.parent) for path in sorted(Path(results_dir).glob(f"*/seed-*/{RESULT_FILE}"))]
    check_agree(records)
    return records


def check_agree(records: Iterable[Record]) -> None:
    """Raise ResultError unless all records have the same data, split and test labels, so that they can be compared."""
    records = list(records)
    for name in ("data_sha256", "split_sha256"):
        seen = {getattr(record.result, name): record.result for record in records}
        if len(seen) > 1:
            found = ", ".join(f"{result.model} seed {result.seed}: {value[:12]}" for value, result in seen.items())
            raise ResultError(f"results disagree on {name} and cannot be compared ({found}); delete the stale ones")
    if any(not np.array_equal(record.predictions.labels, records[0].predictions.labels) for record in records):
        raise ResultError("results disagree on the test labels and cannot be compared")
