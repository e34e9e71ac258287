"""Searches and ablations: variants of a model's parameters, each judged on the validation images.

A study is ``params/studies/<model>-search.yaml`` or ``<model>-ablation.yaml``; its table
``docs/studies/<same name>.csv`` is kept with the project, so that a report shows it without running
it. The test images have no part in it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from IPython.display import Markdown, display
from pydantic import BaseModel, ConfigDict, Field

from fmlib import fitting
from fmlib.fitting import Job, job_of
from fmlib.models.registry import ParameterError, build, changed, model_class, validate
from fmlib.profiles import Profile, ProfileError, load_profile, read_yaml
from fmlib.project import HERE, Project
from fmlib.results import Result, load, record_folder
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

    def profile(self) -> Profile:
        """The cpu profile with the study's seed, by which its images are split."""
        profile = load_profile("cpu", self.project)
        return profile.model_copy(update={"seeds": [self.content.seed]})

    def job(self, variant: str, folder: Path) -> Job:
        """The fit of a variant, whose record lies below ``folder``."""
        model, seed = self.content.model, self.content.seed
        profile = self.profile().model_copy(update={"models": {model: self.parameters(variant)}})
        place = record_folder(folder / "results", model, seed)
        return replace(job_of(profile, model, seed), folder=place)

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


def fitted_here(
    jobs: list[Job], data_sha256: str, say: Callable[[str], None]
) -> Iterator[tuple[Job, str]]:
    """Jobs fitted on this machine, each in a process of its own, one after another."""
    for job in jobs:
        try:
            fitting.fit(job)
        except fitting.FitError as error:
            yield job, str(error)
        else:
            yield job, ""


def run_study(
    name: str,
    project: Project = HERE,
    say: Callable[[str], None] = print,
    fits: Fits = fitted_here,
) -> pd.DataFrame | None:
    """Fit every variant on the training images and judge it on the validation images.

    The table grows on disk as it runs; variants whose seed and parameters already stand in it are
    kept, also when the run is stopped halfway. A second run of the study waits for the first.
    Of the records what is said of test images stays unread.
    """
    study = load_study(name, project)
    scratch = project.build / "studies" / name
    scratch.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(scratch.with_suffix(".lock")):
        keys = {variant: study.key(variant) for variant in study.content.variants}
        before = study.table()
        rows = [] if before is None else before.to_dict("records")
        known = {(row["seed"], row["parameters"]): row for row in rows}
        for variant, key in keys.items():
            if key in known:
                say(f"{name}: {variant}: {_in_words(known[key])}, kept from the table")
        left = [variant for variant, key in keys.items() if key not in known]
        jobs = [study.job(variant, scratch / str(number)) for number, variant in enumerate(left)]
        variants = {job.folder: variant for job, variant in zip(jobs, left, strict=True)}
        data_sha256 = study.profile().data(say).data_sha256 if jobs else ""
        for job, failure in fits(jobs, data_sha256, say) if jobs else ():
            variant = variants[job.folder]
            if failure:
                say(f"{name}: {variant}: failed: {failure}")
                continue
            known[keys[variant]] = _judged(load(job.folder))
            _write(study, keys, known)
            say(f"{name}: {variant}: {_in_words(known[keys[variant]])}")
        shutil.rmtree(scratch, ignore_errors=True)
    return study.table()


def _in_words(row: dict[str, Any]) -> str:
    return f"accuracy {row['accuracy']:.4f} (validation), {row['train_seconds']:.1f} s"


def _judged(result: Result) -> dict[str, Any]:
    """What a fit gives on the validation images, and its training time."""
    judged = scores(result.validation_proba, result.validation_labels, result.class_names)
    return {
        "accuracy": round(judged["accuracy"], 4),
        "log_loss": round(judged["log_loss"], 4),
        "train_seconds": round(result.train_seconds, 1),
        "machine": result.environment.device_name,
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
