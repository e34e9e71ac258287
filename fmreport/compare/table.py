"""Results as tables: one row a model, and what of it may be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fmlib.models.registry import MODELS
from fmlib.results import Result, ResultError
from fmreport.compare.significance import Fits, Runs, accuracy, correct

FIELDS = {  # an overview's columns, and what they are called in a result
    "log_loss": "log_loss",
    "ece": "ece",
    "train_seconds": "train_seconds",
    "fit_wall_seconds": "fit_wall_seconds",
    "predict_seconds": "predict_seconds",
    "latency_ms": "latency_ms_p50",
    "latency_ms_p95": "latency_ms_p95",
    "ram_mb": "memory_mb",
    "vram_mb": "peak_vram_mb",
    "baseline_mb": "rss_baseline_mb",
    "process_mb": "peak_rss_mb",
    "model_bytes": "model_bytes",
    "parameters": "parameter_count",
    "flops": "flops_per_image",
}
# what other work on the machine changes
TIMES = ("train_seconds", "fit_wall_seconds", "predict_seconds", "latency_ms", "latency_ms_p95")
SPREAD = ("train_seconds", "fit_wall_seconds", "latency_ms_p95")  # costs that another day changes
OVERVIEW = ["family", "accuracy", "low", "high", "seeds", "deterministic", "pretrained", "machine"]
OVERVIEW += [*FIELDS, *(f"{cost}_{end}" for cost in SPREAD for end in ("least", "most"))]


def by_model(records: Iterable[Result]) -> dict[str, list[Result]]:
    """The fits of each model, in the order of their seeds, under the name to show.

    The most accurate model first, by its mean over seeds, whatever the order of the records.
    """
    fits: dict[str, list[Result]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        fits.setdefault(record.model, []).append(record)
    titles = Counter(runs[0].title for runs in fits.values())
    named = {
        runs[0].title if titles[runs[0].title] == 1 else f"{runs[0].title} ({model})": runs
        for model, runs in fits.items()
    }
    return dict(sorted(named.items(), key=lambda item: (-_mean_accuracy(item[1]), item[0])))


def _mean_accuracy(fits: Iterable[Result]) -> float:
    return float(np.mean([fit.accuracy for fit in fits]))


def is_deterministic(run: Result) -> bool:
    """Whether another seed would give the same fit."""
    known = MODELS.get(run.model)
    return known is not None and known.deterministic


def overview(runs: Runs) -> pd.DataFrame:
    """A row a model: mean accuracy over its seeds with its 95 % interval, and every cost.

    Seconds, milliseconds and MiB as named; a cost is the median over the fits on the machine of the
    first, a time over those of them that were not measured beside other work, NaN of none.
    ``memory_mb`` is RAM above the process's baseline, ``baseline_mb``, plus peak video memory;
    ``process_mb`` the whole process's RAM; ``parameters`` and ``flops`` are NaN where unknown.
    ``seeds`` counts the fits. Of each cost in ``SPREAD``, ``<cost>_least`` and ``<cost>_most`` are
    the extremes of these fits.
    """
    index = pd.Index(runs, dtype=object, name="model")
    table = pd.DataFrame(map(_overview_row, runs.values()), index, columns=OVERVIEW)
    table = table.astype(dict.fromkeys(FIELDS, float))
    table["vram_mb"] = table["vram_mb"].fillna(0)
    table["memory_mb"] = table["ram_mb"] + table["vram_mb"]
    return table


def _overview_row(fits: Fits) -> dict[str, object]:
    first, machine = fits[0], fits[0].environment.machine_id
    here = [fit for fit in fits if fit.environment.machine_id == machine]
    quiet = [fit for fit in here if not fit.contended]
    mean, low, high = accuracy(correct(fits))
    row: dict[str, object] = {"accuracy": mean, "low": low, "high": high, "seeds": len(fits)}
    pretrained = first.weights is not None and first.weights.source != "none"
    row |= {"family": first.family, "deterministic": is_deterministic(first)}
    row |= {"pretrained": pretrained, "machine": machine}
    for name, field in FIELDS.items():
        of = quiet if name in TIMES else here
        known = [value for fit in of if (value := getattr(fit, field)) is not None]
        row[name] = float(np.median(known)) if known else np.nan
        if name in SPREAD:
            ends = (min(known), max(known)) if known else (np.nan, np.nan)
            row |= {f"{name}_least": ends[0], f"{name}_most": ends[1]}
    return row


def by_machine(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of an overview measured on the machine with the most models, and all others."""
    counts = table["machine"].value_counts()
    here = table["machine"] == min(counts.index, key=lambda name: (-counts[name], name), default="")
    return table[here], table[~here]


def by_seed(runs: Runs) -> pd.DataFrame:
    """Accuracy over the seeds of each model, in the order of ``runs``.

    Columns seeds (how many), deterministic, mean, sd (NaN of a single seed), lowest, highest.
    """
    scores = {name: pd.Series([fit.accuracy for fit in fits]) for name, fits in runs.items()}
    rows = {
        name: [len(one), is_deterministic(runs[name][0]), *one.agg(["mean", "std", "min", "max"])]
        for name, one in scores.items()
    }
    return by_name(rows, ["seeds", "deterministic", "mean", "sd", "lowest", "highest"])


def by_name(rows: Mapping[str, Sequence[Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A table of a row a model, from these under the models' names."""
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")


def extremes(table: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The least and the most of a cost over a model's fits: columns low and high."""
    return table[[f"{cost}_least", f"{cost}_most"]].set_axis(["low", "high"], axis=1)


def time_spread(table: pd.DataFrame) -> float:
    """How many times its least a model's training time was at most, of those with several fits.

    1 where no model has several: then nothing is known of how times vary.
    """
    several = table[table["seeds"] > 1]
    ratios = (several["train_seconds_most"] / several["train_seconds_least"]).dropna()
    return float(max(ratios.max(), 1.0)) if len(ratios) else 1.0


def validation_table(runs: Runs) -> pd.DataFrame:
    """Accuracy on the validation and on the test images, means over seeds, as fractions.

    Columns validation, test, difference (validation less test), higher (in how many fits it was
    higher), fits; without models that have no validation images.
    """
    rows = {}
    for name, fits in runs.items():
        pairs = [
            (fit.validation_accuracy, fit.accuracy)
            for fit in fits
            if fit.validation_accuracy is not None
        ]
        if pairs:
            held_out, test = np.mean(pairs, axis=0)
            higher = sum(one > other for one, other in pairs)
            rows[name] = [held_out, test, held_out - test, higher, len(pairs)]
    return by_name(rows, ["validation", "test", "difference", "higher", "fits"])


def advantages(runs: Runs) -> pd.DataFrame:
    """What each network was given that others were not: a row a network.

    Columns views (averaged at prediction), accuracy, one_view (accuracy without averaging), epochs;
    means over seeds, fractions, NaN where not known.
    """
    rows = {}
    for name, fits in runs.items():
        if fits[0].history:
            without = [fit.one_view_accuracy for fit in fits]
            alone = np.nan if None in without else float(np.mean(without))
            epochs = float(np.median([_last_stage(fit) for fit in fits]))
            views = np.nan if fits[0].views is None else fits[0].views
            rows[name] = [views, _mean_accuracy(fits), alone, epochs]
    return by_name(rows, ["views", "accuracy", "one_view", "epochs"])


def _last_stage(fit: Result) -> int:
    """How many epochs the last stage of training had."""
    return sum(epoch.stage == fit.history[-1].stage for epoch in fit.history)


def pareto(cost: ArrayLike, value: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other dominates: none is as cheap and as good, and cheaper or better.

    Equal points stand together; a point of unknown cost, NaN, is on no front.
    """
    cost, value = np.asarray(cost, float), np.asarray(value, float)
    as_good = (cost[:, None] <= cost) & (value[:, None] >= value)
    better = (cost[:, None] < cost) | (value[:, None] > value)
    return ~(as_good & better).any(axis=0) & ~np.isnan(cost)


def pareto_fronts(table: pd.DataFrame, costs: Iterable[str]) -> pd.DataFrame:
    """Which models of an overview no other dominates in accuracy and one cost: bool, a column a
    cost."""
    fronts = {cost: pareto(table[cost], table["accuracy"]) for cost in costs}
    return pd.DataFrame(fronts, table.index, dtype=bool)


def check_agree(records: Iterable[Result]) -> None:
    """Raise ResultError unless all can be compared: of the same data, and with one seed the same
    split."""
    seen: dict[object, tuple[str, Result]] = {}
    for one in records:
        for what, key, value in (
            ("data_sha256", "data", one.data_sha256),
            ("split_sha256", one.seed, one.split_sha256),
        ):
            known, other = seen.setdefault(key, (value, one))
            if known != value:
                whose = ", ".join(
                    f"{run.model} seed {run.seed}: {sha[:12]}"
                    for run, sha in ((other, known), (one, value))
                )
                raise ResultError(f"results disagree on {what} and cannot be compared ({whose})")


def check_images(runs: Runs, labels: NDArray[np.int64]) -> None:
    """Raise ResultError unless the runs were tested on the images that ``labels`` (n,) belong to,
    in the same order."""
    for name, fits in runs.items():
        for fit in fits:
            if not np.array_equal(fit.labels, labels):
                raise ResultError(
                    f"{name} was tested on {len(fit.labels)} images that are not the {len(labels)} "
                    "of this data set: the profile's `dataset` must be the one its results come "
                    "from"
                )
