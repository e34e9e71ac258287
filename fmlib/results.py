"""The record that one fit leaves: what was measured, the predictions, the fitted model.

A record is a folder with ``result.json``, ``predictions.npz``, the model, as ``safetensors``,
``skops`` or XGBoost's own format, and ``manifest.json``, the hashes of these files: what was cut or
edited since is refused. Loading a record runs no code from it.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from fmlib.models.base import Model
from fmlib.models.registry import MODELS, build
from fmlib.project import sha256_of_file
from fmlib.scores import scores

RESULT_FILE, PREDICTIONS_FILE = "result.json", "predictions.npz"
MANIFEST_FILE = "manifest.json"
ARRAYS = ("proba", "labels", "validation_proba", "validation_labels")
ONE_VIEW = "one_view_proba"  # of models whose predictions are the mean over views
CONTENDED, SHORT_SECONDS = 0.1, 20.0  # a share of the processor's time; a fit's wall-clock time
FROM_SCRATCH = " (scratch)"  # ends the name of a model that began without given weights
Fraction = Annotated[float, Field(ge=0, le=1)]
Proba = Annotated[NDArray[np.float16], Field(exclude=True, repr=False)]
OneView = Annotated[NDArray[np.float16] | None, Field(exclude=True, repr=False)]
Labels = Annotated[NDArray[np.int64], Field(exclude=True, repr=False)]


class ResultError(ValueError):
    """A result that is missing, unreadable, or does not fit with the others."""


class Strict(BaseModel):
    """No unknown keys, no NaN or infinity: a record says exactly what its schema says."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, frozen=True, arbitrary_types_allowed=True
    )


class ClassScore(Strict):
    """One class's scores on the test images; ``support`` counts its images."""

    name: str
    precision: Fraction
    recall: Fraction
    f1: Fraction
    support: NonNegativeInt


class Epoch(Strict):
    """One epoch of training; ``stage`` tells the stages of a recipe apart."""

    stage: str = "train"
    epoch: int = Field(ge=1)
    lr: NonNegativeFloat
    train_loss: NonNegativeFloat
    validation_loss: NonNegativeFloat
    validation_accuracy: Fraction
    train_seconds: NonNegativeFloat
    rss_mb: NonNegativeFloat


class Environment(Strict):
    """Where a result was measured. Only results of equal ``machine_id`` share a time chart."""

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
    """Pre-trained weights a model started from; ``source`` is ``"none"`` from scratch."""

    source: str = "none"
    sha256: str | None = None


class Result(Strict):
    """Everything measured about one model with one seed. Units stand in the names.

    ``train_seconds`` counts training steps only, ``fit_wall_seconds`` all of ``fit``, which began
    at ``measured_at`` (UTC, ISO 8601); ``predict_seconds`` is one pass over the test images after a
    warm-up, ``latency_ms_*`` one image at a time, of ``latency_images`` images. ``peak_rss_mb`` is
    the process's peak during ``fit``, ``rss_baseline_mb`` what it held before it, ``model_bytes``
    the size of the fitted model on disk. ``cpu_seconds``, ``others_seconds`` and ``steal_seconds``
    are ``measure.Spent``'s, ``load`` the mean number of the machine's waiting threads at the end.
    ``parameter_count`` is the architecture's, ``parameters_used`` without those that make no
    difference to images of this size. ``weights`` is None for a model
    that knows no pre-trained ones. ``fitted`` is what the model's file lacks. ``key`` is the job's.
    A record of before a field was known has None there.

    The predictions are class probabilities float16 (n, classes) and labels int64 (n,), in data-set
    order, the mean over ``views`` of an image; ``one_view_proba`` are those of the test images
    as they are, where there are several. Scores are on the test images; they follow from the
    predictions, or it is refused.
    """

    schema_version: Literal[2] = 2
    model: str
    seed: int
    key: str
    parameters: dict[str, Any]
    weights: Weights | None = None
    parameter_count: NonNegativeInt | None
    parameters_used: NonNegativeInt | None = None
    flops_per_image: NonNegativeFloat | None
    views: int | None = Field(default=None, ge=1)
    measured_at: str | None = None
    train_seconds: NonNegativeFloat
    fit_wall_seconds: NonNegativeFloat
    predict_seconds: NonNegativeFloat
    latency_ms_p50: NonNegativeFloat
    latency_ms_p95: NonNegativeFloat
    latency_images: NonNegativeInt | None = None
    cpu_seconds: NonNegativeFloat | None = None
    others_seconds: NonNegativeFloat | None = None
    steal_seconds: NonNegativeFloat | None = None
    load: NonNegativeFloat | None = None
    peak_rss_mb: NonNegativeFloat
    rss_baseline_mb: NonNegativeFloat
    peak_vram_mb: NonNegativeFloat | None = None
    model_bytes: NonNegativeInt | None = None
    train_size: NonNegativeInt
    validation_size: NonNegativeInt
    test_size: NonNegativeInt
    accuracy: Fraction
    log_loss: NonNegativeFloat
    ece: Fraction
    classes: list[ClassScore]
    confusion_matrix: list[list[NonNegativeInt]]
    history: list[Epoch] = []
    environment: Environment
    data_sha256: str
    split_sha256: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    fitted: dict[str, Any] = {}

    proba: Proba
    labels: Labels
    validation_proba: Proba
    validation_labels: Labels
    one_view_proba: OneView = None

    @model_validator(mode="after")
    def _predictions_agree(self) -> Result:
        classes = len(self.classes)
        _check_predictions("test", self.proba, self.labels, (self.test_size, classes))
        held_out = (self.validation_proba, self.validation_labels)
        _check_predictions("validation", *held_out, (self.validation_size, classes))
        if self.one_view_proba is not None:
            one_view = (self.one_view_proba, self.labels)
            _check_predictions("one view's", *one_view, (self.test_size, classes))
        follow = scores(self.proba, self.labels, self.class_names)
        said = self.model_dump(include=set(follow))
        for name, value in follow.items():
            if not _same(said[name], value):
                shown = f"{said[name]}, they give {value}" if isinstance(value, float) else "others"
                raise ValueError(f"{name} does not follow from the predictions: it says {shown}")
        return self

    @property
    def title(self) -> str:
        """The model's name for readers."""
        known = MODELS.get(self.model)
        name = known.title if known else self.model.replace("_", " ")
        scratch = self.weights is not None and self.weights.source == "none"
        return name + FROM_SCRATCH if scratch else name

    @property
    def family(self) -> str:
        """The chapter that tells about the model."""
        known = MODELS.get(self.model)
        return known.family if known else "own"

    @property
    def class_names(self) -> list[str]:
        """The classes, in the order of their numbers."""
        return [score.name for score in self.classes]

    @property
    def one_view_accuracy(self) -> float | None:
        """Accuracy on the test images without averaging views; None where it is not known."""
        if self.one_view_proba is None:
            return self.accuracy if self.views == 1 else None
        return float((self.one_view_proba.argmax(1) == self.labels).mean())

    @property
    def validation_accuracy(self) -> float | None:
        """Accuracy on the validation images of the model that was tested; None without any."""
        if not len(self.validation_labels):
            return None
        return float((self.validation_proba.argmax(1) == self.validation_labels).mean())

    @property
    def contended(self) -> bool:
        """Whether other work took more than a tenth of the processor's time during the fit, so that
        its times are those of no quiet machine. Of short fits nothing is said."""
        lost = (self.others_seconds or 0.0) + (self.steal_seconds or 0.0)
        there = self.fit_wall_seconds * self.environment.cores
        return self.fit_wall_seconds >= SHORT_SECONDS and lost > CONTENDED * there

    @property
    def memory_mb(self) -> float:
        """Peak memory of the fit over the process's baseline, in MiB."""
        return max(self.peak_rss_mb - self.rss_baseline_mb, 0.0)


def _check_predictions(
    name: str, proba: NDArray[Any], labels: NDArray[Any], shape: tuple[int, int]
) -> None:
    size, classes = shape
    if proba.shape != shape or labels.shape != (size,):
        wanted = f"{size} rows of {classes} classes"
        got = f"proba {proba.shape} and labels {labels.shape}"
        raise ValueError(f"{name} predictions: wanted {wanted}, got {got}")
    if not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"{name} labels: wanted 0 to {classes - 1}, got others")
    sums = proba.sum(1, dtype=np.float32)
    if not ((proba >= 0).all() and np.allclose(sums, 1, atol=0.02)):  # NaN fails both
        got = f"sums from {sums.min():.3g} to {sums.max():.3g}"
        raise ValueError(f"{name} predictions: wanted probabilities that sum to 1, got {got}")


def _same(said: Any, value: Any) -> bool:
    """Whether two scores agree, but for the rounding of another machine's sums."""
    if isinstance(value, float):
        return math.isclose(said, value, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(value, dict):
        return all(_same(said[key], value[key]) for key in value)
    if isinstance(value, list):
        return len(said) == len(value) and all(map(_same, said, value))
    return said == value


def half(proba: NDArray[np.float32]) -> NDArray[np.float16]:
    """Probabilities (n, classes) in half precision, which predict the same classes."""
    rounded, images, predicted = proba.astype(np.float16), np.arange(len(proba)), proba.argmax(1)
    changed = rounded.argmax(1) != predicted  # where rounding made two of them equal
    raised = np.nextafter(rounded[changed].max(1), np.float16(1))
    rounded[images[changed], predicted[changed]] = raised
    return rounded


def in_words(error: Exception) -> str:
    """What is wrong, in one line; of a record that breaks its schema, the first fault."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split()) or type(error).__name__
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else fault["msg"].removeprefix("Value error, ")


# --- On disk ----------------------------------------------------------------------------------


def record_folder(results_dir: Path, model: str, seed: int) -> Path:
    """Where the record of ``model`` and ``seed`` lies under a results folder."""
    return results_dir / model / f"seed-{seed}"


@contextmanager
def incoming(folder: Path) -> Iterator[Path]:
    """An empty folder for a record, which takes the place of ``folder`` when the block ends; where
    the block fails everything stays as it was."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".incoming-") as scratch:
        record = Path(scratch) / "record"
        record.mkdir()
        yield record
        if os.path.lexists(folder):  # a link to nowhere too
            folder.rename(Path(scratch) / "old")
        record.rename(folder)


def save(result: Result, model: Model | None, folder: Path) -> None:
    """Write a record, with the fitted model if there is one; it appears whole or not at all."""
    with incoming(folder) as record:
        if model is not None:
            fitted = model.save(record)
            size = sum(path.stat().st_size for path in record.iterdir())
            result = result.model_copy(update={"fitted": fitted, "model_bytes": size})
        text = result.model_dump_json(indent=1)
        (record / RESULT_FILE).write_text(text, encoding="utf-8")
        arrays = {name: getattr(result, name) for name in ARRAYS}
        if result.one_view_proba is not None:
            arrays[ONE_VIEW] = result.one_view_proba
        np.savez_compressed(record / PREDICTIONS_FILE, **arrays)
        write_manifest(record)


def write_manifest(folder: Path) -> None:
    """Write what the record's files hash to; one that differs later was changed by hand."""
    files = [path for path in sorted(folder.iterdir()) if path.name != MANIFEST_FILE]
    text = json.dumps({path.name: sha256_of_file(path) for path in files}, indent=1)
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def _check_manifest(folder: Path, *names: str) -> None:
    """Raise ValueError unless these files of a record, by default all, are as they were written."""
    said = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    for name in names or said:
        if said.get(name) != sha256_of_file(folder / name):
            raise ValueError(f"{name} is not what was written; its hash differs")


def load(folder: Path) -> Result:
    """Read and check the record in ``folder``; ResultError says why it cannot be trusted."""
    try:
        _check_manifest(folder, RESULT_FILE, PREDICTIONS_FILE)
        text = (folder / RESULT_FILE).read_text(encoding="utf-8")
        with np.load(folder / PREDICTIONS_FILE, allow_pickle=False) as arrays:
            predictions = {name: arrays[name] for name in ARRAYS}
            if ONE_VIEW in arrays:
                predictions[ONE_VIEW] = arrays[ONE_VIEW]
        return Result.model_validate(json.loads(text) | predictions)
    except Exception as error:  # whatever is wrong with a file, this record is no good
        raise ResultError(f"{folder}: {in_words(error)}") from error


def load_model(folder: Path) -> Model:
    """The fitted model of the record in ``folder``; predicts what it did when it was fitted.

    Raises ResultError where the record has none, or it cannot be loaded.
    """
    from fmlib import fast

    fast.enable()
    result = load(folder)
    try:
        _check_manifest(folder)
        return build(result.model, result.parameters).load(folder, result.fitted)
    except Exception as error:
        raise ResultError(f"{folder}: its model: {in_words(error)}") from error
