"""One classifier for every network: it builds the network, and trains it by the template."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fmlib.data import Images, Labels, check_images, check_labelled
from fmlib.models.base import Predictor
from fmlib.training import Recipe, Template, default_device, seed_everything


class NetworkSpec(BaseModel):
    """Describes a network; ``build`` makes a new one, with random weights from torch's global generator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def build(self, examples: Tensor) -> nn.Module:
        """A network for inputs like ``examples``, float32 (n, 1, H, W): some training images after the eval transform."""
        raise NotImplementedError


class Dropout(nn.Dropout):
    """Dropout in a fifth of torch's time on a CPU, where its random numbers cost more than a dense layer's products.

    A value is kept or dropped by 16 random bits, so ``p`` is rounded to a multiple of 2**-16.
    """

    def forward(self, batch: Tensor) -> Tensor:
        if not self.training or batch.is_cuda:
            return super().forward(batch)
        count, dropped = batch.numel(), round(self.p * 2**16)
        bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = bits[:count].view_as(batch) >= dropped - 2**15
        return batch * (kept.to(batch.dtype) / (1 - self.p))


class TorchClassifier(Predictor):
    """A network with its recipe, as a classifier; see ``models.base.Classifier`` for the contract."""

    def __init__(self, network: NetworkSpec, recipe: Recipe, seed: int = 9, device: str | None = None) -> None:
        self.network, self.recipe, self.seed, self.device = network, recipe, seed, device

    def fit(self, images: Images, labels: Labels, validation: tuple[Images, Labels]) -> Self:
        images, labels = check_labelled(images, labels)
        validation = check_labelled(*validation, name="validation")
        seed_everything(self.seed)
        self.image_shape_ = images.shape[1:]
        self.device_ = torch.device(self.device) if self.device else default_device()
        train_images, train_labels, *held_out = (
            torch.from_numpy(np.ascontiguousarray(array)).to(self.device_) for array in (images, labels, *validation)
        )
        self.history_, self.train_seconds_, self.recipes_ = [], 0.0, {}
        self.network_ = self._build(train_images)
        self._train(train_images, train_labels, (held_out[0], held_out[1]))
        return self

    def _build(self, images: Tensor) -> nn.Module:
        """Settle the recipe; the new network for these raw training images, uint8 (n, H, W)."""
        self._follow(self.recipe, images)
        return self.network.build(self.recipe.inputs(images[:5000], self.mean_, self.std_))

    def _follow(self, recipe: Recipe, images: Tensor) -> None:
        """Train by this recipe, and scale images as it says, by the statistics of these."""
        self.recipe_ = recipe
        self.mean_, self.std_ = recipe.statistics(images)

    def _train(self, images: Tensor, labels: Tensor, validation: tuple[Tensor, Tensor]) -> None:
        """The stages of training, of which most networks have one."""
        self._run_stage(self.recipe_, "train", images, labels, validation)

    def _run_stage(
        self, recipe: Recipe, stage: str, images: Tensor, labels: Tensor, validation: tuple[Tensor, Tensor]
    ) -> None:
        self.template_ = self._template(recipe, stage).train(images, labels, validation)
        self.recipes_[stage] = recipe
        self.history_ += self.template_.history
        self.train_seconds_ += self.template_.train_seconds

    def _template(self, recipe: Recipe, stage: str = "train") -> Template:
        return Template(self.network_, recipe, self.mean_, self.std_, self.device_, self.seed, stage)

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        tensor = torch.from_numpy(np.ascontiguousarray(check_images(images))).to(self.device_)
        return self.template_.test(tensor).cpu().numpy()

    def inputs(self, images: Images) -> Tensor:
        """What the network sees: float32 (n, 1, H, W), on its device, of raw images."""
        tensor = torch.from_numpy(np.ascontiguousarray(check_images(images))).to(self.device_)
        return self.template_.inputs(tensor)

    def parameter_count(self) -> int:
        """Weights of the network, fixed ones included."""
        return sum(parameter.numel() for parameter in self.network_.parameters())

    def flops_per_image(self) -> float:
        """Operations of one prediction, two a multiply-add, in convolutions and matrix products."""
        from torch.utils.flop_counter import FlopCounterMode

        example = torch.zeros(1, *self.image_shape_, dtype=torch.uint8, device=self.device_)
        with FlopCounterMode(display=False) as counter:
            self.template_.test(example)
        return float(counter.get_total_flops())
