"""Time the original study's training loop and ours, and how each model's cost grows with the number of images.

Everything that is compared is timed in one run, on the training images; ratios travel between machines, seconds do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms as tv_transforms

from fmlib.data import DatasetName, ImageData, TransformedDataset, load_base, load_data
from fmlib.measure import describe_machine, measure
from fmlib.models.neural import TorchClassifier
from fmlib.models.registry import build
from fmlib.profiles import load_profile
from fmlib.training import default_device, seed_everything

SIZES = (10_000, 20_000, 40_000, 60_000)
STUDY_NETWORKS = {"mlp": "MLP", "study_cnn": "CNN"}
# epochs x seconds on the study's GPU, and the accuracy they gave; see docs of the study in fmlib.compare
STUDY_EPOCHS = 15


def study_epoch(network: nn.Module, dataset: DatasetName, count: int, batch_size: int, device: torch.device) -> float:
    """Seconds of one epoch as the study ran it: every image through PIL, by itself, and Adam at 0.001."""
    augment = tv_transforms.Compose([
        tv_transforms.RandomHorizontalFlip(),
        tv_transforms.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5),
        tv_transforms.ToTensor(),
    ])  # fmt: skip
    base = TransformedDataset(load_base(dataset, train=True), augment)
    loader = DataLoader(Subset(base, range(count)), batch_size, shuffle=True)
    optimizer = torch.optim.Adam(network.to(device).train().parameters(), lr=0.001)
    start = time.perf_counter()
    for images, labels in loader:
        loss = F.cross_entropy(network(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # the study's progress bar read the loss every step
    return time.perf_counter() - start


def compare_loops(data: ImageData, say: Callable[[str], None] = print) -> dict[str, float]:
    """Ratio of the study's seconds an epoch to ours, with the study's networks, batch size and augmentation, interleaved."""
    profile, ratios = load_profile("original"), {}
    for model, name in STUDY_NETWORKS.items():
        parameters = _with_epochs(profile.models[model], 1)
        ours, theirs = [], []
        for _ in range(2):  # alternating, so that a noisy neighbour troubles both
            classifier = build(model, parameters)
            assert isinstance(classifier, TorchClassifier)
            classifier.fit(*data.train, _few(data))
            ours.append(classifier.train_seconds_)
            batch_size = classifier.recipe.batch_size
            theirs.append(
                study_epoch(classifier.network_, data.dataset, len(data.train_labels), batch_size, default_device())
            )
        ratios[name] = min(theirs) / min(ours)
        say(f"{name}: an epoch of {len(data.train_labels):,} images: the study's loop {min(theirs):.2f} s, "
            f"ours {min(ours):.2f} s, ratio {ratios[name]:.1f}")
    return ratios


def growth(data: ImageData, sizes: tuple[int, ...] = SIZES, say: Callable[[str], None] = print) -> dict[str, float]:
    """The exponent with which each cpu model's training time grows with the number of images: 1 is linear, 2 a square."""
    exponents = {}
    sizes = tuple(size for size in sizes if size <= len(data.train_labels)) or (len(data.train_labels),)
    for model, parameters in load_profile("cpu").models.items():
        seconds, memory = [], []
        for size in sizes:
            seed_everything(9)
            part = replace(data, train_images=data.train_images[:size], train_labels=data.train_labels[:size],
                           validation_images=_few(data)[0], validation_labels=_few(data)[1],
                           test_images=_few(data)[0], test_labels=_few(data)[1])
            measured = measure(build(model, _with_epochs(parameters, 1)), part)
            seconds.append(measured.train_seconds)
            memory.append(measured.memory.peak_rss_mb - measured.memory.rss_baseline_mb)
        exponents[model] = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]) if len(sizes) > 1 else float("nan")
        told = ", ".join(f"{size:,}: {s:.1f} s {m:.0f} MB" for size, s, m in zip(sizes, seconds, memory, strict=True))
        say(f"{model}: {told}; time grows with exponent {exponents[model]:.2f}")
    return exponents


def _with_epochs(parameters: dict[str, Any], epochs: int) -> dict[str, Any]:
    """The same parameters with so many epochs in every recipe."""
    return {
        key: value | {"epochs": epochs} if isinstance(value, dict) and "epochs" in value else value
        for key, value in parameters.items()
    }


def _few(data: ImageData) -> tuple[Any, Any]:
    return data.validation_images[:500], data.validation_labels[:500]


def run_bench(say: Callable[[str], None] = print) -> None:
    """Print the machine, the two loops' ratios, what the study's recipe would cost here, and every model's growth."""
    data = load_data("full")
    say(f"on {describe_machine(default_device())['device_name']}, torch with {torch.get_num_threads()} threads")
    compare_loops(data, say)
    everything = load_data("full", validation_fraction=0.02)
    growth(everything, say=say)
