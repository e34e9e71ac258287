"""Searches and ablations: variants of a model's parameters, each judged on the validation images.

A study is ``params/studies/<model>-search.yaml`` or ``<model>-ablation.yaml``; its table
``docs/studies/<same name>.csv`` is kept with the project, so that a report shows it without running
it. The test images have no part in it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown, display
from pydantic import BaseModel, ConfigDict, Field

from fmlib import fast
from fmlib.data import Dataset
from fmlib.fitting import Job, job_of
from fmlib.measure import describe_machine
from fmlib.models.registry import ParameterError, build, changed, model_class, validate
from fmlib.profiles import ProfileError, load_profile, read_yaml
from fmlib.project import HERE, Project
from fmlib.results import load, record_folder
from fmlib.scores import scores
from fmreport import plots
from fmreport.show import show_figure, show_notice, show_table
from fmreport.text import listed, literal

KINDS = ("search", "ablation")
# Fits jobs that share a data set of that hash: each as it ends, with why it failed, or "".
Fits = Callable[[list[Job], str, Callable[[str], None]], Iterator[tuple[Job, str]]]


class Content(BaseModel):
    """What a study's file says.

    ``base``: parameters of the model, or None for those in the cpu profile; ``common``: changes to
    it that all variants share (a smaller budget, say); ``variants``: name -> its own changes, keys
    with dots between levels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    model: str
    seed: int = 9
    base: dict[str, Any] | None = None
    common: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True)
class Study:
    """A study of a project, by name, with the parameters that the cpu profile has for its model."""

    name: str
    content: Content
    current: dict[str, Any] | None
    project: Project

    def parameters(self, variant: str) -> dict[str, Any]:
        """The model's parameters under that variant."""
        base = self.content.base
        start = (self.current or {}) if base is None else base
        return changed(changed(start, self.content.common), self.content.variants[variant])

    def key(self, variant: str) -> tuple[int, str]:
        """What tells the variant's row in the kept table: its seed and parameters."""
        return self.content.seed, json.dumps(self.parameters(variant), sort_keys=True)

    def table(self) -> pd.DataFrame | None:
        """The kept table; None where there is none yet."""
        path = self.project.tables / f"{self.name}.csv"
        return pd.read_csv(path) if path.is_file() else None

    def taken(self) -> set[str]:
        """Variants whose parameters the cpu profile has; defaults may be written out or not."""
        if self.current is None:
            return set()
        model = self.content.model
        taken = build(model, self.current).parameters()
        variants = self.content.variants
        return {one for one in variants if build(model, self.parameters(one)).parameters() == taken}


def load_study(name: str, project: Project = HERE) -> Study:
    """Read and check one study; the model must accept every variant. Raises ProfileError."""
    path = project.studies / f"{name}.yaml"
    given = read_yaml(path, "study")
    try:
        content = validate(Content, given)
        current = load_profile("cpu", project).models.get(content.model)
        study = Study(name, content, current, project)
        for variant in content.variants:
            build(content.model, study.parameters(variant))
    except ParameterError as error:
        raise ProfileError(f"{path}: {error}") from error
    return study


def run_study(
    name: str,
    project: Project = HERE,
    data: Dataset | None = None,
    say: Callable[[str], None] = print,
    fits: Fits | None = None,
) -> pd.DataFrame | None:
    """Fit every variant on the training images and judge it on the validation images.

    The table grows on disk as it runs; variants whose seed and parameters already stand in it are
    kept, also when the run is stopped halfway. ``fits``: where they are fitted, if not here.
    """
    fast.enable()
    study = load_study(name, project)
    data = data or load_profile("cpu", project).data(say)
    keys = {variant: study.key(variant) for variant in study.content.variants}
    before = study.table()
    rows = [] if before is None else before.to_dict("records")
    known = {(row["seed"], row["parameters"]): row for row in rows}
    for variant, key in keys.items():
        if key in known:
            say(f"{name}: {variant}: {_in_words(known[key])}, kept from the table")
    left = [variant for variant, key in keys.items() if key not in known]
    if fits:
        judged = _judged_elsewhere(study, left, data, say, fits) if left else iter(())
    else:
        judged = ((variant, judge(study, variant, data)) for variant in left)
    for variant, row in judged:
        known[keys[variant]] = row
        _write(study, keys, known)
        say(f"{name}: {variant}: {_in_words(row)}")
    return study.table()


def _in_words(row: dict[str, Any]) -> str:
    return f"accuracy {row['accuracy']:.4f} (validation), {row['train_seconds']:.1f} s"


def judge(study: Study, variant: str, data: Dataset) -> dict[str, Any]:
    """What a variant gives on the validation images, and its training time."""
    model = build(study.content.model, study.parameters(variant)).fit(data, study.content.seed)
    proba = model.predict_proba(data.validation_images)
    judged = scores(proba, data.validation_labels, data.class_names)
    return _row(judged, model.train_seconds_, describe_machine({})["device_name"])


def _judged_elsewhere(
    study: Study, variants: list[str], data: Dataset, say: Callable[[str], None], fits: Fits
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What variants give, as jobs; of their records what is said of test images stays unread."""
    profile, content = load_profile("cpu", study.project), study.content
    study.project.build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=study.project.build, prefix=".study-") as scratch:
        jobs = {}
        for number, variant in enumerate(variants):
            folder = record_folder(
                Path(scratch, str(number), "results"), content.model, content.seed
            )
            job = job_of(profile, content.model, content.seed)
            jobs[folder] = (
                variant,
                replace(
                    job, parameters=study.parameters(variant), seed=content.seed, folder=folder
                ),
            )
        for job, failure in fits([job for _, job in jobs.values()], data.data_sha256, say):
            variant, _ = jobs[job.folder]
            if failure:
                say(f"{study.name}: {variant}: failed: {failure}")
                continue
            result = load(job.folder)
            names = result.class_names
            judged = scores(result.validation_proba, result.validation_labels, names)
            machine = result.environment.device_name
            yield variant, _row(judged, result.train_seconds, machine)


def _row(judged: dict[str, Any], train_seconds: float, machine: str) -> dict[str, Any]:
    return {
        "accuracy": round(judged["accuracy"], 4),
        "log_loss": round(judged["log_loss"], 4),
        "train_seconds": round(train_seconds, 1),
        "machine": machine,
    }


def _write(study: Study, keys: dict[str, tuple[int, str]], known: dict[Any, Any]) -> None:
    """Write the rows that are known, in the order of the study's variants."""
    rows = []
    for variant, key in keys.items():
        if key in known:
            rows.append({**known[key], "variant": variant, "seed": key[0], "parameters": key[1]})
    table = pd.DataFrame(rows)
    measured = table.columns.drop(["variant", "seed", "parameters"])
    path = study.project.tables / f"{study.name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = table[["variant", *measured, "seed", "parameters"]]
    ordered.to_csv(path, index=False, lineterminator="\n")


def trials(model: str, project: Project = HERE) -> int:
    """How many settings of a model were tried on validation images, in its kept studies."""
    paths = [project.tables / f"{model}-{kind}.csv" for kind in KINDS]
    return sum(len(pd.read_csv(path)) for path in paths if path.is_file())


# --- In a notebook ----------------------------------------------------------------------------


def show_studies(model: str, project: Project = HERE) -> None:
    """Show what was tried for a model and what it gave, from the kept tables."""
    names = [f"{model}-{kind}" for kind in KINDS]
    there = [name for name in names if (project.studies / f"{name}.yaml").is_file()]
    if not there:
        title = literal(model_class(model).title)
        display(Markdown(f"{title}: its settings were given, and not searched for."))
    for name in there:
        _show(load_study(name, project))


def _show(study: Study) -> None:
    table, kind = study.table(), study.name.rpartition("-")[2]
    title = literal(model_class(study.content.model).title)
    if table is None:
        command = f"`python -m fmreport study {study.name}`"
        show_notice(f"No {kind} is kept for {title}; {command} would make one.")
        return
    display(Markdown(f"**{title}, {kind}.** {study.content.description} {_basis(study, kind)}"))
    if old := stale_rows(study, table):
        show_notice(f"These rows were measured with other settings than now: {listed(old)}.")
    shown = table[["variant", "accuracy", "log_loss"]].rename(columns={"log_loss": "log loss"})
    taken = study.taken()
    if taken & {*table["variant"]}:
        shown["taken"] = ["yes" if variant in taken else "" for variant in table["variant"]]
    formats = {"accuracy": ".4f", "log loss": ".4f"}
    if kind == "ablation":  # searches may run beside other work, so their times mean little
        shown["training (s)"] = table["train_seconds"]
        formats["training (s)"] = ".1f"
    machines = list(table["machine"].unique())
    if len(machines) > 1:
        shown["machine"] = [machines.index(one) + 1 for one in table["machine"]]
        machines = [f"{one} ({number})" for number, one in enumerate(machines, 1)]
    what = {
        "search": "what was tried, in order, and what it gave on the validation images",
        "ablation": "the recipe with one ingredient left out at a time, on the validation images",
    }[kind]
    caption = f"{title}, {kind}: {what}, on {listed(machines)}."
    best = {"accuracy": "max", "log loss": "min"}
    show_table(shown, caption, study.name, best=best, formats=formats)
    if kind == "ablation":
        caption = f"{title}: what each ingredient of the recipe is worth."
        show_figure(plots.ablation_bars(table), caption, f"{study.name}-bars")


def _basis(study: Study, kind: str) -> str:
    """What the trials decided."""
    if kind == "ablation":
        return ""
    if study.taken():
        return "The settings of the cpu profile were chosen from these trials."
    return "The cpu profile has the settings of none of these trials."


def stale_rows(study: Study, table: pd.DataFrame) -> list[str]:
    """Rows of a kept table that the study as it is now would not give."""
    stale = []
    for variant, seed, parameters in table[["variant", "seed", "parameters"]].itertuples(
        index=False
    ):
        known = variant in study.content.variants
        if not known or (seed, parameters) != study.key(variant):
            stale.append(variant)
    return stale
