"""The convolutional networks: ours, and the original study's."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from fmlib.data import Spec
from fmlib.models.base import Dropout, Network
from fmlib.models.registry import register

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
PATCH = 2  # pixels, the side of the stem's filters


def whitening_filters(examples: Tensor, size: int) -> Tensor:
    """Filters that whiten patches of ``examples`` (n, c, H, W), each also with its sign turned.

    Shape (2 * c * size**2, c, size, size): the eigenvectors of the patches' covariance, divided by
    the root of their eigenvalues. Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.2.
    """
    patches = F.unfold(examples, size).transpose(1, 2).flatten(0, 1)
    covariance = torch.cov(patches.T).cpu()  # eigenvectors' signs are the same everywhere there
    values, vectors = torch.linalg.eigh(covariance)
    filters = vectors.T / (values[:, None] + 5e-4).sqrt()
    filters = filters.view(-1, examples.shape[1], size, size)
    return torch.cat([filters, -filters]).to(examples.device)


class DiracConv(nn.Conv2d):
    """A 3x3 convolution without bias that passes its input on when it is new (Dirac's filters)."""

    def __init__(self, channels_in: int, channels_out: int, dirac: bool) -> None:
        super().__init__(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
        if dirac:
            nn.init.dirac_(self.weight.data[: min(channels_in, channels_out)])


class Residual(nn.Sequential):
    """Layers whose output is added to their input."""

    def forward(self, batch: Tensor) -> Tensor:
        return batch + super().forward(batch)


class ScaledLinear(nn.Linear):
    """The last layer: weights of unit variance, logits multiplied by a fixed scale, no bias."""

    def __init__(self, width: int, num_classes: int, scale: float) -> None:
        super().__init__(width, num_classes, bias=False)
        self.weight.data /= self.weight.data.std()
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) * self.scale


@register("cnn", title="Custom CNN", family="cnn")
class CNN(Network):
    """Our CNN: a fixed whitening stem, blocks of two convolutions, a global maximum, a dense layer.

    A block is [conv, max pool, BN, act, conv, BN, act]. After Jordan's airbench networks for
    CIFAR-10 (https://arxiv.org/abs/2404.00498). The scales of the batch normalisations are fixed at
    1, and the logits are scaled down by ``logit_scale``. ``residual``: blocks of [conv, max pool,
    BN, act, (conv, BN, act, conv, BN), act], what stands in brackets being added to what comes in.
    """

    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    whitening: bool = True
    dirac: bool = True
    residual: bool = False
    logit_scale: float = Field(default=1 / 9, gt=0)
    batch_norm_momentum: float = Field(default=0.4, gt=0, le=1)

    def build(self, spec: Spec, examples: Tensor) -> nn.Module:
        act, channels = ACTIVATIONS[self.activation], examples.shape[1]
        if min(examples.shape[2:]) - 1 < 2 ** len(self.widths):
            blocks = f"{len(self.widths)} blocks, each of which halves its maps, want images of"
            wanted = f"{blocks} {2 ** len(self.widths) + 1} pixels a side"
            got = f"got {min(examples.shape[2:])}; name fewer widths, or set recipe.image_size"
            raise ValueError(f"widths: {wanted}, {got}")
        stem = nn.Conv2d(channels, 2 * channels * PATCH**2, PATCH)
        if self.whitening:
            stem.weight.data = whitening_filters(examples, PATCH)
            stem.weight.requires_grad_(False)
            assert stem.bias is not None
            nn.init.zeros_(stem.bias)
        layers: list[nn.Module] = [stem, act()]
        width = stem.out_channels
        for block_width in self.widths:
            layers += self._block(width, block_width, act)
            width = block_width
        head = ScaledLinear(width, spec.num_classes, self.logit_scale)
        return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), head)

    def _block(self, width_in: int, width: int, act: type[nn.Module]) -> list[nn.Module]:
        first = [DiracConv(width_in, width, self.dirac), nn.MaxPool2d(2), self._norm(width), act()]
        inner = [DiracConv(width, width, self.dirac), self._norm(width)]
        if self.residual:
            last = [DiracConv(width, width, self.dirac), self._norm(width)]
            inner = [Residual(*inner, act(), *last)]
        return [*first, *inner, act()]

    def _norm(self, width: int) -> nn.BatchNorm2d:
        norm = nn.BatchNorm2d(width, momentum=self.batch_norm_momentum)
        norm.weight.requires_grad_(False)
        return norm


@register("study_cnn", title="Study's CNN", family="cnn")
class StudyCNN(Network):
    """Two convolutions of 4 and 8 channels and four dense layers, as in the original study."""

    def build(self, spec: Spec, examples: Tensor) -> nn.Module:
        _, channels, height, width = examples.shape
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * (height // 4) * (width // 4), 128),
            nn.ReLU(),
            Dropout(0.0),
            nn.Linear(128, 64),
            nn.ReLU(),
            Dropout(0.5),
            nn.Linear(64, 32),
            nn.ReLU(),
            Dropout(0.25),
            nn.Linear(32, spec.num_classes),
        )
