"""Time the original study's loop and ours, fits beside a busy core, and how costs grow with images.

Everything that is compared is timed in one run, on the training images; ratios travel between
machines, seconds do not. ``python -m benchmarks.bench`` prints all of it. ``busy`` behind it prints
only fits beside a busy core, of all models that are tried or of those named next; names of models
print only how these grow.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms as tv_transforms

from fmlib import fast
from fmlib.data import Dataset, Part, TransformedDataset
from fmlib.device import OWN_POLICIES, WAITING_POLICY, Stopwatch, use_available_cores
from fmlib.measure import describe_machine, measure
from fmlib.models.base import Dropout, Network
from fmlib.models.registry import build, model_class, nearest
from fmlib.profiles import load_dataset, load_profile
from fmlib.transforms import channels_first

Say = Callable[[str], None]
Seconds = NDArray[np.float64]

SIZES = (10_000, 20_000, 40_000, 60_000)
STUDY_NETWORKS = {"mlp": "mlp", "study_cnn": "cnn"}  # the study's network -> the cpu profile's
STUDY_ACCURACY = {"mlp": 0.87, "cnn": 0.89}  # as published

# how OpenMP's threads may wait for work, and what is fitted to see what that costs
AS_IT_COMES = "as it comes"
POLICIES: dict[str, dict[str, str]] = {
    AS_IT_COMES: {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spin 1000": WAITING_POLICY,
}
BUSY_FITS: dict[str, tuple[int, dict[str, Any]]] = {  # model -> images, changes to profile cpu's
    "mlp": (20_000, {}),
    "cnn": (5_000, {}),
    "resnet34": (3_000, {"weights": "none"}),
    "xgboost": (5_000, {"n_estimators": 40}),
    "random_forest": (10_000, {"n_estimators": 40}),
}
# keeps a core busy for as long as its caller lives, whose process id it is given
NEIGHBOUR = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(100_000):
        pass
"""


# --- The study's loop and ours ----------------------------------------------------------------


def study_epoch(
    network: nn.Module, data: Dataset, batch_size: int, device: torch.device
) -> tuple[float, float]:
    """Seconds of training and of validation in one epoch as the study ran it.

    Every image goes through PIL, by itself; those held out are augmented like the others; Adam
    learns at 0.001.
    """
    train = _study_loader(data.train, batch_size, shuffle=True)
    validation = _study_loader(data.validation, batch_size, shuffle=False)
    network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    start = time.perf_counter()
    for images, labels in train:
        loss = F.cross_entropy(network(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # the study's progress bar read the loss every step
    trained = time.perf_counter()
    network.eval()
    with torch.no_grad():
        for images, labels in validation:
            logits, wanted = network(images.to(device)), labels.to(device)
            F.cross_entropy(logits, wanted).item()
            (logits.argmax(1) == wanted).sum().item()
    return trained - start, time.perf_counter() - trained


def _study_loader(part: Part, batch_size: int, shuffle: bool) -> DataLoader[tuple[Tensor, int]]:
    steps = [
        Image.fromarray,
        tv_transforms.RandomHorizontalFlip(),
        tv_transforms.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5),
        tv_transforms.ToTensor(),
    ]
    images, labels = part
    base = list(zip(images, labels.tolist(), strict=True))
    augmented = TransformedDataset(base, tv_transforms.Compose(steps))
    return DataLoader(augmented, batch_size, shuffle=shuffle)


def torchs_own(network: nn.Sequential) -> nn.Sequential:
    """A copy of which dropout is torch's own, as the study had it."""
    copied = copy.deepcopy(network)
    for position, layer in enumerate(copied):
        if isinstance(layer, Dropout):
            copied[position] = nn.Dropout(layer.p)
    return copied


def compare_loops(data: Dataset, say: Say = print) -> dict[str, float]:
    """The study's seconds of training an epoch, by model of the cpu profile.

    Tells the ratio to ours, with the study's networks, batch size and augmentation: of training
    alone, and of the epoch with its validation, which the study counted too.
    """
    profile, seconds = load_profile("original"), {}
    count, held_out = len(data.train_labels), len(data.validation_labels)
    for model, name in STUDY_NETWORKS.items():
        parameters = with_epochs(profile.models[model], 1)
        (our, our_whole), (their, their_whole) = _both_loops(model, parameters, data)
        seconds[name] = float(their)
        say(
            f"{model} of the study, an epoch of {count:,} images: its loop {their:.2f} s, "
            f"ours {our:.2f} s, ratio {their / our:.1f}; with validation on {held_out:,} more: "
            f"{their_whole:.2f} s, ours {our_whole:.2f} s, ratio {their_whole / our_whole:.1f}"
        )
    return seconds


def _both_loops(
    model: str, parameters: Mapping[str, Any], data: Dataset
) -> tuple[Seconds, Seconds]:
    """Our seconds of an epoch and the study's, each without and with validation.

    The least of three, in turns, so that a noisy neighbour troubles both.
    """
    ours, theirs = [], []
    for _ in range(3):
        classifier = _trained(model, parameters, data)
        ours.append((classifier.train_seconds_, _validation_seconds(classifier, data)))
        network = torchs_own(cast(nn.Sequential, classifier.network_))
        batch_size = classifier.recipe.batch_size
        theirs.append(study_epoch(network, data, batch_size, classifier.device_))
    return np.cumsum(ours, axis=1).min(axis=0), np.cumsum(theirs, axis=1).min(axis=0)


def _trained(model: str, parameters: Mapping[str, Any], data: Dataset) -> Network:
    classifier = build(model, parameters).fit(data)
    assert isinstance(classifier, Network)
    return classifier


def _validation_seconds(classifier: Network, data: Dataset) -> float:
    """Seconds that validation takes after an epoch; a fit does not tell."""
    images, labels = (torch.from_numpy(array).to(classifier.device_) for array in data.validation)
    watch = Stopwatch(classifier.device_)
    with watch:
        classifier.trainer_.validate(channels_first(images), labels)
    return watch.seconds


def compare_training(data: Dataset, study_seconds: Mapping[str, float], say: Say = print) -> None:
    """The study's whole training against ours: until ours is as accurate, and as a whole.

    ``study_seconds``: the study's seconds an epoch, by model of the cpu profile.
    """
    epochs = load_profile("original").models["mlp"]["recipe"]["epochs"]
    for name, per_epoch in study_seconds.items():
        study = epochs * per_epoch
        classifier = _trained(name, load_profile("cpu").models[name], data)
        history, wanted = pd.DataFrame(classifier.history_), STUDY_ACCURACY[name]
        so_far, accuracy = history["train_seconds"].cumsum(), history["validation_accuracy"]
        whole, final = so_far.iloc[-1], accuracy.iloc[-1]
        reaches = f"does not reach the study's accuracy, {wanted}"
        if (accuracy >= wanted).any():
            enough = so_far[accuracy >= wanted].min()
            cost = f"in {enough:.1f} s of training, ratio {study / enough:.1f}"
            reaches = f"reaches the study's accuracy, {wanted}, {cost}"
        say(
            f"{name} of profile cpu {reaches}; it ends at {final:.4f} (validation) after "
            f"{whole:.1f} s, ratio {study / whole:.1f}; the study's recipe takes {study:.0f} s here"
        )


# --- Beside a busy core -----------------------------------------------------------------------


def beside_a_busy_core(
    data: Dataset, models: Mapping[str, tuple[int, dict[str, Any]]] = BUSY_FITS, say: Say = print
) -> pd.DataFrame:
    """Seconds of training alone and beside a process that keeps one core busy.

    A row a model and policy of waiting: columns model, policy, alone, busy (seconds, the least of
    two), ratio (busy to alone) and cost (alone, to alone as it comes). Networks train for one
    epoch.
    """
    rows = []
    for model, (images, changes) in models.items():
        parameters = with_epochs(load_profile("cpu").models[model], 1) | changes
        seconds = _in_turns(model, parameters, first(data, images))
        for policy in POLICIES:
            alone, busy = seconds[policy, False], seconds[policy, True]
            ratio, cost = busy / alone, alone / seconds[AS_IT_COMES, False]
            rows.append((model, policy, alone, busy, ratio, cost))
            say(
                f"{model}, threads {policy}: alone {alone:.2f} s, beside a busy core {busy:.2f} s, "
                f"ratio {ratio:.1f}; alone to alone as it comes {cost:.2f}"
            )
    return pd.DataFrame(rows, columns=["model", "policy", "alone", "busy", "ratio", "cost"])


def _in_turns(
    model: str, parameters: Mapping[str, Any], data: Dataset
) -> dict[tuple[str, bool], float]:
    """Seconds of training, the least of two, by policy and by whether a core was busy."""
    least: dict[tuple[str, bool], float] = {}
    for _ in range(2):
        for policy, variables in POLICIES.items():
            for busy in (False, True):
                with neighbour(busy):
                    seconds, _ = fit_alone(model, parameters, data, variables)
                least[policy, busy] = min(seconds, least.get((policy, busy), seconds))
    return least


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that keeps one core busy during the block, if wanted."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR, str(os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()


# --- Growth -----------------------------------------------------------------------------------


def growth(
    data: Dataset, models: Iterable[str], sizes: Sequence[int] = SIZES, say: Say = print
) -> dict[str, float]:
    """The exponent with which training time grows with the number of images, by model.

    1 is linear, 2 a square. Networks train for one epoch. ``data`` must have as many training
    images as the largest size.
    """
    exponents = {}
    for model in models:
        parameters = with_epochs(load_profile("cpu").models[model], 1)
        seconds, told = [], []
        for size in sizes:
            took, memory = fit_alone(model, parameters, first(data, size))
            seconds.append(took)
            told.append(f"{size:,} images {took:.1f} s and {memory:.0f} MB")
        exponents[model] = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
        say(f"{model}: {', '.join(told)}; time grows with the power {exponents[model]:.2f}")
    return exponents


# --- One fit ----------------------------------------------------------------------------------


def fit_alone(
    model: str,
    parameters: Mapping[str, Any],
    data: Dataset,
    waiting: Mapping[str, str] | None = None,
) -> tuple[float, float]:
    """Seconds of training, and MiB of RAM over the baseline and of video memory, of one fit.

    It has a process of its own, whose memory no other fit has used. ``waiting``: the environment's
    variables that say how its threads wait for work, None being those of every fit.
    """
    own = {name: os.environ[name] for name in OWN_POLICIES if name in os.environ}
    policy = own or WAITING_POLICY if waiting is None else waiting
    _wait_by(policy)  # a new process loads its libraries, which read this once, after it started
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(_fit, model, parameters, data).result()
    finally:
        _wait_by(own)


def _wait_by(policy: Mapping[str, str]) -> None:
    """Processes that start from now on have these variables, and no others, of how threads wait."""
    for name in OWN_POLICIES:
        os.environ.pop(name, None)
    os.environ.update(policy)


def _fit(model: str, parameters: Mapping[str, Any], data: Dataset) -> tuple[float, float]:
    fast.enable()
    warm_up = first(data, 500)  # starts threads, and loads what is loaded late
    measure(build(model, parameters), warm_up)
    measured = measure(build(model, parameters), data)
    memory = measured["peak_rss_mb"] - measured["rss_baseline_mb"]
    return measured["train_seconds"], memory + (measured["peak_vram_mb"] or 0.0)


def first(data: Dataset, size: int) -> Dataset:
    """The first ``size`` training images, and few others, which are not timed."""
    return replace(
        data,
        train_images=data.train_images[:size],
        train_labels=data.train_labels[:size],
        validation_images=data.validation_images[:500],
        validation_labels=data.validation_labels[:500],
        test_images=data.test_images[:500],
        test_labels=data.test_labels[:500],
    )


def with_epochs(parameters: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """The same parameters with so many epochs in every recipe."""
    changed = dict(parameters)
    for name, value in parameters.items():
        if isinstance(value, Mapping) and "epochs" in value:
            changed[name] = {**value, "epochs": epochs}
    return changed


# --- The command line -------------------------------------------------------------------------


def run_bench(say: Say = print) -> None:
    """Print the machine, fits beside a busy core, both loops, and growth but of transfer models."""
    begin(say)
    data = load_dataset("fashion_mnist", say=say)
    beside_a_busy_core(data, say=say)
    compare_training(data, compare_loops(load_profile("original").data(say), say), say)
    models = load_profile("cpu").models
    chosen = [name for name in models if model_class(name).family != "transfer"]
    growth(_all_trained_on(data), chosen, say=say)


def run_busy(models: Iterable[str] = (), say: Say = print) -> None:
    """Print the machine and fits beside a busy core, of these models or else of all."""
    chosen = {name: BUSY_FITS[_known(name, BUSY_FITS)] for name in models}
    begin(say)
    beside_a_busy_core(load_dataset("fashion_mnist", say=say), chosen or BUSY_FITS, say)


def run_growth(models: Iterable[str], say: Say = print) -> None:
    """Print the machine and these models' growth."""
    chosen = [_known(name, load_profile("cpu").models) for name in models]
    begin(say)
    growth(_all_trained_on(load_dataset("fashion_mnist", say=say)), chosen, say=say)


def begin(say: Say) -> None:
    """Compute as a fit does, and say on what."""
    fast.enable()
    cores = use_available_cores()
    say(f"on {describe_machine({})['device_name']}, torch with {cores} threads")


def _known(model: str, known: Iterable[str]) -> str:
    if model not in known:
        sys.exit(f"error: no model {model!r} here; {nearest(model, known)}")
    return model


def _all_trained_on(data: Dataset) -> Dataset:
    """The data with validation images among those trained on: nobody asks for accuracy here."""
    return replace(
        data,
        train_images=np.concatenate([data.train_images, data.validation_images]),
        train_labels=np.concatenate([data.train_labels, data.validation_labels]),
        validation_images=data.test_images[:500],
        validation_labels=data.test_labels[:500],
    )


def main(arguments: Sequence[str]) -> None:
    """Run the part that the command line names, else everything."""
    if not arguments:
        run_bench()
    elif arguments[0] == "busy":
        run_busy(arguments[1:])
    else:
        run_growth(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
