"""Where models err: per class, per pair of classes, together, and perhaps against a wrong label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from fmreport.compare.calibration import rescale
from fmreport.compare.significance import Correct, Fits, Runs, correct, guesses
from fmreport.compare.table import by_name

CASES = ["image", "label", "prediction"]  # numbers of an image and of two classes
MIN_CONFIDENCE, MIN_SHARE = 0.9, 0.75  # from which on models contradict a label
CELLS_AT_ONCE = 10_000_000  # of confusion matrices that are drawn


def per_class(runs: Runs, score: str = "f1") -> pd.DataFrame:
    """``precision``, ``recall`` or ``f1`` of each class (row) by each model (column): the mean over
    its seeds."""
    return pd.DataFrame({name: _class_scores(fits, score) for name, fits in runs.items()})


def _class_scores(fits: Fits, score: str) -> pd.Series:
    of_each = [[getattr(one, score) for one in fit.classes] for fit in fits]
    return pd.Series(np.mean(of_each, axis=0), fits[0].class_names)


def confusion(fits: Fits) -> NDArray[np.float64]:
    """Confusion counts (classes, classes) of a model, true classes in rows: the mean over seeds."""
    return np.mean([fit.confusion_matrix for fit in fits], axis=0)


def f1_scores(confusion: ArrayLike) -> NDArray[np.float64]:
    """F1 of each class from confusion counts (..., c, c) with the true class in rows; 0 where a
    class never occurs."""
    confusion = np.asarray(confusion)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    seen = confusion.sum(-1) + confusion.sum(-2)
    return 2 * hits / np.maximum(seen, 1)


def worst_classes(runs: Runs, draws: int = 1000, seed: int = 9) -> pd.DataFrame:
    """Each model's class of lowest F1, its 95 % bootstrap interval, and the classes that cannot be
    told from it.

    F1 is the mean over a model's seeds. The test images are drawn again ``draws`` times, which for
    the confusion of one fit is a multinomial draw (Efron 1979), and for those of several, which see
    the same images, one of labels with all their predictions. A class is tied when the interval of
    its F1 less the worst one's includes 0. Columns class, f1, low, high, precision, recall, tied
    (a list of names, the worst first).
    """
    columns = ["class", "f1", "low", "high", "precision", "recall", "tied"]
    rows = [_worst_class(fits, draws, seed) for fits in runs.values()]
    return pd.DataFrame(rows, list(runs), columns)


def _worst_class(fits: Fits, draws: int, seed: int) -> dict[str, object]:
    sample = _drawn_f1(fits, draws, np.random.default_rng(seed))
    names = fits[0].class_names
    scores = {score: _class_scores(fits, score) for score in ("f1", "precision", "recall")}
    worst, *others = np.argsort(scores["f1"].to_numpy(), kind="stable")
    is_tied = np.percentile(sample - sample[:, [worst]], 2.5, axis=0) <= 0
    low, high = np.percentile(sample[:, worst], [2.5, 97.5])
    tied = [names[i] for i in others if is_tied[i]]
    row = {score: float(values.iloc[worst]) for score, values in scores.items()}
    return row | {"class": names[worst], "low": low, "high": high, "tied": tied}


def _drawn_f1(fits: Fits, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """F1 of each class (draws, classes), the mean over seeds, on images drawn again."""
    classes, predicted = len(fits[0].class_names), guesses(fits)
    # Images of one label that all fits give the same classes are alike: so many of each kind.
    kinds, counts = np.unique(np.vstack([fits[0].labels, predicted]), axis=1, return_counts=True)
    rows, shape = np.arange(len(counts)), (len(counts), classes**2)
    cells = [  # which cell of a fit's confusion matrix each kind falls into
        sparse.csr_array((np.ones(len(counts)), (rows, cell)), shape)
        for cell in kinds[0] * classes + kinds[1:]
    ]
    together, parts = max(1, CELLS_AT_ONCE // (len(counts) + classes**2)), []
    for start in range(0, draws, together):
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), min(together, draws - start))
        scores = [f1_scores((drawn @ one).reshape(-1, classes, classes)) for one in cells]
        parts.append(np.mean(scores, axis=0))
    return np.concatenate(parts)


def confused_pairs(runs: Runs, top: int = 5) -> pd.DataFrame:
    """The ``top`` pairs of classes that models confuse most, in either direction.

    Columns first, second (class numbers), pair (words), errors (mean count a model), share (of all
    errors).
    """
    columns = ["first", "second", "pair", "errors", "share"]
    if not runs:
        return pd.DataFrame(columns=columns)
    names = next(iter(runs.values()))[0].class_names
    counts = np.sum([confusion(fits) for fits in runs.values()], axis=0)
    both = np.triu(counts + counts.T, 1)
    first, second = np.nonzero(both)
    errors = both[first, second]
    pairs = pd.DataFrame({"first": first, "second": second, "errors": errors / len(runs)})
    pairs["pair"] = [f"{names[i]} and {names[j]}" for i, j in zip(first, second, strict=True)]
    pairs["share"] = errors / both.sum()
    return pairs[columns].nlargest(top, "errors").reset_index(drop=True)


def pair_examples(runs: Runs, pairs: pd.DataFrame, each: int = 5) -> pd.DataFrame:
    """For each of ``pairs``, the ``each`` test images that most models take for the other class.

    Columns image, label, prediction (numbers), votes (how many models make this mistake, by most of
    their seeds).
    """
    votes, cases = usual_guesses(runs), [pd.DataFrame(columns=[*CASES, "votes"], dtype=int)]
    for first, second in pairs[["first", "second"]].itertuples(index=False):
        labels = next(iter(runs.values()))[0].labels
        other = np.select([labels == first, labels == second], [second, first], -1)
        taken = _cases(labels, other).assign(votes=votes.eq(other, axis=0).sum(axis=1))
        cases.append(taken[taken["votes"] > 0].nlargest(each, "votes"))
    return pd.concat(cases)


def hard_images(
    runs: Runs, pairs: pd.DataFrame, missed: pd.DataFrame, doubtful: pd.DataFrame, most: int = 5
) -> pd.DataFrame:
    """At most so many images of each kind, none twice: of ``pairs`` that are often confused, of
    those ``missed`` by every model, and of those whose label is ``doubtful``.

    Columns group (words), image, label, prediction (numbers), votes.
    """
    guessed = usual_guesses(runs).iloc[doubtful["image"].to_numpy(int)]
    agree = guessed.to_numpy() == doubtful[["prediction"]].to_numpy()
    groups = {
        f"Often confused: {pair.pair}": pair_examples(runs, pairs.loc[[pair.Index]], most)
        for pair in pairs.itertuples()
    }
    groups["Wrong for every model"] = missed
    groups["A label that models contradict"] = doubtful.assign(votes=agree.sum(1))
    shown, seen = [], set()
    for group, cases in groups.items():
        new = cases[~cases["image"].isin(seen)].head(most)
        seen |= {*new["image"]}
        shown.append(new[[*CASES, "votes"]].assign(group=group))
    return pd.concat(shown, ignore_index=True)


def usual_guesses(runs: Runs) -> pd.DataFrame:
    """The class that most seeds of each model predict: a row an image, a column a model.

    The least of equally frequent ones.
    """
    usual = {name: stats.mode(guesses(fits), axis=0).mode for name, fits in runs.items()}
    return pd.DataFrame(usual, dtype=int)


def _cases(labels: NDArray[np.int64], prediction: NDArray[np.int64]) -> pd.DataFrame:
    return pd.DataFrame(dict(zip(CASES, (np.arange(len(labels)), labels, prediction), strict=True)))


def missed_by_all(runs: Runs) -> pd.DataFrame:
    """The test images that every model gets wrong with every seed, the most unanimous first.

    Columns image, label, prediction (of most models; numbers), votes (how many make it).
    """
    if not runs:
        return pd.DataFrame(columns=[*CASES, "votes"])
    usual = stats.mode(usual_guesses(runs).to_numpy(), axis=1)
    cases = _cases(next(iter(runs.values()))[0].labels, usual.mode).assign(votes=usual.count)
    missed = cases[~np.any([correct(fits).any(0) for fits in runs.values()], axis=0)]
    return missed.sort_values("votes", ascending=False, kind="stable", ignore_index=True)


def error_overlap(right: Mapping[str, Correct]) -> pd.DataFrame:
    """Of the images that either of two models gets wrong, the share that both do (Jaccard index).

    Expected of a fit of each, drawn from their seeds. 1 if neither errs, and on the diagonal; empty
    with fewer than two models.
    """
    if len(right) < 2:
        return pd.DataFrame()
    wrong = np.stack([1 - one.mean(0) for one in right.values()])
    both = wrong @ wrong.T
    either = wrong.sum(1)[:, None] + wrong.sum(1) - both
    shares = np.divide(both, either, out=np.ones_like(both), where=either > 0)
    np.fill_diagonal(shares, 1)
    return pd.DataFrame(shares, list(right), list(right))


def noise_candidates(
    runs: Runs,
    temperatures: Mapping[str, Sequence[float]],
    min_confidence: float = MIN_CONFIDENCE,
    min_share: float = MIN_SHARE,
) -> pd.DataFrame:
    """Test images whose label models confidently contradict: candidates for a wrong label, in the
    spirit of confident learning (Northcutt, Jiang and Chuang 2021,
    https://doi.org/10.1613/jair.1.12125).

    At least ``min_share`` of the models, each by its seeds, predict one and the same other class,
    and the mean probability that all models give it, after temperature scaling, reaches
    ``min_confidence``.
    Columns image, label, prediction (numbers), confidence, share; most confident first. Fewer than
    two models cannot agree, and give none.
    """
    if len(runs) < 2:
        return pd.DataFrame(columns=[*CASES, "confidence", "share"])
    mean = np.mean([mean_proba(fits, temperatures[name]) for name, fits in runs.items()], axis=0)
    guess = mean.argmax(1)
    cases = _cases(next(iter(runs.values()))[0].labels, guess)
    cases["confidence"] = mean.max(1)
    agreeing = [(guesses(fits) == guess).mean(0) for fits in runs.values()]
    cases["share"] = np.mean(agreeing, axis=0)
    sure = (cases["confidence"] >= min_confidence) & (cases["share"] >= min_share)
    found = cases[sure & (cases["label"] != cases["prediction"])]
    return found.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def mean_proba(fits: Fits, temperatures: Sequence[float]) -> NDArray[np.float64]:
    """A model's scaled probabilities (n, classes), the mean over its seeds."""
    pairs = zip(fits, temperatures, strict=True)
    return np.mean([rescale(fit.proba, temperature) for fit, temperature in pairs], axis=0)


def if_relabelled(runs: Runs, candidates: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each model as it is, and if every candidate's label were what the models say:
    before, after, change (fractions, means over seeds)."""
    images = candidates["image"].to_numpy(int)
    rows = {}
    for name, fits in runs.items():
        before, predicted = correct(fits), guesses(fits)
        after = before.copy()
        after[:, images] = predicted[:, images] == candidates["prediction"].to_numpy()
        rows[name] = [before.mean(), after.mean(), after.mean() - before.mean()]
    return by_name(rows, ["before", "after", "change"])
