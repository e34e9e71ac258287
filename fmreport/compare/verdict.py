"""What follows from the numbers: who leads, who is tied, what a budget buys. No words, no prose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd

from fmlib.results import FROM_SCRATCH, Result
from fmreport.compare import calibration, significance, table
from fmreport.compare.significance import ALPHA, Correct

BUDGETS = {"train_seconds": 60.0, "latency_ms_p95": 10.0, "memory_mb": 500.0}


@dataclass(frozen=True)
class Comparison:
    """Results side by side, with what every finding rests on; :func:`compare` makes it.

    ``runs`` holds the fits of each model, the best model first; ``table`` is their overview,
    ``local`` its rows of one machine, whose costs may be compared, ``elsewhere`` the other rows;
    ``seeds`` is of ``by_seed``, ``correct`` of ``correct_of_all``, ``p_values`` of ``all_pairs``,
    ``behind`` of ``against_best``; ``tied`` are the models that are not told from the best, which
    leads them.
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
    correct = significance.correct_of_all(runs)
    behind = significance.against_best(correct) if runs else pd.DataFrame()
    untold = [name for name in behind.index if behind.loc[name, "p_holm"] >= ALPHA]
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
        [*list(runs)[:1], *untold],
    )


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
    cost = found.local.loc[found.local.index.isin(found.tied), "train_seconds"]
    if len(cost) < 2 or 2 * cost.min() >= cost.iloc[0]:  # a smaller saving is no reason
        return None
    return cost.idxmin(), cost.index[0]


def affordable(found: Comparison, budgets: Mapping[str, float]) -> list[Affordable]:
    """What each of ``budgets``, a limit a column of the overview, buys on the one machine."""
    bought = []
    for cost, limit in budgets.items():
        within = found.local[found.local[cost] <= limit]
        names = within.sort_values(["accuracy", cost], ascending=[False, True]).index
        best = names[0] if len(names) else None
        tied = [name for name in names[1:] if found.p_values.loc[best, name] >= ALPHA]
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
