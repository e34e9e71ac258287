"""The benchmarks: what is compared is the same work, and what is told follows from the times. No test asserts a time."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import bench, speedrun
from fmlib.profiles import Profile, load_profile

TINY = {"recipe": {"epochs": 2, "batch_size": 100}}


class Spy(nn.Module):
    """Notes what batches it sees, and whether it is being trained on them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.shapes = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.shapes.append((self.training, *batch.shape))
        return self.layers(batch)


def numbers(line: str, before: str) -> list[float]:
    """The numbers that follow ``before`` in a line."""
    return [float(one.replace(",", "")) for one in re.findall(rf"{re.escape(before)} ([\d.,]*\d)", line)]


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> Profile:
    """Takes the place of every profile."""
    profile = load_profile("smoke").model_copy(update={"models": {"mlp": TINY, "cnn": TINY}, "seeds": (1, 2)})
    for module in (bench, speedrun):
        monkeypatch.setattr(module, "load_profile", lambda name: profile)
    return profile


def test_the_studys_epoch_trains_on_every_image_once_and_validates_on_others():
    network = Spy()
    before = network.layers[1].weight.detach().clone()
    assert min(bench.study_epoch(network, "sample", 250, 120, 100, torch.device("cpu"))) > 0
    batches = [(True, 100), (True, 100), (True, 50), (False, 100), (False, 20)]
    assert network.shapes == [(training, count, 1, 28, 28) for training, count in batches]
    assert not torch.equal(before, network.layers[1].weight)


@pytest.mark.parametrize("model", bench.STUDY_NETWORKS)
def test_the_studys_network_of_torchs_own_layers_computes_the_same(sample, model):
    classifier = bench.build(model, bench.with_epochs(load_profile("original").models[model], 1))
    network = classifier.fit(*sample.train, sample.validation).network_.eval()
    batch = classifier.inputs(sample.test_images)
    torch.testing.assert_close(bench.torchs_own(network).eval()(batch), network(batch))


def test_both_loops_are_timed_on_the_studys_networks_and_the_ratio_is_told(sample, monkeypatch):
    timed, lines = [], []

    def note(network, dataset, count, held_out, batch_size, device):
        assert {type(layer).__module__.split(".")[0] for layer in network} == {"torch"}
        timed.append((sum(p.numel() for p in network.parameters()), count, held_out, batch_size))
        return 30.0, 10.0

    monkeypatch.setattr(bench, "study_epoch", note)
    seconds = bench.compare_loops(sample, lines.append)
    assert seconds == {"mlp": 30.0, "cnn": 30.0}
    assert timed == [(244_522, 1_800, 200, 128)] * 3 + [(61_330, 1_800, 200, 128)] * 3
    for line in lines:
        assert "1,800 images" in line and numbers(line, "loop") == [30] and numbers(line, "on 200 more:") == [40]
        ours, ratios = numbers(line, "ours"), numbers(line, "ratio")
        assert ratios == pytest.approx([30 / ours[0], 40 / ours[1]], rel=0.5) and ours[1] >= ours[0]


@pytest.mark.parametrize(("accuracy", "found"), [(0.1, "reaches the study's accuracy, 0.1,"), (1.0, "does not reach")])
def test_the_whole_training_is_compared_with_the_studys_fifteen_epochs(small, profile, monkeypatch, accuracy, found):
    monkeypatch.setattr(bench, "STUDY_ACCURACY", {"mlp": accuracy})
    lines = []
    bench.compare_training(small, {"mlp": 100.0}, lines.append)
    assert len(lines) == 1 and found in lines[0] and "nan" not in lines[0]
    assert numbers(lines[0], "recipe takes") == [100 * TINY["recipe"]["epochs"]]


@pytest.mark.parametrize("power", [1, 2])
def test_growth_finds_the_power_of_the_number_of_images(sample, profile, monkeypatch, power):
    fitted = []

    def fit_alone(model, parameters, data):
        fitted.append((parameters["recipe"]["epochs"], len(data.train_labels)))
        assert len(data.train_images) == len(data.train_labels)
        return len(data.train_labels) ** power, 7.0

    monkeypatch.setattr(bench, "fit_alone", fit_alone)
    lines = []
    assert bench.growth(sample, ["mlp"], (100, 400, 1600), lines.append) == pytest.approx({"mlp": power})
    assert fitted == [(1, 100), (1, 400), (1, 1600)]
    assert f"the power {power}.00" in lines[0] and lines[0].count("7 MB") == 3


def test_a_fit_in_a_process_of_its_own_needs_the_memory_that_its_images_need(sample):
    many = replace(
        sample, train_images=np.tile(sample.train_images, (20, 1, 1)), train_labels=np.tile(sample.train_labels, 20)
    )
    (_, little), (seconds, much) = (bench.fit_alone("decision_tree", {"max_depth": 3}, data) for data in (sample, many))
    assert seconds > 0
    assert much - little > 0.9 * 4 * many.train_images.nbytes / 2**20  # its features alone are float32


def test_the_benchmark_tells_loops_training_and_the_growth_of_every_model_but_the_transfer_models(sample, monkeypatch):
    grown = {}
    monkeypatch.setattr(bench, "load_data", lambda name, fraction=0.1: replace(sample, dataset="sample"))
    monkeypatch.setattr(bench, "compare_loops", lambda data, say: {"mlp": 1.0})
    monkeypatch.setattr(bench, "compare_training", lambda data, seconds, say: say(f"training {seconds}"))
    monkeypatch.setattr(bench, "growth", lambda data, models, say: grown.update(dict.fromkeys(models, len(data.train_labels))))
    lines = []
    bench.run_bench(say=lines.append)
    assert "threads" in lines[0] and lines[1] == "training {'mlp': 1.0}"
    assert {"decision_tree", "mlp", "cnn"} <= set(grown) and "efficientnet_lite0" not in grown
    assert set(grown.values()) == {2_000}  # validation images are trained on here, as accuracy is not asked for


def test_the_speedrun_trains_every_seed_and_prints_the_distribution(profile):
    lines = []
    table = speedrun.run_speedrun("any", lines.append)
    assert sorted(zip(table["model"], table["seed"], strict=True)) == [("cnn", 1), ("cnn", 2), ("mlp", 1), ("mlp", 2)]
    assert isinstance(table, pd.DataFrame) and table["accuracy"].between(0, 1).all() and (table["train_seconds"] > 0).all()
    summary = next(line for line in lines if line.startswith("cnn: "))
    runs = table[table["model"] == "cnn"]["accuracy"]
    assert f"accuracy {runs.mean():.4f} ± {runs.std():.4f} over 2 seeds" in summary
