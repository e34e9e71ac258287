"""Time the original study's training loop and ours, and how each model's cost grows with the number of images.

Everything that is compared is timed in one run, on the training images; ratios travel between machines, seconds do not.
``python -m benchmarks.bench`` prints all of it; with names of models, it is their growth that is measured.
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
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms as tv_transforms

from fmlib import fast
from fmlib.data import Dataset, Images, Labels, TransformedDataset
from fmlib.device import OWN_POLICIES, WAITING_POLICY, Stopwatch, default_device
from fmlib.measure import describe_machine, measure
from fmlib.models.base import Dropout, Network
from fmlib.models.registry import build, model_class
from fmlib.profiles import load_dataset, load_profile
from fmlib.transforms import channels_first

SIZES = (10_000, 20_000, 40_000, 60_000)
STUDY_NETWORKS = {"mlp": "mlp", "study_cnn": "cnn"}  # the study's network -> the cpu profile's
STUDY_ACCURACY = {"mlp": 0.87, "cnn": 0.89}  # as published
# how OpenMP's threads may wait, and what is trained to see what that costs: model -> images, changes
POLICIES = {"as it comes": {}, "passive": WAITING_POLICY, "spin 1000": {"GOMP_SPINCOUNT": "1000"}}
BUSY_FITS: dict[str, tuple[int, dict[str, Any]]] = {
    "mlp": (20_000, {}),
    "cnn": (5_000, {}),
    "resnet34": (3_000, {"weights": "none"}),
    "xgboost": (5_000, {"n_estimators": 40}),
    "random_forest": (10_000, {"n_estimators": 40}),
}


def study_epoch(
    network: nn.Module,
    data: Dataset,
    batch_size: int,
    device: torch.device,
) -> tuple[float, float]:
    """Seconds of training and of validation in one epoch as the study ran it: every image through PIL, by itself, those held
    out augmented like the others, and Adam at 0.001."""
    augment = tv_transforms.Compose(
        [
            tv_transforms.RandomHorizontalFlip(),
            tv_transforms.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5),
            tv_transforms.ToTensor(),
        ]
    )
    train, validation = (
        DataLoader(TransformedDataset(_pictures(*part), augment), batch_size, shuffle=shuffle)
        for part, shuffle in ((data.train, True), (data.validation, False))
    )
    optimizer = torch.optim.Adam(network.to(device).train().parameters(), lr=0.001)
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


def _pictures(images: Images, labels: Labels) -> list[tuple[Image.Image, int]]:
    """Pairs of a picture and its label, as torchvision's data sets have them."""
    return [(Image.fromarray(one), int(label)) for one, label in zip(images, labels, strict=True)]


def torchs_own(network: nn.Sequential) -> nn.Sequential:
    """A copy of which dropout is torch's own, as the study had it."""
    copied = copy.deepcopy(network)
    for position, layer in enumerate(copied):
        if isinstance(layer, Dropout):
            copied[position] = nn.Dropout(layer.p)
    return copied


def compare_loops(data: Dataset, say: Callable[[str], None] = print) -> dict[str, float]:
    """The study's seconds of training an epoch, by model of the cpu profile; tells the ratio to ours, with the study's
    networks, batch size and augmentation, timed in turns: of training alone, and of the epoch with its validation, which the
    study counted too."""
    profile, seconds, device = load_profile("original"), {}, default_device()
    count, held_out = len(data.train_labels), len(data.validation_labels)
    for model, name in STUDY_NETWORKS.items():
        parameters = with_epochs(profile.models[model], 1)
        ours, theirs = [], []
        for _ in range(3):  # alternating, so that a noisy neighbour troubles both
            classifier = build(model, parameters).fit(data)
            assert isinstance(classifier, Network)
            ours.append((classifier.train_seconds_, _validation_seconds(classifier, data)))
            network = torchs_own(cast(nn.Sequential, classifier.network_))
            theirs.append(study_epoch(network, data, classifier.recipe.batch_size, device))
        their, their_whole = np.cumsum(theirs, axis=1).min(axis=0)
        our, our_whole = np.cumsum(ours, axis=1).min(axis=0)
        seconds[name] = float(their)
        say(
            f"{model} of the study, an epoch of {count:,} images: its loop {their:.2f} s, ours {our:.2f} s, "
            f"ratio {their / our:.1f}; with validation on {held_out:,} more: {their_whole:.2f} s, ours {our_whole:.2f} s, "
            f"ratio {their_whole / our_whole:.1f}"
        )
    return seconds


def _validation_seconds(classifier: Network, data: Dataset) -> float:
    """Seconds that validation takes after an epoch; a fit does not tell."""
    images, labels = (torch.from_numpy(array).to(classifier.device_) for array in data.validation)
    with (watch := Stopwatch(classifier.device_)):
        classifier.trainer_.validate(channels_first(images), labels)
    return watch.seconds


def compare_training(
    data: Dataset, study_seconds: dict[str, float], say: Callable[[str], None] = print
) -> None:
    """The study's whole training, from its seconds an epoch, against ours until it is as accurate, and as a whole."""
    for name, per_epoch in study_seconds.items():
        study = load_profile("original").models["mlp"]["recipe"]["epochs"] * per_epoch
        classifier = build(name, load_profile("cpu").models[name]).fit(data)
        history, reached = pd.DataFrame(classifier.history_), STUDY_ACCURACY[name]
        so_far = history["train_seconds"].cumsum()
        enough = so_far[history["validation_accuracy"] >= reached].min()
        whole, final = so_far.iloc[-1], history["validation_accuracy"].iloc[-1]
        reaches = (
            f"does not reach the study's accuracy, {reached}"
            if np.isnan(enough)
            else (
                f"reaches the study's accuracy, {reached}, in {enough:.1f} s of training, ratio {study / enough:.1f}"
            )
        )
        say(
            f"{name} of profile cpu {reaches}; it ends at {final:.4f} (validation) after {whole:.1f} s, "
            f"ratio {study / whole:.1f}; the study's recipe takes {study:.0f} s here"
        )


def growth(
    data: Dataset,
    models: Iterable[str],
    sizes: Sequence[int] = SIZES,
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """The exponent with which each model's training time grows with the number of images: 1 is linear, 2 a square.

    Networks train for one epoch. ``data`` must have as many training images as the largest size.
    """
    exponents = {}
    for model in models:
        parameters = with_epochs(load_profile("cpu").models[model], 1)
        costs = [fit_alone(model, parameters, _first(data, size)) for size in sizes]
        exponents[model] = float(
            np.polyfit(np.log(sizes), np.log([seconds for seconds, _ in costs]), 1)[0]
        )
        told = ", ".join(
            f"{size:,} images {seconds:.1f} s and {memory:.0f} MB"
            for size, (seconds, memory) in zip(sizes, costs, strict=True)
        )
        say(f"{model}: {told}; time grows with the power {exponents[model]:.2f}")
    return exponents


def fit_alone(model: str, parameters: Mapping[str, Any], data: Dataset) -> tuple[float, float]:
    """Seconds of training, and MiB of RAM over the baseline and of video memory, of one fit in a process of its own, whose
    memory no other fit has used."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_fit, model, parameters, data).result()


def _fit(model: str, parameters: Mapping[str, Any], data: Dataset) -> tuple[float, float]:
    fast.enable()
    measure(
        build(model, parameters), _first(data, 500)
    )  # starts threads and loads what is loaded late
    measured = measure(build(model, parameters), data)
    memory = measured["peak_rss_mb"] - measured["rss_baseline_mb"]
    return measured["train_seconds"], memory + (measured["peak_vram_mb"] or 0)


def _first(data: Dataset, size: int) -> Dataset:
    """The first ``size`` training images, and few others, which are not timed."""
    return replace(
        data,
        train_images=data.train_images[:size],
        train_labels=data.train_labels[:size],
        test_images=data.test_images[:500],
        test_labels=data.test_labels[:500],
    )


def with_epochs(parameters: dict[str, Any], epochs: int) -> dict[str, Any]:
    """The same parameters with so many epochs in every recipe."""
    return {
        key: value | {"epochs": epochs} if isinstance(value, dict) and "epochs" in value else value
        for key, value in parameters.items()
    }


# --- Beside a busy core -----------------------------------------------------------------------


def beside_a_busy_core(
    data: Dataset,
    models: Mapping[str, tuple[int, dict[str, Any]]] = BUSY_FITS,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Seconds of training alone and beside a process that keeps one core busy, in turns.

    A row a model and policy of waiting: columns model, policy, alone, busy (seconds, the least of
    two). Prints how many times longer a fit takes beside the busy core, and how much a policy costs
    on a quiet machine.
    """
    rows = []
    for model, (images, change) in models.items():
        parameters = with_epochs(load_profile("cpu").models[model], 1) | change
        part = _first(data, images)
        seconds: dict[tuple[str, bool], list[float]] = {}
        for _ in range(2):
            for policy, variables in POLICIES.items():
                for busy in (False, True):
                    with environment(variables), neighbour(busy):
                        took, _ = fit_alone(model, parameters, part)
                    seconds.setdefault((policy, busy), []).append(took)
        least = {key: min(values) for key, values in seconds.items()}
        for policy in POLICIES:
            alone, busy_seconds = least[policy, False], least[policy, True]
            cost = alone / least["as it comes", False]
            rows.append((model, policy, alone, busy_seconds))
            say(
                f"{model}, threads {policy}: alone {alone:.2f} s, beside a busy core "
                f"{busy_seconds:.2f} s, ratio {busy_seconds / alone:.1f}; alone, {cost:.2f} of the "
                "time as it comes"
            )
    return pd.DataFrame(rows, columns=["model", "policy", "alone", "busy"])


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Processes started in the block wait as ``variables`` say, and not as the user's own do."""
    before = dict(os.environ)
    for name in OWN_POLICIES:
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that keeps one core busy during the block, if wanted."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def run_bench(models: Iterable[str] = (), say: Callable[[str], None] = print) -> None:
    """Print the machine, both loops and their ratios, and every model's growth; of the transfer models only those named."""
    fast.enable()
    data = load_dataset("fashion_mnist")
    as_study = load_profile("original").data()
    machine = describe_machine({})
    say(f"on {machine['device_name']}, torch with {machine['cores']} threads")
    beside_a_busy_core(data, say=say)
    compare_training(data, compare_loops(as_study, say), say)
    everything = replace(
        data,
        train_images=np.concatenate([data.train_images, data.validation_images]),
        train_labels=np.concatenate([data.train_labels, data.validation_labels]),
        validation_images=data.test_images[:500],
        validation_labels=data.test_labels[:500],
    )
    chosen = list(models) or [
        name for name in load_profile("cpu").models if model_class(name).family != "transfer"
    ]
    growth(everything, chosen, say=say)


if __name__ == "__main__":
    run_bench(sys.argv[1:])
