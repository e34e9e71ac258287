"""Are the probabilities honest? Temperature scaling, calibration error, and answering when sure.

Log loss, bins and the fit of a temperature are those of ``fmlib.scores``. What is said of a model
is the mean over its seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from fmlib import scores
from fmlib.results import Result
from fmreport.compare.significance import Difference, Runs, correct, difference, wilson
from fmreport.compare.table import by_name

Proba = NDArray[np.floating]
Temperatures = Mapping[str, Sequence[float]]  # of each model's fits, in their order
SHARES = tuple(np.arange(1, 1001) / 1000)
DRAWS, SEED = 200, 9  # of calibration errors, for their floor and their interval


def temperatures(runs: Runs) -> dict[str, list[float]]:
    """Each fit's temperature, by its own validation images: Guo et al. (2017),
    https://arxiv.org/abs/1706.04599. Above 1 it makes a model less sure, below 1 surer.

    A fit takes a while, so it is made once and handed to what needs it.
    """
    fit = scores.fit_temperature
    return {
        name: [fit(scores.log_proba(one.validation_proba), one.validation_labels) for one in fits]
        for name, fits in runs.items()
    }


def at_bound(temperature: float) -> bool:
    """Whether a temperature is as far as was looked, so that it says nothing but "further"."""
    low, high = scores.TEMPERATURES
    return temperature < 1.01 * low or temperature > high / 1.01


def rescale(proba: Proba, temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, c) at ``temperature``; the order of classes stays."""
    return np.exp(scores.log_softmax(scores.log_proba(proba) / temperature))


# --- Calibration error ------------------------------------------------------------------------


def calibration_table(runs: Runs, temperatures: Temperatures) -> pd.DataFrame:
    """A row a model, means over its seeds: its temperature, and on the test images log loss and
    calibration error (ECE) before and after scaling by it.

    ``ece`` has bins of equal width, ``ece_mass_scaled`` of equally many images.
    """
    columns = ["temperature", "log_loss", "log_loss_scaled", "ece", "ece_scaled"]
    return _of_fits(_calibration_row, runs, temperatures, [*columns, "ece_mass_scaled"])


def _calibration_row(fit: Result, temperature: float) -> list[float]:
    loss = scores.log_loss(scores.log_proba(fit.proba), fit.labels, temperature)
    error = scores.expected_calibration_error(rescale(fit.proba, temperature), fit.labels)
    by_mass = equal_mass_error(*_sure(fit, temperature))
    return [temperature, fit.log_loss, loss, fit.ece, error, by_mass]


def calibration_uncertainty(runs: Runs, temperatures: Temperatures) -> pd.DataFrame:
    """A row a model, means over its seeds: how sure its scaled calibration error is.

    Columns low, high (95 % interval), floor and floor_most: the mean and the 95th percentile of the
    error that perfectly calibrated probabilities of this confidence would show on so many images.
    """
    return _of_fits(_uncertainty_row, runs, temperatures, ["low", "high", "floor", "floor_most"])


def _uncertainty_row(fit: Result, temperature: float) -> list[float]:
    confidence, right = _sure(fit, temperature)
    return [*ece_interval(confidence, right), *ece_floor(confidence)]


def _sure(fit: Result, temperature: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The scaled confidence of each test image's prediction (n,), and whether that is correct."""
    return rescale(fit.proba, temperature).max(1), fit.proba.argmax(1) == fit.labels


def _of_fits(
    row: Callable[[Result, float], list[float]],
    runs: Runs,
    temperatures: Temperatures,
    columns: list[str],
) -> pd.DataFrame:
    """The mean over its fits of each model's rows."""
    rows = {
        name: np.mean(list(map(row, fits, temperatures[name])), axis=0)
        for name, fits in runs.items()
    }
    return by_name(rows, columns)


def equal_mass_error(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Calibration error in bins of equally many images, by confidence (n,) and correctness (n,).

    Nixon et al. (2019), https://arxiv.org/abs/1904.01685.
    """
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(scores.CALIBRATION_BINS, len(order)))
    gaps = [abs(confidence[part].mean() - right[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / max(len(order), 1))


def ece_floor(confidence: NDArray[np.floating]) -> tuple[float, float]:
    """The calibration error that perfect probabilities of this confidence (n,) would show.

    Its mean and 95th percentile: it is no zero, as a bin's accuracy is one of few images.
    """
    rng, size = np.random.default_rng(SEED), len(confidence)
    found = [
        scores.calibration_error(confidence, rng.random(size) < confidence) for _ in range(DRAWS)
    ]
    return float(np.mean(found)), float(np.percentile(found, 95))


def ece_interval(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> tuple[float, float]:
    """A 95 % interval of the calibration error in equal bins, of images drawn again.

    Drawing adds the error of the draw to that of the sample, so that the plain bootstrap lies too
    high; the interval is the basic one, which mirrors it (Davison and Hinkley 1997, section 5.2).
    """
    drawn = stats.bootstrap(
        (confidence, right),
        scores.calibration_error,
        paired=True,
        vectorized=False,
        n_resamples=DRAWS,
        method="basic",
        rng=SEED,
    )
    low, high = drawn.confidence_interval
    return max(float(low), 0.0), max(float(high), 0.0)


def curves(runs: Runs, temperatures: Temperatures) -> pd.DataFrame:
    """Each model's reliability on the test images, before and after scaling, of all its seeds.

    A row a bin of confidence that has images: model, scaled (bool), confidence and accuracy (means
    of the bin, fractions), count (of images a seed).
    """
    columns = ["model", "scaled", "confidence", "accuracy", "count"]
    rows = []
    for name, fits in runs.items():
        labels = np.concatenate([fit.labels for fit in fits])
        plain = np.concatenate([fit.proba for fit in fits])
        pairs = zip(fits, temperatures[name], strict=True)
        scaled = np.concatenate([rescale(fit.proba, temperature) for fit, temperature in pairs])
        for is_scaled, proba in ((False, plain), (True, scaled)):
            confidence, accuracy, count = scores.calibration_bins(proba, labels)
            bins = zip(confidence, accuracy, count / len(fits), strict=True)
            rows += [(name, is_scaled, *one) for one in bins]
    return pd.DataFrame(rows, columns=columns)


# --- Answering only when sure -----------------------------------------------------------------


def answered(runs: Runs, temperatures: Temperatures) -> pd.DataFrame:
    """Accuracy where only the surest are answered: a row a model and share of images answered.

    Columns model, share, accuracy (of the answers), confidence (the least one that is answered,
    scaled): means over seeds, fractions. El-Yaniv and Wiener (2010) call it selective
    classification.
    """
    rows = []
    for name, fits in runs.items():
        of_fits = []
        for fit, temperature in zip(fits, temperatures[name], strict=True):
            confidence, right = _sure(fit, temperature)
            order = np.argsort(-confidence, kind="stable")
            counts = np.maximum(np.round(np.array(SHARES) * len(order)).astype(int), 1)
            accuracy = right[order].cumsum()[counts - 1] / counts
            of_fits.append(np.stack([accuracy, confidence[order][counts - 1]]))
        accuracy, least = np.mean(of_fits, axis=0)
        rows += [(name, *one) for one in zip(SHARES, accuracy, least, strict=True)]
    return pd.DataFrame(rows, columns=["model", "share", "accuracy", "confidence"])


def thresholds(curve: pd.DataFrame, targets: Sequence[float]) -> pd.DataFrame:
    """The greatest share of images that each model of :func:`answered` may answer to be so
    accurate, and the confidence that keeps it: columns model, target, share, confidence; NaN where
    even its surest answers are not."""
    rows = []
    for name, one in curve.groupby("model", sort=False):
        for target in targets:
            enough = one[one["accuracy"] >= target]
            best = enough.iloc[-1] if len(enough) else {"share": np.nan, "confidence": np.nan}
            rows.append((name, target, best["share"], best["confidence"]))
    return pd.DataFrame(rows, columns=["model", "target", "share", "confidence"])


# --- Averaging models -------------------------------------------------------------------------


@dataclass(frozen=True)
class Ensemble:
    """What the average of ``members`` scores on the test images, beside its best member on
    validation images, which is the first. Of each, its first seed.

    ``gain`` is the ensemble's accuracy compared with that member's. Accuracies are fractions.
    """

    members: list[str]
    accuracy: float
    low: float
    high: float
    gain: Difference


def average_ensemble(runs: Runs, temperatures: Temperatures, size: int = 3) -> Ensemble | None:
    """Average the scaled probabilities of the ``size`` models that are best on validation images.

    None with fewer than two models. Unscaled, the surest would outvote the others.
    """
    accuracy = {
        name: fits[0].validation_accuracy
        for name, fits in runs.items()
        if fits[0].validation_accuracy is not None
    }
    members = sorted(accuracy, key=lambda name: (-accuracy[name], name))[:size]
    if len(members) < 2:
        return None
    labels = runs[members[0]][0].labels
    mean = np.mean([rescale(runs[name][0].proba, temperatures[name][0]) for name in members], 0)
    together, alone = (mean.argmax(1) == labels)[None], correct(runs[members[0]][:1])
    low, high = wilson(together.sum(), together.size)
    return Ensemble(members, float(together.mean()), low, high, difference(together, alone))
