"""The runner: runs what is stale and nothing else, and leaves no half-done work when a job fails.

The notebooks here are toys that copy a made-up record in place, so that a kernel is quick; traps make them fail.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path

import nbformat
import pytest
import synthetic
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from fmlib import __main__ as command_line
from fmlib import results
from fmlib.data import PROJECT_ROOT
from fmlib.models import mlp, registry
from fmlib.models.neural import TorchClassifier
from fmlib.profiles import Job, Profile
from fmreport import runner
from fmreport.runner import Outcome, code_sha256, run_profile

HEADER = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""
SIMPLE = '''# %% tags=["parameters"]
{parameters}

# %%
print("done")
'''
DATASET = SIMPLE.format(parameters='dataset: str = "sample"  # a\nvalidation_fraction: float = 0.1  # b')
COMPARISON = SIMPLE.format(
    parameters='profile: str = ""  # a\ndataset: str = "sample"  # b\nresults_dir: str = ""  # c\nmissing: list = []  # d'
)
TOY = '''# %% [markdown]
# # A toy

# %% tags=["parameters"]
model: str = "alpha"  # which
parameters: dict = {{}}  # its own
profile: str = ""  # a
dataset: str = "sample"  # b
validation_fraction: float = 0.1  # c
seed: int = 9  # d
results_dir: str = ""  # e
job_sha256: str = ""  # f

# %%
import json, os, pathlib, shutil, signal
print(os.environ["FMLIB_PROGRESS"])

# %%
trap = pathlib.Path({traps!r}, f"{{model}}-{{seed}}")
do = trap.read_text() if trap.exists() else ""
if do == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
target = pathlib.Path(results_dir, model, f"seed-{{seed}}")
if do != "save nothing":
    shutil.copytree({template!r}, target)
    path = target / "result.json"
    job = dict(model=model, seed=seed, parameters=parameters, job_sha256=job_sha256)
    path.write_text(json.dumps(json.loads(path.read_text()) | job))
if do == "save half":
    os.truncate(target / "predictions.npz", 100)

# %%
if do == "raise":
    values = [1, 2]
    values[5]  # beyond the end
'''


@dataclass(config=ConfigDict(extra="forbid"))
class Toy:
    size: int = 1
    seed: int = 9


@dataclass(config=ConfigDict(extra="forbid"))
class OtherToy:
    size: int = 1
    seed: int = 9


@plain_dataclass
class World:
    """A small project: three notebooks, three models, a build folder; ``traps`` make a model's notebook fail."""

    root: Path
    said: list[str] = field(default_factory=list)

    def profile(self, seeds: tuple[int, ...] = (9,), **models: dict) -> Profile:
        return Profile(name="toys", description="toys", dataset="sample", seeds=list(seeds),
                       models=models or {"alpha": {}, "beta": {"size": 2}})  # fmt: skip

    def run(self, profile: Profile | None = None) -> Outcome:
        self.said.clear()
        return run_profile(profile or self.profile(), self.said.append, self.root / "build")

    def stale(self, profile: Profile | None = None) -> list[str]:
        return [failure.task.name for failure in runner.current_outcome(profile or self.profile(), self.build.parent).failures]

    def trap(self, model: str, kind: str, seed: int = 9) -> Path:
        path = self.root / "traps" / f"{model}-{seed}"
        path.write_text(kind)
        return path

    @property
    def build(self) -> Path:
        return self.root / "build" / "toys"

    def files(self) -> list[str]:
        """Everything in the build folder, and scratch folders too."""
        found = [path for path in self.build.rglob("*") if path.is_file() or path.name.startswith(".running")]
        return sorted(str(path.relative_to(self.build)) for path in found)


def in_place(patch: pytest.MonkeyPatch, root: Path) -> World:
    patch.setattr(runner, "NOTEBOOKS_DIR", root / "notebooks")
    patch.setattr(runner, "STUDY_DIRS", (root / "studies", root / "tables"))
    patch.setattr(runner, "default_device", lambda: torch.device("cpu"))
    for name in ("alpha", "beta", "gamma"):
        patch.setitem(registry.REGISTRY, name, registry.classical(name.title(), Toy, family="01_toy"))
    return World(root)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The small project with its profile run once, and a copy from which each test puts it back."""
    root = tmp_path_factory.mktemp("a world")  # a path with a space
    for folder in ("notebooks", "traps", "studies", "tables"):
        (root / folder).mkdir()
    template = results.save(synthetic.record("alpha", 0.9, size=100, display_name="Alpha"), root / "template")
    toy = TOY.format(traps=str(root / "traps"), template=str(template))
    for name, text in (("00_dataset", DATASET), ("01_toy", toy), ("05_comparison", COMPARISON)):
        (root / "notebooks" / f"{name}.py").write_text(HEADER + text)
    with pytest.MonkeyPatch.context() as patch:
        outcome = in_place(patch, root).run()
        assert outcome.failures == []
    shutil.copytree(root, backup := tmp_path_factory.mktemp("backup") / "world")
    return root, backup


@pytest.fixture
def world(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> World:
    root, backup = made
    shutil.rmtree(root)
    shutil.copytree(backup, root)
    return in_place(monkeypatch, root)


EVERYTHING = ["00_dataset", "alpha-seed-9", "beta-seed-9", "05_comparison"]
NOTEBOOKS = [f"notebooks/{name}.ipynb" for name in sorted(EVERYTHING)]


def records(*names: str) -> list[str]:
    return [f"results/{name}/{file}" for name in names for file in ("predictions.npz", "result.json")]


# --- What is stale --------------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_notebook_a_task_and_a_record_a_model_and_nothing_else(world):
    assert world.files() == sorted(NOTEBOOKS + records("alpha/seed-9", "beta/seed-9"))


def test_a_second_run_does_no_work(world, monkeypatch):
    monkeypatch.setattr(runner, "execute", lambda *_: pytest.fail("something was run again"))
    outcome = world.run()
    assert [task.name for task, _ in outcome.executed] == EVERYTHING
    assert [line.split("] ")[1] for line in world.said] == [f"{name}: up to date" for name in EVERYTHING]
    assert [line.split(" ")[0] for line in world.said] == ["[1/4", "[2/4", "[3/4", "[4/4"]


def test_executed_notebooks_carry_what_the_report_needs(world):
    notebook = nbformat.read(world.build / "notebooks" / "beta-seed-9.ipynb", as_version=4)
    about = notebook.metadata["fmlib"]
    assert (about["model"], about["seed"], about["notebook"], about["family"]) == ("beta", 9, "01_toy", "01_toy")
    outputs = [output.text for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs == ["lines\n"]  # the runner asks for lines and not for bars


def change_notebook(world: World) -> None:
    path = world.root / "notebooks" / "01_toy.py"
    path.write_text(path.read_text() + "\n# %% [markdown]\n# One more thing.\n")


def change_dataset_notebook(world: World) -> None:
    path = world.root / "notebooks" / "00_dataset.py"
    path.write_text(path.read_text().replace("done", "well done"))


def remove(name: str) -> Callable[[World], None]:
    return lambda world: (world.build / name).unlink()


CHANGES = {
    "nothing": (lambda world: None, []),
    "the models' notebook": (change_notebook, ["alpha-seed-9", "beta-seed-9"]),
    "another notebook": (change_dataset_notebook, ["00_dataset"]),
    "a search": (lambda world: (world.root / "studies" / "beta-search.yaml").write_text("x"), ["beta-seed-9"]),
    "a search's table": (lambda world: (world.root / "tables" / "beta-search.csv").write_text("x"), ["beta-seed-9"]),
    "no result.json": (remove("results/alpha/seed-9/result.json"), ["alpha-seed-9", "05_comparison"]),
    "no predictions": (remove("results/alpha/seed-9/predictions.npz"), ["alpha-seed-9"]),
    "a cut result": (lambda world: os.truncate(world.build / "results/beta/seed-9/predictions.npz", 50), ["beta-seed-9"]),
    "no notebook": (remove("notebooks/beta-seed-9.ipynb"), ["beta-seed-9"]),
    "no build": (lambda world: shutil.rmtree(world.build), EVERYTHING),
}  # fmt: skip


@pytest.mark.parametrize("what", list(CHANGES))
def test_only_what_a_change_can_touch_becomes_stale(world, what):
    change, stale = CHANGES[what]
    change(world)
    assert world.stale() == stale


def test_how_things_are_shown_concerns_only_the_notebooks_that_are_soon_run_again(world, monkeypatch):
    monkeypatch.setattr(runner, "_later_code", lambda: {"later": "other"})
    assert world.stale() == ["00_dataset", "05_comparison"]


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"null", b"\xff\xfe", b'{"cells": 3}', b'{"nbformat": 99}'])
def test_a_notebook_that_is_none_is_made_again(world, content):
    (world.build / "notebooks" / "alpha-seed-9.ipynb").write_bytes(content)
    assert world.stale() == ["alpha-seed-9"]


def test_a_changed_parameter_makes_one_model_stale(world):
    assert world.stale(world.profile(alpha={}, beta={"size": 3})) == ["beta-seed-9"]
    assert world.stale(world.profile(alpha={}, beta={"size": 2}, gamma={})) == ["gamma-seed-9"]


@pytest.mark.parametrize(
    "change",
    [lambda patch: patch.setattr(runner, "code_sha256", lambda **_: "other"),
     lambda patch: patch.setattr(runner, "version", lambda name: "99" if name == "torch" else "1"),
     lambda patch: patch.setattr(runner, "default_device", lambda: torch.device("cuda"))],
    ids=["code", "version of a package", "device"],
)  # fmt: skip
def test_other_code_versions_or_device_make_everything_stale(world, monkeypatch, change):
    change(monkeypatch)
    assert world.stale() == EVERYTHING


def test_a_models_words_are_no_reason_to_train_it_again(world, monkeypatch):
    monkeypatch.setattr(Toy, "__doc__", "Explained anew.")
    assert world.stale() == []


def test_another_sample_makes_everything_that_uses_it_stale(world, monkeypatch, tmp_path):
    (tmp_path / "sample.npz").write_bytes(b"other images")
    monkeypatch.setattr(runner, "SAMPLE_FILE", tmp_path / "sample.npz")
    assert world.stale() == EVERYTHING


def test_another_split_makes_models_stale(world):
    other = world.profile().model_copy(update={"validation_fraction": 0.2})
    assert world.stale(other) == ["00_dataset", "alpha-seed-9", "beta-seed-9"]


def test_deleting_one_result_runs_that_model_and_the_comparison_again(world):
    shutil.rmtree(world.build / "results" / "beta")
    before = (world.build / "notebooks" / "alpha-seed-9.ipynb").stat().st_mtime_ns
    outcome = world.run()
    assert outcome.failures == [] and world.stale() == []
    assert [line.split("] ")[1] for line in world.said if "up to date" in line][:2] == [
        "00_dataset: up to date", "alpha-seed-9: up to date",
    ]  # fmt: skip
    assert any("beta-seed-9: running 01_toy" in line for line in world.said)
    assert (world.build / "notebooks" / "alpha-seed-9.ipynb").stat().st_mtime_ns == before
    assert world.files() == sorted(NOTEBOOKS + records("alpha/seed-9", "beta/seed-9"))


def test_models_and_seeds_that_left_the_profile_are_forgotten(world):
    outcome = world.run(world.profile(seeds=(1,), beta={"size": 2}))
    assert outcome.failures == []
    assert world.files() == sorted(
        ["notebooks/00_dataset.ipynb", "notebooks/05_comparison.ipynb", "notebooks/beta-seed-1.ipynb", *records("beta/seed-1")]
    )
    assert world.said[:2] == [f"{name}-seed-9: not in the profile any more, removed" for name in ("alpha", "beta")]


# --- What counts as code --------------------------------------------------------------------------------------------------

CODE = '"""What it is."""\n\n\ndef double(x):\n    """Twice."""\n    return 2 * x\n'


def test_comments_docstrings_and_layout_are_no_code_and_all_else_is(tmp_path):
    path = tmp_path / "module.py"

    def hashed(text: str) -> str:
        path.write_text(text)
        return code_sha256(tmp_path)

    first = hashed(CODE)
    assert first == hashed(CODE.replace("Twice.", "Two times as much.").replace("What", "How"))
    assert first == hashed(CODE.replace("2 * x", "(2  *  x)  # doubled"))
    assert first != hashed(CODE.replace("2 * x", "3 * x"))
    assert first != hashed(CODE.replace("double", "twice"))


def test_files_count_by_name_and_later_modules_do_not(tmp_path):
    (tmp_path / "module.py").write_text(CODE)
    first = code_sha256(tmp_path)
    (tmp_path / "report").mkdir()
    for later in ("report/html.py", "runner.py", "__main__.py"):
        (tmp_path / later).write_text(CODE)
    assert code_sha256(tmp_path) == first
    (tmp_path / "more.py").write_text(CODE)
    second = code_sha256(tmp_path)
    (tmp_path / "more.py").rename(tmp_path / "most.py")
    assert len({first, second, code_sha256(tmp_path)}) == 3


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the real library, in a folder that stands for the project's."""
    shutil.copytree(PROJECT_ROOT / "fmlib", copy := tmp_path_factory.mktemp("project") / "fmlib")
    return copy


MEASURES = ("data.py", "transforms.py", "training.py", "measure.py", "results.py", "plots.py", "describe.py", "models/base.py",
            "models/neural.py", "models/small_maps.py", "models/registry.py")
COMPARES = ("compare/verdict.py", "compare/significance.py", "compare/study.yaml", "report/show.py")
NEITHER = ("profiles.py", "runner.py", "studies.py", "__main__.py", "report/merge.py")


@pytest.mark.parametrize("name", [*MEASURES, *COMPARES, *NEITHER])
def test_what_measures_concerns_every_job_and_what_compares_the_comparison_alone(library, monkeypatch, name):
    monkeypatch.setattr(runner, "PROJECT_ROOT", library.parent)
    monkeypatch.setattr(registry, "__file__", str(library / "models" / "registry.py"))
    path, before = library / name, (code_sha256(library), runner._later_code())
    text = path.read_text()
    path.write_text(f"{text}\nmore: 1\n" if path.suffix == ".yaml" else f"{text}\nMORE = 1\n")
    after = code_sha256(library), runner._later_code()
    path.write_text(text)
    assert [one != other for one, other in zip(before, after, strict=True)] == [name in MEASURES, name in COMPARES]


@pytest.mark.parametrize(
    ("model", "others"),
    [("svm", {"mlp", "cnn", "transfer"}), ("cnn", {"classical", "mlp", "transfer"}), ("vgg16", {"classical", "mlp", "cnn"})],
)
def test_a_model_does_not_depend_on_the_modules_of_others(model, others):
    assert {path.stem for path in runner.modules_of_others(model)} == others


@pytest.mark.parametrize("line", ["from fmlib.models.cnn import ACTIVATIONS", "from fmlib.models import cnn",
                                  "import fmlib.models.cnn", "def late():\n    from fmlib.models.cnn import DiracConv"])
def test_a_model_depends_on_a_module_of_another_that_it_uses(monkeypatch, tmp_path, line):
    borrower = tmp_path / "mlp.py"
    borrower.write_text(f"{Path(mlp.__file__).read_text()}\n{line}\n")
    monkeypatch.setattr(mlp, "__file__", str(borrower))
    assert {path.stem for path in runner.modules_of_others("mlp")} == {"classical", "transfer"}


def test_a_model_that_is_added_makes_no_other_one_stale(world, monkeypatch, tmp_path):
    path = tmp_path / "registry.py"
    text = Path(registry.__file__).read_text()
    monkeypatch.setattr(registry, "__file__", str(path))
    path.write_text(text)
    first = code_sha256(tmp_path)
    path.write_text(text.replace("Entry] = {", 'Entry] = {\n    "x": classical("X", X),'))
    assert code_sha256(tmp_path) == first
    path.write_text(text.replace("seed=seed", "seed=seed + 1"))
    assert code_sha256(tmp_path) != first


def test_another_line_of_the_registry_makes_its_model_stale(world, monkeypatch):
    monkeypatch.setitem(registry.REGISTRY, "beta", registry.classical("Beta the second", Toy, family="01_toy"))
    assert world.stale() == ["beta-seed-9"]


def test_a_model_of_another_class_is_trained_though_its_parameters_are_the_same(world, monkeypatch):
    monkeypatch.setitem(registry.REGISTRY, "beta", registry.classical("Beta", OtherToy, family="01_toy"))
    assert world.stale() == ["beta-seed-9"]


def test_a_network_trained_by_another_class_is_trained_again():
    class Other(TorchClassifier):
        pass

    entries = [registry.neural("MLP", "02_mlp", mlp.MLP, kind) for kind in (TorchClassifier, Other)]
    hashes = []
    for one in entries:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(registry.REGISTRY, "mlp", one)
            job = Job("smoke", "sample", 0.1, "mlp", 9, {})
            hashes.append(runner.model_task(job, Path("build")).sha256)
    assert hashes[0] != hashes[1]


# --- Failures -------------------------------------------------------------------------------------------------------------

FAILURES = {
    "raise": ["cell 5: IndexError: list index out of range", "values[5]  # beyond the end"],
    "kill": ["kernel died"],
    "save nothing": ["ResultError", "result.json"],
    "save half": ["ResultError", "seed-9"],
}


@pytest.mark.parametrize("kind", list(FAILURES))
def test_a_failing_job_is_told_in_a_few_lines_leaves_no_result_and_the_others_run(world, kind):
    trap = world.trap("alpha", kind)
    for name in ("alpha-seed-9", "beta-seed-9") if kind == "raise" else ("alpha-seed-9",):
        remove(f"notebooks/{name}.ipynb")(world)
    outcome = world.run()
    told = next(line for line in world.said if "FAILED" in line)
    assert "alpha-seed-9: FAILED after" in told and len(told.splitlines()) <= 5
    assert all(part in told for part in FAILURES[kind]) and "\x1b" not in told
    partial = world.build / "failed" / "alpha-seed-9.ipynb"
    pointers = [line for line in world.said if "the whole story: " in line]
    assert [Path(line.split("story: ")[1]).resolve() for line in pointers] == ([partial] if partial.is_file() else [])
    assert [failure.task.name for failure in outcome.failures] == ["alpha-seed-9"]
    assert [task.name for task, _ in outcome.executed] == ["00_dataset", "beta-seed-9", "05_comparison"]
    notebooks = [name for name in NOTEBOOKS if "alpha" not in name]
    assert world.files() == sorted(["failed/alpha-seed-9.ipynb", *notebooks, *records("beta/seed-9")])
    partial = nbformat.read(world.build / "failed" / "alpha-seed-9.ipynb", as_version=4)
    errors = [output.ename for cell in partial.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert errors == (["IndexError"] if kind == "raise" else [])
    assert dict(outcome.executed[-1][0].parameters)["missing"] == ["Alpha"]

    trap.unlink()
    assert world.run().failures == [] and world.stale() == []
    assert world.files() == sorted(NOTEBOOKS + records("alpha/seed-9", "beta/seed-9"))


def test_one_seed_may_fail_and_the_others_stay(world):
    world.trap("alpha", "raise", seed=2)
    outcome = world.run(world.profile(seeds=(9, 2), alpha={}))
    assert [failure.task.name for failure in outcome.failures] == ["alpha-seed-2"]
    assert [name for name in world.files() if name.startswith("results")] == records("alpha/seed-9")


def test_a_broken_comparison_is_a_failure_and_keeps_the_results(world):
    path = world.root / "notebooks" / "05_comparison.py"
    path.write_text(path.read_text() + "\n# %%\n1 / 0\n")
    outcome = world.run()
    assert [failure.task.name for failure in outcome.failures] == ["05_comparison"]
    assert "ZeroDivisionError" in outcome.failures[0].reason
    assert [name for name in world.files() if name.startswith("results")] == records("alpha/seed-9", "beta/seed-9")


def test_a_model_for_cuda_alone_is_refused_in_words_where_there_is_none(world, monkeypatch):
    world.run(world.profile(alpha={}, gamma={}))
    outcome = world.run(world.profile(alpha={}, gamma={}).model_copy(update={"cuda_only": ["gamma"]}))
    assert [failure.task.name for failure in outcome.failures] == []  # what is up to date is no run, wherever it was made
    path = world.root / "notebooks" / "01_toy.py"
    path.write_text(path.read_text() + "\n# %%\nprint(1)\n")
    outcome = world.run(world.profile(alpha={}, gamma={}).model_copy(update={"cuda_only": ["gamma"]}))
    assert [failure.task.name for failure in outcome.failures] == ["gamma-seed-9"]
    assert "Gamma of profile toys needs a CUDA GPU, and there is none here" in outcome.failures[0].reason
    assert [name for name in world.files() if "gamma" in name] == [], "its old result is not compared with new ones"


@pytest.mark.parametrize(
    ("old", "new"), [("job_sha256: str", "sha: str"), ('tags=["parameters"]', 'tags=["settings"]')], ids=["renamed", "no cell"]
)
def test_parameters_that_the_notebook_does_not_know_are_refused(world, old, new):
    path = world.root / "notebooks" / "01_toy.py"
    path.write_text(path.read_text().replace(old, new))
    outcome = world.run(world.profile(alpha={}))
    assert "01_toy.py: its parameters cell knows" in outcome.failures[0].reason
    assert "job_sha256" in outcome.failures[0].reason


def test_an_interrupted_run_keeps_what_is_done_and_the_next_one_goes_on(world, monkeypatch):
    shutil.rmtree(world.build / "results")
    run = runner.papermill.execute_notebook

    def interrupted(notebook, output, parameters, **options):
        if parameters.get("model") == "beta":
            Path(output).write_text("half")
            raise KeyboardInterrupt
        return run(notebook, output, parameters, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runner.papermill, "execute_notebook", interrupted)
        world.run()
    assert world.stale() == ["beta-seed-9", "05_comparison"]
    assert "FMLIB_PROGRESS" in os.environ and not list(world.build.glob(".running*"))
    assert world.run().failures == []
    assert any("alpha-seed-9: up to date" in line for line in world.said)


# --- The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    def run() -> int:
        monkeypatch.setattr("sys.argv", ["fmlib", "report", "--profile", "toys", "--build-dir", str(world.build.parent)])
        monkeypatch.setattr("sys.stdout.reconfigure", lambda **_: None, raising=False)
        monkeypatch.setattr(command_line, "load_profile", lambda _name: world.profile())
        return command_line.main()
    return run


def test_the_command_fails_with_a_report_that_names_the_missing_model_and_succeeds_when_it_is_mended(world, command, capsys):
    trap = world.trap("beta", "raise")
    remove("notebooks/beta-seed-9.ipynb")(world)
    assert command() == 1
    assert "beta-seed-9: FAILED" in capsys.readouterr().out
    page = (world.build / "report.html").read_text()
    assert "Beta" in page and "IndexError" in page

    trap.unlink()
    assert command() == 0
    assert "IndexError" not in (world.build / "report.html").read_text()
    capsys.readouterr()
    assert command() == 0
    assert "report: up to date" in capsys.readouterr().out


def test_the_command_says_what_an_interruption_keeps(command, monkeypatch, capsys):
    def interrupt(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_profile", interrupt)
    assert command() == 130
    assert "what was finished is kept" in capsys.readouterr().err


def test_a_record_says_which_run_it_is_of(world):
    content = json.loads((world.build / "results/alpha/seed-9/result.json").read_text())
    notebook = nbformat.read(world.build / "notebooks" / "alpha-seed-9.ipynb", as_version=4)
    assert content["job_sha256"] == notebook.metadata["fmlib"]["sha256"]
