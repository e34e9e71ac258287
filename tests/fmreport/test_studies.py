"""Searches and ablations: judged on validation images, and no variant measured twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from fmlib import fitting
from fmlib.data import Dataset
from fmlib.fitting import Job
from fmlib.models.registry import build
from fmlib.profiles import ProfileError, available_profiles
from fmlib.project import HERE, Project
from fmreport.__main__ import main
from fmreport.studies import changed, load_study, run_study, show_studies, stale_rows

NAME = "decision_tree-search"
STUDY = """
description: How deep a tree.
model: decision_tree
base: {criterion: entropy}
common: {max_depth: 2}
variants:
  "as it is": {}
  "deeper": {max_depth: 6}
  "impure": {criterion: gini}
"""
CPU = """
description: one tree
dataset: {npz: small.npz}
models:
  decision_tree: {max_depth: 9}
"""
EVERY = available_profiles(HERE.studies)


class World:
    """A small project with one study."""

    def __init__(self, project: Project, data: Dataset) -> None:
        self.project = project
        project.studies.mkdir(parents=True)
        np.savez(
            project.params / "small.npz",
            train_images=data.train_images,
            train_labels=data.train_labels,
            test_images=data.test_images,
            test_labels=(data.test_labels + 1) % 10,  # wrong: no study may look at them
        )
        self.write(STUDY)
        self.profile(CPU)

    def write(self, text: str, name: str = NAME) -> None:
        (self.project.studies / f"{name}.yaml").write_text(text, encoding="utf-8")

    def change(self, old: str, new: str) -> None:
        assert old in STUDY
        self.write(STUDY.replace(old, new, 1))

    def profile(self, text: str) -> None:
        (self.project.params / "cpu.yaml").write_text(text, encoding="utf-8")

    def run(self, say: Callable[[str], object] = str, name: str = NAME) -> pd.DataFrame:
        return run_study(name, self.project, say, fitted_in_this_process)

    def kept(self) -> pd.DataFrame:
        table = load_study(NAME, self.project).table()
        assert table is not None
        return table

    def show(self) -> None:
        show_studies("decision_tree", self.project)


def fitted_in_this_process(jobs: list[Job], data_sha256: str, say: object) -> Iterator:
    for job in jobs:
        fitting.fit(job, here=True)
        yield job, ""


@pytest.fixture
def world(tmp_path, small) -> World:
    return World(Project(tmp_path), small)


def counted(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[int]:
    """Notes the depth of every tree that is really fitted; interrupts what follows so many."""
    fitted: list[int] = []
    fit = fitting.fit

    def note(job, **options):
        if len(fitted) == stop_after:
            raise KeyboardInterrupt
        fitted.append(job.parameters)
        fit(job, **options)

    monkeypatch.setattr(fitting, "fit", note)
    return fitted


# --- The project's own ------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_every_study_of_the_project_is_valid_and_has_no_variant_twice(name):
    study = load_study(name)
    assert name.startswith(f"{study.content.model}-")
    parameters = [study.parameters(variant) for variant in study.content.variants]
    assert all(one not in parameters[:i] for i, one in enumerate(parameters))


@pytest.mark.parametrize("name", [name for name in EVERY if name.endswith("-search")])
def test_a_search_has_a_whole_table_with_one_variant_that_the_cpu_profile_takes(name):
    study = load_study(name)
    assert study.table()["variant"].tolist() == list(study.content.variants)
    assert len(study.taken()) == 1, "wanted one of them in params/cpu.yaml"


@pytest.mark.parametrize("name", EVERY)
def test_no_table_that_is_kept_is_of_other_settings_than_its_study_has_now(name):
    study = load_study(name)
    table = study.table()
    assert table is None or stale_rows(study, table) == []


# --- What a study says ------------------------------------------------------------------------


def test_a_study_changes_the_cpu_profile_where_it_has_no_base_of_its_own(world):
    world.change("base: {criterion: entropy}\n", "")
    study = load_study(NAME, world.project)
    assert study.parameters("as it is") == {"max_depth": 2}
    assert study.parameters("impure") == {"max_depth": 2, "criterion": "gini"}


def test_dotted_keys_change_a_copy_and_leave_the_base_alone():
    base = {"widths": [4], "recipe": {"lr": 0.1, "epochs": 3}}
    after = changed(base, {"recipe.lr": 0.2, "recipe.augmentation.flip": True, "widths": [8]})
    recipe = {"lr": 0.2, "epochs": 3, "augmentation": {"flip": True}}
    assert after == {"widths": [8], "recipe": recipe}
    assert base == {"widths": [4], "recipe": {"lr": 0.1, "epochs": 3}}


def test_a_change_in_one_place_spares_what_yaml_shares_with_it():
    shared = {"lr": 0.1}
    after = changed({"probe": shared, "recipe": shared}, {"recipe.lr": 0.2})
    assert after == {"probe": {"lr": 0.1}, "recipe": {"lr": 0.2}}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('deeper": {max_depth', 'deeper": {max_dept', "did you mean 'max_depth'"),
        ("gini", "guinea", "'gini' or 'entropy'"),
        ("model: decision_tree", "model: decisio_tree", "did you mean 'decision_tree'"),
        ("max_depth: 2", "criterion.x: 2", "criterion: wanted settings"),
    ],
)
def test_a_variant_that_its_model_refuses_is_an_error_before_anything_runs(
    world, monkeypatch, old, new, says
):
    judged = counted(monkeypatch)
    world.change(old, new)
    with pytest.raises(ProfileError, match=says):
        world.run()
    assert judged == [] and not world.project.tables.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (STUDY + '  "deeper": {}\n', "'deeper' stands twice"),
        (STUDY + "vairants: {}\n", "vairants: unknown key; did you mean 'variants'"),
        ("", "wanted keys and values"),
        (STUDY.partition("variants:")[0] + "variants: {}\n", "variants"),
    ],
)
def test_a_study_that_is_none_is_told_in_one_line(world, text, says):
    world.write(text)
    with pytest.raises(ProfileError, match=re.escape(says)) as error:
        load_study(NAME, world.project)
    assert NAME in str(error.value) and "\n" not in str(error.value)


def test_a_study_that_is_not_there_is_told_with_those_that_are(world):
    with pytest.raises(ProfileError, match=f"no study 'tree-serch' in .*; there are {NAME}"):
        load_study("tree-serch", world.project)


def test_the_command_says_what_is_wrong_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fmreport", "study", "cnn-serch"])
    assert main() == 2
    told = capsys.readouterr().err
    assert told.startswith("error: no study 'cnn-serch'") and told.count("\n") == 1


# --- A run ------------------------------------------------------------------------------------


def test_every_variant_is_judged_on_the_validation_images_alone(world):
    said: list[str] = []
    table = world.run(said.append)
    small = load_study(NAME, world.project).profile().data()
    assert table["variant"].tolist() == ["as it is", "deeper", "impure"] and len(said) == 3
    tree = build("decision_tree", {"criterion": "entropy", "max_depth": 6}).fit(small)
    correct = (tree.predict(small.validation_images) == small.validation_labels).mean()
    assert table["accuracy"][1] == pytest.approx(correct, abs=1e-4)
    columns = ["variant", "accuracy", "log_loss", "train_seconds", "machine", "seed", "parameters"]
    assert world.kept().columns.tolist() == columns
    assert np.allclose(world.kept()["log_loss"], table["log_loss"])
    assert f"accuracy {correct:.4f} (validation)" in said[1]


def test_fits_are_in_processes_of_their_own_and_one_that_fails_is_told(world):
    world.change('"impure": {criterion: gini}', '"wide": {min_samples_leaf: 100000}')
    said: list[str] = []
    assert len(run_study(NAME, world.project, said.append)) == 3
    assert not (world.project.build / "studies" / NAME).exists()


def test_a_model_that_the_cpu_profile_lacks_can_be_studied(world):
    world.profile(CPU.replace("decision_tree", "random_forest"))
    assert len(world.run()) == 3


def test_a_second_run_measures_nothing_and_changes_nothing(world, monkeypatch):
    world.run()
    path = world.project.tables / f"{NAME}.csv"
    before, judged, said = path.read_bytes(), counted(monkeypatch), []
    world.run(said.append)
    assert len(said) == 3 and all(line.endswith(", kept from the table") for line in said)
    assert judged == [] and path.read_bytes() == before


def test_a_run_that_is_stopped_keeps_what_was_measured_and_goes_on_from_there(world, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        counted(patch, stop_after=2)
        world.run()
    assert world.kept()["variant"].tolist() == ["as it is", "deeper"]
    world.change('"as it is": {}', '"new": {min_samples_leaf: 3}\n  "as it is": {}')
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        counted(patch, stop_after=1)  # stops at "impure", after "new"
        world.run()
    assert world.kept()["variant"].tolist() == ["new", "as it is", "deeper"]
    judged = counted(monkeypatch)
    table = world.run()
    assert judged == [{"criterion": "gini", "max_depth": 2}]
    assert table["variant"].tolist() == ["new", "as it is", "deeper", "impure"]


def test_a_new_first_variant_that_fails_loses_nothing(world, monkeypatch):
    world.run()
    world.change('"as it is": {}', '"new": {max_depth: 3}\n  "as it is": {}')
    counted(monkeypatch, stop_after=0)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert len(world.kept()) == 3


def test_another_seed_is_another_measurement_on_another_split(world, monkeypatch):
    first = world.run()
    world.change("model: decision_tree", "model: decision_tree\nseed: 3")
    judged = counted(monkeypatch)
    second = world.run()
    assert len(judged) == 3 and set(first["seed"]) == {9} and set(second["seed"]) == {3}
    assert not second["accuracy"].equals(first["accuracy"])


# --- In a notebook ----------------------------------------------------------------------------


def test_the_kept_table_is_shown_with_what_it_is_about_and_the_machine(world, shown):
    world.run()
    world.show()
    rows = shown.table(NAME)
    assert [row["variant"] for row in rows] == ["as it is", "deeper", "impure"]
    assert "taken" not in rows[0] and "machine" not in rows[0] and shown.notices == []
    assert "How deep a tree." in shown.prose[0]
    assert "has the settings of none of these trials" in shown.prose[0]
    (table,) = shown.of_kind("table")
    assert world.kept()["machine"][0] in table["caption"]
    assert sum(row[1] for row in table["best"]) >= 1, "the best accuracy is marked"


@pytest.mark.parametrize(
    ("old", "new"), [("max_depth: 6", "max_depth: 5"), ('"deeper"', '"less deep"')]
)
def test_rows_of_other_settings_are_named(world, shown, old, new):
    world.run()
    world.change(old, new)
    assert stale_rows(load_study(NAME, world.project), world.kept()) == ["deeper"]
    world.show()
    (notice,) = shown.notices
    assert "other settings" in notice and "deeper" in notice


def test_a_changed_base_makes_every_row_that_has_it_stale(world):
    world.run()
    world.change("entropy", "gini")
    stale = stale_rows(load_study(NAME, world.project), world.kept())
    assert stale == ["as it is", "deeper"], "the third names its criterion itself"


@pytest.mark.parametrize(
    ("parameters", "taken"),
    [
        ("{criterion: entropy, max_depth: 6, min_samples_leaf: 1}", {"deeper"}),
        ("{criterion: gini, max_depth: 2}", {"impure"}),
        ("{max_depth: 9}", set()),
    ],
)
def test_the_variant_that_is_taken_is_marked_however_defaults_are_written(
    world, shown, parameters, taken
):
    world.run()
    world.profile(CPU.replace("{max_depth: 9}", parameters))
    assert load_study(NAME, world.project).taken() == taken
    world.show()
    marked = {row["variant"] for row in shown.table(NAME) if row.get("taken") == "yes"}
    assert marked == taken
    assert ("were chosen from these trials" in shown.prose[0]) == bool(taken)


def test_a_model_that_left_the_cpu_profile_takes_nothing(world, shown):
    world.run()
    world.profile(CPU.replace("decision_tree", "random_forest"))
    assert load_study(NAME, world.project).taken() == set()
    world.show()
    assert "taken" not in shown.table(NAME)[0]


def test_several_machines_are_told_apart(world, shown):
    table = world.run().assign(machine=["old", "new", "old"])
    table.to_csv(world.project.tables / f"{NAME}.csv", index=False)
    world.show()
    assert [row["machine"] for row in shown.table(NAME)] == ["1", "2", "1"]
    assert "on old (1) and new (2)." in shown.of_kind("table")[0]["caption"]


def test_an_ablation_shows_times_and_what_each_ingredient_is_worth(world, shown):
    name = "decision_tree-ablation"
    world.write(STUDY, name)
    (world.project.studies / f"{NAME}.yaml").unlink()
    world.run(name=name)
    world.show()
    assert "training (s)" in shown.table(name)[0]
    assert shown.names("figure") == [f"{name}-bars"]


def test_a_table_that_is_not_there_is_told_with_the_command_that_makes_it(world, shown):
    world.show()
    assert f"python -m fmreport study {NAME}" in shown.notices[0] and shown.things[1:] == []


def test_no_search_is_claimed_where_there_was_none(world, shown):
    show_studies("study_cnn", world.project)
    assert len(shown.things) == 1 and "not searched for" in shown.prose[0]
