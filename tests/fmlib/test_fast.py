"""What is faster computes the same: layer by layer, and from the fit to the prediction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import timm.layers
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from fmlib import fast, training
from fmlib.fast.layers import (
    DepthwiseConv2d,
    PatchConv2d,
    PointwiseConv2d,
    WholeMapConv2d,
    replace_layers,
    small_version,
)
from fmlib.models.base import Model
from fmlib.models.registry import build

LAYERS = (DepthwiseConv2d, PatchConv2d, PointwiseConv2d, WholeMapConv2d)


# --- Every network ----------------------------------------------------------------------------

RECIPE = {"epochs": 1, "batch_size": 25, "optimizer": "sgd", "lr": 0.01, "image_size": 32}
# Batch normalisation of new, deep networks makes much of rounding: weights off by 1e-7 change their
# gradients by a percent or more. So they learn slowly here, and are compared more loosely.
BACKBONE = {"weights": "none", "recipe": RECIPE | {"lr": 0.0001}}
BACKBONES = ("vgg16", "resnet34", "mobilenet_v3_small", "efficientnet_lite0")
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden_sizes": [16], "recipe": RECIPE},
    "cnn": {"widths": [4, 8, 8], "recipe": RECIPE},
    "study_cnn": {"recipe": RECIPE},
} | dict.fromkeys(BACKBONES, BACKBONE)


@pytest.fixture(autouse=True)
def _plain_again() -> Iterator[None]:
    before = training.speedups
    yield
    training.speedups = before


def fitted(model: str, few: Any, speedups: training.Speedups) -> Model:
    training.speedups = speedups
    return build(model, NETWORKS[model]).fit(few, 9)


@pytest.mark.parametrize("model", NETWORKS)
def test_without_the_speedups_a_fit_gives_the_same_but_for_rounding(model, few):
    quick, plain = (fitted(model, few, one) for one in (fast.Fast(), training.Speedups()))
    assert not any(isinstance(layer, LAYERS) for layer in plain.network_.modules())
    if model in BACKBONES:
        assert any(isinstance(layer, LAYERS) for layer in quick.network_.modules())
    wanted, got = (one.predict_proba(few.test_images) for one in (plain, quick))
    tolerance = 0.02 if model in BACKBONES else 1e-5
    np.testing.assert_allclose(got, wanted, atol=tolerance)
    losses = [one.history_[0]["train_loss"] for one in (plain, quick)]
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
    assert quick.parameter_count() == plain.parameter_count()


@pytest.mark.parametrize("model", BACKBONES)
def test_a_model_fitted_with_the_speedups_is_loaded_without_them(model, few, tmp_path):
    quick = fitted(model, few, fast.Fast())
    kept = quick.save(tmp_path)
    training.speedups = training.Speedups()
    plain = build(model, NETWORKS[model]).load(tmp_path, kept)
    images = few.test_images
    np.testing.assert_allclose(plain.predict_proba(images), quick.predict_proba(images), atol=1e-5)


def test_speedups_are_off_until_they_are_enabled():
    training.speedups = training.Speedups()
    fast.enable()
    assert isinstance(training.speedups, fast.Fast)


# --- Layers -----------------------------------------------------------------------------------


def test_layers_are_replaced_where_they_see_small_maps_and_nothing_else_changes():
    network = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(4), nn.Conv2d(8, 8, 3, padding=1)),
        *(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding="same")),
    )
    batch = torch.randn(40, 1, 16, 16)
    wanted, state = network(batch), {**network.state_dict()}
    replace_layers(network.train(), batch[:1])
    kinds = [type(network[place]) for place in (0, 2, 4, 5)]
    assert kinds == [nn.Conv2d, nn.Conv2d, WholeMapConv2d, nn.Conv2d]
    assert network.training and network.state_dict().keys() == state.keys()
    torch.testing.assert_close(network(batch), wanted)


def outputs_and_gradients(
    layer: nn.Module, batch: Tensor, weight: Tensor, bias: Tensor | None
) -> list[Tensor]:
    batch = batch.clone().requires_grad_()
    output = layer(batch)
    learnt = [batch, weight] if bias is None else [batch, weight, bias]
    mixed = (output * torch.linspace(-1, 1, output[0].numel()).view(output.shape[1:])).sum()
    return [output, *torch.autograd.grad(mixed, learnt)]


def assert_same(
    layer: nn.Conv2d, size: int, kind: type[nn.Module], layout: torch.memory_format, images: int = 3
) -> None:
    batch = torch.randn(images, layer.in_channels, size, size).contiguous(memory_format=layout)
    fast = small_version(layer, size)
    assert type(fast) is kind
    wanted = outputs_and_gradients(layer, batch, layer.weight, layer.bias)
    found = outputs_and_gradients(fast, batch, layer.weight, layer.bias)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


layouts = st.sampled_from([torch.channels_last, torch.contiguous_format])


@given(
    st.integers(1, 9),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([1, 2]),
    st.booleans(),
    layouts,
)
def test_a_depthwise_convolution(size, kernel, stride, bias, layout):
    layer = nn.Conv2d(16, 16, kernel, stride, kernel // 2, groups=16, bias=bias)
    assert_same(layer, size, DepthwiseConv2d, layout)


@given(st.integers(1, 9), st.sampled_from([3, 5]), st.sampled_from([1, 2]), layouts)
def test_a_depthwise_convolution_with_the_padding_of_tensorflow(size, kernel, stride, layout):
    layer = timm.layers.Conv2dSame(16, 16, kernel, stride, groups=16, bias=False)
    assert_same(layer, size, DepthwiseConv2d, layout)


@given(st.integers(1, 6), st.booleans(), layouts)
def test_a_pointwise_convolution(size, bias, layout):
    assert_same(nn.Conv2d(8, 12, 1, bias=bias), size, PointwiseConv2d, layout)


@given(
    st.integers(1, 4),
    st.sampled_from([(1, 0), (2, 0), (3, 1), (5, 2)]),
    st.sampled_from([1, 2]),
    st.booleans(),
    layouts,
)
def test_a_convolution_with_few_outputs(size, kernel_and_padding, stride, bias, layout):
    kernel, padding = kernel_and_padding
    outputs = (size + 2 * padding - kernel) // stride + 1
    assume(1 <= outputs <= 2 and (kernel, stride) != (1, 1))
    kind = WholeMapConv2d if (kernel, stride, size) == (3, 1, 2) else PatchConv2d
    assert_same(nn.Conv2d(8, 12, kernel, stride, padding, bias=bias), size, kind, layout)


@given(st.integers(30, 40), st.booleans(), layouts)
def test_a_convolution_of_few_or_many_maps_of_four_pixels(images, bias, layout):
    assert_same(nn.Conv2d(8, 12, 3, padding=1, bias=bias), 2, WholeMapConv2d, layout, images)


@pytest.mark.parametrize(("size", "kind"), [(4, PatchConv2d), (5, nn.Conv2d)])
def test_a_wide_convolution_on_maps_of_four_pixels(size, kind):
    assert_same(nn.Conv2d(256, 3, 3, padding=1), size, kind, torch.channels_last)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), 3),
        (nn.Conv2d(8, 8, 1, stride=2), 5),
        (nn.Conv2d(8, 8, 3, padding=1, groups=2), 2),
    ],
    ids=str,
)
def test_what_would_not_gain_is_left_as_it_is(layer, size):
    assert small_version(layer, size) is layer


def test_only_a_depthwise_convolution_stays_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        kinds = [
            small_version(layer, 2)(torch.randn(2, 8, 2, 2)).dtype
            for layer in (
                nn.Conv2d(8, 8, 3, padding=1, groups=8),
                nn.Conv2d(8, 8, 1),
                nn.Conv2d(8, 8, 3, padding=1),
            )
        ]
    assert kinds == [torch.float32, torch.bfloat16, torch.bfloat16]


@pytest.mark.parametrize(("size", "kind"), [(2, WholeMapConv2d), (4, PatchConv2d)])
def test_products_in_bfloat16_are_as_near_as_the_plain_convolution(size, kind):
    layer = nn.Conv2d(256, 64, 3, padding=1)
    batch = torch.randn(40, 256, size, size)
    exact, fast = layer(batch), small_version(layer, size)
    assert type(fast) is kind
    with torch.autocast("cpu", torch.bfloat16):
        errors = [(one(batch) - exact).abs().mean().item() for one in (fast, layer)]
    assert errors[0] < 1.5 * errors[1]


def test_fixed_weights_get_no_gradient():
    layer = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
    fast = small_version(layer, 3)
    fast.weight.requires_grad_(False)
    batch = torch.randn(2, 8, 3, 3, requires_grad=True)
    fast(batch).sum().backward()
    assert fast.weight.grad is None
    assert batch.grad is not None
