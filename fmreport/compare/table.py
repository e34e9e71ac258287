"""Records as tables: one row a model, and what of it may be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fmlib.results import Record, Result, ResultError
from fmreport.compare.significance import wilson

COLUMNS = ["family", "accuracy", "low", "high", "log_loss", "ece", "train_seconds", "fit_wall_seconds", "predict_seconds",
           "latency_ms", "ram_mb", "vram_mb", "memory_mb", "baseline_mb", "parameters", "flops", "pretrained", "machine"]


def listed(names: Iterable[str]) -> str:
    """Names as one phrase; with semicolons where a name has a comma in it."""
    *most, last = names
    comma, end = ("; ", "; and ") if any("," in name for name in [*most, last]) else (", ", " and ")
    return f"{comma.join(most)}{end}{last}" if most else last


def representatives(records: Iterable[Record]) -> dict[str, Record]:
    """One record a model under the name to show, the most accurate first.

    A model's first seed speaks for it, whatever its score: choosing the best seed would be choosing on test images.
    """
    first: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: record.result.seed):
        first.setdefault(record.result.model, record)
    shown = Counter(record.result.display_name for record in first.values())
    ranked = sorted(first.values(), key=lambda record: (-record.result.accuracy, record.result.display_name))
    return {r.result.display_name if shown[r.result.display_name] == 1 else f"{r.result.display_name} ({r.result.model})": r
            for r in ranked}


def is_pretrained(result: Result) -> bool:
    """Whether the model started from pre-trained weights, and so may be called transfer learning."""
    return result.weights.source != "none"


def overview(runs: Mapping[str, Record]) -> pd.DataFrame:
    """A row a model: accuracy with its 95 % Wilson interval, and every cost. Seconds, milliseconds and MiB as named.

    ``memory_mb`` is RAM above the process's baseline, ``baseline_mb``, plus peak video memory.
    """
    rows = {}
    for name, run in runs.items():
        r = run.result
        low, high = wilson(round(r.accuracy * r.test_size), r.test_size)
        vram = r.peak_vram_mb or 0.0
        rows[name] = [r.family, r.accuracy, low, high, r.log_loss, r.ece, r.train_seconds, r.fit_wall_seconds,
                      r.predict_seconds, r.latency_ms_p50, r.memory_mb, vram, r.memory_mb + vram, r.rss_baseline_mb,
                      r.parameter_count, r.flops_per_image, is_pretrained(r), r.environment.machine_id]
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).rename_axis("model")


def number(value: float, spec: str) -> str:
    """The number as text, with a minus that is as wide as a digit."""
    return f"{value:{spec}}".replace("-", "\N{MINUS SIGN}")


def interval(table: pd.DataFrame, spec: str) -> pd.Series:
    """The columns low and high as text, with an en dash between."""
    low, high = (table[end].map(f"{{:{spec}}}".format) for end in ("low", "high"))
    return low + "\u2013" + high


def kind_of_memory(table: pd.DataFrame) -> str:
    """What the memory of an overview's models is, to be said after the word: "" of RAM alone."""
    return ", of processor and GPU together," if table["vram_mb"].any() else ""


def by_machine(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of the machine with the most models, and a sentence on what was left out ("" if nothing was)."""
    counts = table["machine"].value_counts()
    if len(counts) < 2:
        return table, ""
    machine = min(counts.index, key=lambda name: (-counts[name], name))
    others = table.loc[table["machine"] != machine, "machine"]
    left_out = "; ".join(f"{name} ({other})" for name, other in others.items())
    return table[table["machine"] == machine], (
        f"Times and memory are compared only among the {counts[machine]} models measured on {machine}. Measured elsewhere, "
        f"and so left out: {left_out}.")


def by_seed(records: Iterable[Record]) -> pd.DataFrame:
    """Accuracy over the seeds of each model: how many, mean, standard deviation (NaN of a single seed), lowest, highest."""
    records = list(records)
    names = {run.result.model: name for name, run in representatives(records).items()}
    rows = [(names[record.result.model], record.result.accuracy) for record in records]
    accuracy = pd.DataFrame(rows, columns=["model", "accuracy"]).groupby("model")["accuracy"]
    return accuracy.agg(seeds="count", mean="mean", sd="std", lowest="min", highest="max").sort_values("mean", ascending=False)


def pareto(cost: ArrayLike, value: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other beats: none is as cheap and as good, and cheaper or better. Equal points stand together."""
    cost, value = np.asarray(cost, float), np.asarray(value, float)
    as_good = (cost[:, None] <= cost) & (value[:, None] >= value)
    better = (cost[:, None] < cost) | (value[:, None] > value)
    return ~(as_good & better).any(axis=0)


def pareto_fronts(table: pd.DataFrame, costs: Iterable[str]) -> pd.DataFrame:
    """Which models of an overview no other beats in accuracy and one cost: bool, a column a cost."""
    return pd.DataFrame({cost: pareto(table[cost], table["accuracy"]) for cost in costs}, table.index, dtype=bool)


def check_images(runs: Mapping[str, Record], labels: NDArray[np.int64]) -> None:
    """Raise ResultError unless the runs were tested on the images that ``labels`` (n,) belong to, in the same order."""
    for name, run in runs.items():
        tested = run.predictions.labels
        if not np.array_equal(tested, labels):
            raise ResultError(f"{name} was tested on {len(tested)} images that are not the {len(labels)} of this data set: "
                              "set the parameter `dataset` to the one that the results come from")
