"""Train and eval transforms, on whole uint8 batches (n, channels, H, W), where the batch lies.

A random transform takes its generator as an argument, so that a run is reproducible from one seed.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from torch import Generator, Tensor


class Augmentation(BaseModel):
    """What happens to training images, in this order; sizes in pixels of the raw image.

    ``flip``: mirror left to right, each image with probability one half. ``crop_padding``: shift by
    up to so many pixels over a black border. ``erase_size``: blacken a square of that side at a
    random place (DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552). ``jitter``: brightness
    and contrast each scaled by a factor from 1 - jitter to 1 + jitter, as torchvision's ColorJitter
    does; its hue and saturation do nothing to a grey image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = False
    crop_padding: NonNegativeInt = 0
    erase_size: NonNegativeInt = 0
    jitter: float = Field(default=0.0, ge=0, le=1)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment uint8 images (n, channels, H, W); same shape and dtype come back."""
        if self.jitter:
            images = random_jitter(images, self.jitter, generator)
        if self.flip:
            images = random_flip(images, generator)
        if self.crop_padding:
            images = random_crop(images, self.crop_padding, generator)
        if self.erase_size:
            images = random_erase(images, self.erase_size, generator)
        return images


def _integers(n: int, high: int, generator: Generator) -> Tensor:
    return torch.randint(high, (n,), generator=generator, device=generator.device)


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    n = len(images)
    mirrored = torch.rand(n, generator=generator, device=generator.device) < 0.5
    chosen = torch.arange(n, device=images.device) + n * mirrored
    return torch.cat([images, images.flip(-1)]).index_select(0, chosen)


def random_crop(images: Tensor, padding: int, generator: Generator) -> Tensor:
    """Shift each image by up to ``padding`` pixels each way; black comes in from the border."""
    n, _, height, width = images.shape
    steps = 2 * padding + 1
    top, left = _integers(n, steps, generator), _integers(n, steps, generator)
    padded = F.pad(images, (padding,) * 4)
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view of every crop of every image
    return crops[torch.arange(n, device=images.device), :, top, left]


def random_erase(images: Tensor, size: int, generator: Generator) -> Tensor:
    """Blacken a ``size`` x ``size`` square of each image; where it crosses the edge, it is cut."""
    n, _, height, width = images.shape

    def span(length: int) -> Tensor:
        start = _integers(n, length, generator)[:, None] - size // 2
        position = torch.arange(length, device=images.device)
        return (position >= start) & (position < start + size)

    return images.masked_fill(span(height)[:, None, :, None] & span(width)[:, None, None, :], 0)


def random_jitter(images: Tensor, strength: float, generator: Generator) -> Tensor:
    """Scale brightness, then contrast about the mean, of each image by its own random factors."""
    factors = torch.empty(2, len(images), 1, 1, 1, device=images.device)
    brightness, contrast = factors.uniform_(1 - strength, 1 + strength, generator=generator)
    bright = images.float().mul_(brightness).clamp_(max=255)  # in place: new memory costs more
    offset = bright.mean((1, 2, 3), keepdim=True).mul_(1 - contrast)
    return bright.mul_(contrast).add_(offset).round_().clamp_(0, 255).to(torch.uint8)


def channels_first(images: Tensor) -> Tensor:
    """Raw images (n, H, W) or (n, H, W, channels) as a contiguous batch (n, channels, H, W)."""
    return images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


def channels_last(batch: Tensor) -> NDArray[np.uint8]:
    """A batch (n, channels, H, W) as raw images, (n, H, W) or (n, H, W, channels)."""
    images = batch.permute(0, 2, 3, 1).cpu().numpy()
    return images[..., 0] if images.shape[-1] == 1 else images


def pixel_statistics(images: Tensor, roots: bool = False) -> tuple[float, float]:
    """Mean and standard deviation of the pixels of uint8 images, or of their square ``roots``.

    Of all channels together. Exact, and without a float copy of the images.
    """
    counts = torch.bincount(images.flatten(), minlength=256).double()
    level = torch.arange(256, dtype=torch.float64, device=images.device)
    level = level.sqrt() if roots else level
    mean = (counts * level).sum() / counts.sum()
    return mean.item(), ((counts * (level - mean) ** 2).sum() / counts.sum()).sqrt().item()


def to_network(
    images: Tensor, mean: float, std: float, image_size: int | None = None, roots: bool = False
) -> Tensor:
    """The eval transform: uint8 (n, channels, H, W) to float32, normalised and resized.

    A pixel becomes ``(pixel - mean) / std``: a level from 0 to 255 or, with ``roots``, its square
    root, and so are ``mean`` and ``std``. Resizing to ``image_size`` squared, where asked for, is
    bilinear with antialiasing.
    """
    batch = images.float()
    batch = (batch.sqrt_() if roots else batch).sub_(mean).div_(std)
    if image_size is None or tuple(batch.shape[-2:]) == (image_size, image_size):
        return batch
    size = (image_size, image_size)
    return F.interpolate(batch, size=size, mode="bilinear", antialias=True, align_corners=False)
