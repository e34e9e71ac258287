"""Searches and ablations: variants of a model's parameters, each judged on the validation images.

A study is ``params/studies/<model>-search.yaml`` or ``<model>-ablation.yaml``; its table ``docs/studies/<same name>.csv`` is
kept with the project, so that a report shows it without running it. The test images have no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fmlib.data import ImageData, load_data
from fmlib.measure import describe_machine
from fmlib.models.registry import ParameterError, build, explain, validate
from fmlib.profiles import STUDIES_DIR, TABLES_DIR, ProfileError, load_profile, read_yaml
from fmlib.results import scores
from fmlib.training import default_device
from fmreport import plots
from fmreport.compare.table import listed
from fmreport.show import show_figure, show_table


class Study(BaseModel):
    """``base``: parameters of the model, or None for those in the cpu profile; ``common``: changes to it that all variants
    share (a smaller budget, say); ``variants``: name -> its own changes, keys with dots between levels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    model: str
    seed: int = 9
    base: dict[str, Any] | None = None
    common: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = Field(min_length=1)

    def parameters(self, variant: str) -> dict[str, Any]:
        """The model's parameters under that variant."""
        base = load_profile("cpu").models.get(self.model, {}) if self.base is None else self.base
        return changed(changed(base, self.common), self.variants[variant])

    def key(self, variant: str) -> tuple[int, str]:
        """What tells the variant's row in the kept table: its seed and parameters, as they stand there."""
        return self.seed, json.dumps(self.parameters(variant), sort_keys=True)


def load_study(name: str, folder: Path = STUDIES_DIR) -> Study:
    """Read and check one study; every variant must be something that its model accepts. Raises ProfileError."""
    path = folder / f"{name}.yaml"
    content = read_yaml(path, "study")
    try:
        study = validate(Study, content)
        for variant in study.variants:
            build(study.model, study.parameters(variant))
    except ValidationError as error:
        raise ProfileError(f"{path}: {explain(error, Study, content)}") from error
    except ParameterError as error:
        raise ProfileError(f"{path}: {error}") from error
    return study


def changed(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Parameters as in ``base``, which stays as it is, but for other values at dotted keys: ``{"recipe.lr": 0.1}``."""
    parameters = dict(base)
    for key, value in change.items():
        first, _, rest = key.partition(".")
        parameters[first] = changed(parameters.get(first) or {}, {rest: value}) if rest else value
    return parameters


def run_study(name: str, data: ImageData | None = None, say: Callable[[str], None] = print) -> pd.DataFrame:
    """Fit every variant on the training images and judge it on the validation images; the table grows on disk as it runs.

    Variants whose seed and parameters already stand in the table are kept, also when the run is stopped halfway.
    """
    study, path = load_study(name), TABLES_DIR / f"{name}.csv"
    data = data or load_data("full")
    keys = {variant: study.key(variant) for variant in study.variants}
    known = {(row["seed"], row["parameters"]): row for row in pd.read_csv(path).to_dict("records")} if path.is_file() else {}
    for variant, key in keys.items():
        kept = key in known
        if not kept:
            known[key] = _judge(study, study.parameters(variant), data)
        rows = [{**known[key], "variant": variant, "seed": key[0], "parameters": key[1]} for variant, key in keys.items()
                if key in known]
        table = pd.DataFrame(rows)
        table = table[["variant", *table.columns.drop(["variant", "seed", "parameters"]), "seed", "parameters"]]
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False, lineterminator="\n")
        row = known[key]
        how = ", kept from the table" if kept else ""
        say(f"{name}: {variant}: accuracy {row['accuracy']:.4f} (validation), {row['train_seconds']:.1f} s{how}")
    return table


def _judge(study: Study, parameters: dict[str, Any], data: ImageData) -> dict[str, Any]:
    classifier = build(study.model, parameters, study.seed)
    classifier.fit(*data.train, data.validation)
    judged = scores(classifier.predict_proba(data.validation_images), data.validation_labels, data.class_names)
    return {
        "accuracy": round(judged["accuracy"], 4),
        "log_loss": round(judged["log_loss"], 4),
        "train_seconds": round(classifier.train_seconds_, 1),
        "machine": f"{describe_machine(default_device())['device_name']}",
    }


# --- In a notebook --------------------------------------------------------------------------------------------------------


def show_search(model: str, pretrained: bool = False) -> None:
    """Show what was tried for a model and what it gave, from the kept table; say so if there is none.

    ``pretrained``: whether the model shown started from pre-trained weights, which a search of the ``scratch`` recipe did not.
    """
    from IPython.display import Markdown, display

    if not (STUDIES_DIR / f"{model}-search.yaml").is_file():
        display(Markdown("Nothing: these settings were given, and not searched for."))
        return
    study = load_study(f"{model}-search")
    words = ("The settings of the cpu profile, the one for two processor cores, were chosen from these trials, on validation "
             "images only.")
    if not _taken(study):
        words = "These trials were judged on validation images only; the cpu profile has the settings of none of them."
    elif pretrained and "scratch" in (study.base or {}):
        words = ("The settings of fine-tuning were given, and not searched for. These trials are of the same network trained "
                 "from scratch, as the cpu profile, the one for two processor cores, does where there are no weights.")
    display(Markdown(words))
    _show(model, "search", "what was tried, in order, and what it gave on the validation images")


def show_ablation(model: str) -> None:
    """Show the model's ablation, table and bars, from the kept table; say so if it is still to be made."""
    table = _show(model, "ablation", "the recipe with one ingredient left out at a time, on the validation images")
    if table is not None:
        show_figure(plots.ablation_bars(table), "What each ingredient of the recipe is worth.", f"{model}-ablation-bars")


def _show(model: str, kind: str, what: str) -> pd.DataFrame | None:
    from IPython.display import Markdown, display

    path = TABLES_DIR / f"{model}-{kind}.csv"
    if not (STUDIES_DIR / f"{model}-{kind}.yaml").is_file():
        return None
    if not path.is_file():
        display(Markdown(f"No {kind} is kept for this model; `python -m fmreport study {model}-{kind}` would make one."))
        return None
    study, table = load_study(f"{model}-{kind}"), pd.read_csv(path)
    display(Markdown(study.description))
    if stale := stale_rows(study, table):
        display(Markdown(f"**These rows were measured with other settings than they have now:** {listed(stale)}. "
                         f"`python -m fmreport study {model}-{kind}` measures them again."))
    shown = table[["variant", "accuracy", "log_loss"]].rename(columns={"log_loss": "log loss"})
    if taken := _taken(study) & {*table["variant"]}:
        shown["taken"] = ["yes" if variant in taken else "" for variant in table["variant"]]
    if kind == "ablation":  # searches may run beside other work, so their times mean little
        shown["training (s)"] = table["train_seconds"]
    machines = list(table["machine"].unique())
    if len(machines) > 1:
        shown["machine"] = [machines.index(one) + 1 for one in table["machine"]]
        machines = [f"{one} ({number})" for number, one in enumerate(machines, 1)]
    show_table(
        shown, f"{kind.capitalize()}: {what}, on {listed(machines)}.", f"{model}-{kind}",
        best={"accuracy": "max", "log loss": "min"},
        formats={"accuracy": ".4f", "log loss": ".4f"} | ({"training (s)": ".1f"} if kind == "ablation" else {}),
    )  # fmt: skip
    return table


def stale_rows(study: Study, table: pd.DataFrame) -> list[str]:
    """Rows of a kept table that the study as it is now would not give: of other parameters, another seed or no variant."""
    return [row.variant for row in table.itertuples() if row.variant not in study.variants
            or (row.seed, row.parameters) != study.key(row.variant)]


def _taken(study: Study) -> set[str]:
    """The variants whose parameters the cpu profile has for the model; defaults may be written out or left out."""
    parameters = load_profile("cpu").models.get(study.model)
    if parameters is None:
        return set()
    taken = vars(build(study.model, parameters))
    return {variant for variant in study.variants if vars(build(study.model, study.parameters(variant))) == taken}
