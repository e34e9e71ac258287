"""Transfer learning: the adapted networks, their weights, the two stages."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fmlib import training
from fmlib.data import Spec
from fmlib.fetch import WeightsError
from fmlib.models.registry import MODELS, build
from fmlib.models.transfer import Backbone, Transfer, drop_padding_taps, fold_repeated
from fmlib.profiles import load_profile
from fmlib.training import Recipe

LAST_LAYER = {
    "vgg16": "classifier.6",
    "resnet34": "fc",
    "mobilenet_v3_small": "classifier.3",
    "efficientnet_lite0": "classifier",
}
MILLIONS = {
    "vgg16": 138.4,
    "resnet34": 21.8,
    "mobilenet_v3_small": 2.5,
    "efficientnet_lite0": 4.7,
}
every_backbone = pytest.mark.parametrize("model", list(LAST_LAYER))


@cache
def original(model: str) -> nn.Module:
    """The architecture as its library makes it, with the same random weights every time."""
    torch.manual_seed(0)
    return build(model).new().eval()


def adapted(
    model: str, size: int = 32, channels: int = 1, pretrained: bool = True, new_stem: bool = False
) -> Backbone:
    """The network as it is fitted, from the weights of :func:`original`."""
    made = build(model, {"new_stem": new_stem})
    made.pretrained_ = original(model).state_dict() if pretrained else None
    return made.build(Spec(10, size, size, channels), torch.zeros(1, channels, size, size))


def penultimate(network: nn.Module, layer: str, batch: Tensor) -> Tensor:
    """What the last layer of the unchanged network gets to see."""
    seen = []
    last = network.get_submodule(layer)
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(batch)
    hook.remove()
    return seen[0]


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_close(got: Tensor, wanted: Tensor) -> None:
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


# --- Networks ---------------------------------------------------------------------------------


@every_backbone
def test_each_name_builds_the_architecture_of_that_name(model):
    count = sum(parameter.numel() for parameter in original(model).parameters())
    assert count / 1e6 == pytest.approx(MILLIONS[model], abs=0.06)


def test_the_studys_mobilenet_is_shown_as_the_resnet_it_was():
    shown = MODELS["mobilenet_v3_as_run"]
    assert issubclass(shown, MODELS["resnet34"]) and "ResNet34" in shown.title


@pytest.mark.parametrize("size", [32, 56])
@every_backbone
def test_the_adapted_network_on_grey_equals_the_original_on_grey_three_times(model, size):
    network, grey = adapted(model, size).eval(), images(2, 1, size, size)
    rgb = (grey * network.std + network.mean).repeat(1, 3, 1, 1)
    with torch.no_grad():
        got = network.features(grey)
    assert_close(got, penultimate(original(model), LAST_LAYER[model], rgb))


@every_backbone
def test_the_adapted_network_on_colour_equals_the_original(model):
    network, colour = adapted(model, channels=3).eval(), images(2, 3, 32, 32)
    rgb = colour * network.std + network.mean
    with torch.no_grad():
        got = network.features(colour)
    assert_close(got, penultimate(original(model), LAST_LAYER[model], rgb))


def test_images_too_small_for_a_network_are_refused_in_words():
    with pytest.raises(ValueError, match=r"VGG16 .* wants at least 32 pixels, got 28"):
        adapted("vgg16", 28)


def test_a_new_stem_is_another_one_and_nothing_else_is():
    kept, new = (adapted("resnet34", new_stem=one).stages.state_dict() for one in (False, True))
    changed = {name for name in kept if not torch.equal(kept[name], new[name])}
    assert changed == {"0.0.weight"}


def test_folding_gives_the_same_answer_with_fewer_weights():
    wide, features = nn.Linear(5 * 49, 7), torch.randn(3, 5)
    folded = fold_repeated(wide, 49)
    assert folded.in_features == 5
    wanted = wide(features.repeat_interleave(49, dim=1))
    assert torch.allclose(folded(features), wanted, atol=1e-5)


@given(size=st.integers(1, 12), half=st.integers(1, 3), stride=st.integers(1, 3))
def test_a_convolution_without_taps_on_padding_gives_the_same_answer(size, half, stride):
    layer = nn.Conv2d(2, 3, 2 * half + 1, stride, half)
    maps = torch.randn(2, 2, size, size)
    with torch.no_grad():
        expected = layer(maps)
        drop_padding_taps(layer, size)
        assert torch.allclose(layer(maps), expected, atol=1e-5)
    assert layer.weight.shape[-1] == layer.kernel_size[0] <= 2 * half + 1
    assert size > half or stride > 1 or layer.kernel_size[0] == 2 * size - 1


@every_backbone
def test_frozen_stages_give_what_they_give_when_they_are_not_frozen(model):
    network, batch = adapted(model).eval(), images(37, 1, 32, 32)
    with torch.no_grad():
        expected = network(batch)
    network.frozen = 3
    got = network(batch)
    assert_close(got, expected)
    got.sum().backward()
    for number, stage in enumerate(network.stages):
        trained = any(parameter.grad is not None for parameter in stage.parameters())
        has_weights = any(True for _ in stage.parameters())
        assert trained == (number >= 3 and has_weights)


@pytest.mark.parametrize(("model", "millions"), [("vgg16", 33.6), ("resnet34", 10.1)])
def test_networks_made_for_large_images_have_fewer_weights_at_32_pixels(model, millions):
    network = adapted(model, pretrained=False)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


# --- Weights ----------------------------------------------------------------------------------


@pytest.fixture
def weights_folder(tmp_path, monkeypatch) -> Path:
    """An empty FMLIB_WEIGHTS, no hub cache, no internet."""

    def refuse(*_args: object, **_more: object) -> None:
        raise OSError("no internet in tests")

    monkeypatch.setenv("FMLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path


def put_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Any]) -> Path:
    """A checkpoint in ``folder``, under the name of torchvision's for MobileNetV3."""
    draft = folder / "draft.pth"
    torch.save(state, draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    path = draft.rename(folder / f"mobilenet_v3_small-{digest[:8]}.pth")

    class Found:
        url = f"https://example.org/{path.name}"

    kind = type("Weights", (), {"IMAGENET1K_V1": Found})
    monkeypatch.setattr("torchvision.models.get_model_weights", lambda _name: kind)
    return path


def required(few: Any) -> Transfer:
    return build("mobilenet_v3_small", tiny("required")).fit(few)


def tiny(weights: str, epochs: int = 1, **more: object) -> dict[str, Any]:
    probe = {"epochs": 3, "batch_size": 50, "lr": 0.005}
    recipe = {"epochs": epochs, "batch_size": 50, "image_size": 32, "lr": 0.0005}
    return {"weights": weights, "probe": probe, "recipe": recipe | {"channels_last": True}, **more}


def test_weights_in_a_folder_are_found_with_source_and_checksum(weights_folder, monkeypatch, few):
    state = original("mobilenet_v3_small").state_dict()
    path = put_checkpoint(weights_folder, monkeypatch, state)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert required(few).weights_ == (path.name, sha256)


def test_truncated_weights_are_refused(weights_folder, monkeypatch, few):
    state = original("mobilenet_v3_small").state_dict()
    path = put_checkpoint(weights_folder, monkeypatch, state)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"damaged.*SHA-256"):
        required(few)


def test_weights_of_another_network_are_refused(weights_folder, monkeypatch, few):
    put_checkpoint(weights_folder, monkeypatch, original("resnet34").state_dict())
    with pytest.raises(WeightsError, match="state_dict"):
        required(few)


def test_weights_that_are_code_are_refused(weights_folder, monkeypatch, few):
    put_checkpoint(weights_folder, monkeypatch, {"payload": print})
    with pytest.raises(WeightsError, match="mobilenet"):
        required(few)


def test_weights_that_cannot_be_had_stop_the_fit_that_requires_them(weights_folder, few):
    tried = r"no ImageNet weights for resnet34.*hub cache.*FMLIB_WEIGHTS.*download.*no internet"
    with pytest.raises(WeightsError, match=tried):
        build("resnet34", tiny("required")).fit(few)


def test_without_weights_it_trains_from_scratch_by_the_recipe_for_that_and_says_so_once(
    weights_folder, few, caplog
):
    scratch = {"epochs": 2, "batch_size": 50, "image_size": 32, "scaling": "unit"}
    model = build("mobilenet_v3_small", tiny("auto", scratch=scratch)).fit(few)
    told = [one.levelname for one in caplog.records if "from scratch" in one.message]
    assert told == ["WARNING"]
    assert model.weights_ == ("none", None)
    assert [row["stage"] for row in model.history_] == ["train"] * 2
    assert model.inputs(few.train_images).amin() >= 0


# --- The two stages ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite(few) -> Transfer:
    """EfficientNet-Lite0, whose weights come with a package, fine-tuned."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build("efficientnet_lite0", tiny("required")).fit(few)


def test_both_stages_are_in_the_history(lite):
    assert [row["stage"] for row in lite.history_] == ["probe"] * 3 + ["fine-tuning"]
    assert lite.weights_[1].startswith("57934424")


def test_a_fine_tuned_network_is_loaded_as_it_was(lite, few, tmp_path):
    loaded = build("efficientnet_lite0", tiny("required")).load(tmp_path, lite.save(tmp_path))
    wanted, got = (one.predict_proba(few.test_images) for one in (lite, loaded))
    assert np.array_equal(got, wanted) and loaded.weights_ == lite.weights_


def test_loading_needs_no_weights(lite, few, tmp_path, weights_folder, monkeypatch):
    kept = lite.save(tmp_path)
    monkeypatch.setattr(type(lite), "places", lambda _self: iter(()))
    loaded = build("efficientnet_lite0", tiny("required")).load(tmp_path, kept)
    assert loaded.predict_proba(few.test_images).shape == (20, 10)


def test_neither_stage_trains_on_validation_images(lite, few):
    labels = few.validation_labels[::-1].copy()
    inverted = {"validation_images": 255 - few.validation_images, "validation_labels": labels}
    other = build("efficientnet_lite0", tiny("required")).fit(replace(few, **inverted))
    assert np.array_equal(other.predict(few.test_images), lite.predict(few.test_images))
    losses = [[row["train_loss"] for row in one.history_] for one in (lite, other)]
    assert losses[0] == losses[1]


@every_backbone
def test_both_stages_of_the_cpu_profile_run_in_the_precision_that_they_ask_for(
    model, few, monkeypatch
):
    monkeypatch.setattr(training, "has_bfloat16", lambda _device: True)
    parameters = load_profile("cpu").models[model]
    once = {stage: parameters[stage] | {"epochs": 1} for stage in ("probe", "recipe")}
    made = build(model, parameters | once)

    def weights() -> dict[str, Tensor]:
        made.weights_ = ("made here", "0" * 64)
        return original(model).state_dict()

    monkeypatch.setattr(made, "_find_weights", weights)
    made.fit(few)
    assert [row["stage"] for row in made.history_] == ["probe", "fine-tuning"]
    assert np.isfinite(made.predict_proba(few.test_images)).all()


@pytest.fixture(scope="module")
def frozen(few) -> Transfer:
    return build("efficientnet_lite0", tiny("required", frozen_stages=7)).fit(few)


def test_frozen_stages_keep_their_weights_through_both_stages(frozen):
    made = build("efficientnet_lite0", {"weights": "required"})
    made.settle()
    before = made.build(Spec(10, 28, 28), torch.zeros(1, 1, 32, 32)).stages.state_dict()
    after = frozen.network_.stages.state_dict()
    assert all(torch.equal(before[name], after[name].cpu()) for name in before)


def test_each_stage_learns_slower_than_the_one_above_and_only_weights_decay():
    network = adapted("efficientnet_lite0")
    network.frozen, network.layer_decay = 2, 0.5
    groups = network.parameter_groups(Recipe(lr=1.0, weight_decay=0.1))
    rates = {id(one): group["lr"] for group in groups for one in group["params"]}
    decay = {id(one): group["weight_decay"] for group in groups for one in group["params"]}
    kept = [one for stage in network.stages[:2] for one in stage.parameters()]
    assert not any(id(one) in rates for one in kept)
    trained = [*network.stages[2:], network.head]
    for distance, stage in enumerate(reversed(trained)):
        for parameter in stage.parameters():
            assert rates[id(parameter)] == 0.5**distance
            assert decay[id(parameter)] == (0.1 if parameter.ndim > 1 else 0)


def test_the_fields_for_freezing_reach_the_network(few):
    made = build("efficientnet_lite0", tiny("required", frozen_stages=2, layer_decay=0.5))
    network = made.fit(few).network_
    assert (network.frozen, network.layer_decay) == (2, 0.5)


def test_a_network_that_moves_to_its_device_for_the_features_can_still_be_trained(few, monkeypatch):
    moved = set()

    def to(network, *_, **__):  # to a GPU: every tensor is copied, once
        if network not in moved:
            moved.add(network)
            network._apply(torch.clone)
        return network

    monkeypatch.setattr(nn.Module, "to", to)
    network = build("efficientnet_lite0", tiny("required")).fit(few).network_
    assert not any(one.is_inference() for one in (*network.parameters(), *network.buffers()))
