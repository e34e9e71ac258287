"""The train/validate/test template: one loop for every network.

A network sees batches float32 (n, 1, H, W) made by ``transforms`` from raw uint8 images that stay on its device as one
tensor. Training time counts the training steps; validation, and whatever a caller does before, is not in it.
"""

from __future__ import annotations

import copy
import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torchvision.transforms import v2
from tqdm import tqdm

from fmlib.data import NUM_CLASSES
from fmlib.transforms import Augmentation, pixel_statistics, to_network

EVAL_BATCH_SIZE = 500  # at most
AUGMENTED_TOGETHER = 8  # batches, since calls cost more than what they do to one of 128 small images


class Recipe(BaseModel):
    """How a network is trained.

    ``schedule``: the learning rate over the whole run, after ``warmup_fraction`` of it spent rising from a fifth of ``lr``:
    "constant", or falling to zero in a "linear" or "cosine" line. ``patience``: stop after so many epochs without a lower
    validation loss, and restore the best weights; None trains all epochs and keeps the last. ``flip_averaging``: predict the
    mean over an image and its mirror image; ``shift_averaging``: over the image and itself moved up and down by so many pixels.
    ``mixup``: train on the weighted mean of two images, their labels weighted alike, the weight being drawn from Beta(mixup,
    mixup) for each batch (Zhang et al. 2017, https://arxiv.org/abs/1710.09412). ``cutmix``: with this probability a batch's
    images get instead a rectangle out of another image, their labels weighted by area (Yun et al. 2019,
    https://arxiv.org/abs/1905.04899). ``precision``: "bfloat16" runs convolutions and matrix products in it where the processor
    has it, "float32" nowhere; training on CUDA follows the same rule. ``scaling``: pixels to mean 0 and standard deviation 1
    ("standard"), their square roots to the same ("roots", a gamma correction that spreads the dark shades), or pixels to [0, 1]
    ("unit").
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: PositiveInt = 5
    batch_size: PositiveInt = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    lr: PositiveFloat = 0.001
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    patience: PositiveInt | None = None
    mixup: NonNegativeFloat = 0.0
    cutmix: float = Field(default=0.0, ge=0, le=1)
    flip_averaging: bool = False
    shift_averaging: NonNegativeInt = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    image_size: PositiveInt | None = None
    scaling: Literal["standard", "roots", "unit"] = "standard"
    augmentation: Augmentation = Augmentation()

    def statistics(self, images: Tensor) -> tuple[float, float]:
        """The mean and standard deviation to scale by, of raw training images uint8 (n, H, W)."""
        return (0.0, 255.0) if self.scaling == "unit" else pixel_statistics(images, self.scaling == "roots")

    def inputs(self, images: Tensor, mean: float, std: float) -> Tensor:
        """The eval transform of raw images uint8 (n, H, W): float32 (n, 1, size, size)."""
        return to_network(images, mean, std, self.image_size, self.scaling == "roots")


# --- Device, seeds, clocks ------------------------------------------------------------------------------------------------


def default_device() -> torch.device:
    """CUDA where it is usable, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 products natively, and so gains by them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, torch and CUDA; let cuDNN choose only deterministic algorithms, and round float32 to nothing less."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # seeds CUDA too
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = False
    multiply_by_onednn()


def multiply_by_onednn() -> None:
    """Have oneDNN multiply float32 matrices with AVX512; MKL, torch's choice, takes twice as long on AMD's processors.

    Torch asks oneDNN only if it may round to bfloat16. With AVX512 it does not round; with AMX or on Arm it would, and is not
    asked.
    """
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("avx512_f") and not capabilities.get("amx_bf16"):
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def rss_mb() -> float:
    """The process's resident memory now, in MiB."""
    return psutil.Process().memory_info().rss / 2**20


def synchronize(device: torch.device) -> None:
    """Wait for the device's queued work, so that a clock read next is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Adds up the seconds spent inside ``with stopwatch:`` blocks; on CUDA it waits for the device at both ends."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device, self.seconds = device or torch.device("cpu"), 0.0

    def __enter__(self) -> Stopwatch:
        synchronize(self.device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        synchronize(self.device)
        self.seconds += time.perf_counter() - self._start


# --- Progress -------------------------------------------------------------------------------------------------------------


def wants_bars() -> bool:
    """Bars on a terminal and in JupyterLab; ``FMLIB_PROGRESS=lines``, as the runner sets it, or a pipe gets lines."""
    wish = os.environ.get("FMLIB_PROGRESS")
    return wish == "bars" or (wish is None and ("ipykernel" in sys.modules or sys.stderr.isatty()))


class Progress:
    """Tells how training goes: a bar that counts steps, or one line an epoch."""

    def __init__(self, steps: int, epochs: int, stage: str) -> None:
        self.epochs, self.stage = epochs, stage
        self.bar = tqdm(total=steps, desc=stage, unit="step", disable=not wants_bars())

    def epoch(self, row: dict[str, Any]) -> None:
        text = (f"train loss {row['train_loss']:.4f}, validation loss {row['validation_loss']:.4f}, "
                f"accuracy {row['validation_accuracy']:.4f}, {row['train_seconds']:.1f} s, {row['rss_mb']:.0f} MB")
        if self.bar.disable:
            print(f"{self.stage} epoch {row['epoch']}/{self.epochs}: {text}", flush=True)
        else:
            self.bar.set_postfix_str(text)


# --- Optimiser and schedule -----------------------------------------------------------------------------------------------


def learning_rate_factor(done: float, recipe: Recipe) -> float:
    """The schedule: what ``recipe.lr`` is multiplied by when the fraction ``done`` (0 to 1) of all steps is over."""
    warmup = recipe.warmup_fraction
    if done < warmup:
        return 0.2 + 0.8 * done / warmup
    left = (1 - done) / (1 - warmup)
    return {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * float(np.cos(np.pi * left))}[recipe.schedule]


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable parameters with their learning rate and weight decay: one group, the quickest for a fused optimiser.

    A network that wants its own groups has a method ``parameter_groups(recipe)``.
    """
    own = getattr(network, "parameter_groups", None)
    if own is not None:
        return own(recipe)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [{"params": trainable, "lr": recipe.lr, "weight_decay": recipe.weight_decay}]


def make_optimizer(network: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimiser over the network's trainable parameters; SGD is Nesterov's wherever it has momentum.

    Fused: one pass over the weights a step, not ten, which a network of tens of millions of weights feels. On CUDA learning
    rates are tensors on the device, where a recorded step reads them.
    """
    groups, on_cuda = parameter_groups(network, recipe), device.type == "cuda"
    if on_cuda:
        groups = [group | {"lr": torch.tensor(group["lr"], device=device)} for group in groups]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)
    adam = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return adam(groups, recipe.lr, fused=True, capturable=on_cuda)


# --- One step -------------------------------------------------------------------------------------------------------------

Step = Callable[[Tensor, Tensor], Tensor]  # a batch and its labels to their mean loss, the weights a step further


class RecordedStep:
    """A step on CUDA, recorded as a CUDA graph for every shape of batch, and replayed from then on.

    A small network's step is hundreds of kernels, which a GPU computes sooner than Python starts them one by one; a graph is
    started at once. A recorded step finds all that it reads where it was when recorded: batches are copied there. So a
    network must not choose by the values in its tensors what it computes.
    """

    WARM_UP_STEPS = 3  # in which libraries and the optimiser take the memory that they keep

    def __init__(self, step: Step) -> None:
        self.step, self.taken = step, 0
        self.graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]] = {}

    def __call__(self, batch: Tensor, labels: Tensor) -> Tensor:
        self.taken += 1
        if self.taken <= self.WARM_UP_STEPS:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*capturable=True")  # torch thinks that an optimiser may never be recorded
                return self.step(batch, labels)
        if batch.shape not in self.graphs:
            self.graphs[batch.shape] = self._record(batch.clone(), labels.clone())
        graph, kept_batch, kept_labels, loss = self.graphs[batch.shape]
        kept_batch.copy_(batch)
        kept_labels.copy_(labels)
        graph.replay()
        return loss

    def _record(self, batch: Tensor, labels: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]:
        graph, others = torch.cuda.CUDAGraph(), [recorded.pool() for recorded, *_ in self.graphs.values()]
        with torch.cuda.graph(graph, pool=others[0] if others else None, stream=torch.cuda.current_stream()):
            loss = self.step(batch, labels)
        return graph, batch, labels, loss


# --- The template ---------------------------------------------------------------------------------------------------------


@dataclass
class Template:
    """Train, validate and test one network; ``mean`` and ``std`` are those of ``recipe.statistics``.

    ``history`` gets a row an epoch (the fields of ``results.Epoch``), ``train_seconds`` the time of the training steps.
    """

    network: nn.Module
    recipe: Recipe
    mean: float
    std: float
    device: torch.device
    seed: int
    stage: str = "train"
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = Stopwatch(self.device)
        self.generator = Generator(self.device).manual_seed(self.seed)
        self.memory_format = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        self.bfloat16 = self.recipe.precision == "bfloat16" and has_bfloat16(self.device)
        self.network.to(self.device, memory_format=self.memory_format)

    @property
    def train_seconds(self) -> float:
        return self.watch.seconds

    def inputs(self, images: Tensor) -> Tensor:
        """The eval transform of raw images (n, H, W), laid out in memory as the recipe says; features stay as they are."""
        if images.is_floating_point():
            return images.float()
        batch = self.recipe.inputs(images, self.mean, self.std)
        return batch.contiguous(memory_format=self.memory_format)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def train(self, images: Tensor, labels: Tensor, validation: tuple[Tensor, Tensor]) -> Template:
        """Train on raw images uint8 (n, H, W) and labels int64 (n,), both on the device; validate after every epoch.

        Raises FloatingPointError when the loss is no longer a number.
        """
        recipe, steps = self.recipe, -(-len(images) // self.recipe.batch_size)
        optimizer = make_optimizer(self.network, recipe, self.device)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(min(step / (steps * recipe.epochs), 1.0), recipe)
        )
        progress = Progress(steps * recipe.epochs, recipe.epochs, self.stage)
        best = BestWeights(recipe.patience)
        step, stream = partial(self._step, optimizer), None
        if self.device.type == "cuda":
            step, stream = RecordedStep(step), torch.cuda.Stream(self.device)  # the default one cannot be recorded
        for epoch in range(1, recipe.epochs + 1):
            row = {"stage": self.stage, "epoch": epoch, "lr": float(optimizer.param_groups[0]["lr"])}
            before = self.train_seconds
            with self.watch, torch.cuda.stream(stream):
                batches = self._batches(images, labels, steps)
                row["train_loss"] = self._train_epoch(batches, step, schedule, progress)
            row["validation_loss"], row["validation_accuracy"] = self.validate(*validation)
            row |= {"train_seconds": self.train_seconds - before, "rss_mb": rss_mb()}
            self.history.append(row)
            progress.epoch(row)
            if best.should_stop(row["validation_loss"], self.network):
                break
        progress.bar.close()
        if best.weights:
            self.network.load_state_dict(best.weights)
        return self

    def _batches(self, images: Tensor, labels: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in random order, augmented, in ``steps`` batches whose sizes differ by one at most."""
        order = torch.randperm(len(images), generator=self.generator, device=self.device)
        batches = order.tensor_split(steps)
        for first in range(0, steps, AUGMENTED_TOGETHER):
            together = batches[first : first + AUGMENTED_TOGETHER]
            augmented = self.recipe.augmentation(images.index_select(0, torch.cat(together)), self.generator)
            for index, batch in zip(together, augmented.split([*map(len, together)]), strict=True):
                yield self._mixed(self.inputs(batch), labels[index])

    def _mixed(self, batch: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """With cutmix or mixup, inputs that are each made of two, and probabilities float32 (n, classes) for labels."""
        cutmix, mixup = self.recipe.cutmix, self.recipe.mixup
        if not (cutmix or mixup):
            return batch, labels
        if torch.rand(()) < cutmix:
            batch, targets = v2.CutMix(num_classes=NUM_CLASSES)(batch, labels)
        elif mixup:
            batch, targets = v2.MixUp(alpha=mixup, num_classes=NUM_CLASSES)(batch, labels)
        else:
            targets = F.one_hot(labels, NUM_CLASSES).float()
        return batch.contiguous(memory_format=self.memory_format), targets

    def _step(self, optimizer: torch.optim.Optimizer, batch: Tensor, labels: Tensor) -> Tensor:
        with self.autocast():
            logits = self.network(batch)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def _train_epoch(
        self, batches: Iterable[tuple[Tensor, Tensor]], step: Step, schedule: torch.optim.lr_scheduler.LambdaLR,
        progress: Progress,
    ) -> float:  # fmt: skip
        self.network.train()
        total, count = torch.zeros((), device=self.device), 0
        for batch, labels in batches:
            total += step(batch, labels) * len(labels)
            schedule.step()
            count += len(labels)
            progress.bar.update()
        mean = (total / count).item()
        if not np.isfinite(mean):
            raise FloatingPointError(f"the training loss became {mean}; try a lower lr than {self.recipe.lr}")
        return mean

    def validate(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """Mean cross-entropy (no label smoothing) and accuracy on images that get the eval transform, not moved: the views of
        ``shift_averaging`` cost a report more time, epoch after epoch, than they would tell."""
        proba = self._predict(images, shift=0)
        loss = F.nll_loss(proba.clamp_min(1e-12).log(), labels)
        return loss.item(), (proba.argmax(1) == labels).float().mean().item()

    def test(self, images: Tensor) -> Tensor:
        """Class probabilities float32 (n, classes) of raw images uint8 (n, H, W): the mean over the views of the recipe."""
        return self._predict(images, self.recipe.shift_averaging)

    @torch.inference_mode()
    def _predict(self, images: Tensor, shift: int) -> Tensor:
        self.network.eval()
        size = min(EVAL_BATCH_SIZE, 2 * self.recipe.batch_size)  # so that no more memory is needed than for training
        return torch.cat([self._proba(batch, shift) for batch in images.split(size)])

    def _proba(self, images: Tensor, shift: int) -> Tensor:
        views = [self.inputs(F.pad(images, (0, 0, rows, -rows))) for rows in {0, -shift, shift}]
        if self.recipe.flip_averaging:
            views += [view.flip(-1) for view in views]
        with self.autocast():
            logits = [self.network(view) for view in views]
        return torch.stack([one.float().softmax(1) for one in logits]).mean(0)


class BestWeights:
    """Early stopping: remembers the weights of the lowest validation loss, and says when patience is at its end."""

    def __init__(self, patience: int | None) -> None:
        self.patience, self.loss, self.waited = patience, float("inf"), 0
        self.weights: dict[str, Tensor] | None = None

    def should_stop(self, loss: float, network: nn.Module) -> bool:
        if self.patience is None:
            return False
        if loss < self.loss:
            self.loss, self.waited, self.weights = loss, 0, copy.deepcopy(network.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience
