"""Where models err: per class, per pair of classes, together, and perhaps against a wrong label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from fmlib.results import Record
from fmreport.compare.calibration import scaled
from fmreport.compare.significance import correct_table, guess_table


def per_class(runs: Mapping[str, Record], score: str = "f1") -> pd.DataFrame:
    """One score, ``precision``, ``recall`` or ``f1``, of each class (row) by each model (column)."""
    return pd.DataFrame({name: {c.name: getattr(c, score) for c in run.result.classes} for name, run in runs.items()})


def f1_scores(confusion: ArrayLike) -> NDArray[np.float64]:
    """F1 of each class from confusion counts (..., c, c) with the true class in rows; 0 where a class never occurs."""
    confusion = np.asarray(confusion)
    hits, seen = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1) + confusion.sum(-2)
    return 2 * hits / np.maximum(seen, 1)


def worst_classes(runs: Mapping[str, Record], draws: int = 1000, seed: int = 9) -> pd.DataFrame:
    """Each model's class of lowest F1, its 95 % bootstrap interval, and the classes that cannot be told from it.

    The test images are drawn again ``draws`` times, which for a confusion matrix is a multinomial draw (Efron 1979). A class
    is tied when the interval of its F1 less the worst one's includes 0. ``tied`` names them, the worst first, "" if none.
    """
    rows = {}
    for name, run in runs.items():
        counts = np.asarray(run.result.confusion_matrix)
        worst = int(f1_scores(counts).argmin())
        drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts.ravel() / max(counts.sum(), 1), draws)
        sample = f1_scores(drawn.reshape(draws, *counts.shape))
        low, high = np.percentile(sample[:, worst], [2.5, 97.5])
        is_tied = np.percentile(sample - sample[:, [worst]], 2.5, axis=0) <= 0
        ranked = np.argsort(f1_scores(counts), kind="stable")
        tied = [run.result.classes[i].name for i in ranked if is_tied[i] and i != worst]
        more = [f"and {len(tied) - 3} more"] if len(tied) > 3 else []
        score = run.result.classes[worst]
        words = ", ".join(tied[:3] + more)
        rows[name] = [score.name, f1_scores(counts)[worst], low, high, score.precision, score.recall, words]
    columns = ["class", "f1", "low", "high", "precision", "recall", "tied"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def confused_pairs(runs: Mapping[str, Record], top: int = 5) -> pd.DataFrame:
    """The ``top`` pairs of classes that models confuse most, in either direction.

    Columns first, second (class numbers), pair (words), errors (mean count a model), share (of all errors).
    """
    columns = ["first", "second", "pair", "errors", "share"]
    if not runs:
        return pd.DataFrame(columns=columns)
    names = next(iter(runs.values())).result.class_names
    counts = np.sum([run.result.confusion_matrix for run in runs.values()], axis=0)
    both = np.triu(counts + counts.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:top]
    rows = [(i, j, f"{names[i]} and {names[j]}", both[i, j] / len(runs), both[i, j] / both.sum())
            for i, j in zip(*np.unravel_index(order, both.shape), strict=True) if both[i, j]]
    return pd.DataFrame(rows, columns=columns)


def pair_examples(runs: Mapping[str, Record], pairs: pd.DataFrame, each: int = 5) -> pd.DataFrame:
    """For each of ``pairs``, the ``each`` test images that most models take for the other class of the pair.

    Columns image, label, prediction (numbers), votes (how many models make this mistake).
    """
    guesses, cases = guess_table(runs), []
    for first, second in pairs[["first", "second"]].itertuples(index=False):
        labels = next(iter(runs.values())).predictions.labels
        other = np.select([labels == first, labels == second], [second, first], -1)
        taken = _cases(labels, other, votes=guesses.eq(other, axis=0).sum(axis=1))
        cases.append(taken[taken["votes"] > 0].nlargest(each, "votes"))
    return pd.concat(cases) if cases else pd.DataFrame(columns=["image", "label", "prediction", "votes"])


def _cases(labels: NDArray[np.int64], prediction: ArrayLike, **columns: ArrayLike) -> pd.DataFrame:
    return pd.DataFrame({"image": np.arange(len(labels)), "label": labels, "prediction": np.asarray(prediction), **columns})


def missed_by_all(runs: Mapping[str, Record]) -> pd.DataFrame:
    """The test images that every model gets wrong, the most unanimous first: image, label, the prediction of most models,
    votes (how many make it)."""
    if not runs:
        return pd.DataFrame(columns=["image", "label", "prediction", "votes"])
    guesses, labels = guess_table(runs), next(iter(runs.values())).predictions.labels
    usual = stats.mode(guesses.to_numpy(), axis=1)
    cases = _cases(labels, usual.mode, votes=usual.count)
    return cases[~correct_table(runs).any(axis=1)].sort_values("votes", ascending=False, kind="stable", ignore_index=True)


def error_overlap(correct: pd.DataFrame) -> pd.DataFrame:
    """Of the images that either of two models gets wrong, the share that both do (Jaccard index); 1 if neither errs. Empty
    with fewer than two models."""
    if correct.shape[1] < 2:
        return pd.DataFrame()
    distances = squareform(pdist(~correct.to_numpy(bool).T, "jaccard"))
    return pd.DataFrame(1 - distances, correct.columns, correct.columns)


def noise_candidates(runs: Mapping[str, Record], min_confidence: float = 0.9, min_share: float = 0.75) -> pd.DataFrame:
    """Test images whose label models confidently deny: candidates for a wrong label, in the spirit of confident learning
    (Northcutt, Jiang and Chuang 2021, https://doi.org/10.1613/jair.1.12125).

    At least ``min_share`` of the models predict one and the same other class, and the mean probability that all models give
    it, after temperature scaling, reaches ``min_confidence``. Columns image, label, prediction (numbers), confidence,
    share; most confident first. Fewer than two models cannot agree, and give none.
    """
    if len(runs) < 2:
        return pd.DataFrame(columns=["image", "label", "prediction", "confidence", "share"])
    labels = next(iter(runs.values())).predictions.labels
    mean = np.mean([scaled(run) for run in runs.values()], axis=0)
    guess = mean.argmax(1)
    frame = _cases(labels, guess, confidence=mean.max(1), share=guess_table(runs).eq(guess, axis=0).mean(axis=1))
    sure = (frame["label"] != frame["prediction"]) & (frame["confidence"] >= min_confidence) & (frame["share"] >= min_share)
    return frame[sure].sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def if_relabelled(runs: Mapping[str, Record], candidates: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each model as it is, and if every candidate's label were what the models say: before, after, change."""
    before, after = correct_table(runs), correct_table(runs)
    images = candidates["image"].to_numpy(int)
    after.iloc[images] = guess_table(runs).iloc[images].eq(candidates["prediction"].to_numpy(), axis=0)
    table = pd.DataFrame({"before": before.mean(), "after": after.mean()})
    return table.assign(change=table["after"] - table["before"])
