"""Results as tables: one row a model, and what of it may be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fmlib.results import Result, ResultError
from fmreport.compare.significance import wilson

FIELDS = {  # an overview's columns, and what they are called in a result
    "family": "family",
    "accuracy": "accuracy",
    "log_loss": "log_loss",
    "ece": "ece",
    "train_seconds": "train_seconds",
    "fit_wall_seconds": "fit_wall_seconds",
    "predict_seconds": "predict_seconds",
    "latency_ms": "latency_ms_p50",
    "ram_mb": "memory_mb",
    "vram_mb": "peak_vram_mb",
    "baseline_mb": "rss_baseline_mb",
    "parameters": "parameter_count",
    "flops": "flops_per_image",
}


def representatives(records: Iterable[Result]) -> dict[str, Result]:
    """One result a model under the name to show, the most accurate first.

    A model's first seed speaks for it, whatever its score: choosing the best seed would be choosing
    on test images.
    """
    first: dict[str, Result] = {}
    for record in sorted(records, key=lambda record: record.seed):
        first.setdefault(record.model, record)
    shown = Counter(record.title for record in first.values())
    named = {
        run.title if shown[run.title] == 1 else f"{run.title} ({model})": run
        for model, run in first.items()
    }
    return dict(sorted(named.items(), key=lambda item: (-item[1].accuracy, item[0])))


def is_pretrained(run: Result) -> bool:
    """Whether the model started from pre-trained weights: only then is it transfer learning."""
    return run.weights is not None and run.weights.source != "none"


def overview(runs: Mapping[str, Result]) -> pd.DataFrame:
    """A row a model: accuracy with its 95 % Wilson interval, and every cost.

    Seconds, milliseconds and MiB as named. ``memory_mb`` is RAM above the process's baseline,
    ``baseline_mb``, plus peak video memory; ``parameters`` and ``flops`` are NaN where unknown.
    """
    results = list(runs.values())
    columns = {name: [getattr(run, field) for run in results] for name, field in FIELDS.items()}
    table = pd.DataFrame(columns, pd.Index(runs, dtype=object, name="model"))
    bounds = [wilson(round(run.accuracy * run.test_size), run.test_size) for run in results]
    table[["low", "high"]] = np.array(bounds).reshape(-1, 2)
    table = table.astype({"parameters": float, "flops": float, "vram_mb": float})
    table["vram_mb"] = table["vram_mb"].fillna(0)
    table["memory_mb"] = table["ram_mb"] + table["vram_mb"]
    table["pretrained"] = [is_pretrained(run) for run in results]
    table["machine"] = [run.environment.machine_id for run in results]
    return table


def by_machine(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of an overview measured on the machine with the most models, and all others."""
    counts = table["machine"].value_counts()
    here = table["machine"] == min(counts.index, key=lambda name: (-counts[name], name), default="")
    return table[here], table[~here]


def by_seed(records: Iterable[Result]) -> pd.DataFrame:
    """Accuracy over the seeds of each model, the best mean first.

    Columns seeds (how many), mean, sd (NaN of a single seed), lowest, highest.
    """
    records = list(records)
    names = {run.model: name for name, run in representatives(records).items()}
    rows = [(names[record.model], record.accuracy) for record in records]
    accuracy = pd.DataFrame(rows, columns=["model", "accuracy"]).groupby("model")["accuracy"]
    table = accuracy.agg(seeds="count", mean="mean", sd="std", lowest="min", highest="max")
    return table.sort_values("mean", ascending=False)


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
    """Raise ResultError unless all are of the same data and split, so that they can be compared."""
    records = list(records)
    for name in ("data_sha256", "split_sha256"):
        seen = {getattr(one, name): one for one in records}
        if len(seen) > 1:
            whose = ", ".join(f"{one.model} seed {one.seed}: {h[:12]}" for h, one in seen.items())
            raise ResultError(f"results disagree on {name} and cannot be compared ({whose})")


def check_images(runs: Mapping[str, Result], labels: NDArray[np.int64]) -> None:
    """Raise ResultError unless the runs were tested on the images that ``labels`` (n,) belong to,
    in the same order."""
    for name, run in runs.items():
        if not np.array_equal(run.labels, labels):
            raise ResultError(
                f"{name} was tested on {len(run.labels)} images that are not the {len(labels)} of "
                "this data set: the profile's `dataset` must be the one its results come from"
            )
