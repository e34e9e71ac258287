"""The run of a profile: fits what is stale, tells what is not told, and keeps all that stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from commands import TINY

from fmlib import fitting
from fmlib.fitting import FitError, job_of
from fmlib.profiles import Profile, ProfileError, load_profile
from fmlib.project import Project
from fmlib.results import load, write_manifest
from fmreport import runner, text
from fmreport.compare import verdict
from fmreport.merge import write_outcome

pytestmark = pytest.mark.slow

PARAMETERS = """# %% tags=["parameters"]
profile: str = "tiny"
seed: int = 9
"""
ALL = f"""# %% [markdown]
# # Everything
#
# A sentence about all models.

{PARAMETERS}
# %%
import os

from fmlib.profiles import load_profile
from fmlib.project import Project
from fmlib.fitting import fresh_results

settings = load_profile(profile, Project(__import__("pathlib").Path.cwd().parent))
print(sorted(result.model for result in fresh_results(settings)), os.environ["FMLIB_FIT"])
"""
TREES = f"""# %% [markdown]
# # Trees

{PARAMETERS}
# %% [markdown] tags=["model-decision_tree"]
# ## One tree

# %% tags=["model-decision_tree"]
import matplotlib
import IPython

print("tree", matplotlib.rcParams["axes.facecolor"], IPython.get_ipython().config.get("Mine"))

# %% tags=["model-random_forest"]
raise RuntimeError("this profile has no forest")
"""
FORESTS = f"""# %% [markdown]
# # Forests

{PARAMETERS}
# %% tags=["model-random_forest"]
print("forest")
"""


class World:
    """A small project: one profile, three notebooks."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        for folder in (self.project.params, self.project.notebooks):
            folder.mkdir(parents=True)
        self.write("params/tiny.yaml", TINY)
        self.write("notebooks/01_all.py", ALL)
        self.write("notebooks/03_trees.py", TREES)
        self.write("notebooks/04_forests.py", FORESTS)

    def write(self, name: str, text: str) -> None:
        (self.project.root / name).write_text(text, encoding="utf-8", newline="")

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.project.root / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    @property
    def profile(self) -> Profile:
        return load_profile("tiny", self.project)

    def run(self) -> tuple[runner.Outcome, list[str]]:
        said: list[str] = []
        return runner.run_profile(self.profile, said.append), said

    def output(self, name: str) -> str:
        told = nbformat.read(runner.executed_path(self.profile, name), as_version=4)
        outputs = [one for cell in told.cells for one in cell.get("outputs", [])]
        return "".join(one.get("text", "") for one in outputs)


def names(jobs: list[fitting.Job]) -> list[str]:
    return [job.model for job in jobs]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, runner.Outcome, list[str]]:
    """A world in which the profile has been run once."""
    world = World(tmp_path_factory.mktemp("a world"))
    outcome, said = world.run()
    return world, outcome, said


@pytest.fixture
def world(finished, tmp_path) -> World:
    """A copy of the finished world, to be changed."""
    shutil.copytree(finished[0].project.root, tmp_path / "world")
    world = World.__new__(World)
    world.project = Project(tmp_path / "world")
    return world


def test_a_run_fits_every_model_and_tells_every_chapter_that_has_one(finished):
    world, outcome, said = finished
    assert names(outcome.fitted) == ["decision_tree", "mlp"] and not outcome.failed
    assert [(one.notebook, one.title) for one in outcome.chapters] == [
        ("01_all", "Everything"),
        ("03_trees", "Trees"),
    ]
    assert "['decision_tree', 'mlp'] never" in world.output("01_all")
    assert "tree" in world.output("03_trees")
    assert said[0].startswith("tiny: 2 to fit (decision_tree, mlp), which has not been timed")
    assert runner.summary(outcome) == "2 fitted, 0 kept, 2 told"
    left = {path.name for path in world.profile.folder.iterdir()}
    assert left == {"results", "notebooks", "failed"} and not any(
        (world.profile.folder / "failed").iterdir()
    )


def test_a_second_run_does_nothing(world):
    outcome, said = world.run()
    assert said == ["tiny: nothing to fit, 2 kept"]
    assert runner.summary(outcome) == "0 fitted, 2 kept, 0 told" and len(outcome.chapters) == 2


@pytest.mark.parametrize("how", ["line ends", "an editor's header", "a blank line between cells"])
def test_saving_a_notebook_without_an_edit_changes_nothing(world, how):
    path = "notebooks/03_trees.py"
    text = (world.project.root / path).read_text()
    header = "# ---\n# jupyter:\n#   jupytext:\n#     jupytext_version: 9.9.9\n# ---\n\n"
    changed = {
        "line ends": text.replace("\n", "\r\n"),
        "an editor's header": header + text,
        "a blank line between cells": text.replace("# %%", "\n# %%"),
    }
    world.write(path, changed[how])
    outcome, _ = world.run()
    assert runner.summary(outcome) == "0 fitted, 2 kept, 0 told"


def test_a_changed_sentence_tells_its_notebook_again_and_fits_nothing(world):
    world.replace("notebooks/01_all.py", "A sentence", "Another sentence")
    outcome, said = world.run()
    assert runner.summary(outcome) == "0 fitted, 2 kept, 1 told"
    assert any("01_all" in line for line in said)


def test_a_changed_parameter_fits_one_model_and_tells_what_shows_it(world):
    world.replace("params/tiny.yaml", "epochs: 1", "epochs: 2")
    outcome, said = world.run()
    assert names(outcome.fitted) == ["mlp"] and names(outcome.kept) == ["decision_tree"]
    assert outcome.told == 1, "the trees' chapter does not show the MLP"
    assert "about" in said[0], "an earlier record tells how long it takes"
    assert len(load(job_of(world.profile, "mlp").folder).history) == 2


def test_a_damaged_record_is_told_and_fitted_again(world):
    record = job_of(world.profile, "decision_tree").folder / "result.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"log_loss": content["log_loss"] / 2}))
    write_manifest(record.parent)
    outcome, said = world.run()
    assert names(outcome.fitted) == ["decision_tree"]
    assert any("log_loss does not follow from the predictions" in line for line in said)


def test_a_model_that_cannot_be_fitted_is_told_and_all_else_stands(world):
    world.replace("params/tiny.yaml", "  mlp:", "  vgg16: {weights: none}\n  mlp:")
    outcome, said = world.run()
    assert outcome.failed and list(outcome.failures) == ["vgg16-seed-9"]
    assert "at least 32 pixels" in outcome.failures["vgg16-seed-9"]
    assert any("its log:" in line for line in said)
    assert names(outcome.kept) == ["decision_tree", "mlp"]
    assert "['decision_tree', 'mlp']" in world.output("01_all")
    log = job_of(world.profile, "vgg16").log
    assert "at least 32 pixels" in log.read_text() and log.parent.name == "failed"


def test_a_notebook_that_fails_leaves_the_other_chapters(world):
    world.replace(
        "notebooks/03_trees.py", 'print("tree"', 'raise ValueError("no tree")\nprint("tree"'
    )
    outcome, _ = world.run()
    failed = outcome.chapters[1]
    assert outcome.failed and failed.path is None and "ValueError: no tree" in failed.reason
    assert (world.profile.folder / "failed" / "03_trees.ipynb").is_file()
    assert outcome.chapters[0].path and outcome.chapters[0].path.is_file()
    world.replace("notebooks/03_trees.py", 'raise ValueError("no tree")\n', "")
    outcome, _ = world.run()
    assert not outcome.failed and not (world.profile.folder / "failed" / "03_trees.ipynb").exists()


def test_a_notebook_whose_kernel_is_killed_is_told_and_leaves_the_others(world):
    killed = "os.kill(os.getpid(), 9)"
    world.replace("notebooks/03_trees.py", 'print("tree"', f'import os; {killed}\nprint("tree"')
    outcome, _ = world.run()
    assert outcome.chapters[1].reason == "the kernel died (killed, or out of memory)"
    assert outcome.chapters[0].path


def test_what_one_notebook_changes_reaches_no_other(world, monkeypatch):
    monkeypatch.setattr(runner, "available_cores", lambda: 1)  # one kernel after the other
    world.replace("notebooks/01_all.py", "import os\n", f"import os\n{MISCHIEF}\n")
    world.replace("notebooks/03_trees.py", 'print("tree"', f'{SEEN}\nprint("tree"')
    outcome, _ = world.run()
    assert not outcome.failed and "told" in world.output("01_all")
    assert world.output("03_trees").startswith("[False, False, False]")


MISCHIEF = """
import matplotlib, fmlib
matplotlib.rcParams["axes.facecolor"] = fmlib.mischief = os.environ["MISCHIEF"] = "red"
print("told")
"""
SEEN = """
import os, fmlib
print([matplotlib.rcParams["axes.facecolor"] == "red", hasattr(fmlib, "mischief"),
       "MISCHIEF" in os.environ])
"""


def test_a_model_that_left_the_profile_is_not_shown_and_not_lost(world):
    world.replace("params/tiny.yaml", "  decision_tree: {max_depth: 4}\n", "")
    outcome, _ = world.run()
    assert [one.notebook for one in outcome.chapters] == ["01_all"]
    assert "['mlp']" in world.output("01_all")
    world.write("params/tiny.yaml", TINY)
    outcome, _ = world.run()
    assert outcome.fitted == [] and "['decision_tree', 'mlp']" in world.output("01_all")


def test_a_users_own_settings_reach_no_kernel(world, tmp_path, monkeypatch):
    home = tmp_path / "home"
    spec = home / "jupyter" / "kernels" / "python3"
    profile = home / "ipython" / "profile_default"
    for folder in (spec, profile):
        folder.mkdir(parents=True)
    (spec / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "gone"}')
    (profile / "ipython_config.py").write_text('c.Mine.setting = "theirs"\n1 / 0')
    (home / "matplotlibrc").write_text("axes.facecolor: red\n")
    monkeypatch.setenv("JUPYTER_PATH", str(home / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    monkeypatch.setenv("MATPLOTLIBRC", str(home / "matplotlibrc"))
    world.replace("notebooks/03_trees.py", "## One tree", "## A tree")
    outcome, _ = world.run()
    assert not outcome.failed and "tree white" in world.output("03_trees")
    assert "theirs" not in world.output("03_trees")


def test_a_model_for_cuda_alone_is_refused_in_words_where_there_is_none(world, monkeypatch):
    world.replace("params/tiny.yaml", "models:", "cuda_only: [mlp]\nmodels:")
    world.replace("params/tiny.yaml", "epochs: 1", "epochs: 3")
    outcome, _ = world.run()
    assert "CUDA GPU" in outcome.failures["mlp-seed-9"]


def test_an_interrupted_run_keeps_what_is_done(world, monkeypatch):
    fit = fitting.fit

    def interrupted(job, *rest):
        if job.model == "mlp":
            raise KeyboardInterrupt
        fit(job, *rest)

    shutil.rmtree(world.profile.results)
    monkeypatch.setattr(fitting, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    monkeypatch.setattr(fitting, "fit", fit)
    outcome, _ = world.run()
    assert names(outcome.kept) == ["decision_tree"] and names(outcome.fitted) == ["mlp"]


def test_published_times_tell_how_long_fits_will_take_scaled_to_this_machine(world):
    published = world.project.docs / "tiny" / "results"
    for model, seconds in (("decision_tree", 100.0), ("mlp", 30.0)):
        folder = published / model / "seed-9"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"fit_wall_seconds": seconds}))
    profile = world.profile
    tree, mlp = fitting.jobs(profile)
    record = tree.folder / "result.json"
    took = json.loads(record.read_text())["fit_wall_seconds"]
    shutil.rmtree(mlp.folder)
    expected = 30.0 * took / 100.0 + runner.START_SECONDS
    assert runner.estimate(profile, [mlp], [tree]) == pytest.approx(expected)
    assert runner.estimate(profile, [mlp, tree], []) > 30


def test_fits_are_never_made_by_telling(world, monkeypatch):
    monkeypatch.setenv("FMLIB_FIT", "never")
    shutil.rmtree(job_of(world.profile, "mlp").folder)
    with pytest.raises(FitError, match="never fitted"):
        fitting.fit_or_load(job_of(world.profile, "mlp"))


# --- Runs beside each other, parts of a profile, and what goes wrong in a notebook -------------


def test_a_second_run_is_told_who_holds_the_folder_and_may_wait(world):
    said: list[str] = []
    with runner.sole_run(world.profile):
        with (
            pytest.raises(ProfileError, match=rf"in use: process {os.getpid()} since .*--wait"),
            runner.sole_run(world.profile),
        ):
            pass
        waiting = threading.Thread(target=world_run, args=(world, said))
        waiting.start()
        while not any("waiting for it" in line for line in said):
            time.sleep(0.01)
    waiting.join(60)
    assert said[-1] == "done"


def world_run(world: World, said: list[str]) -> None:
    with runner.sole_run(world.profile, wait=True, say=said.append):
        said.append("done")


def test_the_lock_of_a_killed_run_is_free_and_what_it_left_is_removed(world):
    folder = world.profile.folder
    code = (
        "import sys, time\nfrom fmlib.project import Project\n"
        "from fmlib.profiles import load_profile\n"
        "from pathlib import Path\nfrom fmreport import runner\n"
        f"profile = load_profile('tiny', Project(Path({str(world.project.root)!r})))\n"
        "with runner.sole_run(profile):\n    print('in', flush=True)\n    time.sleep(100)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    process.kill()
    process.wait()
    left = [folder / ".telling-x", folder / ".kernel-y", folder / "results" / "mlp" / ".incoming-z"]
    for one in left:
        one.mkdir(parents=True)
    with runner.sole_run(world.profile):
        assert not any(one.exists() for one in left)
    assert load(job_of(world.profile, "mlp").folder)


def test_a_part_of_a_profile_is_fitted_and_all_that_is_there_is_told(world):
    for model in ("decision_tree", "mlp"):
        shutil.rmtree(job_of(world.profile, model).folder)
    outcome = runner.run_profile(world.profile, str, models=["decision_tree"])
    assert names(outcome.fitted) == ["decision_tree"] and not outcome.failed
    assert "['decision_tree'] never" in world.output("01_all")


def test_records_are_taken_from_another_build(world, tmp_path):
    other = World(tmp_path / "other")
    taken, left = runner.take_records(other.profile, world.project.build)
    assert taken == ["decision_tree-seed-9", "mlp-seed-9"] and left == []
    outcome, _ = other.run()
    assert outcome.fitted == []
    other.replace("params/tiny.yaml", "max_depth: 4", "max_depth: 5")
    shutil.rmtree(job_of(other.profile, "mlp").folder)
    taken, left = runner.take_records(other.profile, world.project.root)
    assert taken == ["mlp-seed-9"] and left == ["decision_tree-seed-9"]


def test_what_was_timed_beside_other_work_is_told_and_timed_again_when_asked_to(world):
    job = job_of(world.profile, "mlp")
    record = json.loads((job.folder / "result.json").read_text())
    busy = record | {"fit_wall_seconds": 60.0, "others_seconds": 50.0}
    (job.folder / "result.json").write_text(json.dumps(busy))
    write_manifest(job.folder)
    found = verdict.compare([load(job.folder)])
    assert found.table["train_seconds"].isna().all()
    assert any("RETIME=1" in text.words(one) for one in verdict.limits(found))
    assert names(runner.run_profile(world.profile, str).fitted) == []
    assert names(runner.run_profile(world.profile, str, retime=True).fitted) == ["mlp"]
    assert not load(job.folder).contended


@pytest.mark.parametrize("leave", ["import sys; sys.exit(0)", "exit()", "raise SystemExit"])
def test_a_notebook_that_leaves_early_is_not_told(world, leave):
    world.replace("notebooks/01_all.py", "import os\n", f"import os\n{leave}\n")
    outcome, _ = world.run()
    told = {one.notebook: one for one in outcome.chapters}
    assert told["01_all"].path is None
    assert re.search("cell|the kernel died", told["01_all"].reason)
    assert told["03_trees"].path is not None


def test_the_output_of_a_cell_has_a_limit(world):
    world.replace("notebooks/01_all.py", "import os\n", "import os\nprint('x' * 6_000_000)\n")
    outcome, _ = world.run()
    assert not outcome.failed
    path = runner.executed_path(world.profile, "01_all")
    assert path.stat().st_size < 1e6 and "more than the 5 of limits.output_mb" in path.read_text()


def test_a_cell_has_a_limit_of_time(world):
    world.replace(
        "params/tiny.yaml", "dataset: sample", "dataset: sample\nlimits: {cell_minutes: 0.05}"
    )
    world.replace("notebooks/01_all.py", "import os\n", "import os, time\ntime.sleep(60)\n")
    outcome, _ = world.run()
    told = {one.notebook: one for one in outcome.chapters}
    assert told["01_all"].path is None and "imeout" in told["01_all"].reason


def test_an_edited_notebook_is_told_again(world):
    path = runner.executed_path(world.profile, "01_all")
    path.write_text(path.read_text().replace("A sentence", "A false sentence"))
    outcome, _ = world.run()
    assert outcome.told == 1 and "A false sentence" not in path.read_text()


def test_a_run_is_never_silent_for_long(world, monkeypatch):
    monkeypatch.setattr(runner, "ALIVE_SECONDS", 0.5)
    world.replace("notebooks/01_all.py", "import os\n", "import os, time\ntime.sleep(3)\n")
    _, said = world.run()
    assert any("telling 01_all for 0:0" in line for line in said)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ("{fit_hours: 0.0005}", "longer than the 0.0005 hours of limits.fit_hours"),
        ("{fit_memory_gb: 0.1}", "more than the 0.1 of limits.fit_memory_gb; where memory was"),
    ],
)
def test_a_fit_has_limits_of_time_and_memory(world, limits, says):
    world.replace("params/tiny.yaml", "dataset: sample", f"dataset: sample\nlimits: {limits}")
    world.replace("params/tiny.yaml", "epochs: 1}", "epochs: 90000}")
    outcome, _ = world.run()
    assert names(outcome.kept) == ["decision_tree"], "limits are no input"
    assert says in outcome.failures["mlp-seed-9"]


def test_two_profiles_of_one_name_do_not_share_a_folder(tmp_path):
    world = World(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        world.write(f"{folder}/mine.yaml", TINY)
    one, other = (load_profile(str(tmp_path / name / "mine.yaml"), world.project) for name in "ab")
    with runner.sole_run(one):
        pass
    with pytest.raises(ProfileError, match=r"a/mine.yaml builds in the same folder.*rename"):
        runner.sole_run(other).__enter__()
    (tmp_path / "a" / "mine.yaml").rename(tmp_path / "a" / "his.yaml")
    with runner.sole_run(other):
        pass


# --- What lies in a build folder and is not of this run ----------------------------------------


def test_foreign_names_among_records_are_neither_lost_nor_compared(world):
    mine = job_of(world.profile, "mlp").folder
    shutil.copytree(mine, mine.with_name("seed-9 copy"))
    shutil.copytree(mine, world.profile.results / "notes" / "seed-9")
    mine.with_name("seed-9.zip").write_bytes(b"packed")
    (world.profile.results / "read me.txt").write_text("mine")
    outcome, _ = world.run()
    assert not outcome.failed and names(outcome.kept) == ["decision_tree", "mlp"]
    assert len(fitting.fresh_results(world.profile)) == 2
    foreign = ["mlp/seed-9 copy/result.json", "mlp/seed-9.zip", "notes/seed-9/result.json"]
    assert all((world.profile.results / name).is_file() for name in [*foreign, "read me.txt"])


@pytest.mark.parametrize("obstacle", ["a file", "an empty folder", "a link to nowhere"])
def test_what_stands_in_a_records_place_is_replaced(world, obstacle):
    folder = job_of(world.profile, "mlp").folder
    shutil.rmtree(folder)
    if obstacle == "a file":
        folder.write_text("no record")
    elif obstacle == "an empty folder":
        folder.mkdir()
    else:
        folder.symlink_to(world.project.root / "nowhere")
    outcome, _ = world.run()
    assert names(outcome.fitted) == ["mlp"] and load(folder).model == "mlp"


@pytest.mark.parametrize(
    ("name", "content"),
    [("report.html", b""), ("report.html", b"<p>mine</p>"), ("report.json", b"\xff\xfe{")],
    ids=["emptied", "edited", "not UTF-8"],
)
def test_a_page_that_is_not_what_was_written_is_written_again(world, name, content):
    outcome, _ = world.run()
    write_outcome(outcome, "a4")
    page = world.profile.folder / "report.html"
    whole = page.read_bytes()
    (world.profile.folder / name).write_bytes(content)
    outcome, _ = world.run()
    assert outcome.told == 0
    write_outcome(outcome, "a4")
    assert page.read_bytes() == whole
