"""Publishing: what is refused, and what stands in docs/ and in the README afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import synthetic
from commands import records

from fmlib import results
from fmlib.fitting import jobs
from fmlib.profiles import Profile, load_profile
from fmlib.project import Project
from fmreport import runner
from fmreport.__main__ import main
from fmreport.merge import write_outcome
from fmreport.publish import (
    NotPublishable,
    note_publication,
    publish,
    results_section,
    results_table,
)

PROFILE = """
description: three models
models: {xgboost: {}, decision_tree: {}, random_forest: {}}
"""
NOTEBOOK = """# %% [markdown]
# # All models
#
# A sentence.

# %% tags=["parameters"]
profile: str = "cpu"
seed: int = 9
"""
README = """# Title

<!-- advice -->
<!-- /advice -->

<!-- picture -->
<!-- /picture -->

<!-- results -->
old
<!-- /results -->

<!-- gpu results -->
<!-- /gpu results -->

The end.
"""
CHART = nbformat.v4.new_output(
    "display_data",
    data={"image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'},
    metadata={"fmreport": {"kind": "figure", "name": "answer", "caption": "C", "alt": "Words."}},
)
ADVICE = nbformat.v4.new_output("display_data", data={"text/markdown": "Use **XGBoost**."})
ACCURACY = {"xgboost": 0.95, "random_forest": 0.88, "decision_tree": 0.80}


class World:
    """A small project whose cpu profile's report is finished, of a clean commit."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        self.readme = root / "README.md"

    @staticmethod
    def made(root: Path) -> World:
        world = World(root)
        for folder in (world.project.params, world.project.notebooks):
            folder.mkdir()
        (world.project.params / "cpu.yaml").write_text(PROFILE)
        (world.project.notebooks / "01_all.py").write_text(NOTEBOOK)
        world.readme.write_text(README)
        world.finish("cpu")
        return world

    def profile(self, name: str = "cpu") -> Profile:
        return load_profile(name, self.project)

    def finish(self, name: str, **fields: object) -> None:
        """Records of no fits, the told notebook and the report of a profile."""
        profile = self.profile(name)
        for job in jobs(profile):
            known = {"key": job.key, "seed": job.seed, "git_commit": "c0ffee", "git_dirty": False}
            result = synthetic.record(job.model, ACCURACY[job.model], **known | fields)
            results.save(result, None, job.folder)
            (job.folder / "model.skops").write_text("a fitted model")
        self.tell(name)

    def tell(self, name: str = "cpu") -> None:
        """Tell of the records as they are, without running the notebook; and render."""
        profile = self.profile(name)
        chapters = runner.chapters(profile)
        inputs = runner.inputs_sha256(chapters, profile)
        for name, notebook in chapters.items():
            notebook.cells[-1].outputs = [ADVICE, CHART]
            told = runner.executed_path(profile, name)
            told.parent.mkdir(exist_ok=True)
            nbformat.write(runner.stamped(notebook, inputs[name]), told)
        write_outcome(runner.standing(profile), say=str)

    def publish(self, name: str = "cpu") -> Path:
        return publish(self.profile(name))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.made(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def world(finished: World, tmp_path: Path) -> World:
    """A copy of the finished project, to be changed and published."""
    shutil.copytree(finished.project.root, tmp_path / "world")
    return World(tmp_path / "world")


# --- What is published ------------------------------------------------------------------------


def test_a_finished_report_is_copied_with_its_results_and_without_the_models(world):
    docs, build = world.publish(), world.profile().folder
    assert docs == world.project.docs
    assert (docs / "index.html").read_bytes() == (build / "report.html").read_bytes()
    assert (docs / "report.pdf").read_bytes() == (build / "report.pdf").read_bytes()
    assert len(records(docs / "results")) == 3
    kept = {path.name for path in (docs / "results").rglob("*") if path.is_file()}
    assert kept == {"result.json", "predictions.npz", "manifest.json"}


def test_the_readme_has_a_row_a_model_the_best_first(world):
    world.publish()
    readme = world.readme.read_text()
    assert readme.startswith("# Title") and readme.endswith("The end.\n") and "old" not in readme
    names = ("XGBoost", "Random Forest", "Decision Tree")
    places = [readme.index(f"| {name} |") for name in names]
    assert places == sorted(places) and "| XGBoost | 0.9500 (0.93" in readme
    assert "<!-- advice -->\nUse **XGBoost**.\n" in readme
    assert "[![Words\\.](docs/answer.svg)](docs/report.pdf)" in readme
    assert (world.project.docs / "answer.svg").read_text().startswith("<svg")


def test_publishing_again_replaces_what_was_there(world):
    docs = world.publish()
    (docs / "results" / "decision_tree" / "left-over").mkdir()
    first = world.readme.read_text()
    world.publish()
    assert not (docs / "results" / "decision_tree" / "left-over").exists()
    assert world.readme.read_text() == first


def test_every_accuracy_that_is_published_is_put_on_record_once(world):
    world.publish()
    table = pd.read_csv(world.project.publications)
    accuracies = {one.model: one.accuracy for one in published(world)}
    assert dict(zip(table["model"], table["accuracy"], strict=True)) == pytest.approx(accuracies)
    assert {*table["publication"]} == {1} and {*table["profile"]} == {"cpu"}
    world.publish()
    assert len(pd.read_csv(world.project.publications)) == len(table), "the same results"
    changed = [one.model_copy(update={"accuracy": one.accuracy / 2}) for one in published(world)]
    note_publication(world.profile(), changed)
    again = pd.read_csv(world.project.publications)
    assert list(again["publication"]) == [1] * len(changed) + [2] * len(changed)


def published(world) -> list:
    return records(world.project.docs / "results")


def test_a_report_without_the_chart_of_its_answer_is_not_published(world):
    for told in (world.profile().folder / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(told, as_version=4)
        inputs = notebook.metadata.pop("fmreport")["sha256"]
        notebook.cells[-1].outputs = []
        nbformat.write(runner.stamped(notebook, inputs), told)
    write_outcome(runner.standing(world.profile()), say=str)
    with pytest.raises(NotPublishable, match="no chart of the answer"):
        world.publish()


def test_the_gpu_profile_has_a_folder_and_a_table_of_its_own(world):
    (world.project.params / "gpu.yaml").write_text(PROFILE)
    world.finish("gpu", peak_vram_mb=512.0)
    assert world.publish("gpu") == world.project.docs / "gpu"
    marker = "<!-- gpu results -->\n"
    before, after = README.split(marker), world.readme.read_text().split(marker)
    assert after[0] == before[0], "the other table and the picture are the cpu profile's"
    assert after[1].startswith("| model |") and after[1].endswith(before[1])


def test_any_other_profile_has_a_folder_and_leaves_the_readme_alone(world):
    (world.project.params / "mine.yaml").write_text(PROFILE)
    world.finish("mine")
    assert (world.publish("mine") / "index.html").is_file()
    assert world.readme.read_text() == README


def test_a_model_with_several_seeds_has_one_row_of_their_mean():
    seeds = [
        synthetic.record("beta", accuracy, seed=seed) for seed, accuracy in ((2, 0.9), (1, 0.7))
    ]
    table = results_table(seeds)
    assert len(table) == 1 and table["accuracy"][0].startswith("0.8000")


def test_the_readmes_columns_hold_what_they_say_and_costs_of_one_machine_only():
    costs = dict(train_seconds=11, fit_wall_seconds=22, predict_seconds=3.3, latency_ms_p50=1.5)
    here = [synthetic.record(name, 0.9, **costs) for name in ("a", "b")]
    elsewhere = synthetic.record("c", 0.95, machine=synthetic.ELSEWHERE)
    found = results_table([*here, elsewhere]).set_index("model")
    columns = ["training (s)", "whole fit (s)", "one image (ms)", "all images (s)"]
    columns += ["memory (MiB)"]
    assert found.columns[1:].to_list() == columns
    assert found.loc["a"].to_list()[1:] == ["11", "22", "1.50", "3.30", "300"]
    assert found.loc["c"].to_list()[1:] == [""] * 5
    assert found.loc["c", "accuracy"].startswith("0.9500")


def test_the_readme_says_what_was_measured_elsewhere():
    delta = synthetic.record("delta", 0.97, machine=synthetic.ELSEWHERE)
    words = results_section([*synthetic.clear_winner(), delta], is_fashion=False)
    assert "with its 95 % interval, on Test CPU, 2 cores." in words
    assert "delta" in words.rpartition("|")[2] and "Test GPU" in words


def test_the_readme_says_whose_memory_is_meant_where_some_is_a_gpus():
    for vram, says in ((None, False), (512.0, True)):
        words = results_section(
            [synthetic.record("alpha", 0.9, peak_vram_mb=vram)], is_fashion=False
        )
        assert ("processor and GPU together" in words) is says


def test_the_readme_has_the_original_study_beside_its_own_data_alone():
    found = [synthetic.record(name, 0.9) for name in ("ResNet34 (scratch)", "SVM", "alpha")]
    rows = {
        row.split(" | ")[0].strip("| "): row for row in results_section(found, True).split("\n")
    }
    assert "| 0.93 in 1,281 s; 0.94 in 1,277 s as “MobileNetV3” |" in rows["ResNet34 (scratch)"]
    assert "| 0.88 in 311 s |" in rows["SVM"]
    assert "|  |" in rows["alpha"]
    assert "What is (scratch) here began with ImageNet weights there" in results_section(
        found, True
    )
    assert "study" not in results_section(found, False)


# --- What is refused --------------------------------------------------------------------------


def write_sample(world: World) -> None:
    (world.project.params / "cpu.yaml").write_text(f"dataset: sample\n{PROFILE}")


def remove_record(world: World) -> None:
    shutil.rmtree(world.profile().results / "random_forest")


def change_parameters(world: World) -> None:
    path = world.project.params / "cpu.yaml"
    path.write_text(PROFILE.replace("decision_tree: {}", "decision_tree: {max_depth: 3}"))


def change_notebook(world: World) -> None:
    path = world.project.notebooks / "01_all.py"
    path.write_text(NOTEBOOK.replace("A sentence", "Another sentence"))


def remove_pdf(world: World) -> None:
    (world.profile().folder / "report.pdf").unlink()


def edit_page(world: World) -> None:
    with (world.profile().folder / "report.html").open("a") as page:
        page.write("<p>By hand.</p>")


def remove_markers(world: World) -> None:
    world.readme.write_text("# no markers")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (write_sample, "cpu runs on the sample"),
        (remove_record, r"random_forest-seed-9; run `make report PROFILE=cpu`"),
        (change_parameters, r"decision_tree-seed-9"),
        (change_notebook, r"the report; run `make report PROFILE=cpu`"),
        (remove_pdf, "the report"),
        (edit_page, "the report"),
        (remove_markers, "the README has no markers <!-- advice -->"),
    ],
)
def test_what_is_unfinished_or_no_good_is_refused_and_changes_nothing(
    world: World, spoil: Callable[[World], None], says: str
):
    spoil(world)
    readme = world.readme.read_text()
    with pytest.raises(NotPublishable, match=says):
        world.publish()
    assert not world.project.docs.exists() and world.readme.read_text() == readme


def test_a_page_that_is_too_large_for_a_phone_is_not_published(world, monkeypatch):
    size = (world.profile().folder / "report.html").stat().st_size / 1e6
    monkeypatch.setattr("fmreport.publish.PAGE_LIMIT_MB", size / 2)
    with pytest.raises(NotPublishable, match="MB; wanted at most"):
        world.publish()


@pytest.mark.parametrize("dirty", [True, None])
def test_results_of_uncommitted_code_are_not_published(world, dirty):
    job = next(job for job in jobs(world.profile()) if job.model == "random_forest")
    path = job.folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"git_dirty": dirty}))
    results.write_manifest(job.folder)
    world.tell()
    with pytest.raises(NotPublishable, match="uncommitted changes or outside git: random_forest"):
        world.publish()
    assert not world.project.docs.exists()


def test_nothing_that_was_never_run_counts_as_finished(world):
    shutil.rmtree(world.project.build)
    with pytest.raises(NotPublishable, match="decision_tree-seed-9"):
        world.publish()
    outcome = runner.standing(world.profile())
    assert outcome.failed and [one.path for one in outcome.chapters] == [None]


def test_the_command_says_why_not_and_fails(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fmreport", "publish", "--profile", "smoke"])
    assert main() == 1
    assert "not published: profile smoke runs on the sample" in capsys.readouterr().err
