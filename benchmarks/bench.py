"""Time the original study's training loop and ours, and how each model's cost grows with the number of images.

Everything that is compared is timed in one run, on the training images; ratios travel between machines, seconds do not.
``python -m benchmarks.bench`` prints all of it; with names of models, it is their growth that is measured.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms as tv_transforms

from fmlib.data import DatasetName, ImageData, TransformedDataset, load_base, load_data
from fmlib.measure import describe_machine, measure
from fmlib.models.cnn import MaxPool
from fmlib.models.neural import Dropout, TorchClassifier
from fmlib.models.registry import build, entry
from fmlib.profiles import load_profile
from fmlib.training import Stopwatch, default_device

SIZES = (10_000, 20_000, 40_000, 60_000)
STUDY_NETWORKS = {"mlp": "mlp", "study_cnn": "cnn"}  # the study's network -> the cpu profile's
STUDY_ACCURACY = {"mlp": 0.87, "cnn": 0.89}  # as published


def study_epoch(
    network: nn.Module, dataset: DatasetName, count: int, held_out: int, batch_size: int, device: torch.device
) -> tuple[float, float]:
    """Seconds of training and of validation in one epoch as the study ran it: every image through PIL, by itself, those held
    out augmented like the others, and Adam at 0.001."""
    augment = tv_transforms.Compose([
        tv_transforms.RandomHorizontalFlip(),
        tv_transforms.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5),
        tv_transforms.ToTensor(),
    ])  # fmt: skip
    base = TransformedDataset(load_base(dataset, train=True), augment)
    train = DataLoader(Subset(base, range(count)), batch_size, shuffle=True)
    validation = DataLoader(Subset(base, range(count, count + held_out)), batch_size)
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


def torchs_own(network: nn.Sequential) -> nn.Sequential:
    """A copy of which dropout and pooling are torch's own layers, as the study had them, not this project's quicker ones."""
    copied = copy.deepcopy(network)
    for position, layer in enumerate(copied):
        if isinstance(layer, Dropout):
            copied[position] = nn.Dropout(layer.p)
        elif isinstance(layer, MaxPool):
            copied[position] = nn.MaxPool2d(layer.kernel_size)
    return copied


def compare_loops(data: ImageData, say: Callable[[str], None] = print) -> dict[str, float]:
    """The study's seconds of training an epoch, by model of the cpu profile; tells the ratio to ours, with the study's
    networks, batch size and augmentation, timed in turns: of training alone, and of the epoch with its validation, which the
    study counted too."""
    profile, seconds, device = load_profile("original"), {}, default_device()
    count, held_out = len(data.train_labels), len(data.validation_labels)
    for model, name in STUDY_NETWORKS.items():
        parameters = with_epochs(profile.models[model], 1)
        ours, theirs = [], []
        for _ in range(3):  # alternating, so that a noisy neighbour troubles both
            classifier = build(model, parameters)
            assert isinstance(classifier, TorchClassifier)
            classifier.fit(*data.train, data.validation)
            ours.append((classifier.train_seconds_, _validation_seconds(classifier, data)))
            network = torchs_own(cast(nn.Sequential, classifier.network_))
            theirs.append(study_epoch(network, data.dataset, count, held_out, classifier.recipe.batch_size, device))
        their, their_whole = np.cumsum(theirs, axis=1).min(axis=0)
        our, our_whole = np.cumsum(ours, axis=1).min(axis=0)
        seconds[name] = float(their)
        say(f"{model} of the study, an epoch of {count:,} images: its loop {their:.2f} s, ours {our:.2f} s, "
            f"ratio {their / our:.1f}; with validation on {held_out:,} more: {their_whole:.2f} s, ours {our_whole:.2f} s, "
            f"ratio {their_whole / our_whole:.1f}")
    return seconds


def _validation_seconds(classifier: TorchClassifier, data: ImageData) -> float:
    """Seconds that validation takes after an epoch; a fit does not tell."""
    images, labels = (torch.from_numpy(array).to(classifier.device_) for array in data.validation)
    with (watch := Stopwatch(classifier.device_)):
        classifier.template_.validate(images, labels)
    return watch.seconds


def compare_training(data: ImageData, study_seconds: dict[str, float], say: Callable[[str], None] = print) -> None:
    """The study's whole training, from its seconds an epoch, against ours until it is as accurate, and as a whole."""
    for name, per_epoch in study_seconds.items():
        study = load_profile("original").models["mlp"]["recipe"]["epochs"] * per_epoch
        classifier = build(name, load_profile("cpu").models[name]).fit(*data.train, data.validation)
        history, reached = pd.DataFrame(classifier.history_), STUDY_ACCURACY[name]
        so_far = history["train_seconds"].cumsum()
        enough = so_far[history["validation_accuracy"] >= reached].min()
        whole, final = so_far.iloc[-1], history["validation_accuracy"].iloc[-1]
        reaches = f"does not reach the study's accuracy, {reached}" if np.isnan(enough) else (
            f"reaches the study's accuracy, {reached}, in {enough:.1f} s of training, ratio {study / enough:.1f}"
        )  # fmt: skip
        say(f"{name} of profile cpu {reaches}; it ends at {final:.4f} (validation) after {whole:.1f} s, "
            f"ratio {study / whole:.1f}; the study's recipe takes {study:.0f} s here")


def growth(
    data: ImageData, models: Iterable[str], sizes: Sequence[int] = SIZES, say: Callable[[str], None] = print
) -> dict[str, float]:
    """The exponent with which each model's training time grows with the number of images: 1 is linear, 2 a square.

    Networks train for one epoch. ``data`` must have as many training images as the largest size.
    """
    exponents = {}
    for model in models:
        parameters = with_epochs(load_profile("cpu").models[model], 1)
        costs = [fit_alone(model, parameters, _first(data, size)) for size in sizes]
        exponents[model] = float(np.polyfit(np.log(sizes), np.log([seconds for seconds, _ in costs]), 1)[0])
        told = ", ".join(f"{size:,} images {seconds:.1f} s and {memory:.0f} MB"
                         for size, (seconds, memory) in zip(sizes, costs, strict=True))
        say(f"{model}: {told}; time grows with the power {exponents[model]:.2f}")
    return exponents


def fit_alone(model: str, parameters: Mapping[str, Any], data: ImageData) -> tuple[float, float]:
    """Seconds of training, and MiB of RAM over the baseline and of video memory, of one fit in a process of its own, whose
    memory no other fit has used."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_fit, model, parameters, data).result()


def _fit(model: str, parameters: Mapping[str, Any], data: ImageData) -> tuple[float, float]:
    measure(build(model, parameters), _first(data, 500))  # starts threads and loads what is loaded late
    measured = measure(build(model, parameters), data)
    return measured.train_seconds, measured.memory.over_baseline_mb + (measured.memory.peak_vram_mb or 0)


def _first(data: ImageData, size: int) -> ImageData:
    """The first ``size`` training images, and few others, which are not timed."""
    return replace(data, train_images=data.train_images[:size], train_labels=data.train_labels[:size],
                   test_images=data.test_images[:500], test_labels=data.test_labels[:500])  # fmt: skip


def with_epochs(parameters: dict[str, Any], epochs: int) -> dict[str, Any]:
    """The same parameters with so many epochs in every recipe."""
    return {
        key: value | {"epochs": epochs} if isinstance(value, dict) and "epochs" in value else value
        for key, value in parameters.items()
    }


def run_bench(models: Iterable[str] = (), say: Callable[[str], None] = print) -> None:
    """Print the machine, both loops and their ratios, and every model's growth; of the transfer models only those named."""
    data, as_study = load_data("full"), load_data("full", load_profile("original").validation_fraction)
    say(f"on {describe_machine(default_device())['device_name']}, torch with {torch.get_num_threads()} threads")
    compare_training(data, compare_loops(as_study, say), say)
    everything = replace(
        data, train_images=np.concatenate([data.train_images, data.validation_images]),
        train_labels=np.concatenate([data.train_labels, data.validation_labels]),
        validation_images=data.test_images[:500], validation_labels=data.test_labels[:500],
    )  # fmt: skip
    chosen = list(models) or [name for name in load_profile("cpu").models if entry(name).family != "04_transfer"]
    growth(everything, chosen, say=say)


if __name__ == "__main__":
    run_bench(sys.argv[1:])
