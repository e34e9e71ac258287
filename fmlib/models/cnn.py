"""The convolutional networks: ours, and the original study's."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from fmlib.data import NUM_CLASSES
from fmlib.models.neural import Dropout, NetworkSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


def whitening_filters(examples: Tensor, size: int) -> Tensor:
    """Filters (2 * size**2, 1, size, size) that whiten patches of ``examples`` (n, 1, H, W), each also with its sign turned.

    The eigenvectors of the patches' covariance, divided by the root of their eigenvalues: Jordan 2024,
    https://arxiv.org/abs/2404.00498, section 3.2.
    """
    patches = F.unfold(examples, size).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T).cpu())  # whose signs are a library's choice: the same everywhere
    filters = (vectors.T / (values[:, None] + 5e-4).sqrt()).view(-1, 1, size, size)
    return torch.cat([filters, -filters]).to(examples.device)


class DiracConv(nn.Conv2d):
    """A 3x3 convolution without bias that passes its input on when it is new: the first filters are Dirac's."""

    def __init__(self, channels_in: int, channels_out: int, dirac: bool) -> None:
        super().__init__(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
        if dirac:
            nn.init.dirac_(self.weight.data[: min(channels_in, channels_out)])


class Residual(nn.Sequential):
    """Layers whose output is added to their input."""

    def forward(self, batch: Tensor) -> Tensor:
        return batch + super().forward(batch)


class CNN(NetworkSpec):
    """Our CNN: a fixed whitening stem, blocks of [conv, max pool, BN, act, conv, BN, act], global max pool, a linear layer.

    After Jordan's airbench networks for CIFAR-10 (https://arxiv.org/abs/2404.00498), for one grey channel and 28 pixels. The
    scales of the batch normalisations are fixed at 1, and the logits are scaled down by ``logit_scale``. ``residual``: blocks
    of [conv, max pool, BN, act, (conv, BN, act, conv, BN), act], what stands in brackets being added to what comes in.
    """

    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    whitening: bool = True
    dirac: bool = True
    residual: bool = False
    logit_scale: float = Field(default=1 / 9, gt=0)
    batch_norm_momentum: float = Field(default=0.4, gt=0, le=1)

    def build(self, examples: Tensor) -> nn.Module:
        act, patch = ACTIVATIONS[self.activation], 2
        stem = nn.Conv2d(examples.shape[1], 2 * patch**2, patch)
        if self.whitening:
            stem.weight.data = whitening_filters(examples, patch)
            stem.weight.requires_grad_(False)
            nn.init.zeros_(stem.bias)
        layers: list[nn.Module] = [stem, act()]
        width = stem.out_channels
        for channels in self.widths:
            layers += [DiracConv(width, channels, self.dirac), nn.MaxPool2d(2), self._norm(channels), act()]
            inner = [DiracConv(channels, channels, self.dirac), self._norm(channels)]
            if self.residual:
                inner = [Residual(*inner, act(), DiracConv(channels, channels, self.dirac), self._norm(channels))]
            layers += [*inner, act()]
            width = channels
        return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), ScaledLinear(width, self.logit_scale))

    def _norm(self, channels: int) -> nn.BatchNorm2d:
        norm = nn.BatchNorm2d(channels, momentum=self.batch_norm_momentum)
        norm.weight.requires_grad_(False)
        return norm


class ScaledLinear(nn.Linear):
    """The last layer: weights of unit variance, logits multiplied by a fixed scale, no bias."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__(width, NUM_CLASSES, bias=False)
        self.weight.data /= self.weight.data.std()
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) * self.scale


class MaxPool(nn.MaxPool2d):
    """Max pooling of 2 x 2 pixels, in less than half of torch's time on a CPU where channels are few and not last in memory."""

    def __init__(self) -> None:
        super().__init__(kernel_size=2)

    def forward(self, batch: Tensor) -> Tensor:
        return super().forward(batch) if batch.is_cuda else _MaxPool.apply(batch)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, batch: Tensor) -> Tensor:
        ctx.shape, (height, width) = batch.shape, (size // 2 * 2 for size in batch.shape[-2:])
        top, bottom = batch[..., 0:height:2, :width], batch[..., 1:height:2, :width]
        rows = torch.maximum(top, bottom)
        left, right = rows[..., ::2], rows[..., 1::2]
        ctx.save_for_backward(bottom > top, right > left)
        return torch.maximum(left, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        is_bottom, is_right = ctx.saved_tensors
        to_batch, to_rows = gradient.new_zeros(ctx.shape), gradient.new_empty(is_bottom.shape)
        to_right = torch.mul(gradient, is_right, out=to_rows[..., 1::2])
        torch.sub(gradient, to_right, out=to_rows[..., ::2])
        height, width = (2 * size for size in gradient.shape[-2:])
        to_bottom = torch.mul(to_rows, is_bottom, out=to_batch[..., 1:height:2, :width])
        torch.sub(to_rows, to_bottom, out=to_batch[..., 0:height:2, :width])
        return to_batch


class StudyCNN(NetworkSpec):
    """The original study's CNN: two convolutions of 4 and 8 channels and four dense layers, about 62,000 weights."""

    def build(self, examples: Tensor) -> nn.Module:
        layers: list[nn.Module] = []
        for channels_in, channels_out in ((examples.shape[1], 4), (4, 8)):
            layers += [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out)]
            layers += [MaxPool(), nn.ReLU()]
        width = 8 * (examples.shape[2] // 4) * (examples.shape[3] // 4)
        layers.append(nn.Flatten())
        for size, rate in ((128, 0.0), (64, 0.5), (32, 0.25)):
            layers += [nn.Linear(width, size), nn.ReLU(), Dropout(rate)]
            width = size
        return nn.Sequential(*layers, nn.Linear(width, NUM_CLASSES))
