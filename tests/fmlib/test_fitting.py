"""Fit once: what makes a record stale, and that a fit ends well however it ends."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from fmlib import fitting, training
from fmlib.fitting import FitError, Job, fit_here, fit_or_load, job_of, stale
from fmlib.models import registry
from fmlib.profiles import load_profile
from fmlib.project import HERE, Project
from fmlib.results import ResultError, load, load_model, record_folder

TESTS = Path(__file__).parent

# --- What makes a record stale ----------------------------------------------------------------

CLASSICAL = {"decision_tree", "random_forest", "svm", "svm_hog", "xgboost"}
NETWORKS = {"mlp", "cnn", "study_cnn", "resnet34"}
OWN = {"own", "own_other", "own_user"}
ALL = CLASSICAL | NETWORKS | OWN

PROFILE = """\
description: a model of every kind
dataset: sample
models:
  decision_tree: {max_depth: 10}
  random_forest: {n_estimators: 5}
  svm: {}
  svm_hog: {}
  xgboost: {n_estimators: 2}
  mlp: {hidden_sizes: [16], recipe: {epochs: 1, lr: 0.001}}
  cnn: {widths: [4, 8]}
  study_cnn: {}
  resnet34: {weights: none}
  own: {width: 3}
  own_other: {}
  own_user: {}
"""
OWN_FILE = '''\
import torch
from helper import scaled
from fmlib.models import Estimator, Network, register

@register("own", title="Mine")
class Own(Network):
    """A user's own network."""
    width: int = 4
    def build(self, spec, examples):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(scaled(spec.pixels), 10))

@register("own_other")
class OwnOther(Estimator):
    depth: int = 3
    def make(self, seed):
        from sklearn.tree import DecisionTreeClassifier
        return DecisionTreeClassifier(max_depth=self.depth, random_state=seed)

@register("own_user")
class OwnUser(Estimator):
    def make(self, seed):
        return OwnOther(depth=4).make(seed)
'''
HELPER_FILE = "from helper_of_helper import factor\n\ndef scaled(x):\n    return factor * x\n"

Edit = Callable[[str], str]


def swap(old: str, new: str) -> dict[str, str]:
    return {"old": old, "new": new}


def add(text: str = "\nANOTHER = 1\n") -> dict[str, str]:
    return {"add": text}


PROFILE_FILE = "params/keys.yaml"
# What is changed: a file, and how; and the models that have to be fitted again.
CASES: dict[str, tuple[str, dict[str, str], set[str]]] = {
    "nothing": ("fmlib/training.py", {}, set()),
    "a comment": ("fmlib/training.py", add("# what a comment says\n"), set()),
    "a docstring": (
        "fmlib/models/mlp.py",
        swap('"""The multilayer perceptron', '"""An MLP'),
        set(),
    ),
    "a model's docstring": ("fmlib/models/mlp.py", swap('"""Dense layers', '"""Layers'), set()),
    "another docstring": ("fmlib/training.py", swap('"""Forward, loss', '"""Loss'), set()),
    "line ends": ("fmlib", {"how": "crlf"}, set()),
    "formatting and all comments": ("fmlib", {"how": "reformat"}, set()),
    "a touched file": ("fmlib/training.py", {"how": "touch"}, set()),
    "a title": ("fmlib/models/mlp.py", swap('title="MLP"', 'title="Perceptron"'), set()),
    "a family": ("fmlib/models/mlp.py", swap('family="mlp"', 'family="cnn"'), set()),
    "a class of the same file": (
        "fmlib/models/classical.py",
        swap(
            "n_jobs=cores, random_state=seed)\n\n    def parameter_count", "n_jobs=1)\n\n    def p"
        ),
        {"random_forest"},
    ),
    "a class that another extends": (
        "fmlib/models/classical.py",
        swap("return int(machine", "return 1 + int(machine"),
        {"svm", "svm_hog"},
    ),
    "a class that extends another": (
        "fmlib/models/classical.py",
        swap(
            '    features: Literal["hog"] = "hog"\n', '    features: Literal["roots"] = "roots"\n'
        ),
        {"svm_hog"},
    ),
    "what models of a file share": ("fmlib/models/classical.py", swap("= 4.0", "= 5.0"), CLASSICAL),
    "classical.py": ("fmlib/models/classical.py", add(), CLASSICAL),
    "mlp.py": ("fmlib/models/mlp.py", add(), {"mlp"}),
    "cnn.py": ("fmlib/models/cnn.py", add(), {"cnn", "study_cnn"}),
    "transfer.py": ("fmlib/models/transfer.py", add(), {"resnet34"}),
    "base.py": ("fmlib/models/base.py", add(), ALL),
    "training.py": ("fmlib/training.py", swap("loss.backward()", "(2 * loss).backward()"), ALL),
    "transforms.py": ("fmlib/transforms.py", add(), ALL),
    "data.py": ("fmlib/data.py", swap("SPLIT_SEED = 9", "SPLIT_SEED = 8"), ALL),
    "measure.py": ("fmlib/measure.py", add(), ALL),
    "scores.py": ("fmlib/scores.py", add(), ALL),
    "device.py": ("fmlib/device.py", add(), ALL),
    "fast/layers.py": ("fmlib/fast/layers.py", add(), NETWORKS | {"own"}),
    "registry.py": ("fmlib/models/registry.py", add(), set()),
    "fetch.py": ("fmlib/fetch.py", add(), set()),
    "project.py": ("fmlib/project.py", add(), set()),
    "profiles.py": ("fmlib/profiles.py", add(), set()),
    "results.py": ("fmlib/results.py", add(), set()),
    "fitting.py": ("fmlib/fitting.py", add(), set()),
    "a new file": ("fmlib/models/newest.py", add(), set()),
    "a parameter's default": (
        "fmlib/models/classical.py",
        swap(
            "n_estimators: PositiveInt = 100\n    criterion",
            "n_estimators: PositiveInt = 9\n    criterion",
        ),
        {"random_forest"},
    ),
    "a recipe's default": (
        "fmlib/training.py",
        swap("epochs: int = Field(default=5", "epochs: int = Field(default=6"),
        ALL,
    ),
    "a parameter": (PROFILE_FILE, swap("max_depth: 10", "max_depth: 9"), {"decision_tree"}),
    "a default that is spelt out": (PROFILE_FILE, swap("svm: {}", "svm: {C: 10}"), set()),
    "a recipe": (PROFILE_FILE, swap("lr: 0.001", "lr: 0.002"), {"mlp"}),
    "the seed": (PROFILE_FILE, add("seeds: [3]\n"), ALL),
    "a second seed": (PROFILE_FILE, add("seeds: [9, 3]\n"), set()),
    "the data": ("fmlib/sample.npz", add("."), ALL),
    "the data set": (PROFILE_FILE, swap("dataset: sample", "dataset: fashion_mnist"), ALL),
    "the split": (PROFILE_FILE, add("validation_fraction: 0.2\n"), ALL),
    "the same split, spelt out": (PROFILE_FILE, add("validation_fraction: 0.1\n"), set()),
    "the description": (PROFILE_FILE, swap("of every kind", "or two"), set()),
    "the order of models": (PROFILE_FILE, swap("  svm: {}\n", "") | {"add": "  svm: {}\n"}, set()),
    "one more model": (PROFILE_FILE, add("  vgg16: {}\n"), set()),
    "one model less": (PROFILE_FILE, swap("  svm: {}\n", ""), set()),
    "a user's own model": ("mine/own.py", swap("Flatten(),", "Flatten(1),"), {"own"}),
    "a model that another one uses": (
        "mine/own.py",
        swap("max_depth=self.depth", "max_depth=2"),
        {"own_other", "own_user"},
    ),
    "a user's own file": ("mine/own.py", add(), OWN),
    "what it imports": ("mine/helper.py", swap("factor * x", "x"), OWN),
    "what that imports": ("mine/helper_of_helper.py", swap("1", "2"), OWN),
    "another file beside it": ("mine/notes.py", swap("1", "2"), set()),
    "a user's title": ("mine/own.py", swap('title="Mine"', 'title="My own"'), set()),
}
# In a copy of the project: for every case the keys of all jobs, by model, as JSON.
KEYS = """
import ast, json, sys
from pathlib import Path
root = Path.cwd()
sys.path.insert(0, str(root / "mine"))
import own
from fmlib import fitting
from fmlib.profiles import load_profile
from fmlib.project import Project

def keys(profile="keys"):
    jobs = fitting.jobs(load_profile(profile, Project(root)))
    found = {}
    for job in jobs:
        found.setdefault(job.model, job.key)
    return found

def changed(path, text, how):
    if how.get("how") == "crlf":
        return text.replace(b"\\n", b"\\r\\n")
    if how.get("how") == "reformat":
        return ast.unparse(ast.parse(text)).encode()
    if "old" in how:
        assert how["old"].encode() in text, f"{path} has no {how['old']}"
        text = text.replace(how["old"].encode(), how["new"].encode(), 1)
    return text + how.get("add", "").encode()

found = {"before": keys()}
for name, (place, how, _) in json.load(sys.stdin).items():
    target = root / place
    paths = sorted(target.rglob("*.py")) if target.is_dir() else [target]
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    for path, text in before.items():
        path.write_bytes(changed(path, text or b"", how))
    found[name] = keys()
    for path, text in before.items():
        path.unlink() if text is None else path.write_bytes(text)
found["after"] = keys()
(root / "params/keys.yaml").rename(root / "params/renamed.yaml")
found["the profile's name"] = keys("renamed")
fitting.version = lambda name: "9.9" if name == "torch" else "1"
found["torch"] = keys("renamed")
fitting.version = lambda name: "9.9" if name == "xgboost" else "1"
found["xgboost"] = keys("renamed")
fitting.version = lambda name: "1"
found["libraries"] = keys("renamed")
import torch
fitting.default_device = lambda: torch.device("cuda")
found["device"] = keys("renamed")
fitting.default_device = lambda: torch.device("cpu")
found["device again"] = keys("renamed")
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, dict[str, str]]:
    """The keys of all jobs before and after every change, in a copy of the project."""
    copy = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE.root / "fmlib", copy / "fmlib", ignore=ignored)
    (copy / "mine").mkdir()
    (copy / "params").mkdir()
    (copy / PROFILE_FILE).write_text(PROFILE)
    (copy / "mine" / "own.py").write_text(OWN_FILE)
    (copy / "mine" / "helper.py").write_text(HELPER_FILE)
    (copy / "mine" / "helper_of_helper.py").write_text("factor = 1\n")
    (copy / "mine" / "notes.py").write_text("note = 1\n")
    cases = {name: (place, how, sorted(again)) for name, (place, how, again) in CASES.items()}
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KEYS],
        input=json.dumps(cases),
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def made_stale(keys: dict[str, dict[str, str]], name: str, than: str = "before") -> set[str]:
    """The models, of those there before, whose key is another one."""
    return {model for model, key in keys[than].items() if keys[name].get(model, key) != key}


@pytest.mark.parametrize("name", list(CASES))
def test_a_change_makes_stale_exactly_what_depends_on_it(keys, name):
    assert made_stale(keys, name) == CASES[name][2]


def test_what_is_changed_back_is_fresh_again_and_a_profiles_name_is_no_input(keys):
    assert made_stale(keys, "after") == made_stale(keys, "the profile's name") == set()


def test_libraries_count_for_the_models_that_use_them(keys):
    assert made_stale(keys, "torch", "libraries") == ALL
    assert made_stale(keys, "xgboost", "libraries") == CLASSICAL


def test_another_kind_of_device_is_another_outcome(keys):
    assert made_stale(keys, "device", "libraries") == ALL
    assert made_stale(keys, "device again", "libraries") == set()


def test_all_models_have_keys_of_their_own(keys):
    assert set(keys["before"]) == ALL and len(set(keys["before"].values())) == len(ALL)


# --- Fitting and loading ----------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _troubled() -> Iterator[None]:
    """The troubled models are known here for as long as these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "MODELS", known := registry.MODELS)
        before = dict(known)
        patch.setattr(training, "speedups", training.speedups)
        patch.syspath_prepend(str(TESTS))
        sys.modules.pop("troubled", None)
        importlib.import_module("troubled")
        yield
        known.clear()
        known.update(before)


@pytest.fixture(autouse=True)
def _known_to_fits(tmp_path_factory, monkeypatch) -> None:
    """Processes that are started know the troubled models too."""
    folder = tmp_path_factory.mktemp("site")
    own = f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nimport troubled\n"
    (folder / "sitecustomize.py").write_text(own)
    path = os.pathsep.join([str(folder), str(HERE.root)])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.delenv("FMLIB_FIT", raising=False)


def job(root: Path, model: str = "decision_tree", **parameters: object) -> Job:
    project = Project(root)
    folder = record_folder(project.results("test"), model, 9)
    return Job(model, parameters, 9, "sample", 0.1, project, folder)


def files_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


RECORD = ["manifest.json", "model.skops", "predictions.npz", "result.json"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Job:
    """A decision tree, fitted in a process of its own."""
    one = job(tmp_path_factory.mktemp("fitted"), max_depth=4)
    fit_or_load(one)
    return one


def test_a_fit_leaves_a_record_in_its_place_and_nothing_else(fitted):
    place = Path("build/test/results/decision_tree/seed-9")
    assert files_in(fitted.project.root) == [str(place / name) for name in RECORD]
    assert fitted.folder == fitted.project.root / place


def test_a_record_says_what_was_fitted(fitted, sample):
    result = load(fitted.folder)
    assert (result.model, result.seed, result.key) == ("decision_tree", 9, fitted.key)
    assert result.parameters == {
        "features": "pixels",
        "criterion": "gini",
        "max_depth": 4,
        "min_samples_leaf": 1,
        "max_features": None,
    }
    assert (result.train_size, result.validation_size, result.test_size) == (1800, 200, 500)
    assert result.data_sha256 == sample.data_sha256 and result.split_sha256 == sample.split_sha256
    assert np.array_equal(result.labels, sample.test_labels) and result.accuracy > 0.5
    assert result.environment.cores <= os.cpu_count() and "torch" in result.environment.versions


def test_the_second_time_it_is_loaded_and_not_fitted(fitted, sample, monkeypatch):
    assert stale(fitted) == ""
    monkeypatch.setattr(sys, "executable", "/no/other/process")
    result, model = fit_or_load(fitted)
    assert result.key == fitted.key
    proba = model.predict_proba(sample.test_images)
    assert np.array_equal(proba.argmax(1), result.proba.argmax(1))
    assert np.allclose(proba, result.proba, atol=1e-3)


def test_other_parameters_are_another_job_in_the_same_place(fitted, monkeypatch):
    other = dataclasses.replace(fitted, parameters={"max_depth": 5})
    assert other.folder == fitted.folder and "changed" in stale(other)
    monkeypatch.setenv("FMLIB_FIT", "never")
    with pytest.raises(FitError, match="changed"):
        fit_or_load(other)
    assert stale(fitted) == ""


def test_fits_can_be_forbidden(tmp_path, monkeypatch):
    monkeypatch.setenv("FMLIB_FIT", "never")
    with pytest.raises(FitError, match="never fitted"):
        fit_or_load(job(tmp_path))
    assert files_in(tmp_path) == []


def test_a_fit_in_this_process_leaves_the_same_record(fitted, tmp_path, monkeypatch):
    here = job(tmp_path, max_depth=4)
    monkeypatch.setattr(sys, "executable", "/no/other/process")
    result, _ = fit_or_load(here, here=True)
    there = load(fitted.folder)
    assert result.key == there.key and np.array_equal(result.proba, there.proba)
    assert files_in(here.folder) == RECORD and stale(here) == ""


EDITED = """
from pathlib import Path

from sklearn.dummy import DummyClassifier

from fmlib.models import Estimator, register


@register("edited")
class Edited(Estimator):
    \"\"\"Somebody edits its file during its first fit, or switches to another branch.\"\"\"

    def make(self, seed):
        text = Path(__file__).read_text()
        if not text.endswith("MORE = 1"):
            Path(__file__).write_text(text + "MORE = 1")
        return DummyClassifier()
"""


def test_code_that_changes_while_a_fit_runs_leaves_no_record(tmp_path):
    (tmp_path / "edited_models.py").write_text(EDITED)
    text = "description: d\ndataset: sample\ncode: [edited_models.py]\nmodels: {edited: {}}\n"
    (tmp_path / "edited.yaml").write_text(text)
    profile = load_profile(str(tmp_path / "edited.yaml"), Project(tmp_path))
    first = job_of(profile, "edited")
    with pytest.raises(FitError, match="its code was changed while it ran"):
        fit_or_load(first)
    assert stale(job_of(profile, "edited")) == "never fitted"
    again = job_of(profile, "edited")
    fit_or_load(again)
    assert again.key != first.key and stale(again) == ""


def test_code_that_changed_before_a_fit_began_leaves_no_record(tmp_path):
    one = job(tmp_path)
    with pytest.raises(FitError, match="its code was changed"):
        fit_here(one, key="that of the code that its caller read")
    assert stale(one) == "never fitted"


def test_here_a_failure_is_the_models_own_error(tmp_path):
    with pytest.raises(RuntimeError, match="out of order"):
        fit_or_load(job(tmp_path, "failing"), here=True)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("failing", "RuntimeError: the estimator is out of order"),
        ("silent", "ValueError"),
        ("killed", "ended by signal 9"),
        ("leaving", "ended"),
    ],
)
def test_a_fit_that_fails_says_why_and_keeps_its_log(tmp_path, monkeypatch, model, says):
    one = job(tmp_path, model)
    with pytest.raises(FitError, match=says) as caught:
        fit_or_load(one)
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == [f"build/test/failed/{model}-seed-9.log"]
    if model == "failing":
        assert "Traceback" in one.log.read_text() and "troubled.py" in one.log.read_text()
    monkeypatch.setenv("FMLIB_FIT", "never")
    with pytest.raises(FitError) as told_again:
        fit_or_load(one)
    if model in ("failing", "silent"):
        assert str(told_again.value) == str(caught.value)


def test_the_reason_of_a_failure_is_a_line_of_bearable_length(tmp_path):
    one = job(tmp_path)
    one.log.parent.mkdir(parents=True)
    one.log.write_text("before\nValueError: " + "x" * 10**6)
    assert fitting.reason(one).startswith("ValueError: xxx") and len(fitting.reason(one)) < 320


def test_what_a_model_writes_does_not_disturb_its_fit(tmp_path, capfd):
    one = job(tmp_path, "noisy")
    result, _ = fit_or_load(one)
    assert result.accuracy == 0.1 and stale(one) == ""
    assert "words" not in capfd.readouterr().out


class Ear(training.Progress):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.started, self.steps, self.rows = [], 0, []

    def start(self, stage: str, epochs: int, steps: int, done: int = 0) -> None:
        self.started.append((stage, epochs, steps))

    def step(self) -> None:
        self.steps += 1

    def epoch(self, row: dict[str, object]) -> None:
        self.rows.append(row)


NETWORK = {"hidden_sizes": [8], "recipe": {"epochs": 2, "batch_size": 100}}


@pytest.fixture(scope="module")
def heard(tmp_path_factory) -> tuple[Job, Ear]:
    """A network, fitted in a process of its own, and what was heard of it."""
    one, ear = job(tmp_path_factory.mktemp("heard"), "mlp", **NETWORK), Ear()
    fitting.fit(one, ear)
    return one, ear


def test_the_progress_of_a_fit_is_heard_here(heard):
    one, ear = heard
    rows = [row.model_dump() for row in load(one.folder).history]
    assert ear.started == [("train", 2, 18)] and ear.rows == rows
    assert 0 < ear.steps <= 36


def test_a_fit_waits_as_a_busy_machine_needs_and_as_a_user_wishes(heard):
    assert load(heard[0].folder).environment.cores == fitting.measure.use_available_cores()


def test_lines_tell_an_epoch_each(heard, capsys):
    lines = fitting.Shown("MLP", with_bar=False)
    lines.start("train", 2, 18)
    for row in heard[1].rows:
        lines.epoch(row)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["train epoch 1/2", "train epoch 2/2"]
    assert all("validation loss" in line and "accuracy" in line for line in said)


def test_a_bar_counts_steps(heard, capsys):
    bar = fitting.Shown("MLP", with_bar=True)
    bar.start("train", 2, 18)
    for row in heard[1].rows:
        for _ in range(18):
            bar.step()
        bar.epoch(row)
    said = capsys.readouterr().out
    assert "MLP, train" in said and "36/36" in said and "validation loss" in said


# --- Interrupted ------------------------------------------------------------------------------

CALLER = """
import sys
from fmlib import fitting
fitting.fit_or_load(fitting.Job.from_json(sys.stdin.readline()))
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_caller_that_ends_takes_its_fit_along_and_the_next_run_is_clean(tmp_path, how):
    marker = tmp_path / "marker"
    one = job(tmp_path / "project", "slow_once", marker=str(marker))
    caller = subprocess.Popen([sys.executable, "-c", CALLER], stdin=subprocess.PIPE, text=True,
                              stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        caller.stdin.write(one.as_json() + "\n")
        caller.stdin.flush()
        assert wait_until(marker.exists, 60), "the fit has not begun"
        pid = int(marker.read_text())
        assert pid != caller.pid and alive(pid)
        caller.send_signal(how)
        assert wait_until(lambda: not alive(pid), 2), "the fit still runs"
        assert caller.wait(5) != 0
    finally:
        caller.kill()
        caller.wait()
        caller.stdin.close()
    assert stale(one) == "never fitted"
    result, _ = fit_or_load(one)
    assert result.accuracy == 0.1
    place = "build/test/results/slow_once/seed-9"
    assert files_in(tmp_path / "project") == [f"{place}/{name}" for name in RECORD]


# --- Records that are no good -----------------------------------------------------------------


def test_a_damaged_record_is_fitted_again(fitted, tmp_path):
    one = job(tmp_path, max_depth=4)
    shutil.copytree(fitted.folder, one.folder)
    assert stale(one) == ""
    path = one.folder / "result.json"
    path.write_text(path.read_text()[:-100])
    assert "no good" in stale(one)
    with pytest.raises(ResultError):
        load(one.folder)
    result, _ = fit_or_load(one, here=True)
    assert stale(one) == "" and result.key == fitted.key


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_record_whose_model_cannot_be_loaded_is_fitted_again(fitted, tmp_path, damage):
    one = job(tmp_path, max_depth=4)
    shutil.copytree(fitted.folder, one.folder)
    path = one.folder / "model.skops"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    result, model = fit_or_load(one, here=True)
    assert result.key == fitted.key and model.spec_.num_classes == 10
    assert load_model(one.folder).parameter_count() == model.parameter_count()


# --- Jobs -------------------------------------------------------------------------------------


def test_a_job_survives_the_way_to_another_process(tmp_path):
    one = job(tmp_path, "mlp", hidden_sizes=[8, 4], dropout=0.5)
    assert Job.from_json(one.as_json()) == one
    assert (one.name, one.title) == ("mlp-seed-9", "MLP")


def test_jobs_run_all_models_with_one_seed_then_with_the_next(tmp_path):
    project = Project(tmp_path)
    project.params.mkdir()
    text = "description: a test\nvalidation_fraction: 0.2\nseeds: [3, 1, 3]\n"
    models = "models: {svm: {C: 2.0}, cnn: {}, mlp: {}}\n"
    (project.params / "mine.yaml").write_text(text + models)
    made = fitting.jobs(load_profile("mine", project))
    told = [(3, "svm"), (3, "cnn"), (3, "mlp"), (1, "cnn"), (1, "mlp")]
    assert [(one.seed, one.model) for one in made] == told, "the SVM's training draws nothing"
    folder = tmp_path / "build" / "mine" / "results" / "svm" / "seed-3"
    home = project.params
    assert made[0] == Job("svm", {"C": 2.0}, 3, "fashion_mnist", 0.2, project, folder, home)
    assert len({one.key for one in made}) == 5
    more = load_profile("mine", project).with_seeds(4).seeds
    assert more == [3, 1, 4, 5]


def test_a_further_seed_is_a_fit_of_its_own_and_known_from_then_on(tmp_path):
    project = Project(tmp_path)
    project.params.mkdir()
    text = (
        "description: a test\ndataset: sample\nmodels: {decision_tree: {max_depth: 3}, svm: {}}\n"
    )
    (project.params / "mine.yaml").write_text(text)
    profile = load_profile("mine", project)
    three = fitting.jobs(profile.with_seeds(3))
    assert [one.name for one in three] == [
        *("decision_tree-seed-9", "svm-seed-9"),
        *("decision_tree-seed-10", "decision_tree-seed-11"),
    ]
    fit_or_load(three[2], here=True)
    for name in ("seed-9 copy", "seed-011", "seed-x", "seed-12"):
        (profile.results / "decision_tree" / name).mkdir()
    known = fitting.known_jobs(profile)
    assert [one.name for one in known if not stale(one)] == ["decision_tree-seed-10"]
    assert [one.name for one in known] == [*[one.name for one in three[:2]], three[2].name]


def test_a_seed_has_a_split_of_its_own_which_all_models_share(tmp_path):
    found = {
        (model, seed): fit_or_load(seeded(job(tmp_path, model, **small), seed), here=True)[0]
        for model, small in (("decision_tree", {"max_depth": 2}), ("random_forest", FEW_TREES))
        for seed in (9, 10)
    }
    splits = {key: one.split_sha256 for key, one in found.items()}
    assert splits["decision_tree", 9] == splits["random_forest", 9]
    assert splits["decision_tree", 9] != splits["decision_tree", 10]
    assert len({one.data_sha256 for one in found.values()}) == 1


FEW_TREES = {"n_estimators": 2, "max_depth": 2}


def seeded(one: Job, seed: int) -> Job:
    folder = one.folder.with_name(f"seed-{seed}")
    return dataclasses.replace(one, seed=seed, folder=folder)
