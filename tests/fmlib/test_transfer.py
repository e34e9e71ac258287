"""Transfer learning: the adapted networks, their weights, the two stages."""

from __future__ import annotations

import hashlib
import platform
import resource
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fmlib import training
from fmlib.models import transfer
from fmlib.models.registry import REGISTRY, build
from fmlib.models.transfer import Backbone, Pretrained, WeightsError, drop_idle_taps, find_weights, fold_repeated, grad_cam
from fmlib.profiles import load_profile
from fmlib.training import Recipe

LAST_LAYER = {
    "vgg16": "classifier.6", "resnet34": "fc", "mobilenet_v3_small": "classifier.3", "efficientnet_lite0": "classifier",
}  # fmt: skip
MILLIONS = {"vgg16": 138.4, "resnet34": 21.8, "mobilenet_v3_small": 2.5, "efficientnet_lite0": 4.7}


@cache
def original(architecture: str) -> nn.Module:
    torch.manual_seed(0)
    return transfer._new(architecture).eval()


def penultimate(model: nn.Module, layer: str, batch: torch.Tensor) -> torch.Tensor:
    """What the last layer of the unchanged network gets to see."""
    seen = []
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(batch)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("architecture", LAST_LAYER)
def test_each_name_builds_the_architecture_of_that_name(architecture):
    assert sum(p.numel() for p in original(architecture).parameters()) / 1e6 == pytest.approx(MILLIONS[architecture], abs=0.06)
    schema = REGISTRY[architecture].schema
    assert schema.model_fields["architecture"].default == architecture


def test_the_study_s_mobilenet_is_shown_as_the_resnet_it_was():
    entry = REGISTRY["mobilenet_v3_as_run"]
    assert entry.schema.model_fields["architecture"].default == "resnet34" and "ResNet34" in entry.display_name


@pytest.mark.parametrize("image_size", [32, 56])
@pytest.mark.parametrize("architecture", LAST_LAYER)
def test_the_adapted_network_on_grey_equals_the_original_on_grey_repeated_three_times(architecture, image_size):
    adapted = Backbone(architecture, image_size, original(architecture).state_dict(), new_stem=False).eval()
    grey = torch.randn(2, 1, image_size, image_size, generator=torch.Generator().manual_seed(1))
    rgb = (grey * adapted.std + adapted.mean).repeat(1, 3, 1, 1)
    expected = penultimate(original(architecture), LAST_LAYER[architecture], rgb)
    with torch.no_grad():
        got = adapted.features(grey)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_images_too_small_for_a_network_are_refused_in_words():
    with pytest.raises(ValueError, match=r"VGG16 .* wants at least 32 pixels, got 28"):
        Backbone("vgg16", 28, None, new_stem=False)


def test_a_new_stem_is_another_one_and_nothing_else_is():
    state = original("resnet34").state_dict()
    kept, new = (Backbone("resnet34", 32, state, new_stem=new_stem) for new_stem in (False, True))
    changed = {name for (name, a), b in zip(kept.stages.state_dict().items(), new.stages.state_dict().values(), strict=True)
               if not torch.equal(a, b)}
    assert changed == {"0.0.weight"}


def test_folding_gives_the_same_answer_with_fewer_weights():
    wide, features = nn.Linear(5 * 49, 7), torch.randn(3, 5)
    folded = fold_repeated(wide, 49)
    assert folded.in_features == 5
    assert torch.allclose(folded(features), wide(features.repeat_interleave(49, dim=1)), atol=1e-5)


@given(size=st.integers(1, 12), half=st.integers(1, 3), stride=st.integers(1, 3))
def test_a_convolution_without_its_idle_taps_gives_the_same_answer(size, half, stride):
    layer, maps = nn.Conv2d(2, 3, 2 * half + 1, stride, half), torch.randn(2, 2, size, size)
    with torch.no_grad():
        expected = layer(maps)
        drop_idle_taps(layer, size)
        assert torch.allclose(layer(maps), expected, atol=1e-5)
    assert layer.weight.shape[-1] == layer.kernel_size[0] <= 2 * half + 1
    assert size > half or stride > 1 or layer.kernel_size[0] == 2 * size - 1


@pytest.mark.parametrize("architecture", LAST_LAYER)
def test_frozen_stages_give_what_they_give_when_they_are_not_frozen(architecture):
    network = Backbone(architecture, 32, original(architecture).state_dict(), new_stem=False).eval()
    images = torch.randn(37, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(images)
    network.frozen = 3
    got = network(images)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    got.sum().backward()
    trained = [any(p.grad is not None for p in stage.parameters()) for stage in network.stages]
    assert trained == [number >= 3 and any(True for _ in stage.parameters()) for number, stage in enumerate(network.stages)]


@pytest.mark.parametrize(("architecture", "millions"), [("vgg16", 33.6), ("resnet34", 10.1)])
def test_networks_made_for_large_images_have_fewer_weights_at_32_pixels(architecture, millions):
    count = sum(p.numel() for p in Backbone(architecture, 32, None, new_stem=False).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


# --- Weights --------------------------------------------------------------------------------------------------------------

NAME = "mobilenet_v3_small-{}.pth"


@pytest.fixture
def weights_folder(tmp_path, monkeypatch):
    """An empty FMLIB_WEIGHTS, no hub cache, no internet; mobilenet's checkpoint is expected under the name it is given."""
    monkeypatch.setenv("FMLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no internet in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path


def put_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch, state: dict, damage: bool = False) -> Path:
    draft = folder / "draft.pth"
    torch.save(state, draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    path = folder / NAME.format(digest[:8])
    path.write_bytes(draft.read_bytes()[: -1000 if damage else None])
    draft.unlink()

    class Found:
        url = f"https://example.org/{path.name}"

    monkeypatch.setattr(transfer.tv, "get_model_weights", lambda name: type("W", (), {"IMAGENET1K_V1": Found}))
    return path


def test_weights_in_a_folder_are_found_with_source_and_checksum(weights_folder, monkeypatch):
    path = put_checkpoint(weights_folder, monkeypatch, original("mobilenet_v3_small").state_dict())
    found = find_weights("mobilenet_v3_small")
    assert found.source == path.name and found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_truncated_weights_are_refused(weights_folder, monkeypatch):
    put_checkpoint(weights_folder, monkeypatch, original("mobilenet_v3_small").state_dict(), damage=True)
    with pytest.raises(WeightsError, match=r"damaged.*SHA-256"):
        find_weights("mobilenet_v3_small")


def test_weights_of_another_network_are_refused(weights_folder, monkeypatch):
    put_checkpoint(weights_folder, monkeypatch, original("resnet34").state_dict())
    with pytest.raises(WeightsError, match="state_dict"):
        find_weights("mobilenet_v3_small")


def test_weights_that_are_code_are_refused(weights_folder, monkeypatch):
    put_checkpoint(weights_folder, monkeypatch, {"payload": print})
    with pytest.raises(WeightsError, match="mobilenet"):
        find_weights("mobilenet_v3_small")


def test_weights_that_may_not_be_read_are_told(weights_folder, monkeypatch):
    put_checkpoint(weights_folder, monkeypatch, original("mobilenet_v3_small").state_dict())

    def refuse(self: Path) -> bytes:  # root may read everything, so a mode would not do
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(WeightsError, match="Permission denied"):
        find_weights("mobilenet_v3_small")


def test_the_error_lists_every_place_that_was_tried(weights_folder):
    with pytest.raises(WeightsError, match=r"hub cache.*FMLIB_WEIGHTS.*download.*no internet in tests"):
        find_weights("resnet34")


def test_efficientnet_lite0_has_its_weights_from_a_package():
    found = find_weights("efficientnet_lite0")
    assert found.sha256.startswith("57934424")


# --- The classifier -------------------------------------------------------------------------------------------------------


def tiny(weights: str, epochs: int = 1, **more: object) -> dict:
    recipe = {"epochs": epochs, "batch_size": 50, "image_size": 32, "lr": 0.0005, "channels_last": True}
    return {"weights": weights, "probe": {"epochs": 3, "batch_size": 50, "lr": 0.005}, "recipe": recipe, **more}


def test_required_weights_that_cannot_be_had_stop_the_fit(weights_folder, small):
    with pytest.raises(WeightsError, match="resnet34"):
        build("resnet34", tiny("required")).fit(*small.train, small.validation)


def test_without_weights_it_trains_from_scratch_by_the_recipe_for_that_and_says_so_once(weights_folder, small, caplog):
    parameters = tiny("auto", scratch={"epochs": 2, "batch_size": 50, "image_size": 32, "scaling": "unit"})
    classifier = build("mobilenet_v3_small", parameters).fit(*small.train, small.validation)
    assert [record.levelname for record in caplog.records if "from scratch" in record.message] == ["WARNING"]
    assert classifier.weights_ == {"source": "none"} and [row["stage"] for row in classifier.history_] == ["train"] * 2
    assert classifier.inputs(small.train_images).amin() >= 0


@pytest.fixture(scope="module")
def lite(small):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build("efficientnet_lite0", tiny("required")).fit(*small.train, small.validation)


def test_both_stages_are_in_the_history(lite):
    assert [row["stage"] for row in lite.history_] == ["probe"] * 3 + ["fine-tuning"]
    assert lite.weights_["sha256"].startswith("57934424")


def test_neither_stage_trains_on_validation_images(lite, small):
    other = build("efficientnet_lite0", tiny("required"))
    other.fit(*small.train, (255 - small.validation_images, small.validation_labels[::-1].copy()))
    assert np.array_equal(other.predict(small.test_images), lite.predict(small.test_images))
    losses = [[row["train_loss"] for row in one.history_] for one in (lite, other)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("architecture", LAST_LAYER)
def test_both_stages_of_the_cpu_profile_run_in_the_precision_that_they_ask_for(architecture, few, monkeypatch):
    monkeypatch.setattr(training, "has_bfloat16", lambda _device: True)
    found = Pretrained(original(architecture).state_dict(), "made here", "0" * 64)
    monkeypatch.setattr(transfer, "find_weights", lambda _architecture: found)
    parameters = load_profile("cpu").models[architecture]
    once = {stage: parameters[stage] | {"epochs": 1} for stage in ("probe", "recipe")}
    classifier = build(architecture, parameters | once).fit(*few.train, few.validation)
    assert [row["stage"] for row in classifier.history_] == ["probe", "fine-tuning"]
    assert np.isfinite(classifier.predict_proba(few.test_images)).all()


def test_the_probe_leaves_the_backbone_alone(small):
    classifier = build("efficientnet_lite0", tiny("required", frozen_stages=7)).fit(*small.train, small.validation)
    before = Backbone("efficientnet_lite0", 32, find_weights("efficientnet_lite0").state, new_stem=False).stages.state_dict()
    after = classifier.network_.stages.state_dict()
    assert all(torch.equal(before[name], after[name].cpu()) for name in before)


def test_each_stage_learns_so_many_times_slower_than_the_one_above_and_only_weights_decay(small):
    parameters = tiny("required", frozen_stages=2, layer_decay=0.5)
    network = build("efficientnet_lite0", parameters).fit(*small.train, small.validation).network_
    groups = network.parameter_groups(Recipe(lr=1.0, weight_decay=0.1))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert not any(id(p) in rates for stage in network.stages[:2] for p in stage.parameters())
    trained = [*network.stages[2:], network.head]
    for distance, stage in enumerate(reversed(trained)):
        assert {rates[id(p)] for p in stage.parameters()} <= {0.5**distance}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert all(decay[id(p)] == (0.1 if p.ndim > 1 else 0) for stage in trained for p in stage.parameters())


def test_a_network_that_moves_to_its_device_for_the_features_can_still_be_trained(small, monkeypatch):
    moved = set()

    def to(network, *_, **__):  # to a GPU: every tensor is copied, once
        if network not in moved:
            moved.add(network)
            network._apply(torch.clone)
        return network

    monkeypatch.setattr(nn.Module, "to", to)
    classifier = build("efficientnet_lite0", tiny("required")).fit(*small.train, small.validation)
    assert not any(one.is_inference() for one in (*classifier.network_.parameters(), *classifier.network_.buffers()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is managed by another C library")
def test_memory_of_large_tensors_is_used_again():
    def new_pages() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(4096, 4096)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    transfer.keep_freed_memory()
    new_pages()
    assert new_pages() < 1000  # of 16,384


@pytest.mark.parametrize("frozen", [0, 3, 7])
def test_grad_cam_points_somewhere_in_every_image_whatever_is_frozen(lite, small, monkeypatch, frozen):
    monkeypatch.setattr(lite.network_, "frozen", frozen)
    batch = lite.inputs(small.test_images[:4])
    maps = grad_cam(lite.network_, batch, torch.from_numpy(lite.predict(small.test_images[:4])).to(batch.device))
    assert maps.shape == (4, *batch.shape[-2:]) and torch.isfinite(maps).all()
    assert ((maps >= 0) & (maps <= 1 + 1e-5)).all() and maps.amax((1, 2)).max() > 0
    assert lite.network_.frozen == frozen


def test_grad_cam_of_a_linear_score_is_where_the_image_is_bright():
    """A network whose only stage keeps the image, and whose head sums it up, looks at the bright half."""
    network = Backbone("resnet34", 32, None, new_stem=False)
    network.stages = nn.ModuleList([nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())])
    network.head = nn.Linear(1, 10)
    nn.init.ones_(network.head.weight)
    batch = torch.zeros(1, 1, 8, 8, requires_grad=True)
    bright = batch + torch.cat([torch.zeros(8, 4), torch.ones(8, 4)], dim=1)
    cam = grad_cam(network, bright, torch.tensor([0]))[0]
    assert np.allclose(cam[:, 5:], 1) and np.allclose(cam[:, :3], 0)
