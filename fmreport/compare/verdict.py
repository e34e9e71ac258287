"""The verdict: sentences that follow from the numbers, and say so when the numbers decide nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, pairwise

import numpy as np
import pandas as pd

from fmlib.results import FROM_SCRATCH, Record
from fmreport.compare import calibration, significance
from fmreport.compare.errors import worst_classes
from fmreport.compare.table import by_machine, by_seed, kind_of_memory, listed, number, overview, pareto, representatives

TIMED_ONCE = "Every time is that of one run. On another day the same training is slower or quicker, so small gaps mean nothing."
ONE_RECIPE = ("Each model is judged by one recipe. A network stops after the epochs that its profile gives it, and settings "
              "were not sought with the same effort for every model: the chapters show what was tried.")
FEW_IMAGES = 2000  # below this an interval is over two points wide, and a verdict is only a rehearsal


@dataclass(frozen=True)
class Budgets:
    """What a reader can afford, and how many points of accuracy below the best still count as near it."""

    train_seconds: float = 60.0
    latency_ms: float = 5.0
    memory_mb: float = 500.0
    distance_points: float = 1.0


@dataclass(frozen=True)
class Summary:
    """The answer: a headline, what follows from it, and what the data cannot tell."""

    headline: str
    points: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The summary as Markdown, ready to display."""
        warning = ["", "**What this cannot tell:**", ""] if self.cautions else []
        return "\n".join([self.headline, "", *(f"- {p}" for p in self.points), *warning, *(f"- {c}" for c in self.cautions)])


def summarise(records: Iterable[Record], budgets: Budgets | None = None, missing: Iterable[str] = ()) -> Summary:
    """The verdict on ``records`` (any number of models and seeds); ``missing`` names models that should be there."""
    records, budgets = list(records), budgets or Budgets()
    runs = representatives(records)
    absent, some_seeds = _missing(missing, records)
    if not runs:
        return Summary("**There are no results, so there is no verdict.**", cautions=[absent] if absent else [])
    table, correct = overview(runs), significance.correct_table(runs)
    p_values = significance.pairwise_mcnemar(correct)
    tied = significance.tied_with_best(correct, p_values)
    local, left_out = by_machine(table)
    seeds, images = by_seed(records), records[0].result.test_size
    points = [_over_seeds(seeds, table.index[0]), _quickest(local, tied), *_affordable(local, p_values, budgets),
              _near_best(table, local, budgets.distance_points), *_dominated(local, p_values), _transfer(table, correct, tied),
              calibration.advice(*next(iter(runs.items()))), _hardest(worst_classes(runs))]
    cautions = [absent, some_seeds, left_out, _noise(table, images), _few(images), _once(seeds), TIMED_ONCE, *_twins(runs),
                _scratch(table), ONE_RECIPE]
    headline = _headline(table, correct, tied, images, " of those that ran" if absent else "")
    return Summary(headline, [text for text in points if text], [text for text in cautions if text])


def _missing(names: Iterable[str], records: Iterable[Record]) -> tuple[str, str]:
    """What to say of models without any result, and of those of which some seeds failed; ``names`` has one a failed job."""
    here = {record.result.display_name.removesuffix(FROM_SCRATCH) for record in records}
    absent = [name for name in dict.fromkeys(names) if name not in here]
    some = [name for name in dict.fromkeys(names) if name in here]
    return (f"Missing, because the run failed: {listed(absent)}. Every statement is about the other models." if absent else "",
            f"Of {listed(some)} not every seed has a result, because a run failed." if some else "")


def _difference(better: pd.Series, worse: pd.Series) -> str:
    gain, low, high = (number(100 * value, "z.1f") for value in significance.paired_difference(better, worse))
    return f"{gain} points (95% interval {low} to {high})"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _headline(table: pd.DataFrame, correct: pd.DataFrame, tied: list[str], images: int, among: str) -> str:
    best = table.iloc[0]
    leaders = list(table.index[table["accuracy"] == best["accuracy"]])
    score = f"{best['accuracy']:.1%} of the {images:,} test images right (95% interval {best['low']:.1%} to {best['high']:.1%})"
    if len(table) == 1:
        return f"Only one model has a result, **{leaders[0]}**: {score}. Nothing stands beside it, so there is no verdict."
    verb = "is the most accurate model" if len(leaders) == 1 else "share the highest accuracy"
    first = f"{listed(f'**{name}**' for name in leaders)} {verb}{among}: {score}."
    others = [f"{name} ({table.loc[name, 'accuracy']:.1%})" for name in tied if name not in leaders]
    if len(tied) == len(table):
        return f"{first} But there is no winner: all {len(table)} models are statistically tied with the best."
    if others:
        return f"{first} Statistically tied with {'it' if len(leaders) == 1 else 'them'}{_corrected(table)}: {listed(others)}."
    after = next(name for name in table.index if name not in tied)
    return (f"{first} No other model is statistically tied with the best; the next, {after}, is "
            f"{_difference(correct[best.name], correct[after])} behind.")


def _corrected(table: pd.DataFrame) -> str:
    pairs = len(table) * (len(table) - 1) // 2
    return f", after correction for {pairs} comparisons" if pairs > 1 else ""


def _over_seeds(seeds: pd.DataFrame, best: str) -> str:
    several = seeds[seeds["seeds"] > 1]
    if several.empty:
        return ""
    means = [f"**{name}** {row['mean']:.1%}, with a standard deviation of {100 * row['sd']:.2f} points over "
             f"{row['seeds']:.0f} seeds" for name, row in several.head(3).iterrows()]
    ahead = f", by which {best} is ahead" if several.index[0] != best else ""
    return (f"Mean accuracy over seeds, the highest first: {'; '.join(means)}. Everything else here is about each model's "
            f"first seed{ahead}.")


def _quickest(table: pd.DataFrame, tied: list[str]) -> str:
    cost = table.loc[table.index.isin(tied), "train_seconds"]
    if len(cost) < 2 or 2 * cost.min() >= cost.iloc[0]:  # a smaller saving is no reason
        return ""
    return (f"Among the tied, **{cost.idxmin()}** is the quickest to train: it takes {_amount(cost.min())} s, "
            f"{cost.index[0]} {_amount(cost.iloc[0])} s.")


def _affordable(table: pd.DataFrame, p_values: pd.DataFrame, budgets: Budgets) -> Iterable[str]:
    yield (f"Times and memory are those of {table['machine'].iloc[0]}. Memory{kind_of_memory(table)} is what training needs on "
           f"top of the {_amount(table['baseline_mb'].max())} MiB that Python, the libraries and the images take.")
    for column, words, unit in (("train_seconds", "training time", "s"), ("latency_ms", "time to classify an image", "ms"),
                                ("memory_mb", "memory for training", "MiB")):
        limit = getattr(budgets, column)
        cheap = table[table[column] <= limit].sort_values(["accuracy", column], ascending=[False, True])
        found = f"none; the nearest is {table[column].idxmin()} with {_amount(table[column].min())} {unit}"
        if len(cheap):
            best = cheap.iloc[0]
            found = f"**{best.name}** ({best['accuracy']:.1%}) with {_amount(best[column])} {unit}"
            ties = [f"{name} ({cheap.loc[name, 'accuracy']:.1%})" for name in cheap.index[1:]
                    if p_values.loc[best.name, name] >= significance.ALPHA]
            found += f", statistically tied with {listed(ties)}" if ties else ""
        yield f"Best under {limit:,g} {unit} of {words}: {found}."


def _near_best(table: pd.DataFrame, local: pd.DataFrame, points: float) -> str:
    near = table[table["accuracy"] >= table["accuracy"].max() - points / 100 - 1e-12]
    unit = "point" if points == 1 else "points"
    if len(near) == 1:
        return f"No other model comes within {points:g} {unit} of **{near.index[0]}**." if len(table) > 1 else ""
    near = near[near.index.isin(local.index)]
    if len(near) < 2:  # measured elsewhere, so that there is nothing to compare with
        return ""
    kinds = {"train_seconds": "quickest to train", "latency_ms": "quickest to answer", "memory_mb": "sparest of memory"}
    merits: dict[str, list[str]] = {}
    for column, words in kinds.items():
        merits.setdefault(str(near[column].idxmin()), []).append(f"the {words}")
    return f"Within {points:g} {unit} of the best, {'; '.join(f'**{name}** is {listed(m)}' for name, m in merits.items())}."


def _dominated(table: pd.DataFrame, p_values: pd.DataFrame) -> Iterable[str]:
    on_front = pareto(table["train_seconds"], table["accuracy"])
    if len(beaten := table.index[~on_front]):
        yield ("On training time alone these are beaten, as another model is at least as accurate for no more: "
               f"{listed(beaten)}.")
    front = table[on_front].sort_values("accuracy", ascending=False).index
    tied = [f"{better} (with {cheaper})" for better, cheaper in pairwise(front)
            if p_values.loc[better, cheaper] >= significance.ALPHA]
    if tied:
        yield f"Not beaten, but statistically tied with a model that trains quicker: {listed(tied)}."


def _transfer(table: pd.DataFrame, correct: pd.DataFrame, tied: list[str]) -> str:
    groups = table.groupby("pretrained")["accuracy"]
    if groups.ngroups < 2:
        return ""
    (score, pretrained_score), (name, pretrained) = groups.max(), groups.idxmax()
    better, worse = (pretrained, name) if pretrained_score >= score else (name, pretrained)
    gap, way = _difference(correct[better], correct[worse]), "ahead of" if better == pretrained else "behind"
    who = "the best pre-trained network" if table["pretrained"].sum() > 1 else "the only pre-trained network"
    told = f" That is no significant difference{_corrected(table)}." if {name, pretrained} <= set(tied) else ""
    return (f"Transfer learning: {who}, {pretrained} ({pretrained_score:.1%}), is {gap} {way} the best model that is not "
            f"pre-trained, {name} ({score:.1%}).{told}")


def _hardest(worst: pd.DataFrame) -> str:
    counts, unclear = worst["class"].value_counts(), int((worst["tied"] != "").sum())
    ties = f" Other classes are tied with the worst of {unclear} of {len(worst)} models." if unclear else ""
    if counts.iloc[0] == 1 < len(worst):
        each = listed(f"{score:.2f} for {name} by {model}" for model, name, score in worst[["class", "f1"]].itertuples())
        return f"The models' worst classes differ; their F1 is {each}.{ties}"
    f1 = worst.loc[worst["class"] == counts.index[0], "f1"]
    who = "every model" if counts.iloc[0] == len(worst) > 1 else f"{counts.iloc[0]} of {len(worst)} models"
    spread = " to ".join(dict.fromkeys((f"{f1.min():.2f}", f"{f1.max():.2f}")))
    subject = worst.index[0] if len(worst) == 1 else who
    return f"The worst class of {subject}, by F1, is **{counts.index[0]}** (F1 {spread}).{ties}"


def _noise(table: pd.DataFrame, images: int) -> str:
    margins = 50 * (table["high"] - table["low"])
    spread = " to ".join(dict.fromkeys(f"±{margin:.1f}" for margin in (margins.min(), margins.max())))
    known = f"With {images:,} test images an accuracy is known to about {spread} points."
    return known if len(table) == 1 else (
        f"{known} Models are compared on the same images, which is sharper; yet a tie means “not told apart”, never “equal”, "
        "and whichever model leads is flattered a little by being chosen on these images.")


def _few(images: int) -> str:
    return "So few images show that everything runs, not which model is better." if images < FEW_IMAGES else ""


def _once(seeds: pd.DataFrame) -> str:
    once = list(seeds.index[seeds["seeds"] == 1])
    if not once:
        return ""
    who = "Every model" if len(once) == len(seeds) else listed(once)
    return f"{who} was trained once: what another seed would score is not known, and no interval here covers it."


def _twins(runs: Mapping[str, Record]) -> list[str]:
    return [f"{a} and {b} give the same probabilities for every image: are they two models?" for a, b in combinations(runs, 2)
            if np.array_equal(runs[a].predictions.proba, runs[b].predictions.proba)]


def _scratch(table: pd.DataFrame) -> str:
    names, pretrained = [name for name in table.index if FROM_SCRATCH in name], table.index[table["pretrained"]]
    if not names:
        return ""
    alone = f" What is said of transfer learning rests on {pretrained[0]} alone." if len(pretrained) == 1 else ""
    return f"Trained from scratch, so no evidence on transfer learning: {listed(names)}.{alone}"


def evidence(correct: pd.DataFrame, p_values: pd.DataFrame) -> str:
    """Whether the models differ at all, by Cochran's Q, and how the best two do, by McNemar's test, in words.

    ``p_values`` are those of ``significance.pairwise_mcnemar``.
    """
    if correct.shape[1] < 2:
        return "With fewer than two models there is nothing to test."
    first, second = correct.mean().sort_values(ascending=False, kind="stable").index[:2]
    alone = [(correct[a] & ~correct[b]).sum() for a, b in ((first, second), (second, first))]
    return (f"{_any_difference(correct)}Of the two most accurate, {first} alone is right on {alone[0]} images and {second} "
            f"alone on {alone[1]}; before correction for the number of pairs, McNemar's exact test gives "
            f"p = {significance.mcnemar_p(correct[first], correct[second]):.2g}, after it {p_values.loc[first, second]:.2g}.")


def _any_difference(correct: pd.DataFrame) -> str:
    if correct.shape[1] == 2:  # McNemar's exact test asks the same, and Q is but its approximation
        return ""
    q, p = significance.cochran(correct)
    p_words = f"p = {p:.2g}" if p > 1e-16 else "p below 1e-16"
    return (f"Cochran's Q over the {correct.shape[1]} models is {q:.1f} ({p_words}): the models "
            f"{'are not all equally accurate' if p < significance.ALPHA else 'cannot be told apart'}. ")
