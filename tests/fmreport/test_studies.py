"""Searches and ablations: judged on validation images, and no variant measured twice."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmlib import __main__ as command_line
from fmlib import studies
from fmlib.data import ImageData
from fmlib.models.registry import build
from fmlib.profiles import ProfileError, load_profile
from fmreport.studies import changed, load_study, run_study

STUDY = """
description: how deep a tree
model: decision_tree
base: {criterion: entropy}
common: {max_depth: 2}
variants:
  "as it is": {}
  "deeper": {max_depth: 6}
  "impure": {criterion: gini}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one study, and for its table."""
    (tmp_path / "tree-search.yaml").write_text(STUDY)
    monkeypatch.setattr(studies, "TABLES_DIR", tmp_path)
    monkeypatch.setattr(studies, "STUDIES_DIR", tmp_path)
    monkeypatch.setattr(studies, "load_study", lambda name: load_study(name, tmp_path))
    return tmp_path


@pytest.fixture
def untested(small: ImageData) -> ImageData:
    """Data whose test images are a trap: no study may look at them."""
    return replace(small, test_images=None, test_labels=None)


def counted(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[dict]:
    """Notes every variant that is really fitted; interrupts the one after ``stop_after``."""
    judged, judge = [], studies._judge

    def note(study, parameters, data):
        if len(judged) == stop_after:
            raise KeyboardInterrupt
        judged.append(parameters)
        return judge(study, parameters, data)

    monkeypatch.setattr(studies, "_judge", note)
    return judged


@pytest.mark.parametrize("path", sorted(studies.STUDIES_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_of_the_project_is_valid(path):
    study = load_study(path.stem)
    assert path.stem.startswith(f"{study.model}-")
    parameters = [study.parameters(variant) for variant in study.variants]
    assert all(one not in parameters[:i] for i, one in enumerate(parameters)), "two variants are the same"


@pytest.mark.parametrize("name", [path.stem for path in sorted(studies.STUDIES_DIR.glob("*-search.yaml"))])
def test_a_search_has_a_whole_table_with_one_variant_that_the_cpu_profile_takes(name):
    study, table = load_study(name), pd.read_csv(studies.TABLES_DIR / f"{name}.csv")
    assert table["variant"].tolist() == list(study.variants)
    assert len(studies._taken(study)) == 1, "wanted one of them in params/cpu.yaml"


@pytest.mark.parametrize("name", [path.stem for path in sorted(studies.STUDIES_DIR.glob("*.yaml"))])
def test_no_table_that_is_kept_is_of_other_settings_than_its_study_has_now(name):
    path = studies.TABLES_DIR / f"{name}.csv"
    assert not path.is_file() or studies.stale_rows(load_study(name), pd.read_csv(path)) == []


@pytest.mark.parametrize(("wrong", "message"), [
    ({"base: {criterion: entropy}": "", "model: decision_tree": "model: decisio_tree"}, "no such model"),
    ({"base: {criterion: entropy}": "base: {criterion: null}", "max_depth: 2": "criterion.x: 2"}, "criterion"),
])
def test_a_study_that_cannot_work_is_refused_in_words(tmp_path, wrong, message):
    text = STUDY
    for old, new in wrong.items():
        text = text.replace(old, new)
    (tmp_path / "tree-search.yaml").write_text(text)
    with pytest.raises(ProfileError, match=message):
        load_study("tree-search", tmp_path)


def test_dotted_keys_change_a_copy_and_leave_the_base_alone():
    base = {"widths": [4], "recipe": {"lr": 0.1, "epochs": 3}}
    after = changed(base, {"recipe.lr": 0.2, "recipe.augmentation.flip": True, "widths": [8]})
    assert after == {"widths": [8], "recipe": {"lr": 0.2, "epochs": 3, "augmentation": {"flip": True}}}
    assert base == {"widths": [4], "recipe": {"lr": 0.1, "epochs": 3}}


def test_a_change_in_one_place_spares_what_yaml_shares_with_it():
    shared = {"lr": 0.1}
    after = changed({"probe": shared, "recipe": shared}, {"recipe.lr": 0.2})
    assert after == {"probe": {"lr": 0.1}, "recipe": {"lr": 0.2}}


def test_every_variant_is_judged_on_the_validation_images_alone(place, untested, small):
    said = []
    table = run_study("tree-search", untested, said.append)
    assert table["variant"].tolist() == ["as it is", "deeper", "impure"] and len(said) == 3
    tree = build("decision_tree", {"criterion": "entropy", "max_depth": 6}).fit(*small.train, small.validation)
    right = (tree.predict(small.validation_images) == small.validation_labels).mean()
    assert table["accuracy"][1] == pytest.approx(right, abs=1e-4)
    kept = pd.read_csv(place / "tree-search.csv")
    assert kept.columns.tolist() == ["variant", "accuracy", "log_loss", "train_seconds", "machine", "seed", "parameters"]
    assert np.allclose(kept["log_loss"], table["log_loss"])


def test_a_second_run_measures_nothing_and_changes_nothing(place, untested, monkeypatch):
    run_study("tree-search", untested, str)
    before, judged = (place / "tree-search.csv").read_bytes(), counted(monkeypatch)
    said = []
    run_study("tree-search", untested, said.append)
    assert len(said) == 3 and all(line.endswith(", kept from the table") for line in said)
    assert judged == [] and (place / "tree-search.csv").read_bytes() == before


def test_a_run_that_is_stopped_keeps_what_was_measured_before_and_goes_on_from_there(place, untested, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        counted(patch, stop_after=2)
        run_study("tree-search", untested, str)
    assert pd.read_csv(place / "tree-search.csv")["variant"].tolist() == ["as it is", "deeper"]
    changed_study = STUDY.replace('"as it is": {}', '"new": {min_samples_leaf: 3}\n  "as it is": {}')
    (place / "tree-search.yaml").write_text(changed_study)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        counted(patch, stop_after=1)  # stops at "impure", after "new"
        run_study("tree-search", untested, str)
    assert pd.read_csv(place / "tree-search.csv")["variant"].tolist() == ["new", "as it is", "deeper"]
    judged = counted(monkeypatch)
    table = run_study("tree-search", untested, str)
    assert [one["criterion"] for one in judged] == ["gini"]
    assert table["variant"].tolist() == ["new", "as it is", "deeper", "impure"]


def test_a_study_with_a_new_first_variant_loses_nothing_when_that_one_fails(place, untested, monkeypatch):
    run_study("tree-search", untested, str)
    (place / "tree-search.yaml").write_text(STUDY.replace('"as it is": {}', '"new": {max_depth: 3}\n  "as it is": {}'))
    counted(monkeypatch, stop_after=0)
    with pytest.raises(KeyboardInterrupt):
        run_study("tree-search", untested, str)
    assert len(pd.read_csv(place / "tree-search.csv")) == 3


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [("deeper\": {max_depth", "deeper\": {max_dept", "did you mean 'max_depth'"), ("gini", "guinea", "'gini' or 'entropy'"),
     ("model: decision_tree", "model: tree", "no such model")],
)  # fmt: skip
def test_a_variant_that_its_model_refuses_is_an_error_before_anything_runs(place, untested, monkeypatch, old, new, says):
    judged = counted(monkeypatch)
    (place / "tree-search.yaml").write_text(STUDY.replace(old, new))
    with pytest.raises(ProfileError, match=says):
        run_study("tree-search", untested, str)
    assert judged == []


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "no study 'tree-serch' in .*; there are tree-search"), (STUDY + '  "deeper": {}\n', "'deeper' stands twice"),
     (STUDY + "vairants: {}\n", "vairants: unknown key; did you mean 'variants'"), ("", "wanted keys and values")],
)  # fmt: skip
def test_a_study_that_is_none_is_told_in_one_line(place, monkeypatch, capsys, text, says):
    monkeypatch.setattr("sys.argv", ["fmlib", "study", "tree-search" if text is not None else "tree-serch"])
    monkeypatch.setattr("sys.stdout.reconfigure", lambda **_: None, raising=False)
    if text is not None:
        (place / "tree-search.yaml").write_text(text)
    assert command_line.main() == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and re.search(says, told) and told.count("\n") == 1


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook would show, as text."""
    texts = []
    monkeypatch.setattr("IPython.display.display", lambda thing, **_: texts.append(str(getattr(thing, "data", thing))))
    return texts


def test_another_seed_is_another_measurement(place, untested, monkeypatch):
    first = run_study("tree-search", untested, str)
    (place / "tree-search.yaml").write_text(STUDY.replace("model: decision_tree", "model: decision_tree\nseed: 3"))
    judged = counted(monkeypatch)
    second = run_study("tree-search", untested, str)
    assert len(judged) == 3 and set(first["seed"]) == {9} and set(second["seed"]) == {3}


@pytest.mark.parametrize(("old", "new"), [("max_depth: 6", "max_depth: 5"), ("entropy", "gini"), ('"deeper"', '"less deep"')])
def test_a_notebook_says_so_where_the_kept_rows_are_of_other_settings(place, untested, shown, old, new):
    (place / "decision_tree-search.yaml").write_text(STUDY)
    run_study("decision_tree-search", untested, str)
    studies.show_search("decision_tree")
    assert not [text for text in shown if "other settings" in text]
    (place / "decision_tree-search.yaml").write_text(STUDY.replace(old, new, 1))
    studies.show_search("decision_tree")
    told = [text for text in shown if "other settings" in text]
    assert len(told) == 1 and "deeper" in told[0] and "fmlib study decision_tree-search" in told[0]


def test_a_search_from_scratch_is_no_search_of_fine_tuning(shown, monkeypatch):
    monkeypatch.setattr(studies, "_show", lambda *_: None)
    for model, pretrained in (("vgg16", True), ("vgg16", False), ("efficientnet_lite0", True)):
        studies.show_search(model, pretrained)
    assert ["not searched for" in text for text in shown] == [True, False, False]
    assert ["were chosen from these trials, on validation images only" in text for text in shown] == [False, True, True]


def test_a_notebook_says_how_to_make_a_table_that_is_not_there(place, shown):
    (place / "decision_tree-search.yaml").write_text(STUDY)
    studies.show_search("decision_tree")
    assert "the cpu profile has the settings of none of them" in shown[0] and "fmlib study decision_tree-search" in shown[1]


def test_a_notebook_claims_no_search_where_there_was_none(place, shown):
    studies.show_ablation("study_cnn")
    studies.show_search("study_cnn")
    assert len(shown) == 1 and "not searched for" in shown[0]


def test_a_notebook_shows_the_kept_table(place, untested, shown, monkeypatch):
    (place / "decision_tree-search.yaml").write_text(STUDY)
    run_study("decision_tree-search", untested, str)
    captions = []
    monkeypatch.setattr(studies, "show_table", lambda table, caption, *_a, **_k: captions.append((len(table), caption)))
    studies.show_search("decision_tree")
    machine = pd.read_csv(place / "decision_tree-search.csv")["machine"][0]
    assert shown[-1] == "how deep a tree" and captions[0][0] == 3 and machine in captions[0][1]


def test_the_kept_table_says_which_machine_a_row_is_of_where_there_are_several(place, untested, shown, monkeypatch):
    (place / "decision_tree-search.yaml").write_text(STUDY)
    run_study("decision_tree-search", untested, str)
    table = pd.read_csv(place / "decision_tree-search.csv").assign(machine=["old", "new", "old"])
    table.to_csv(place / "decision_tree-search.csv", index=False)
    seen = []
    monkeypatch.setattr(studies, "show_table", lambda table, caption, *_a, **_k: seen.append((table, caption)))
    studies.show_search("decision_tree")
    assert seen[0][0]["machine"].tolist() == [1, 2, 1] and "on old (1) and new (2)." in seen[0][1]


def test_the_kept_table_says_which_variant_is_taken_however_its_defaults_are_written(place, untested, shown, monkeypatch):
    (place / "decision_tree-search.yaml").write_text(STUDY)
    run_study("decision_tree-search", untested, str)
    profile, tables = load_profile("smoke"), []
    monkeypatch.setattr(studies, "show_table", lambda table, *_a, **_k: tables.append(table))
    for taken in ({"criterion": "entropy", "max_depth": 6, "min_samples_leaf": 1}, {"max_depth": 9}):
        models = {"decision_tree": taken}
        monkeypatch.setattr(studies, "load_profile", lambda _, models=models: profile.model_copy(update={"models": models}))
        studies.show_search("decision_tree")
    assert tables[0]["taken"].tolist() == ["", "yes", ""] and "taken" not in tables[1]
