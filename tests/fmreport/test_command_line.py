"""The commands that look at a profile before anything is trained, as a user types them."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fmlib.profiles import load_profile
from fmlib.project import HERE, Project
from fmreport.__main__ import BAD_INPUT, STOPPED, main

BROKEN_NET = """
from torch import nn
from fmlib.models import Network, register

@register("narrow_net")
class NarrowNet(Network):
    def build(self, spec, examples):
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.pixels, spec.num_classes + 1))
"""


@pytest.fixture
def fmreport(monkeypatch, capsys):
    """Runs a command; gives its exit status, what it said and what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fmreport", *arguments])
        status = main()
        return status, *capsys.readouterr()

    return run


def write(folder: Path, text: str, **arrays: np.ndarray) -> str:
    """A profile with data of its own in the folder; its path."""
    (folder / "broken_net.py").write_text(BROKEN_NET)
    if arrays:
        np.savez(folder / "own.npz", **arrays)
    (folder / "own.yaml").write_text(text)
    return str(folder / "own.yaml")


def arrays(count: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    images = {f"{part}_images": rng.integers(0, 255, (count, 8, 8), np.uint8) for part in PARTS}
    return images | {f"{part}_labels": np.arange(count) % 2 for part in PARTS}


PARTS = ("train", "test")


def test_a_check_tells_every_fault_of_a_profile_its_data_and_its_models(fmreport, tmp_path):
    text = """
description: many faults
dataset: {npz: own.npz}
code: [broken_net.py, absent.py]
cuda_only: [mpl]
models:
  decision_tree: {max_dept: 3, min_samples_leaf: 0}
  narow_net: {}
  narrow_net: {}
  mlp: {recipe: {epochs: 1}}
"""
    given = arrays() | {"test_images": arrays()["test_images"] / 255, "train_labels": np.arange(3)}
    status, _, complaints = fmreport("check", write(tmp_path, text, **given))
    assert status == BAD_INPUT
    faults = complaints.splitlines()
    for words in (
        "did you mean 'max_depth'?",
        "decision_tree.min_samples_leaf",
        "did you mean 'narrow_net'?",
        "absent.py: there is no such file",
        "cuda_only: not one of the profile's models; did you mean 'mlp'?",
        "test_images: wanted uint8",
        "train_labels: wanted 40 whole numbers",
    ):
        assert sum(words in fault for fault in faults) == 1, words
    assert len(faults) == 7 and all(fault.startswith("fault: ") for fault in faults)


def test_a_check_looks_at_the_models_once_the_data_are_sound(fmreport, tmp_path):
    models = "models: {narrow_net: {}, decision_tree: {}, random_forest: {}}"
    text = f"description: a fault\ndataset: {{npz: own.npz}}\ncode: [broken_net.py]\n{models}\n"
    status, said, complaints = fmreport("check", write(tmp_path, text, **arrays()))
    assert status == BAD_INPUT and "models: 2 of 3 can be fitted" in said
    assert "broken_net.py, line" in complaints and "wanted logits of shape (" in complaints


def test_a_check_of_a_sound_profile_tells_its_data_and_finds_nothing(fmreport):
    path = str(HERE.root / "examples" / "own_data" / "digits.yaml")
    status, said, complaints = fmreport("check", path)
    assert (status, complaints) == (0, "")
    assert "data: Handwritten digits, 10 classes," in said and "models: 6 of 6" in said


def test_a_profile_of_another_form_is_told_whole(fmreport, tmp_path):
    text = "descripton: x\nmodels: {}\nseeds: [one]\n"
    status, _, complaints = fmreport("check", write(tmp_path, text))
    assert status == BAD_INPUT and len(complaints.splitlines()) == 1
    for words in ("did you mean 'description'?", "models", "seeds"):
        assert words in complaints


def test_a_new_profile_can_be_used_as_it_is_and_nothing_is_overwritten(fmreport, tmp_path):
    path = tmp_path / "mine.yaml"
    status, said, _ = fmreport("new-profile", str(path))
    assert status == 0 and str(path) in said
    assert load_profile(str(path)).models
    status, _, complaints = fmreport("new-profile", str(path))
    assert status == BAD_INPUT and "is there already" in complaints
    status, _, complaints = fmreport("new-profile", str(tmp_path / "no" / "mine.yaml"))
    assert status == BAD_INPUT and "no such folder" in complaints


# --- What is wrong with the surroundings, in a line --------------------------------------------


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "build/x: No space left on device; free some space"),
        (errno.EROFS, "build/x: Read-only file system; it has to be writable"),
        (errno.ENOTDIR, "a file is where a folder should be"),
    ],
)
def test_a_disk_that_is_full_or_locked_is_told_in_a_line(fmreport, monkeypatch, number, says):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number), "build/x")

    monkeypatch.setattr("fmreport.runner.run_profile", fail)
    status, _, told = fmreport("report", "--profile", "smoke")
    assert status == BAD_INPUT and says in told and told.count("\n") == 1


@pytest.mark.parametrize("obstacle", ["a file", "a link to nowhere"])
def test_what_stands_in_the_build_folders_place_is_told_in_a_line(
    fmreport, monkeypatch, tmp_path, obstacle
):
    if obstacle == "a file":
        (tmp_path / "build").write_text("")
    else:
        (tmp_path / "build").symlink_to(tmp_path / "nowhere" / "else")
    (tmp_path / "params").mkdir()
    text = "description: d\ndataset: sample\nmodels: {svm: {}}"
    (tmp_path / "params" / "tiny.yaml").write_text(text)
    monkeypatch.setattr("fmlib.profiles.HERE", Project(tmp_path))
    monkeypatch.setattr(
        "fmreport.__main__.load_profile", lambda name: load_profile(name, Project(tmp_path))
    )
    status, _, told = fmreport("report", "--profile", "tiny")
    assert status == BAD_INPUT and "a file is where a folder should be" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_asked_to_end_says_what_is_kept(fmreport, monkeypatch, number):
    def wait(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(10)

    before = signal.getsignal(number)
    monkeypatch.setattr("fmreport.runner.run_profile", wait)
    try:
        status, _, told = fmreport("report", "--profile", "smoke")
    finally:
        signal.signal(number, before)
    assert status == STOPPED
    kept = "what was finished is kept, and the next run goes on"
    assert told == f"stopped by {number.name}; {kept}\n"


def test_a_model_that_the_profile_lacks_is_told_with_the_nearest(fmreport):
    status, _, told = fmreport("report", "--profile", "smoke", "--models", "mpl")
    assert status == BAD_INPUT and "mpl" in told and "mlp" in told
