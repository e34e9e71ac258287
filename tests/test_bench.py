"""The benchmarks: what is compared is the same work, and what is told follows from the times.

No test asserts a time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from torch import Tensor, nn

from benchmarks import bench, peers, speedrun, steps
from fmlib import fast, training
from fmlib.data import Dataset
from fmlib.models.registry import build
from fmlib.profiles import Profile, load_profile

TINY = {"recipe": {"epochs": 2, "batch_size": 100}}


class Spy(nn.Module):
    """Notes what batches it sees, and whether it is being trained on them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        self.shapes: list[tuple[Any, ...]] = []

    def forward(self, batch: Tensor) -> Tensor:
        self.shapes.append((self.training, *batch.shape))
        return self.layers(batch)


def numbers(line: str, before: str) -> list[float]:
    """The numbers that follow ``before`` in a line."""
    found = re.findall(rf"{re.escape(before)} ([\d.,]*\d)", line)
    return [float(one.replace(",", "")) for one in found]


def eventually(true: Callable[[], bool]) -> bool:
    """Whether something becomes true within some seconds."""
    deadline = time.monotonic() + 20
    while not (seen := true()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> Profile:
    """Takes the place of every profile."""
    models = {"mlp": TINY, "cnn": {"widths": [8, 8], **TINY}}
    tiny = {"models": models, "seeds": [1, 2]}
    profile = load_profile("smoke").model_copy(update=tiny)
    for module in (bench, peers, speedrun, steps):
        monkeypatch.setattr(module, "load_profile", lambda name: profile)
    return profile


@pytest.fixture
def fast_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are made as the benchmarks make them; other tests are left as they were."""
    monkeypatch.setattr(training, "speedups", fast.Fast())


# --- The study's loop and ours ----------------------------------------------------------------


def test_the_studys_epoch_trains_on_every_image_once_and_validates_on_others(sample):
    network = Spy()
    before = network.layers[1].weight.detach().clone()
    data = replace(
        sample,
        train_images=sample.train_images[:250],
        train_labels=sample.train_labels[:250],
        validation_images=sample.validation_images[:120],
        validation_labels=sample.validation_labels[:120],
    )
    assert min(bench.study_epoch(network, data, 100, torch.device("cpu"))) > 0
    batches = [(True, 100), (True, 100), (True, 50), (False, 100), (False, 20)]
    assert network.shapes == [(training, count, 1, 28, 28) for training, count in batches]
    assert not torch.equal(before, network.layers[1].weight)


@pytest.mark.parametrize("model", bench.STUDY_NETWORKS)
def test_the_studys_network_of_torchs_own_layers_computes_the_same(sample, model, fast_layers):
    parameters = bench.with_epochs(load_profile("original").models[model], 1)
    classifier = build(model, parameters).fit(sample)
    network = classifier.network_.eval()
    batch = classifier.inputs(sample.test_images)
    torch.testing.assert_close(bench.torchs_own(network).eval()(batch), network(batch))


def test_both_loops_are_timed_on_the_studys_networks(sample, monkeypatch, fast_layers):
    timed, lines = [], []

    def note(network, data, batch_size, device):
        assert {type(layer).__module__.split(".")[0] for layer in network} == {"torch"}
        weights = sum(parameter.numel() for parameter in network.parameters())
        timed.append((weights, len(data.train_labels), len(data.validation_labels), batch_size))
        return 30.0, 10.0

    monkeypatch.setattr(bench, "study_epoch", note)
    seconds = bench.compare_loops(sample, lines.append)
    assert seconds == {"mlp": 30.0, "cnn": 30.0}
    assert timed == [(244_522, 1_800, 200, 128)] * 3 + [(61_330, 1_800, 200, 128)] * 3
    for line in lines:
        assert "1,800 images" in line
        assert numbers(line, "loop") == [30]
        assert numbers(line, "on 200 more:") == [40]
        ours, ratios = numbers(line, "ours"), numbers(line, "ratio")
        assert ratios == pytest.approx([30 / ours[0], 40 / ours[1]], rel=0.5)
        assert ours[1] >= ours[0]


@pytest.mark.parametrize(
    ("accuracy", "found"), [(0.1, "reaches the study's accuracy, 0.1, in"), (1.0, "does not reach")]
)
def test_the_whole_training_is_compared_with_the_studys_epochs(
    small, profile, monkeypatch, accuracy, found
):
    monkeypatch.setattr(bench, "STUDY_ACCURACY", {"mlp": accuracy})
    lines = []
    bench.compare_training(small, {"mlp": 100.0}, lines.append)
    assert len(lines) == 1
    assert found in lines[0]
    assert "nan" not in lines[0]
    assert numbers(lines[0], "recipe takes") == [100 * TINY["recipe"]["epochs"]]


# --- Beside a busy core -----------------------------------------------------------------------


def neighbours() -> list[psutil.Process]:
    """The processes that this one keeps a core busy with."""
    return [one for one in psutil.Process().children() if bench.NEIGHBOUR in one.cmdline()]


def test_fits_are_timed_alone_and_beside_a_busy_core_in_turns(sample, monkeypatch):
    seconds = {"as it comes": (2.0, 30.0), "passive": (2.5, 3.0), "spin 1000": (2.2, 4.4)}
    fitted, lines = [], []

    def fit_alone(model, parameters, data, waiting):
        policy = next(name for name, one in bench.POLICIES.items() if one == waiting)
        busy = len(neighbours())
        fitted.append((model, len(data.train_labels), policy, busy))
        assert parameters.get("recipe", {"epochs": 1})["epochs"] == 1
        assert parameters.get("n_estimators", 7) == 7
        first_round = len(fitted) % 12 in range(1, 7)
        return seconds[policy][busy] + 10 * first_round, 5.0

    monkeypatch.setattr(bench, "fit_alone", fit_alone)
    models = {"mlp": (500, {}), "xgboost": (300, {"n_estimators": 7})}
    table = bench.beside_a_busy_core(sample, models, lines.append)
    turns = [(policy, busy) for policy in bench.POLICIES for busy in (0, 1)]
    expected = [
        (model, images, *turn) for model, (images, _) in models.items() for turn in 2 * turns
    ]
    assert fitted == expected
    assert list(zip(table["model"], table["policy"], strict=True)) == [
        (model, policy) for model in models for policy in seconds
    ]
    assert [*zip(table["alone"], table["busy"], strict=True)] == 2 * list(seconds.values())
    assert table["ratio"].tolist() == pytest.approx(2 * [15, 1.2, 2])
    assert table["cost"].tolist() == pytest.approx(2 * [1, 1.25, 1.1])
    for line, row in zip(lines, table.itertuples(), strict=True):
        assert line.startswith(f"{row.model}, threads {row.policy}: ")
        assert numbers(line, "alone") == [row.alone]
        assert numbers(line, "busy core") == [row.busy]
        assert numbers(line, "ratio") == [pytest.approx(row.ratio)]
        assert numbers(line, "as it comes") == [pytest.approx(row.cost)]
    assert not neighbours()


def test_a_busy_neighbour_keeps_a_core_busy_and_is_gone_afterwards_whatever_happens():
    with bench.neighbour(False):
        assert not neighbours()
    with pytest.raises(RuntimeError, match="a fit failed"), bench.neighbour(True):
        (process,) = neighbours()
        assert eventually(lambda: process.cpu_times().user > 0.1)
        raise RuntimeError("a fit failed")
    assert not process.is_running()


def test_a_busy_neighbour_ends_with_its_caller():
    caller = ["sh", "-c", '"$0" -c "$1" $$ >&2 & echo $!', sys.executable, bench.NEIGHBOUR]
    done = subprocess.run(caller, stdout=subprocess.PIPE, check=True, text=True)
    pid = int(done.stdout)

    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    assert eventually(ended)


@pytest.mark.skipif(sys.platform != "linux", reason="needs GNU's OpenMP, which tells its settings")
@pytest.mark.parametrize(
    ("own", "waiting", "spins"),
    [
        ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "1000"}, "1000"),
        pytest.param({}, None, "1000", marks=pytest.mark.slow),
        pytest.param({"GOMP_SPINCOUNT": "77"}, None, "77", marks=pytest.mark.slow),
        pytest.param({"OMP_WAIT_POLICY": "passive"}, {}, "300000", marks=pytest.mark.slow),
    ],
    ids=["a policy", "as a fit's", "as a user's", "as it comes"],
)
def test_a_policy_of_waiting_reaches_the_libraries_of_a_fit(
    small, monkeypatch, capfd, own, waiting, spins
):
    for name in bench.OWN_POLICIES:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "verbose")  # each OpenMP library tells as it is loaded
    before = dict(os.environ)
    seconds, _ = bench.fit_alone("xgboost", {"n_estimators": 1}, small, waiting)
    assert seconds > 0
    told = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", capfd.readouterr().err)
    assert len(told) >= 2  # torch's and XGBoost's
    assert set(told) == {spins}
    assert dict(os.environ) == before


# --- Growth -----------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [1, 2])
def test_growth_finds_the_power_of_the_number_of_images(sample, profile, monkeypatch, power):
    fitted = []

    def fit_alone(model, parameters, data):
        fitted.append((parameters["recipe"]["epochs"], len(data.train_labels)))
        assert len(data.train_images) == len(data.train_labels)
        return len(data.train_labels) ** power, 7.0

    monkeypatch.setattr(bench, "fit_alone", fit_alone)
    lines = []
    powers = bench.growth(sample, ["mlp"], (100, 400, 1600), lines.append)
    assert powers == pytest.approx({"mlp": power})
    assert fitted == [(1, 100), (1, 400), (1, 1600)]
    assert f"the power {power}.00" in lines[0]
    assert lines[0].count("7 MB") == 3


@pytest.mark.slow
def test_a_fit_in_a_process_of_its_own_needs_the_memory_that_its_images_need(sample):
    many = replace(
        sample,
        train_images=np.tile(sample.train_images, (20, 1, 1)),
        train_labels=np.tile(sample.train_labels, 20),
    )
    _, little = bench.fit_alone("decision_tree", {"max_depth": 3}, sample)
    seconds, much = bench.fit_alone("decision_tree", {"max_depth": 3}, many)
    assert seconds > 0
    features = 4 * many.train_images.nbytes / 2**20  # float32, where a pixel is a byte
    assert much - little > 0.9 * features


# --- The command line -------------------------------------------------------------------------


@pytest.fixture
def parts(sample: Dataset, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Puts notes in the place of the benchmark's parts; what ran, in order."""
    ran: list[tuple[Any, ...]] = []

    def beside_a_busy_core(data, models=bench.BUSY_FITS, say=print):
        ran.append(("busy", *models))

    def compare_loops(data, say):
        ran.append(("loops", len(data.validation_labels)))
        return {"mlp": 1.0}

    def compare_training(data, seconds, say):
        ran.append(("training", seconds["mlp"], len(data.validation_labels)))

    def growth(data, models, say):
        ran.append(("growth", len(data.train_labels), *models))

    def data(profile, say):
        return bench.load_dataset("sample", profile.validation_fraction)

    for part in (beside_a_busy_core, compare_loops, compare_training, growth):
        monkeypatch.setattr(bench, part.__name__, part)
    monkeypatch.setattr(Profile, "data", data)
    load_dataset = bench.load_dataset
    monkeypatch.setattr(
        bench, "load_dataset", lambda name, *fraction, **say: load_dataset("sample", *fraction)
    )
    monkeypatch.setattr(training, "speedups", training.speedups)  # as it was, afterwards
    return ran


def test_the_benchmark_runs_all_its_parts_and_no_transfer_model_grows(parts, capsys):
    bench.main([])
    assert "threads" in capsys.readouterr().out
    *others, (growth, count, *grown) = parts
    assert others == [("busy", *bench.BUSY_FITS), ("loops", 400), ("training", 1.0, 200)]
    # validation images are trained on here, as accuracy is not asked for
    assert (growth, count) == ("growth", 2_000)
    assert {"decision_tree", "mlp", "cnn"} <= set(grown)
    assert "efficientnet_lite0" not in grown


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        (["busy"], ("busy", *bench.BUSY_FITS)),
        (["busy", "cnn", "mlp"], ("busy", "cnn", "mlp")),
        (["vgg16", "mlp"], ("growth", 2_000, "vgg16", "mlp")),
    ],
)
def test_a_part_of_the_benchmark_runs_alone(parts, arguments, ran):
    bench.main(arguments)
    assert parts == [ran]


@pytest.mark.parametrize("arguments", [["mpl"], ["busy", "mpl"]])
def test_the_benchmark_names_the_nearest_model_to_one_that_it_lacks(parts, arguments):
    with pytest.raises(SystemExit, match=r"'mpl'.*did you mean 'mlp'"):
        bench.main(arguments)
    assert not parts


def test_the_speedrun_trains_every_seed_and_prints_the_distribution(profile, fast_layers):
    lines = []
    table = speedrun.run_speedrun("any", lines.append)
    runs = sorted(zip(table["model"], table["seed"], strict=True))
    assert runs == [("cnn", 1), ("cnn", 2), ("mlp", 1), ("mlp", 2)]
    assert isinstance(table, pd.DataFrame)
    assert table["accuracy"].between(0, 1).all()
    assert (table["train_seconds"] > 0).all()
    summary = next(line for line in lines if line.startswith("cnn: "))
    accuracy = table[table["model"] == "cnn"]["accuracy"]
    told = f"accuracy {accuracy.mean():.4f} ± {accuracy.std():.4f} over 2 seeds"
    assert told in summary


# --- Other people's loops ---------------------------------------------------------------------


@pytest.mark.parametrize("peer", peers.PEERS)
def test_a_peers_epoch_trains_on_every_image_once(small, peer):
    recipe = build("mlp", TINY).recipe
    network = Spy()
    seconds = peers.PEERS[peer](network, peers.as_documented(small, recipe), recipe)
    assert seconds > 0
    seen = [shape for shape in network.shapes if shape[0]]
    assert sum(shape[1] for shape in seen) == len(small.train_labels) == 300
    assert {shape[2:] for shape in seen} == {(1, 28, 28)}


def test_peers_train_the_network_that_we_train(small):
    classifier = build("cnn", {"widths": [8, 8], **TINY}).fit(small)
    images = peers.as_documented(small, classifier.recipe_)
    network = peers.plain_network(classifier, torch.stack([images[0][0], images[1][0]]))
    shapes = [tuple(one.shape) for one in network.parameters()]
    assert shapes == [tuple(one.shape) for one in classifier.network_.parameters()]
    assert {type(one).__module__.partition(".")[0] for one in network.modules()} <= {
        "torch",
        "fmlib",
    }


def test_ratios_to_peers_are_told_by_model(small, profile, fast_layers):
    said: list[str] = []
    seconds = peers.compare_peers(small, ["mlp"], turns=1, say=said.append)
    assert {*seconds["mlp"]} == {"ours", *peers.PEERS}
    assert re.search(r"mlp, an epoch of 300 images: ours .*skorch .*ratio .*Lightning", said[0])


# --- Where the time goes ----------------------------------------------------------------------


def test_the_time_of_a_fit_is_split_by_what_it_is_spent_on(small, profile, monkeypatch):
    monkeypatch.setattr(steps, "TENTH", 100)
    table = steps.measure_profile(small, ["mlp", "cnn"], say=str).set_index("model")
    assert [*table.columns] == [*steps.COLUMNS][1:]
    assert table.notna().all(axis=None) and (table > 0).all(axis=None)
    assert (table["peak_share"] < 100).all()


def test_a_model_without_epochs_has_only_what_it_spends(small, monkeypatch, profile):
    trees = profile.model_copy(update={"models": {"decision_tree": {"max_depth": 3}}})
    monkeypatch.setattr(steps, "load_profile", lambda name: trees)
    table = steps.measure_profile(small, ["decision_tree"], say=str)
    assert table["steps"][0] > 0 and table["augmentation"].isna().all()
