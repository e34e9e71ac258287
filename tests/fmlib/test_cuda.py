"""What only a CUDA GPU can show; skipped where there is none."""

from __future__ import annotations

import copy
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fmlib import fast, training
from fmlib.data import Part
from fmlib.fast.steps import RecordedStep
from fmlib.measure import measure
from fmlib.models.registry import build
from fmlib.training import Recipe, Trainer
from fmlib.transforms import channels_first

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

AUGMENTATION = {"flip": True, "crop_padding": 2, "erase_size": 4, "jitter": 0.1}
SHORT = {
    "epochs": 3,
    "batch_size": 32,
    "lr": 0.01,
    "schedule": "linear",
    "warmup_fraction": 0.1,
    "augmentation": AUGMENTATION,
}
BACKBONES = ["vgg16", "resnet34", "mobilenet_v3_small", "efficientnet_lite0"]
NETWORKS = {
    "mlp": {"hidden_sizes": [64], "recipe": SHORT},
    "cnn": {
        "widths": [8, 8, 8],
        "recipe": SHORT | {"optimizer": "sgd", "channels_last": True, "precision": "bfloat16"},
    },
    "study_cnn": {"recipe": SHORT},
} | {
    name: {
        "weights": "none",
        "scratch": SHORT | {"epochs": 1, "image_size": 32, "channels_last": True},
    }
    for name in BACKBONES
}


def on_the_gpu(part: Part) -> tuple[Tensor, Tensor]:
    images, labels = map(torch.from_numpy, part)
    return channels_first(images).cuda(), labels.cuda()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "speedups", fast.Fast())


def trained(small, recipe: dict[str, object]) -> Trainer:
    torch.manual_seed(9)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)
    )
    settings, device = Recipe(**SHORT | recipe), torch.device("cuda")
    trainer = Trainer(network, settings, 0.0, 255.0, 10, device, 9)
    images, labels = on_the_gpu(small.train)
    return trainer.train(images, labels, on_the_gpu(small.validation))


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "precision": "bfloat16"},
        {"optimizer": "sgd", "mixup": 0.2, "cutmix": 0.5},
    ],
)
def test_a_recorded_step_trains_as_one_that_is_not_recorded(small, monkeypatch, recipe):
    recorded = trained(small, recipe).history
    monkeypatch.setattr(training, "speedups", training.Speedups())
    plain = trained(small, recipe).history
    for row, other in zip(recorded, plain, strict=True):
        assert row["lr"] == other["lr"]
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        assert row["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-3)


def test_a_step_is_recorded_once_for_each_size_of_batch(small, monkeypatch):
    kept = []

    class Kept(RecordedStep):
        def __init__(self, step: training.Step) -> None:
            super().__init__(step)
            kept.append(self)

    monkeypatch.setattr(fast, "RecordedStep", Kept)
    trained(small, {"batch_size": 47})  # 300 images: six batches of 43, one of 42
    assert sorted(shape[0] for shape in kept[0].graphs) == [42, 43]


def test_dropout_is_drawn_anew_at_every_replay(small):
    network = nn.Dropout(0.5).cuda().train()
    ones = torch.ones(64, 100, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        step = RecordedStep(lambda batch, _labels: network(batch))
        outcomes = [step(ones, ones).clone() for _ in range(8)]
    assert all(not torch.equal(one, other) for one, other in pairwise(outcomes))


@pytest.mark.parametrize("model", NETWORKS)
def test_a_network_says_the_same_on_a_gpu_and_on_a_processor(small, model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        classifier = build(model, NETWORKS[model]).fit(small)
    assert np.isfinite([row["train_loss"] for row in classifier.history_]).all()
    there = classifier.predict_proba(small.test_images)
    elsewhere = copy.copy(classifier.trainer_)
    elsewhere.network, elsewhere.device = (
        copy.deepcopy(elsewhere.network).cpu(),
        torch.device("cpu"),
    )
    elsewhere.bfloat16 = False
    here = elsewhere.test(channels_first(torch.from_numpy(small.test_images))).numpy()
    tolerance = 0.05 if classifier.trainer_.bfloat16 else 0.005
    np.testing.assert_allclose(there, here, atol=tolerance)


def test_a_fit_is_the_same_with_the_same_seed(small):
    first, second = (build("cnn", NETWORKS["cnn"]).fit(small) for _ in range(2))
    proba = [one.predict_proba(small.test_images) for one in (first, second)]
    np.testing.assert_allclose(*proba, atol=1e-3)


def test_video_memory_is_measured(small):
    measured = measure(build("mlp", NETWORKS["mlp"]), small)
    weights = 784 * 64 * 4 / 2**20
    assert measured["peak_vram_mb"] > 4 * weights  # weights, gradients, Adam's two moments
    assert measured["train_seconds"] <= measured["fit_wall_seconds"]
