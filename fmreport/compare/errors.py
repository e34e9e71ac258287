"""Where models err: per class, per pair of classes, together, and perhaps against a wrong label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from fmlib.results import Result
from fmreport.compare.calibration import rescale
from fmreport.compare.significance import correct_table, guess_table

CASES = ["image", "label", "prediction"]  # numbers of an image and of two classes


CELLS_AT_ONCE = 10_000_000  # of confusion matrices that are drawn


def per_class(runs: Mapping[str, Result], score: str = "f1") -> pd.DataFrame:
    """``precision``, ``recall`` or ``f1`` of each class (row) by each model (column)."""
    return pd.DataFrame(
        {name: {c.name: getattr(c, score) for c in run.classes} for name, run in runs.items()}
    )


def f1_scores(confusion: ArrayLike) -> NDArray[np.float64]:
    """F1 of each class from confusion counts (..., c, c) with the true class in rows; 0 where a
    class never occurs."""
    confusion = np.asarray(confusion)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    seen = confusion.sum(-1) + confusion.sum(-2)
    return 2 * hits / np.maximum(seen, 1)


def worst_classes(runs: Mapping[str, Result], draws: int = 1000, seed: int = 9) -> pd.DataFrame:
    """Each model's class of lowest F1, its 95 % bootstrap interval, and the classes that cannot be
    told from it.

    The test images are drawn again ``draws`` times, which for a confusion matrix is a multinomial
    draw (Efron 1979). A class is tied when the interval of its F1 less the worst one's includes 0.
    Columns class, f1, low, high, precision, recall, tied (a list of names, the worst first).
    """
    columns = ["class", "f1", "low", "high", "precision", "recall", "tied"]
    rows = [_worst_class(run, draws, seed) for run in runs.values()]
    return pd.DataFrame(rows, list(runs), columns)


def _worst_class(run: Result, draws: int, seed: int) -> dict[str, object]:
    counts = np.asarray(run.confusion_matrix)
    shares = counts.ravel() / max(counts.sum(), 1)
    rng, together = np.random.default_rng(seed), max(1, CELLS_AT_ONCE // counts.size)
    parts = []
    for start in range(0, draws, together):
        drawn = rng.multinomial(counts.sum(), shares, min(together, draws - start))
        parts.append(f1_scores(drawn.reshape(-1, *counts.shape)))
    sample = np.concatenate(parts)
    worst, *others = np.argsort(f1_scores(counts), kind="stable")
    is_tied = np.percentile(sample - sample[:, [worst]], 2.5, axis=0) <= 0
    low, high = np.percentile(sample[:, worst], [2.5, 97.5])
    score = run.classes[worst].model_dump(include={"f1", "precision", "recall"})
    tied = [run.classes[i].name for i in others if is_tied[i]]
    return score | {"class": run.classes[worst].name, "low": low, "high": high, "tied": tied}


def confused_pairs(runs: Mapping[str, Result], top: int = 5) -> pd.DataFrame:
    """The ``top`` pairs of classes that models confuse most, in either direction.

    Columns first, second (class numbers), pair (words), errors (mean count a model), share (of all
    errors).
    """
    columns = ["first", "second", "pair", "errors", "share"]
    if not runs:
        return pd.DataFrame(columns=columns)
    names = next(iter(runs.values())).class_names
    counts = np.sum([run.confusion_matrix for run in runs.values()], axis=0)
    both = np.triu(counts + counts.T, 1)
    first, second = np.nonzero(both)
    errors = both[first, second]
    pairs = pd.DataFrame({"first": first, "second": second, "errors": errors / len(runs)})
    pairs["pair"] = [f"{names[i]} and {names[j]}" for i, j in zip(first, second, strict=True)]
    pairs["share"] = errors / both.sum()
    return pairs[columns].nlargest(top, "errors")


def pair_examples(runs: Mapping[str, Result], pairs: pd.DataFrame, each: int = 5) -> pd.DataFrame:
    """For each of ``pairs``, the ``each`` test images that most models take for the other class.

    Columns image, label, prediction (numbers), votes (how many models make this mistake).
    """
    guesses, cases = guess_table(runs), [pd.DataFrame(columns=[*CASES, "votes"], dtype=int)]
    for first, second in pairs[["first", "second"]].itertuples(index=False):
        labels = next(iter(runs.values())).labels
        other = np.select([labels == first, labels == second], [second, first], -1)
        taken = _cases(labels, other).assign(votes=guesses.eq(other, axis=0).sum(axis=1))
        cases.append(taken[taken["votes"] > 0].nlargest(each, "votes"))
    return pd.concat(cases)


def _cases(labels: NDArray[np.int64], prediction: NDArray[np.int64]) -> pd.DataFrame:
    return pd.DataFrame(dict(zip(CASES, (np.arange(len(labels)), labels, prediction), strict=True)))


def missed_by_all(runs: Mapping[str, Result]) -> pd.DataFrame:
    """The test images that every model gets wrong, the most unanimous first.

    Columns image, label, prediction (of most models; numbers), votes (how many make it).
    """
    if not runs:
        return pd.DataFrame(columns=[*CASES, "votes"])
    usual = stats.mode(guess_table(runs).to_numpy(), axis=1)
    cases = _cases(next(iter(runs.values())).labels, usual.mode).assign(votes=usual.count)
    missed = cases[~correct_table(runs).any(axis=1)]
    return missed.sort_values("votes", ascending=False, kind="stable", ignore_index=True)


def error_overlap(correct: pd.DataFrame) -> pd.DataFrame:
    """Of the images that either of two models gets wrong, the share that both do (Jaccard index).

    1 if neither errs; empty with fewer than two models.
    """
    if correct.shape[1] < 2:
        return pd.DataFrame()
    distances = squareform(pdist(~correct.to_numpy(bool).T, "jaccard"))
    return pd.DataFrame(1 - distances, correct.columns, correct.columns)


def noise_candidates(
    runs: Mapping[str, Result],
    temperatures: Mapping[str, float],
    min_confidence: float = 0.9,
    min_share: float = 0.75,
) -> pd.DataFrame:
    """Test images whose label models confidently contradict: candidates for a wrong label, in the
    spirit of confident learning (Northcutt, Jiang and Chuang 2021,
    https://doi.org/10.1613/jair.1.12125).

    At least ``min_share`` of the models predict one and the same other class, and the mean
    probability that all models give it, after temperature scaling, reaches ``min_confidence``.
    Columns image, label, prediction (numbers), confidence, share; most confident first. Fewer than
    two models cannot agree, and give none.
    """
    if len(runs) < 2:
        return pd.DataFrame(columns=[*CASES, "confidence", "share"])
    mean = np.mean([rescale(run.proba, temperatures[name]) for name, run in runs.items()], axis=0)
    guess = mean.argmax(1)
    cases = _cases(next(iter(runs.values())).labels, guess)
    cases["confidence"] = mean.max(1)
    cases["share"] = guess_table(runs).eq(guess, axis=0).mean(axis=1)
    sure = (cases["confidence"] >= min_confidence) & (cases["share"] >= min_share)
    found = cases[sure & (cases["label"] != cases["prediction"])]
    return found.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def if_relabelled(runs: Mapping[str, Result], candidates: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each model as it is, and if every candidate's label were what the models say:
    before, after, change (fractions)."""
    before = correct_table(runs)
    after = before.copy()
    images = candidates["image"].to_numpy(int)
    agreed = guess_table(runs).iloc[images].eq(candidates["prediction"].to_numpy(), axis=0)
    after.iloc[images] = agreed
    table = pd.DataFrame({"before": before.mean(), "after": after.mean()})
    return table.assign(change=table["after"] - table["before"])
