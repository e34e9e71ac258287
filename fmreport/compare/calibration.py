"""Are the probabilities honest? Log loss, calibration, temperature scaling; and what averaging probabilities gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from fmlib.measure import CALIBRATION_BINS, SMALLEST
from fmlib.measure import expected_calibration_error as calibration_error
from fmlib.results import Record
from fmreport.compare.significance import mcnemar_p, paired_difference, wilson
from fmreport.compare.table import listed, number


def _log(proba: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.log(np.maximum(proba.astype(np.float64), SMALLEST))


def log_loss(proba: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood, in nats, of ``labels`` (n,) under ``proba`` (n, c); NaN of no images."""
    return float(-_log(proba)[np.arange(len(labels)), labels].mean()) if len(labels) else float("nan")


def reliability(proba: NDArray[np.floating], labels: NDArray[np.int64], bins: int = CALIBRATION_BINS) -> pd.DataFrame:
    """Mean confidence, accuracy and count of the images in each of ``bins`` equal steps of confidence that has any."""
    confidence = proba.max(1).astype(np.float64)
    step = np.minimum((confidence * bins).astype(int), bins - 1)
    frame = pd.DataFrame({"confidence": confidence, "accuracy": proba.argmax(1) == labels, "count": 1})
    return frame.groupby(step).agg({"confidence": "mean", "accuracy": "mean", "count": "sum"})


def rescale(proba: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, c) at ``temperature``: above 1 humbler, below 1 bolder; the order of classes stays."""
    return softmax(_log(proba) / temperature, axis=1)


def fit_temperature(proba: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature of least log loss on these images, which must be validation images; 1 if none does better.

    Guo et al. (2017), https://arxiv.org/abs/1706.04599.
    """
    if not len(labels):
        return 1.0

    def loss(log_t: float) -> float:
        return log_loss(rescale(proba, np.exp(log_t)), labels)

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def temperature_of(run: Record) -> float:
    """The temperature that a record's validation images ask for."""
    return fit_temperature(run.predictions.validation_proba, run.predictions.validation_labels)


def scaled(run: Record) -> NDArray[np.float64]:
    """The test probabilities (n, c) of a record at its temperature."""
    return rescale(run.predictions.proba, temperature_of(run))


def calibration_table(runs: Mapping[str, Record]) -> pd.DataFrame:
    """A row a model: its temperature, and test log loss and ECE before and after scaling by it.

    No probability counts as smaller than ``SMALLEST``, before or after.
    """
    rows = {}
    for name, run in runs.items():
        p, temperature = run.predictions, temperature_of(run)
        after = rescale(p.proba, temperature)
        rows[name] = [temperature, log_loss(p.proba, p.labels), log_loss(after, p.labels), run.result.ece,
                      calibration_error(after, p.labels)]
    columns = ["temperature", "log_loss", "log_loss_scaled", "ece", "ece_scaled"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")


def advice(name: str, run: Record) -> str:
    """Whether a model's probabilities want scaling before they are used, in words; "" where it gains less than a point."""
    row = calibration_table({name: run}).loc[name]
    if row["ece"] - row["ece_scaled"] < 0.01:
        return ""
    return (f"Whoever needs the probabilities of **{name}** should scale them: a temperature of {row['temperature']:.2f} takes "
            f"its calibration error from {row['ece']:.3f} to {row['ece_scaled']:.3f} and its log loss from "
            f"{row['log_loss']:.3f} to {row['log_loss_scaled']:.3f}.")


def curves(runs: Mapping[str, Record]) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Each model's reliability on the test images, before and after temperature scaling."""
    return {name: (reliability(run.predictions.proba, run.predictions.labels), reliability(scaled(run), run.predictions.labels))
            for name, run in runs.items()}


@dataclass(frozen=True)
class Ensemble:
    """What the average of ``members`` scores on the test images, beside its best member on validation images.

    ``gain`` is the ensemble's accuracy less that member's, with its 95 % interval; ``p_value`` is McNemar's, exact, of the two.
    """

    members: list[str]
    accuracy: float
    low: float
    high: float
    gain: tuple[float, float, float]
    p_value: float

    def sentence(self) -> str:
        """What the ensemble gives, in words."""
        verdict = ("a difference that the test images bear out" if self.p_value < 0.05
                   else "a difference that these test images cannot tell from chance")
        gain, low, high = (number(100 * value, "+.1f") for value in self.gain)
        return (f"The average of {listed(self.members)}, the {len(self.members)} best models on validation images, reaches "
                f"{self.accuracy:.1%} (95% interval {self.low:.1%} to {self.high:.1%}). Against {self.members[0]} alone that "
                f"is {gain} points ({low} to {high}), {verdict} (McNemar p = {self.p_value:.2g}).")


def average_ensemble(runs: Mapping[str, Record], size: int = 3) -> Ensemble | None:
    """Average the probabilities, after temperature scaling, of the ``size`` models that are best on validation images.

    None with fewer than two models. Unscaled, the boldest would outvote the others.
    """
    scores = {name: np.mean(p.validation_proba.argmax(1) == p.validation_labels)
              for name, run in runs.items() if len((p := run.predictions).validation_labels)}
    members = sorted(scores, key=lambda name: (-scores[name], name))[:size]
    if len(members) < 2:
        return None
    proba = [scaled(runs[name]) for name in members]
    labels = runs[members[0]].predictions.labels
    right, alone = np.mean(proba, axis=0).argmax(1) == labels, proba[0].argmax(1) == labels
    low, high = wilson(right.sum(), len(labels))
    return Ensemble(members, float(right.mean()), low, high, paired_difference(right, alone), mcnemar_p(right, alone))
