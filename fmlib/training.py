"""The train/validate/test template: one loop for every network.

A network sees batches float32 (n, channels, H, W) that ``transforms`` makes of raw uint8 images,
which stay on its device as one tensor. Training time counts the training steps; validation, and
whatever a caller does before, is not in it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from fmlib.device import Stopwatch, has_bfloat16
from fmlib.transforms import Augmentation, pixel_statistics, to_network

EVAL_BATCH_SIZE = 500  # at most
AUGMENTED_TOGETHER = 8  # batches: calls cost more than what they do to one batch of small images

Labelled = tuple[Tensor, Tensor]  # images, or what was made of them, and labels, on a device
Step = Callable[[Tensor, Tensor], Tensor]  # a batch and its targets to their mean loss


class Recipe(BaseModel):
    """How a network is trained.

    ``schedule``: the learning rate over the whole run, after ``warmup_fraction`` of it spent rising
    from a fifth of ``lr``: "constant", or falling to zero in a "linear" or "cosine" line.
    ``patience``: stop after so many epochs without a lower validation loss, and restore the best
    weights; None trains all epochs and keeps the last. ``flip_averaging``: predict the mean over an
    image and its mirror image; ``shift_averaging``: over the image and itself moved up and down by
    so many pixels. ``mixup``: train on the weighted mean of two images, their labels weighted
    alike, the weight being drawn from Beta(mixup, mixup) for each batch (Zhang et al. 2017,
    https://arxiv.org/abs/1710.09412). ``cutmix``: with this probability a batch's images get
    instead a rectangle out of another image, their labels weighted by area (Yun et al. 2019,
    https://arxiv.org/abs/1905.04899). ``precision``: "bfloat16" runs convolutions and matrix
    products in it where the processor has it, "float32" nowhere; training on CUDA follows the same
    rule. ``scaling``: pixels to mean 0 and standard deviation 1 ("standard"), their square roots to
    the same ("roots", a gamma correction that spreads the dark shades), or pixels to [0, 1]
    ("unit").
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=5, ge=1, le=100_000)
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
        """Mean and standard deviation to scale by, of training images uint8 (n, channels, H, W)."""
        if self.scaling == "unit":
            return 0.0, 255.0
        return pixel_statistics(images, self.scaling == "roots")

    def inputs(self, images: Tensor, mean: float, std: float) -> Tensor:
        """The eval transform: uint8 (n, channels, H, W) to float32 (n, channels, size, size)."""
        return to_network(images, mean, std, self.image_size, self.scaling == "roots")


class Progress:
    """Hears how training goes, and may keep how far it came; this one does neither.

    ``spent``: what earlier processes of the same fit spent on it, of which this one goes on from
    the last epoch; by the names of ``measure``'s clocks.
    """

    spent: Mapping[str, float] = MappingProxyType({})

    def begin(self, clock: Callable[[], dict[str, float]]) -> None:
        """The fit begins; ``clock`` tells what this process has spent on it so far."""

    def start(self, stage: str, epochs: int, steps: int, done: int = 0) -> None:
        """A stage of so many epochs, of so many steps each, begins; so many epochs are done."""

    def step(self) -> None:
        """A training step is done."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done and validated; ``row`` has the fields of ``results.Epoch``."""

    def keep(self, stage: str, state: Callable[[], dict[str, Any]]) -> None:
        """An epoch of the stage is over; ``state()`` is all that the next ones depend on."""

    def kept(self, stage: str) -> dict[str, Any] | None:
        """The state that an earlier process of this fit kept of the stage; None if none did."""
        return None


QUIET = Progress()


class Speedups:
    """What may be replaced by something faster that computes the same: here nothing is."""

    def layers(self, network: nn.Module, example: Tensor) -> None:
        """Replace layers of a new network, in place; ``example`` is a batch of one input."""

    def step(self, step: Step, device: torch.device) -> Step:
        """A training step that does the same."""
        return step


speedups = Speedups()  # `fmlib.fast.enable` puts its own here


# --- Optimiser and schedule -------------------------------------------------------------------


def learning_rate_factor(done: float, recipe: Recipe) -> float:
    """What ``recipe.lr`` is multiplied by when ``done`` (0 to 1) of all steps is over."""
    warmup = recipe.warmup_fraction
    if done < warmup:
        return 0.2 + 0.8 * done / warmup
    left = (1 - done) / (1 - warmup)
    cosine = 0.5 - 0.5 * float(np.cos(np.pi * left))
    return {"constant": 1.0, "linear": left, "cosine": cosine}[recipe.schedule]


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable parameters with their learning rate and weight decay.

    One group, the quickest for a fused optimiser, unless the network has a method
    ``parameter_groups(recipe)`` of its own.
    """
    own = getattr(network, "parameter_groups", None)
    if own is not None:
        return own(recipe)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [{"params": trainable, "lr": recipe.lr, "weight_decay": recipe.weight_decay}]


def make_optimizer(
    network: nn.Module, recipe: Recipe, device: torch.device
) -> torch.optim.Optimizer:
    """The recipe's optimiser over the network's trainable parameters.

    SGD is Nesterov's wherever it has momentum. Fused: one pass over the weights a step, not ten,
    which a network of tens of millions of weights feels. On CUDA learning rates are tensors on the
    device, where a recorded step reads them.
    """
    groups, on_cuda = parameter_groups(network, recipe), device.type == "cuda"
    if on_cuda:
        groups = [group | {"lr": torch.tensor(group["lr"], device=device)} for group in groups]
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0
        return torch.optim.SGD(
            groups, recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True
        )
    adam = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return adam(groups, recipe.lr, fused=True, capturable=on_cuda)


# --- The template -----------------------------------------------------------------------------


@dataclass
class Best:
    """The least validation loss so far, the weights that gave it, and for how many epochs since
    then there was none lower."""

    loss: float = float("inf")
    weights: dict[str, Any] | None = None
    waited: int = 0

    def note(self, loss: float, network: nn.Module, keep: bool) -> None:
        """An epoch ended with this loss; ``keep``: whether the best weights are wanted."""
        if not keep:
            return
        self.waited += 1
        if loss < self.loss:
            self.loss, self.waited = loss, 0
            self.weights = copy.deepcopy(network.state_dict())


@dataclass
class Trainer:
    """Trains, validates and tests one network; ``mean`` and ``std`` are ``recipe.statistics``'.

    ``history`` gets a row an epoch, the fields of ``results.Epoch``; ``train_seconds`` is the time
    of the training steps.
    """

    network: nn.Module
    recipe: Recipe
    mean: float
    std: float
    num_classes: int
    device: torch.device
    seed: int
    stage: str = "train"
    progress: Progress = QUIET
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = Stopwatch(self.device)
        self.generator = Generator(self.device).manual_seed(self.seed)
        channels_last = self.recipe.channels_last
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.bfloat16 = self.recipe.precision == "bfloat16" and has_bfloat16(self.device)
        self.network.to(self.device).to(memory_format=self.memory_format)

    @property
    def train_seconds(self) -> float:
        """Seconds of training steps so far."""
        return self.watch.seconds

    def train(self, images: Tensor, labels: Tensor, validation: Labelled) -> Trainer:
        """Train on raw images uint8 (n, channels, H, W) and labels int64 (n,), on the device.

        Validates after every epoch. Goes on from where an interrupted process of the same fit came
        to. Raises FloatingPointError when the loss is no number any more.
        """
        recipe, steps = self.recipe, -(-len(images) // self.recipe.batch_size)
        optimizer = make_optimizer(self.network, recipe, self.device)
        last = steps * recipe.epochs
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step / last, recipe))
        best = Best()
        done = self._resume(optimizer, schedule, best)
        step = speedups.step(partial(self._step, optimizer), self.device)
        self.progress.start(self.stage, recipe.epochs, steps, done)
        for epoch in range(done + 1, recipe.epochs + 1):
            if best.waited == recipe.patience:
                break
            row: dict[str, Any] = {"stage": self.stage, "epoch": epoch}
            row["lr"] = float(optimizer.param_groups[0]["lr"])
            before = self.train_seconds
            with self.watch:
                self.network.train()
                total = torch.zeros((), device=self.device)
                for batch, targets in self._batches(images, labels, steps):
                    total += step(batch, targets) * len(targets)
                    schedule.step()
                    self.progress.step()
                row["train_loss"] = self._finite(total / len(images))
            row["validation_loss"], row["validation_accuracy"] = self.validate(*validation)
            row["train_seconds"] = self.train_seconds - before
            row["rss_mb"] = psutil.Process().memory_info().rss / 2**20
            self.history.append(row)
            self.progress.epoch(row)
            best.note(row["validation_loss"], self.network, keep=recipe.patience is not None)
            self.progress.keep(self.stage, partial(self._state, optimizer, schedule, best))
        if best.weights:
            self.network.load_state_dict(best.weights)
        return self

    def _state(
        self, optimizer: torch.optim.Optimizer, schedule: LambdaLR, best: Best
    ) -> dict[str, Any]:
        """All that the epochs to come depend on, and what was noted of those that are over."""
        on_cuda = self.device.type == "cuda"
        return {
            "network": self.network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if on_cuda else None,
            "best": vars(best),
            "history": self.history,
            "train_seconds": self.watch.seconds,
        }

    def _resume(self, optimizer: torch.optim.Optimizer, schedule: LambdaLR, best: Best) -> int:
        """Take back a kept state; returns how many epochs are done."""
        state = self.progress.kept(self.stage)
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        vars(best).update(state["best"])
        self.history += state["history"]
        self.watch.seconds = state["train_seconds"]
        return len(self.history)

    def _step(self, optimizer: torch.optim.Optimizer, batch: Tensor, targets: Tensor) -> Tensor:
        """Forward, loss, backward, update."""
        with self.autocast():
            logits = self.network(batch)
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def _finite(self, loss: Tensor) -> float:
        mean = loss.item()
        if not np.isfinite(mean):
            lower = f"try a lower lr than {self.recipe.lr}"
            raise FloatingPointError(f"the training loss became {mean}; {lower}")
        return mean

    def _batches(self, images: Tensor, labels: Tensor, steps: int) -> Iterator[Labelled]:
        """All images in random order, augmented, in batches whose sizes differ by one at most."""
        order = torch.randperm(len(images), generator=self.generator, device=self.device)
        batches = order.tensor_split(steps)
        for first in range(0, steps, AUGMENTED_TOGETHER):
            together = batches[first : first + AUGMENTED_TOGETHER]
            chosen = images.index_select(0, torch.cat(together))
            augmented = self.recipe.augmentation(chosen, self.generator)
            sizes = [len(index) for index in together]
            for index, batch in zip(together, augmented.split(sizes), strict=True):
                yield self._mixed(self.inputs(batch), labels[index])

    def _mixed(self, batch: Tensor, labels: Tensor) -> Labelled:
        """With cutmix or mixup: inputs each made of two, labels as probabilities (n, classes)."""
        cutmix, mixup, classes = self.recipe.cutmix, self.recipe.mixup, self.num_classes
        if not (cutmix or mixup):
            return batch, labels
        from torchvision.transforms import v2

        if torch.rand(()) < cutmix:
            batch, targets = v2.CutMix(num_classes=classes)(batch, labels)
        elif mixup:
            batch, targets = v2.MixUp(alpha=mixup, num_classes=classes)(batch, labels)
        else:
            targets = F.one_hot(labels, classes).float()
        return batch.contiguous(memory_format=self.memory_format), targets

    def inputs(self, images: Tensor) -> Tensor:
        """The eval transform, laid out in memory as the recipe says; features stay as they are."""
        if images.is_floating_point():
            return images.float()
        batch = self.recipe.inputs(images, self.mean, self.std)
        return batch.contiguous(memory_format=self.memory_format)

    def autocast(self) -> torch.autocast:
        """The recipe's precision, for a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def validate(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """Mean cross-entropy (no label smoothing) and accuracy under the eval transform.

        Images are not moved: the views of ``shift_averaging`` would cost a report more time, epoch
        after epoch, than they would tell.
        """
        proba = self._predict(images, (0,), self.recipe.flip_averaging)
        loss = F.nll_loss(proba.clamp_min(1e-12).log(), labels)
        return loss.item(), (proba.argmax(1) == labels).float().mean().item()

    def test(self, images: Tensor, averaged: bool = True) -> Tensor:
        """Class probabilities float32 (n, classes) of raw images.

        The mean over their views, or those of the images as they are.
        """
        if not averaged:
            return self._predict(images, (0,), flip=False)
        return self._predict(images, self.shifts, self.recipe.flip_averaging)

    @property
    def shifts(self) -> tuple[int, ...]:
        """By how many pixels the views of an image are moved down."""
        shift = self.recipe.shift_averaging
        return (0, shift, -shift) if shift else (0,)

    @torch.inference_mode()
    def _predict(self, images: Tensor, shifts: Sequence[int], flip: bool) -> Tensor:
        self.network.eval()
        # no more memory than for training
        size = min(EVAL_BATCH_SIZE, 2 * self.recipe.batch_size)
        return torch.cat([self._proba(batch, shifts, flip) for batch in images.split(size)])

    def _proba(self, images: Tensor, shifts: Sequence[int], flip: bool) -> Tensor:
        views = [
            self.inputs(F.pad(images, (0, 0, down, -down)) if down else images) for down in shifts
        ]
        if flip:
            views += [view.flip(-1) for view in views]
        with self.autocast():
            logits = [self.network(view) for view in views]
        return torch.stack([one.float().softmax(1) for one in logits]).mean(0)
