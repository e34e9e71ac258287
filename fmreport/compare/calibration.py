"""Are the probabilities honest? Temperature scaling, and what averaging probabilities gives.

Log loss, calibration error and the fit of a temperature are those of ``fmlib.scores``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmlib import scores
from fmlib.results import Result
from fmreport.compare.significance import mcnemar_p, paired_difference, wilson


def temperatures(runs: Mapping[str, Result]) -> dict[str, float]:
    """Each run's temperature, fitted on its validation images: Guo et al. (2017),
    https://arxiv.org/abs/1706.04599. Above 1 it makes a model less sure, below 1 surer.

    A fit takes a while, so it is made once and handed to what needs it.
    """
    fit = scores.fit_temperature
    return {
        name: fit(scores.log_proba(run.validation_proba), run.validation_labels)
        for name, run in runs.items()
    }


def rescale(proba: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, c) at ``temperature``; the order of classes stays."""
    return np.exp(scores.log_softmax(scores.log_proba(proba) / temperature))


def calibration_table(
    runs: Mapping[str, Result], temperatures: Mapping[str, float]
) -> pd.DataFrame:
    """A row a model: its temperature, and test log loss and calibration error (ECE) before and
    after scaling by it."""
    rows = {}
    for name, run in runs.items():
        temperature = temperatures[name]
        loss = scores.log_loss(scores.log_proba(run.proba), run.labels, temperature)
        ece = scores.expected_calibration_error(rescale(run.proba, temperature), run.labels)
        rows[name] = [temperature, run.log_loss, loss, run.ece, ece]
    columns = ["temperature", "log_loss", "log_loss_scaled", "ece", "ece_scaled"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")


def curves(runs: Mapping[str, Result], temperatures: Mapping[str, float]) -> pd.DataFrame:
    """Each model's reliability on the test images, before and after scaling.

    A row a bin of confidence that has images: model, scaled (bool), confidence and accuracy (means
    of the bin, fractions), count (of images).
    """
    columns = ["model", "scaled", "confidence", "accuracy", "count"]
    rows = []
    for name, run in runs.items():
        for scaled, proba in ((False, run.proba), (True, rescale(run.proba, temperatures[name]))):
            bins = zip(*scores.calibration_bins(proba, run.labels), strict=True)
            rows += [(name, scaled, *one) for one in bins]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class Ensemble:
    """What the average of ``members`` scores on the test images, beside its best member on
    validation images, which is the first.

    ``gain`` is the ensemble's accuracy less that member's, with its 95 % interval; ``p_value`` is
    McNemar's, exact, of the two. Accuracies are fractions.
    """

    members: list[str]
    accuracy: float
    low: float
    high: float
    gain: tuple[float, float, float]
    p_value: float


def average_ensemble(
    runs: Mapping[str, Result], temperatures: Mapping[str, float], size: int = 3
) -> Ensemble | None:
    """Average the scaled probabilities of the ``size`` models that are best on validation images.

    None with fewer than two models. Unscaled, the surest would outvote the others.
    """
    accuracy = {
        name: np.mean(run.validation_proba.argmax(1) == run.validation_labels)
        for name, run in runs.items()
        if len(run.validation_labels)
    }
    members = sorted(accuracy, key=lambda name: (-accuracy[name], name))[:size]
    if len(members) < 2:
        return None
    best = runs[members[0]]
    mean = np.mean([rescale(runs[name].proba, temperatures[name]) for name in members], axis=0)
    together, alone = (proba.argmax(1) == best.labels for proba in (mean, best.proba))
    low, high = wilson(together.sum(), len(together))
    gain = paired_difference(together, alone)
    return Ensemble(members, float(together.mean()), low, high, gain, mcnemar_p(together, alone))
