"""Uncertainty of an accuracy, and paired tests of models on the same images.

The plan of tests is Dietterich's (1998, https://doi.org/10.1162/089976698300017197): McNemar's test
for models trained once.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from fmlib.results import Result

ALPHA = 0.05


def wilson(correct: float, total: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Wilson's score interval of ``correct / total``, as fractions; (0, 1) of nothing.

    Wilson (1927), Newcombe (1998).
    """
    if total == 0:
        return 0.0, 1.0
    low, high = proportion_confint(correct, total, alpha, method="wilson")
    return float(low), float(high)


def guess_table(runs: Mapping[str, Result]) -> pd.DataFrame:
    """The class (number) that each model predicts: a row a test image, a column a model."""
    return pd.DataFrame({name: run.proba.argmax(1) for name, run in runs.items()}, dtype=int)


def correct_table(runs: Mapping[str, Result]) -> pd.DataFrame:
    """Which test images each model classifies correctly: bool, a row an image, a column a model."""
    guesses = guess_table(runs)
    if not runs:
        return guesses.astype(bool)
    return guesses.eq(next(iter(runs.values())).labels, axis=0)


def cochran(correct: pd.DataFrame) -> tuple[float, float]:
    """Cochran's Q and its p-value: are all models equally accurate? Cochran (1950).

    (0, 1) if none differs from another.
    """
    if correct.shape[1] < 2 or not (correct.nunique(axis=1) > 1).any():
        return 0.0, 1.0
    test = contingency_tables.cochrans_q(correct.to_numpy(int))
    return float(test.statistic), float(test.pvalue)


def mcnemar_p(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p-value of McNemar's exact test, from two bool arrays (n,) of images classified
    correctly. McNemar (1947)."""
    counts = confusion_matrix(first, second, labels=[True, False])
    return float(contingency_tables.mcnemar(counts, exact=True).pvalue)


def paired_difference(first: ArrayLike, second: ArrayLike) -> tuple[float, float, float]:
    """Accuracy of the first less the second and its 95 % interval, as fractions.

    Takes two bool arrays (n,) of images classified correctly. Wald's interval for matched pairs:
    Agresti, Categorical Data Analysis (2013), section 11.1.
    """
    gain = np.asarray(first, float) - np.asarray(second, float)
    margin = 1.96 * gain.std() / np.sqrt(len(gain))
    return float(gain.mean()), float(gain.mean() - margin), float(gain.mean() + margin)


def pairwise_mcnemar(correct: pd.DataFrame) -> pd.DataFrame:
    """McNemar p-values of all pairs of models with Holm's (1979) correction for their number.

    1 on the diagonal; empty with fewer than two models. Of three or more models, all are 1 unless
    Cochran's Q finds that there is a difference at all.
    """
    pairs = list(combinations(correct.columns, 2))
    if not pairs:
        return pd.DataFrame()
    table = pd.DataFrame(1.0, index=correct.columns, columns=correct.columns)
    if len(pairs) > 1 and cochran(correct)[1] >= ALPHA:
        return table
    p_values = [mcnemar_p(correct[a], correct[b]) for a, b in pairs]
    for (a, b), p in zip(pairs, multipletests(p_values, method="holm")[1], strict=True):
        table.loc[a, b] = table.loc[b, a] = p
    return table


def tied_with_best(correct: pd.DataFrame, p_values: pd.DataFrame) -> list[str]:
    """Models that the test images cannot tell from the most accurate one, which leads the list;
    most accurate first.

    ``p_values`` are those of :func:`pairwise_mcnemar`.
    """
    ranked = correct.mean().sort_values(ascending=False, kind="stable").index
    return [name for name in ranked if len(ranked) < 2 or p_values.loc[ranked[0], name] >= ALPHA]
