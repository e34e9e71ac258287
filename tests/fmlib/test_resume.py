"""A fit that was interrupted goes on from its last epoch, as if nothing had happened."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fmlib import fitting, measure
from fmlib.data import Dataset
from fmlib.fitting import Checkpoint, Job, Told, checkpoint_path
from fmlib.models.registry import build
from fmlib.project import Project
from fmlib.results import load

STEPS = {"epochs": 5, "batch_size": 32}
MODELS = {
    "mlp": {
        "hidden_sizes": [16],
        "dropout": 0.3,
        "recipe": STEPS | {"optimizer": "adamw", "lr": 0.01, "mixup": 0.2, "cutmix": 0.3},
    },
    "cnn": {
        "widths": [4, 8],
        "recipe": STEPS
        | {"optimizer": "sgd", "lr": 0.05, "schedule": "linear", "warmup_fraction": 0.2}
        | {"augmentation": {"flip": True, "crop_padding": 2, "erase_size": 4}},
    },
    "study_cnn": {"recipe": STEPS | {"lr": 0.01, "patience": 2}},
    "efficientnet_lite0": {
        "probe": {"epochs": 4, "batch_size": 64, "lr": 0.01},
        "recipe": {"epochs": 3, "batch_size": 50, "image_size": 32},
    },
}


class Interrupted(Exception):
    """Stands for whatever ends a fit."""


class Stopping(Told):
    """Ends the fit behind its ``after``-th epoch, of all that this process trains."""

    def __init__(self, checkpoint: Checkpoint, after: int | None = None) -> None:
        super().__init__(io.StringIO(), checkpoint)
        self.left, self.trained = after, 0

    def keep(self, stage, state) -> None:
        super().keep(stage, state)
        self.trained += 1
        if self.trained == self.left:
            raise Interrupted


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoint, "EVERY", 0.0)


def job(root: Path, model: str, **parameters: object) -> Job:
    project = Project(root)
    folder = root / "build" / "test" / "results" / model / "seed-9"
    return Job(model, parameters, 9, "sample", 0.1, project, folder)


def fit(one: Job, data: Dataset, after: int | None = None) -> tuple[dict, Stopping]:
    progress = Stopping(Checkpoint(one), after)
    model = build(one.model, one.parameters)
    return measure.measure(model, data, one.seed, progress), progress


@pytest.mark.parametrize("model", MODELS)
def test_an_interrupted_fit_gives_what_an_undisturbed_one_gives(model, tmp_path, few):
    one = job(tmp_path, model, **MODELS[model])
    undisturbed, progress = fit(job(tmp_path / "other", model, **MODELS[model]), few)
    epochs = progress.trained
    assert epochs > 2
    for after in (epochs // 2, epochs - 1):  # in the first stage of two, and in the second
        checkpoint_path(one.folder).unlink(missing_ok=True)
        with pytest.raises(Interrupted):
            fit(one, few, after)
        resumed, progress = fit(one, few)
        assert progress.trained == epochs - after, "done epochs are not trained again"
        assert np.array_equal(resumed["proba"], undisturbed["proba"])
        losses = [
            [(row["stage"], row["epoch"], row["train_loss"]) for row in each["history"]]
            for each in (resumed, undisturbed)
        ]
        assert losses[0] == losses[1]


def test_interrupted_again_and_again_it_still_ends_the_same(tmp_path, few):
    one = job(tmp_path, "mlp", **MODELS["mlp"])
    undisturbed, _ = fit(job(tmp_path / "other", "mlp", **MODELS["mlp"]), few)
    for _ in range(4):
        with pytest.raises(Interrupted):
            fit(one, few, 1)
    resumed, _ = fit(one, few)
    assert np.array_equal(resumed["proba"], undisturbed["proba"])


def test_the_clocks_count_what_earlier_processes_spent(tmp_path, few):
    one = job(tmp_path, "mlp", **MODELS["mlp"])
    with pytest.raises(Interrupted):
        fit(one, few, 3)
    before = Checkpoint(one)
    before.content["spent"] = {"fit_wall_seconds": 1000.0, "cpu_seconds": 500.0}
    before.content["stages"]["train"]["train_seconds"] = 900.0
    torch.save(before.content, before.path)
    resumed, _ = fit(one, few)
    assert 1000 < resumed["fit_wall_seconds"] < 1100
    assert 500 < resumed["cpu_seconds"] < 600
    assert 900 < resumed["train_seconds"] < 1000


def test_a_checkpoint_of_another_job_or_a_damaged_one_is_none(tmp_path, few):
    one = job(tmp_path, "mlp", **MODELS["mlp"])
    with pytest.raises(Interrupted):
        fit(one, few, 3)
    other = job(tmp_path, "mlp", **MODELS["mlp"] | {"dropout": 0.4})
    assert Checkpoint(other).content["stages"] == {}
    path = checkpoint_path(one.folder)
    path.write_bytes(path.read_bytes()[:1000])
    assert Checkpoint(one).content["stages"] == {}
    _, progress = fit(one, few)
    assert progress.trained == STEPS["epochs"]


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    one = job(tmp_path, "mlp", **MODELS["mlp"])
    path = checkpoint_path(one.folder)
    path.parent.mkdir(parents=True)
    torch.save({"key": one.key, "spent": {}, "stages": {"train": Evil()}}, path)
    assert Checkpoint(one).content["stages"] == {} and not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_process_is_gone_on_from(tmp_path):
    recipe = {"epochs": 12, "batch_size": 32, "lr": 0.01}
    one = job(tmp_path, "mlp", hidden_sizes=[1024, 1024], recipe=recipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "fmlib.fitting", one.as_json(), one.key],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 120
        while not checkpoint_path(one.folder).exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        process.kill()
    kept = Checkpoint(one).content["stages"]["train"]
    assert 0 < len(kept["history"]) < 12
    fitting.fit(one)
    undisturbed = job(tmp_path / "other", "mlp", hidden_sizes=[1024, 1024], recipe=recipe)
    fitting.fit(undisturbed)
    found, wanted = load(one.folder), load(undisturbed.folder)
    assert np.array_equal(found.proba, wanted.proba) and len(found.history) == 12
    assert not checkpoint_path(one.folder).exists(), "what is finished needs no checkpoint"
