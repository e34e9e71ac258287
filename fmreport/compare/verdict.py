"""What follows from the numbers: who leads, who is tied, what a budget buys. No words, no prose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from fmlib.models.registry import MODELS
from fmlib.results import FROM_SCRATCH, Result
from fmreport.compare import calibration, errors, significance, table
from fmreport.compare.significance import ALPHA, Correct

BUDGETS = {"train_seconds": 60.0, "latency_ms_p95": 10.0, "memory_mb": 500.0}
WAITS = ("train_seconds", "latency_ms_p95")  # for what one waits
FEW_IMAGES = 2000  # below this an interval is over two points wide, and a verdict is a rehearsal


@dataclass(frozen=True)
class Comparison:
    """Results side by side, with what every finding rests on; :func:`compare` makes it.

    ``runs`` holds the fits of each model, the best model first; ``table`` is their overview,
    ``local`` its rows of one machine, whose costs may be compared, ``elsewhere`` the other rows;
    ``seeds`` is of ``by_seed``, ``correct`` of ``significance.correct`` for each model,
    ``p_values`` of ``all_pairs``, ``behind`` of ``against_best``; ``tied`` are the models that are
    not told from the best, which leads them.
    """

    runs: dict[str, list[Result]]
    temperatures: dict[str, list[float]]
    seeds: pd.DataFrame
    table: pd.DataFrame
    local: pd.DataFrame
    elsewhere: pd.DataFrame
    correct: dict[str, Correct]
    p_values: pd.DataFrame
    behind: pd.DataFrame
    tied: list[str]

    @cached_property
    def calibrated(self) -> pd.DataFrame:
        """Of ``calibration_table``."""
        return calibration.calibration_table(self.runs, self.temperatures)

    @cached_property
    def worst(self) -> pd.DataFrame:
        """Of ``worst_classes``."""
        return errors.worst_classes(self.runs)

    @property
    def of_recipes(self) -> bool:
        """Whether every model has several seeds, or needs none: then recipes are compared, and
        else these fitted models."""
        known = (self.seeds["seeds"] > 1) | self.seeds["deterministic"]
        return bool(len(known) and known.all() and (self.seeds["seeds"] > 1).any())

    @property
    def images(self) -> int:
        """The number of test images."""
        return next((one.shape[1] for one in self.correct.values()), 0)


def compare(records: Iterable[Result]) -> Comparison:
    """Compare results, any number of models and seeds; ResultError unless of the same data."""
    records = list(records)
    table.check_agree(records)
    runs = table.by_model(records)
    overview = table.overview(runs)
    local, elsewhere = table.by_machine(overview)
    correct = {name: significance.correct(fits) for name, fits in runs.items()}
    behind = significance.against_best(correct) if runs else pd.DataFrame()
    return Comparison(
        runs,
        calibration.temperatures(runs),
        table.by_seed(runs),
        overview,
        local,
        elsewhere,
        correct,
        significance.all_pairs(correct),
        behind,
        [*list(runs)[:1], *_untold(behind)],
    )


def _untold(behind: pd.DataFrame) -> list[str]:
    """The models of ``against_best`` that are not told from the best."""
    return [name for name in behind.index if behind.loc[name, "p_holm"] >= ALPHA]


@dataclass(frozen=True)
class Affordable:
    """What ``limit`` buys of the cost ``cost``, a column of an overview.

    ``best`` is the most accurate model within the limit, or None; ``tied`` are those within it that
    are tied with it; ``cheapest`` is the model of least cost, within it or not.
    """

    cost: str
    limit: float
    best: str | None
    tied: list[str]
    cheapest: str


def missing(names: Iterable[str], records: Iterable[Result]) -> tuple[list[str], list[str]]:
    """Of the models of failed jobs, those without any result, and those with some of their seeds.

    ``names`` has one title a failed job.
    """
    here = {record.title.removesuffix(FROM_SCRATCH) for record in records}
    failed = list(dict.fromkeys(names))
    return [name for name in failed if name not in here], [name for name in failed if name in here]


def leaders(found: Comparison) -> list[str]:
    """The models that share the highest accuracy; usually one."""
    return near_best(found, 0)


def near_best(found: Comparison, points: float) -> list[str]:
    """The models, the best included, within so many points of accuracy of the best."""
    accuracy = found.table["accuracy"]
    return list(accuracy.index[accuracy >= accuracy.max() - points / 100 - 1e-12])


def fastest_tied(found: Comparison) -> tuple[str, str] | None:
    """The fastest to train of the tied and the best of them, where that saves half the time."""
    cost = found.local.loc[found.local.index.isin(found.tied), "train_seconds"].dropna()
    if len(cost) < 2 or 2 * cost.min() >= cost.iloc[0]:  # a smaller saving is no reason
        return None
    return cost.idxmin(), cost.index[0]


def affordable(found: Comparison, budgets: Mapping[str, float]) -> list[Affordable]:
    """What each of ``budgets``, a limit a column of the overview, buys on the one machine."""
    bought = []
    for cost, limit in budgets.items():
        if not found.local[cost].notna().any():
            continue
        within = found.local[found.local[cost] <= limit]
        names = within.sort_values(["accuracy", cost], ascending=[False, True]).index
        best, tied = None, []
        if len(names):
            best = names[0]
            tied = _untold(significance.against_best({one: found.correct[one] for one in names}))
        bought.append(Affordable(cost, limit, best, tied, found.local[cost].idxmin()))
    return bought


def faster(found: Comparison, one: str, other: str) -> bool:
    """Whether one model trains faster than another, beyond what fits of a model were seen to vary.

    A model with one fit is taken to vary as much as any with several did.
    """
    spread = table.time_spread(found.local)

    def extremes(name: str) -> tuple[float, float]:
        row = found.local.loc[name]
        if row["seeds"] > 1:
            return row["train_seconds_least"], row["train_seconds_most"]
        return row["train_seconds"] / spread**0.5, row["train_seconds"] * spread**0.5

    return extremes(one)[1] < extremes(other)[0]


def dominated(found: Comparison) -> list[str]:
    """The models than which another is at least as accurate and trains faster, beyond the spread of
    times that was seen."""
    accuracy = found.local["accuracy"]
    return [
        name
        for name in found.local.index
        if any(
            accuracy[other] >= accuracy[name] and faster(found, other, name)
            for other in found.local.index
            if other != name
        )
    ]


def front_by_chance(found: Comparison) -> list[tuple[str, str]]:
    """The models on the front of training time that are tied with the next faster one on it."""
    beaten = dominated(found)
    front = [name for name in found.local.index if name not in beaten]
    return [
        (one, other)
        for one, other in pairwise(front)
        if found.p_values.loc[one, other] >= ALPHA and faster(found, other, one)
    ]


def transfer_pair(found: Comparison) -> tuple[str, str] | None:
    """The best pre-trained model and the best other one; None unless there are both."""
    best = found.table.groupby("pretrained")["accuracy"].idxmax()
    return (best[True], best[False]) if len(best) == 2 else None


def twins(found: Comparison) -> list[tuple[str, str]]:
    """Pairs of models that give the same probabilities for every image with their first seed."""
    runs, pairs = found.runs, combinations(found.runs, 2)
    return [(a, b) for a, b in pairs if np.array_equal(runs[a][0].proba, runs[b][0].proba)]


# --- Findings ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What was found, as values: its kind, the models that it is about, what it rests on.

    ``fmreport.text.words`` makes a sentence of it. Accuracies are fractions; names are as they are.
    """

    kind: str
    models: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


def findings(
    found: Comparison, budgets: Mapping[str, float] = BUDGETS, near_points: float = 1.0
) -> Iterator[Finding]:
    """What follows from a comparison of at least one model, the most important first."""
    yield from _about_accuracy(found)
    yield from _about_costs(found, budgets, near_points)
    yield from _about_transfer(found)
    yield from _about_probabilities(found)
    worst = found.worst
    columns = (worst["class"], worst["f1"], worst["tied"].map(bool))
    yield Finding("worst class", tuple(worst.index), {"rows": list(zip(*columns, strict=True))})


def lead(found: Comparison, absent: bool = False) -> Finding:
    """Who leads, who is not told from the best, or how far the next is behind.

    ``absent``: whether there are models without a result.
    """
    best, first = found.table.iloc[0], leaders(found)
    others = [name for name in found.tied if name not in first]
    after = next((name for name in found.runs if name not in {*found.tied, *first}), None)
    beside = others or ([after] if after else [])
    return Finding(
        "lead",
        tuple(first),
        {
            **best[["accuracy", "low", "high", "seeds"]],
            "images": found.images,
            "models": len(found.runs),
            "absent": absent,
            "of_recipes": found.of_recipes,
            "comparisons": len(found.behind),
            "tied": {name: found.table.loc[name, "accuracy"] for name in others},
            "next": after,
            "behind": {name: found.behind.loc[name].to_dict() for name in beside},
        },
    )


def _about_accuracy(found: Comparison) -> Iterator[Finding]:
    several = found.seeds[found.seeds["seeds"] > 1]
    if len(several):
        values: dict[str, Any] = {"spreads": several.head(3).to_dict("index")}
        if len(found.behind) and found.behind["pairs"].iloc[0] > 1:
            row = found.behind.iloc[0]
            values |= {"after": row.name, "pairs": row["pairs"], "wins": row["wins"]}
        yield Finding("seeds", (found.table.index[0],), values)
    given = table.advantages(dict(list(found.runs.items())[:1]))
    if len(given) and given["views"].iloc[0] > 1 and given["one_view"].notna().all():
        yield Finding("views", tuple(given.index), given.iloc[0].to_dict())
    if pair := fastest_tied(found):
        seconds = found.local.loc[list(pair), "train_seconds"].to_list()
        yield Finding("fastest tied", pair, {"seconds": seconds})


def _about_costs(
    found: Comparison, budgets: Mapping[str, float], near_points: float
) -> Iterator[Finding]:
    local, accuracy = found.local, found.table["accuracy"]
    costs = {"machine": local["machine"].iloc[0], "baseline_mb": local["baseline_mb"].max()}
    yield Finding("costs", (), costs | {"with_gpu": bool(local["vram_mb"].any())})
    others = {cost: limit for cost, limit in budgets.items() if cost not in WAITS}
    for bought in affordable(found, others):  # of time the answer tells
        which = bought.best or bought.cheapest
        values = {"cost": bought.cost, "limit": bought.limit, "nearest": bought.cheapest}
        values |= {"amount": local.loc[which, bought.cost], "accuracy": accuracy[which]}
        values |= {"tied": {name: accuracy[name] for name in bought.tied}}
        yield Finding("budget", (bought.best,) if bought.best else (), values)
    near = near_best(found, near_points)
    here = local[local.index.isin(near)]
    if len(near) == 1 < len(found.runs):
        yield Finding("none near", tuple(near), {"points": near_points})
    elif len(here) > 1:  # else it was measured elsewhere, and there is nothing to compare with
        merits: dict[str, list[str]] = {}
        for cost in BUDGETS:
            if (here[cost] == here[cost].min()).sum() == 1:
                merits.setdefault(here[cost].idxmin(), []).append(cost)
        if merits:
            yield Finding("near", tuple(merits), {"points": near_points, "merits": merits})
    if pairs := front_by_chance(found):
        yield Finding("front by chance", tuple(one for one, _ in pairs), {"pairs": pairs})


def _about_transfer(found: Comparison) -> Iterator[Finding]:
    if pair := transfer_pair(found):
        better, worse = sorted(pair, key=found.table["accuracy"].get, reverse=True)
        apart = significance.difference(found.correct[better], found.correct[worse])
        yield Finding(
            "transfer",
            pair,
            {
                "difference": vars(apart),
                "ahead": better == pair[0],
                "accuracy": [found.table.loc[name, "accuracy"] for name in pair],
                "only": found.table["pretrained"].sum() == 1,
                "tied": {*pair} <= {*found.tied},
                "comparisons": len(found.behind),
            },
        )


def _about_probabilities(found: Comparison) -> Iterator[Finding]:
    calibrated = found.calibrated
    best = calibrated.iloc[0]
    gains = best["ece"] - best["ece_scaled"] >= 0.01
    if gains and not calibration.at_bound(best["temperature"]):
        yield Finding("scaling", (str(best.name),), best.to_dict())
    worse = calibrated[calibrated["ece_scaled"] >= calibrated["ece"] + 0.01]
    if len(worse):
        rows = worse[["ece", "ece_scaled"]].itertuples(name=None)
        yield Finding("scaling harms", tuple(worse.index), {"rows": list(rows)})


def needs(
    found: Comparison, budgets: Mapping[str, float] = BUDGETS, gpu: Comparison | None = None
) -> Iterator[Finding]:
    """Which model to take for which need, the most accurate first; nothing without results.

    ``gpu`` compares models on a GPU, whose times stand for themselves.
    """
    if not found.runs:
        return
    here = found.table.copy()
    here.loc[found.elsewhere.index, [*WAITS]] = np.nan
    best = min(leaders(found), key=lambda name: here.loc[name, "train_seconds"])
    untold = [name for name in found.tied if name != best]
    quick = fastest_tied(found)
    values = {"tied": untold, "models": len(found.runs), "images": found.images}
    yield _need("accuracy", here, best, **values, fastest=quick[0] if quick else None)
    for bought in affordable(found, {cost: budgets[cost] for cost in WAITS if cost in budgets}):
        values = {"limit": bought.limit, "tied": bought.tied, "nearest": bought.cheapest}
        values["least"] = here.loc[bought.cheapest, bought.cost]
        yield _need(bought.cost, here, bought.best, **values)
    readable = {name for name, model in MODELS.items() if model.readable}
    clear = next((name for name, fits in found.runs.items() if fits[0].model in readable), None)
    if clear:
        yield _need("readable", here, clear)
    if gpu is not None and gpu.runs:
        machine, tied = gpu.table["machine"].iloc[0], gpu.tied[1:]
        yield _need("gpu", gpu.table, gpu.tied[0], machine=machine, tied=tied)


def _need(need: str, overview: pd.DataFrame, name: str | None, **values: Any) -> Finding:
    """What is taken for a need, None if nothing, with its accuracy and its times."""
    if name is None:
        return Finding("need", (), {"need": need, **values})
    row = overview.loc[name, ["accuracy", *WAITS]].to_dict()
    return Finding("need", (name,), {"need": need, **row, **values})


def left_out(local: pd.DataFrame, elsewhere: pd.DataFrame) -> Finding | None:
    """Whose costs are not compared, as they were measured elsewhere."""
    if elsewhere.empty:
        return None
    machines = elsewhere["machine"].to_dict()
    values = {"machines": machines, "count": len(local), "machine": local["machine"].iloc[0]}
    return Finding("elsewhere", tuple(machines), values)


def limits(found: Comparison) -> Iterator[Finding]:
    """What the test images, one run and one recipe a model leave open."""
    local, overview, seeds = found.local, found.table, found.seeds
    if away := left_out(local, found.elsewhere):
        yield away
    margins = (overview["high"] - overview["low"]) / 2
    ends = {"least": margins.min(), "most": margins.max()}
    yield Finding("precision", tuple(overview.index), ends | {"images": found.images})
    if found.images < FEW_IMAGES:
        yield Finding("few images")
    single = seeds["seeds"] == 1
    once = tuple(seeds.index[single & ~seeds["deterministic"]])
    fixed = tuple(seeds.index[single & seeds["deterministic"]])
    if fixed:
        yield Finding("deterministic", fixed)
    if once:
        values = {"rest": len(once) + len(fixed) == len(seeds), "others": bool(fixed)}
        yield Finding("trained once", once, values)
    beside = tuple(local.index[local["train_seconds"].isna()])
    if beside:
        yield Finding("contended", beside)
    if (local["seeds"] > 1).any():
        yield Finding("times vary", (), {"ratio": table.time_spread(local)})
    else:
        yield Finding("timed once")
    for pair in twins(found):
        yield Finding("twins", pair)
    scratch = tuple(name for name in overview.index if FROM_SCRATCH in name)
    if scratch:
        pretrained = list(overview.index[overview["pretrained"]])
        yield Finding("from scratch", scratch, {"pretrained": pretrained})
    yield Finding("one recipe")
