"""The original study's figures beside ours; its mistakes are shown in ``notebooks/07_audit.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fmlib.results import FROM_SCRATCH

FACTS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("study.yaml").read_text("utf-8"))
STUDY = pd.DataFrame(FACTS["models"]).set_index("study")


def beside_study(table: pd.DataFrame) -> pd.DataFrame:
    """The study's rows beside our model of the kind that in fact ran, then our other rows.

    ``table`` is an overview; the study's columns end in ``_study``, missing figures are NaN.
    ``difference`` is in points of accuracy.
    """
    ours = table.rename_axis("ours").reset_index()
    names = ours["ours"].str.removesuffix(FROM_SCRATCH)
    ours["model"] = names.replace(FACTS["stand_ins"])
    study = STUDY.reset_index()
    if FACTS["as_run"] in set(names):
        study.loc[study["model"].duplicated(), "model"] = FACTS["as_run"]
    rows = study.merge(ours, "outer", on="model", suffixes=("_study", ""))
    order = [*study["model"].unique(), *ours["model"]]
    rows = rows.sort_values("model", key=lambda names: names.map(order.index), kind="stable")
    difference = 100 * (rows["accuracy"] - rows["accuracy_study"])
    return rows.assign(difference=difference).reset_index(drop=True)
