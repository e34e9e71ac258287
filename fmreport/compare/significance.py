"""Uncertainty of accuracies: over the test images, and over the seeds of a model's trainings.

A model trained with several seeds has several fits. That the images are a sample makes one
uncertainty, that the seeds are another; readers and cases of a medical test stand in the same
relation, and the estimate is the one made for them: Obuchowski and Rockette (1995), with the
degrees of freedom of Hillis (2007), https://doi.org/10.1002/sim.2532. For models that are trained
once the plan is Dietterich's (1998, https://doi.org/10.1162/089976698300017197): McNemar's test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import confusion_matrix
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from fmlib.results import Result

ALPHA = 0.05
MARGIN = 0.005  # a difference in accuracy that matters to nobody

Fits = Sequence[Result]  # of one model, a seed each
Runs = Mapping[str, Fits]  # models by the name to show
Correct = NDArray[np.bool_]  # which images the fits of a model classify correctly: (seeds, images)


# --- One model --------------------------------------------------------------------------------


def guesses(fits: Fits) -> NDArray[np.int64]:
    """The class (number) that each fit of a model predicts: (seeds, images)."""
    return np.stack([fit.proba.argmax(1) for fit in fits])


def correct(fits: Fits) -> Correct:
    """Which test images each fit of a model classifies correctly: (seeds, images)."""
    return guesses(fits) == fits[0].labels


def wilson(right: float, total: int) -> tuple[float, float]:
    """Wilson's score interval of ``right / total``, as fractions; (0, 1) of nothing.

    Wilson (1927), Newcombe (1998).
    """
    if total == 0:
        return 0.0, 1.0
    low, high = proportion_confint(right, total, ALPHA, method="wilson")
    return float(low), float(high)


def accuracy(right: Correct) -> tuple[float, float, float]:
    """A model's mean accuracy over its seeds and its 95 % interval, as fractions.

    Of one seed Wilson's, over images alone; of several over images and seeds together.
    """
    if len(right) == 1:
        return (float(right.mean()), *wilson(right.sum(), right.size))
    found = _estimate(right.mean(0), [right])
    return found.value, max(found.low, 0.0), min(found.high, 1.0)


# --- Two models -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Accuracy of one model less another's, as fractions, with its 95 % interval.

    ``p_value``, two-sided, is that of no difference. ``equivalent``: whether two one-sided tests at
    5 % put it within ``MARGIN`` (Schuirmann 1987). ``wins``: of ``pairs`` of a training of the one
    and a training of the other, in how many the one is more accurate on these images, of which a
    tie counts half (Bouthillier et al. 2021, https://arxiv.org/abs/2103.03098).
    """

    value: float
    low: float
    high: float
    p_value: float
    equivalent: bool
    wins: float = 0.0
    pairs: int = 0


def difference(first: Correct, second: Correct) -> Difference:
    """Compare two models on the same images.

    Each of ``first`` and ``second`` is bool (seeds, images). The variance is that of the images,
    paired, and that of each model's seeds over their number; a model with one seed adds none, so
    that what is said is about that fit. With one seed each the p-value is McNemar's, exact.
    """
    found = _estimate(first.mean(0) - second.mean(0), [first, second])
    scores = np.subtract.outer(first.mean(1), second.mean(1))
    p_value = found.p_value
    if len(first) == len(second) == 1:
        p_value = mcnemar_p(first[0], second[0])
    wins = float((scores > 1e-12).sum() + (np.abs(scores) <= 1e-12).sum() / 2)
    return Difference(
        found.value, found.low, found.high, p_value, found.equivalent, wins, scores.size
    )


def _estimate(images: NDArray[np.floating], models: Sequence[Correct]) -> Difference:
    """The mean of ``images`` (n,), means over seeds, with what the models' seeds add to it.

    Of a model's S seeds and n images, the mean square of seeds holds n times their variance and
    that of the interaction, which the images' part has already and which is subtracted.
    """
    count = len(images)
    variance = images.var(ddof=1) / count
    parts, freedoms, of_seeds = [variance], [count - 1], 0.0
    for right in models:
        if len(right) > 1:
            seeds, rest = _mean_squares(right)
            of_seeds += (seeds - rest) / right.size
            parts.append(seeds / right.size)
            freedoms.append(len(right) - 1)
    if of_seeds > 0:
        variance += of_seeds
    else:
        parts, freedoms = parts[:1], freedoms[:1]
    value = float(images.mean())
    if variance == 0:
        return Difference(value, value, value, float(value == 0), abs(value) < MARGIN)
    # Satterthwaite's degrees of freedom
    freedom = variance**2 / sum(part**2 / df for part, df in zip(parts, freedoms, strict=True))
    spread = stats.t(freedom, scale=np.sqrt(variance))
    margin, inner = spread.ppf(1 - ALPHA / 2), spread.ppf(1 - ALPHA)
    p_value = float(2 * spread.sf(abs(value)))
    equivalent = bool(abs(value) + inner < MARGIN)
    return Difference(value, value - margin, value + margin, p_value, equivalent)


def _mean_squares(right: Correct) -> tuple[float, float]:
    """Mean squares of seeds, and of what neither seeds nor images explain."""
    seeds, images = right.mean(1, keepdims=True), right.mean(0, keepdims=True)
    rest = right - seeds - images + right.mean()
    freedom = (right.shape[0] - 1) * (right.shape[1] - 1)
    return float(right.shape[1] * seeds.var(ddof=1)), float((rest**2).sum() / freedom)


def mcnemar_p(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p-value of McNemar's exact test, from two bool arrays (n,) of images classified
    correctly. McNemar (1947)."""
    counts = confusion_matrix(first, second, labels=[True, False])
    return float(contingency_tables.mcnemar(counts, exact=True).pvalue)


# --- Many models ------------------------------------------------------------------------------


def cochran(right: Mapping[str, Correct]) -> tuple[float, float]:
    """Cochran's Q and its p-value: are all models, each trained once, equally accurate?

    Cochran (1950). (0, 1) if none differs from another.
    """
    table = np.stack([one[0] for one in right.values()], 1)
    if (table.min(1) == table.max(1)).all():
        return 0.0, 1.0
    test = contingency_tables.cochrans_q(table.astype(int))
    return float(test.statistic), float(test.pvalue)


def all_pairs(right: Mapping[str, Correct]) -> pd.DataFrame:
    """p-values of all pairs of models with Holm's (1979) correction for their number.

    1 on the diagonal; empty with fewer than two models.
    """
    pairs = list(combinations(right, 2))
    if not pairs:
        return pd.DataFrame()
    names = list(right)
    table = pd.DataFrame(1.0, index=names, columns=names)
    p_values = [difference(right[a], right[b]).p_value for a, b in pairs]
    for (a, b), p in zip(pairs, multipletests(p_values, method="holm")[1], strict=True):
        table.loc[a, b] = table.loc[b, a] = p
    return table


def against_best(right: Mapping[str, Correct]) -> pd.DataFrame:
    """How far every other model is behind the first, which must be the most accurate.

    A row a model, in order: the fields of :class:`Difference`, the best less it, and ``p_holm``,
    the p-value with Holm's correction for the number of these comparisons.
    """
    best, *others = right
    rows = [vars(difference(right[best], right[name])) for name in others]
    columns = [field.name for field in fields(Difference)]
    table = pd.DataFrame(rows, pd.Index(others, dtype=object, name="model"), columns)
    p_values = table["p_value"].astype(float)
    table["p_holm"] = multipletests(p_values, method="holm")[1] if others else p_values
    return table
