"""Convolutions on maps of a few pixels as matrix products: the same results, sooner on a CPU.

Late layers of a network for large photographs see maps of 1 to 6 pixels here. A CPU's convolution
kernels are made for larger ones, and on these some fall back to code that is ten times slower. The
layers below have the weights and the outputs of the ones that they replace. On CUDA they are plain
convolutions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


class PointwiseConv2d(nn.Module):
    """The 1x1 convolution ``layer``, as a linear layer over the channels of every pixel."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, batch: Tensor) -> Tensor:
        if batch.is_cuda:
            return F.conv2d(batch, self.weight, self.bias)
        return F.linear(batch.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(
            0, 3, 1, 2
        )


class PatchConv2d(nn.Module):
    """The convolution ``layer``, as a linear layer over the patches that its kernel sees."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.stride, self.padding = (
            layer.weight,
            layer.bias,
            layer.stride,
            layer.padding,
        )

    def forward(self, batch: Tensor) -> Tensor:
        if batch.is_cuda:
            return F.conv2d(batch, self.weight, self.bias, self.stride, self.padding)
        patches = _Patches.apply(batch, self.weight.shape[-1], self.stride[0], self.padding[0])
        return F.linear(patches, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias).permute(
            0, 3, 1, 2
        )


class _Patches(torch.autograd.Function):
    """The patches (n, outputs, outputs, kernel**2 * c) of maps (n, c, size, size).

    With a way back that takes less time than autograd's.
    """

    @staticmethod
    def forward(ctx: Any, batch: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        ctx.size, ctx.kernel, ctx.stride, ctx.padding = batch.shape[-1], kernel, stride, padding
        pixels = F.pad(batch.permute(0, 2, 3, 1), (0, 0, *(padding,) * 4))
        return (
            pixels.unfold(1, kernel, stride)
            .unfold(2, kernel, stride)
            .permute(0, 1, 2, 4, 5, 3)
            .flatten(3)
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kernel, stride, padding = ctx.kernel, ctx.stride, ctx.padding
        parts = gradient.unflatten(3, (kernel, kernel, -1))
        pixels = parts.new_zeros(len(parts), *(ctx.size + 2 * padding,) * 2, parts.shape[-1])
        span = stride * (parts.shape[1] - 1) + 1
        for row in range(kernel):
            for column in range(kernel):
                pixels[:, row : row + span : stride, column : column + span : stride] += parts[
                    :, :, :, row, column
                ]
        inner = slice(padding, padding + ctx.size)
        return pixels[:, inner, inner].permute(0, 3, 1, 2), None, None, None


class WholeMapConv2d(PatchConv2d):
    """The 3x3 convolution ``layer`` on maps of 2x2 pixels: a linear layer from all pixels to all.

    Of the 36 products of a tap and a pixel, for every pair of channels, it forms the 16 that are
    not of padding. For few images patches are quicker, which need no weights laid out anew.
    """

    def forward(self, batch: Tensor) -> Tensor:
        if batch.is_cuda or len(batch) < 32:
            return super().forward(batch)
        taps = (
            self.weight.permute(0, 2, 3, 1).flatten(1, 2).to(batch.dtype)
        )  # (channels out, 9, channels in)
        of_pixels = taps.index_select(1, _taps(2, 2, 3, 1, 1).argmax(1)).unflatten(1, (4, 4))
        dense = (
            of_pixels.transpose(0, 1).flatten(2).flatten(0, 1)
        )  # (4 * channels out, 4 * channels in)
        bias = None if self.bias is None else self.bias.repeat(4)
        return (
            F.linear(batch.permute(0, 2, 3, 1).flatten(1), dense, bias)
            .unflatten(1, (2, 2, -1))
            .permute(0, 3, 1, 2)
        )


class DepthwiseConv2d(nn.Module):
    """The depthwise convolution ``layer``, on a CPU always in float32: bfloat16 makes it slower."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.kernel_size, self.stride, self.padding = layer.kernel_size, layer.stride, layer.padding
        self.pads_itself = _pads_itself(layer)

    def forward(self, batch: Tensor) -> Tensor:
        padding = self.padding
        if self.pads_itself:
            from timm.layers import get_same_padding, pad_same

            margins = get_same_padding(
                batch.shape[-1], self.kernel_size[0], self.stride[0], 1
            )  # on two opposite sides
            padding = (margins // 2,) * 2
            if margins % 2:
                batch, padding = pad_same(batch, [*self.kernel_size], [*self.stride]), (0, 0)
        if batch.is_cuda:
            return F.conv2d(
                batch, self.weight, self.bias, self.stride, padding, groups=len(self.weight)
            )
        with torch.autocast(batch.device.type, enabled=False):
            return _Depthwise.apply(batch.float(), self.weight, self.bias, self.stride, padding)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution with a faster gradient of its weights on small maps.

    It is made of products of input and output pixels. oneDNN 3 has a depthwise kernel for it only
    where the layer's kernel is 3x3 and the map is no smaller.
    """

    @staticmethod
    def forward(
        ctx: Any,
        batch: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(batch, weight, bias)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(batch, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        batch, weight, bias = ctx.saved_tensors
        kernel, size, outputs = weight.shape[-1], batch.shape[-1], gradient.shape[-1]
        by_products = size * outputs <= 36 and not (kernel == 3 and size >= 3)
        wants_batch, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wanted = (wants_batch, wants_weight and not by_products, wants_bias)
        bias_shape = None if bias is None else bias.shape
        layout = (ctx.stride, ctx.padding, (1, 1), False, (0, 0), len(weight))
        to_batch, to_weight, to_bias = torch.ops.aten.convolution_backward(
            gradient, batch, weight, bias_shape, *layout, wanted
        )
        if wants_weight and by_products:
            pixels, errors = (
                one.flatten(2).permute(1, 2, 0).contiguous() for one in (batch, gradient)
            )  # channels, pixels, n
            products = torch.bmm(errors, pixels.transpose(1, 2)).flatten(1)
            to_weight = (
                products @ _taps(size, outputs, kernel, ctx.stride[0], ctx.padding[0])
            ).view_as(weight)
        return to_batch, to_weight, to_bias, None, None


@cache
def _taps(size: int, outputs: int, kernel: int, stride: int, padding: int) -> Tensor:
    """Which tap of a kernel joins an output pixel with an input pixel.

    0 or 1, float32 (outputs**2 * size**2, kernel**2).
    """
    tap = torch.arange(size) - torch.arange(outputs)[:, None] * stride + padding
    joins = F.one_hot(tap.clamp(0, kernel - 1), kernel) * ((tap >= 0) & (tap < kernel))[..., None]
    return torch.einsum("pru,qsv->pqrsuv", joins.float(), joins.float()).reshape(-1, kernel**2)


def small_version(layer: nn.Conv2d, size: int) -> nn.Module:
    """The fastest layer on square maps of ``size`` pixels on a CPU.

    ``layer`` itself, or one that shares its parameters.
    """
    if layer.groups > 1 and layer.groups == layer.in_channels == layer.out_channels:
        return DepthwiseConv2d(layer)
    if layer.groups > 1 or _pads_itself(layer) or isinstance(layer.padding, str):
        return layer
    (kernel, _), (stride, _), (padding, _) = layer.kernel_size, layer.stride, layer.padding
    if (kernel, stride, padding) == (1, 1, 0):
        return PointwiseConv2d(layer)
    if (kernel, stride, padding, size) == (3, 1, 1, 2):
        return WholeMapConv2d(layer)
    outputs = (size + 2 * padding - kernel) // stride + 1
    small = outputs <= 2 or (outputs <= 4 and layer.in_channels >= 256)
    return PatchConv2d(layer) if small else layer


def _pads_itself(layer: nn.Conv2d) -> bool:
    """Whether it is timm's convolution with TensorFlow's padding, which needs no import of timm."""
    return any(kind.__name__ == "Conv2dSame" for kind in type(layer).__mro__)


def _is_plain(layer: nn.Conv2d) -> bool:
    """Whether it is square, undilated, padded by zeros, and of no unknown kind."""
    square = all(len({*pair}) == 1 for pair in (layer.kernel_size, layer.stride))
    numbers = not isinstance(layer.padding, str) and len({*layer.padding}) == 1
    known = type(layer).forward is nn.Conv2d.forward or _pads_itself(layer)
    return (
        square and numbers and layer.dilation == (1, 1) and layer.padding_mode == "zeros" and known
    )


@torch.no_grad()
def replace_layers(network: nn.Module, example: Tensor) -> None:
    """Put faster layers where a network convolves small square maps, in place.

    ``example``: one input, (1, channels, H, W), where the network lies. Weights and outputs stay.
    """
    sizes: dict[nn.Module, set[tuple[int, ...]]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        if isinstance(layer, nn.Conv2d):
            sizes.setdefault(layer, set()).add(tuple(inputs[0].shape[-2:]))

    was_training = network.training
    with register_module_forward_pre_hook(note):
        network.eval()(example)
    network.train(was_training)
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Conv2d) and _is_plain(layer):
                (height, width), *others = sizes.get(layer, {(0, 1)})
                if height == width and not others:
                    setattr(parent, name, small_version(layer, width))
