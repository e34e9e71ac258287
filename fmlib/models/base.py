"""What every model is: the contract, and its two kinds, networks and estimators."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from fmlib import training
from fmlib.data import Dataset, Images, Labels, Spec, check_images
from fmlib.device import Stopwatch, default_device, seed_everything
from fmlib.scores import fit_temperature
from fmlib.training import QUIET, Labelled, Progress, Recipe, Trainer
from fmlib.transforms import channels_first

STRICT = ConfigDict(extra="forbid")
Features = NDArray[np.float32]


@dataclass(config=STRICT, kw_only=True)
class Model:
    """The contract. A model's fields are its parameters; a constructor only stores them.

    Attributes that ``fit`` finds end in ``_``; fitting again forgets the first fit. Images are raw,
    uint8 (n, *spec.image_shape): scaling, resizing and augmentation are a model's own business.
    Validation images are for choices such as early stopping and calibration, never for training.
    Probabilities have a column a class, also for one that training never saw.
    """

    name: ClassVar[str] = ""  # these four are set by `register`
    title: ClassVar[str] = ""
    family: ClassVar[str] = ""
    readable: ClassVar[bool] = False  # whether a person can follow how it decides
    kept: ClassVar[tuple[str, ...]] = ()  # what a fit finds and a model's file does not hold
    deterministic: ClassVar[bool] = False  # whether nothing in its training is random

    if TYPE_CHECKING:  # what a fit leaves
        spec_: Spec
        train_seconds_: float
        history_: list[dict[str, Any]]

    def fit(self, data: Dataset, seed: int = 9, progress: Progress = QUIET) -> Self:
        """Fit on the training images of ``data``; everything random follows from ``seed``.

        Leaves ``spec_``, ``train_seconds_`` (of training alone, validation and calibration
        excluded) and ``history_`` (a row an epoch, as ``results.Epoch``; empty where there are no
        epochs).
        """
        raise NotImplementedError

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        """Class probabilities (n, classes) of raw images."""
        raise NotImplementedError

    @property
    def views_(self) -> int:
        """Of how many views of an image a prediction is the mean."""
        return 1

    def predict_one_view(self, images: Images) -> NDArray[np.float32]:
        """Class probabilities (n, classes) of raw images as they are, without averaging views."""
        return self.predict_proba(images)

    def check(self, data: Dataset) -> None:
        """Raise ValueError, in words, where it shows before training that this cannot be fitted."""

    def predict(self, images: Images) -> Labels:
        """The most probable class of each image, int64 (n,)."""
        return self.predict_proba(images).argmax(axis=1)

    def parameter_count(self) -> int | None:
        """Numbers that the architecture learns; None where nobody has said how to count them."""
        return None

    def parameters_used(self) -> int | None:
        """Those without which predictions on these images are the same left out."""
        return self.parameter_count()

    def flops_per_image(self) -> float | None:
        """Operations of one prediction, two a multiply-add; None where nobody knows."""
        return None

    def dump(self, folder: Path) -> None:
        """Write the arrays that were fitted to a file in ``folder``."""
        raise NotImplementedError

    def restore(self, folder: Path) -> None:
        """Take back what :meth:`dump` wrote; ``spec_`` and what is ``kept`` are there already."""
        raise NotImplementedError

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what was fitted to ``folder``; what is not arrays is returned as plain values."""
        self.dump(folder)
        values = {name: getattr(self, name) for name in self.kept}
        return {"spec_": dataclasses.asdict(self.spec_)} | values

    def load(self, folder: Path, fitted: dict[str, Any]) -> Self:
        """Take back what :meth:`save` wrote and returned; the model then predicts as it did."""
        self.spec_ = Spec(**fitted["spec_"])
        for name in self.kept:
            setattr(self, name, fitted[name])
        self.restore(folder)
        return self

    def parameters(self) -> dict[str, Any]:
        """All parameters with their values, defaults included, as plain values."""
        return TypeAdapter(type(self)).dump_python(self, mode="json")


# --- Networks ---------------------------------------------------------------------------------


class Dropout(nn.Dropout):
    """Dropout in a fifth of torch's time on a CPU, whose random numbers cost more than a layer.

    A value is kept or dropped by 16 random bits, so ``p`` is rounded to a multiple of 2**-16.
    """

    def forward(self, batch: Tensor) -> Tensor:
        if not self.training or batch.is_cuda:
            return super().forward(batch)
        count, dropped = batch.numel(), round(self.p * 2**16)
        bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.int16)[:count].view_as(batch) >= dropped - 2**15
        return batch * (kept.to(batch.dtype) / (1 - self.p))


@dataclass(config=STRICT, kw_only=True)
class Network(Model):
    """A network, trained by its ``recipe``; a subclass says how it is built."""

    kept: ClassVar[tuple[str, ...]] = ("mean_", "std_")

    recipe: Recipe = Recipe()

    def build(self, spec: Spec, examples: Tensor) -> nn.Module:
        """A new network, with random weights from torch's global generator, that returns logits.

        ``examples``: inputs float32 (n, channels, H, W), some training images after the eval
        transform; zeros when the weights of a fitted network are loaded next.
        """
        raise NotImplementedError("a network wants a method build(self, spec, examples)")

    def settle(self) -> None:
        """Find out what the recipes depend on, before anything else is done."""

    @property
    def recipes_(self) -> dict[str, Recipe]:
        """The recipe of every stage of training, of which most networks have one."""
        return {"train": self.recipe}

    @property
    def recipe_(self) -> Recipe:
        """The recipe of the last stage, which trains the whole network."""
        return list(self.recipes_.values())[-1]

    def fit(self, data: Dataset, seed: int = 9, progress: Progress = QUIET) -> Self:
        seed_everything(seed)
        self.spec_, self.device_, self.seed_ = data.spec, default_device(), seed
        self.history_, self.train_seconds_ = [], 0.0
        self.settle()
        train, validation = (
            (self._images(images), torch.from_numpy(np.ascontiguousarray(labels)).to(self.device_))
            for images, labels in (data.train, data.validation)
        )
        self.mean_, self.std_ = self.recipe_.statistics(train[0])
        self._make(train[0][:5000])
        self.train_stages(train, validation, progress)
        return self

    def check(self, data: Dataset) -> None:
        """Send three images forwards and a gradient backwards, through a network of its own."""
        trial = copy.deepcopy(self)
        seed_everything(0)
        trial.spec_, trial.device_, trial.seed_ = data.spec, default_device(), 0
        trial.settle()
        images = trial._images(data.train_images[:3])
        trial.mean_, trial.std_ = trial.recipe_.statistics(trial._images(data.train_images))
        trial._make(images)
        trainer = trial.trainer(trial.recipe_)
        _check_network(trial.network_.train(), trainer.inputs(images), data.spec.num_classes)
        batches = -(-len(data.train_labels) // trial.recipe_.batch_size)
        normalised = any(isinstance(one, _BATCH_NORM) for one in trial.network_.modules())
        if normalised and len(data.train_labels) // batches < 2:
            wanted = "batches of 2 images or more, as it normalises over a batch"
            raise ValueError(f"recipe.batch_size: the network wants {wanted}")

    def train_stages(self, train: Labelled, validation: Labelled, progress: Progress) -> None:
        """Train in all stages of ``recipes_``."""
        for stage in self.recipes_:
            self.run_stage(stage, train, validation, progress)

    def run_stage(
        self, stage: str, train: Labelled, validation: Labelled, progress: Progress
    ) -> None:
        """Train by a stage's recipe on images, or on features from a part that is frozen."""
        self.trainer_ = self.trainer(self.recipes_[stage], stage, progress)
        self.trainer_.train(*train, validation)
        self.history_ += self.trainer_.history
        self.train_seconds_ += self.trainer_.train_seconds

    def trainer(self, recipe: Recipe, stage: str = "train", progress: Progress = QUIET) -> Trainer:
        """A trainer of the network as it is."""
        return Trainer(
            self.network_,
            recipe,
            self.mean_,
            self.std_,
            self.spec_.num_classes,
            self.device_,
            self.seed_,
            stage,
            progress,
        )

    def _make(self, images: Tensor) -> None:
        examples = self.recipe_.inputs(images, self.mean_, self.std_)
        self.network_ = self.build(self.spec_, examples).to(self.device_)
        training.speedups.layers(self.network_, examples[:1])

    def _images(self, images: Images) -> Tensor:
        checked = np.ascontiguousarray(check_images(images, self.spec_))
        return channels_first(torch.from_numpy(checked)).to(self.device_)

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        return self.trainer_.test(self._images(images)).cpu().numpy()

    def inputs(self, images: Images) -> Tensor:
        """What the network sees of raw images: float32 (n, channels, H, W), on its device."""
        return self.trainer_.inputs(self._images(images))

    @property
    def views_(self) -> int:
        return len(self.trainer_.shifts) * (1 + self.recipe_.flip_averaging)

    def predict_one_view(self, images: Images) -> NDArray[np.float32]:
        return self.trainer_.test(self._images(images), averaged=False).cpu().numpy()

    def parameter_count(self) -> int:
        """Weights of the network, fixed ones included."""
        return sum(parameter.numel() for parameter in self.network_.parameters())

    def flops_per_image(self) -> float:
        """Operations of one prediction, two a multiply-add, in convolutions and matrix products."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.predict_proba(np.zeros((1, *self.spec_.image_shape), np.uint8))
        return float(counter.get_total_flops())

    def dump(self, folder: Path) -> None:
        from safetensors.torch import save_file

        state = {name: one.contiguous() for name, one in self.network_.state_dict().items()}
        path = folder / "model.safetensors"
        save_file(state, path)
        path.chmod(0o644)  # as readable as the rest of a record

    def restore(self, folder: Path) -> None:
        from safetensors.torch import load_file

        self.device_, self.seed_ = default_device(), 0
        seed_everything(self.seed_)  # precision, as the fit had it
        self._make(self._images(np.zeros((8, *self.spec_.image_shape), np.uint8)))
        self.network_.load_state_dict(load_file(folder / "model.safetensors"))
        self.trainer_ = self.trainer(self.recipe_)


_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)


def _check_network(network: nn.Module, batch: Tensor, num_classes: int) -> None:
    logits = network(batch)
    wanted = f"logits of shape ({len(batch)}, {num_classes})"
    if not isinstance(logits, Tensor):
        raise ValueError(f"the network returns {type(logits).__name__}, wanted {wanted}")
    if tuple(logits.shape) != (len(batch), num_classes):
        raise ValueError(f"the network returns shape {tuple(logits.shape)}, wanted {wanted}")
    if not logits.isfinite().all():
        raise ValueError("the network returns values that are not finite, before any training")
    weights = [one for one in network.parameters() if one.requires_grad]
    if weights and logits.requires_grad:
        targets = torch.arange(len(batch), device=batch.device) % num_classes
        F.cross_entropy(logits.float(), targets).backward()
    if not any(one.grad is not None and one.grad.abs().sum() > 0 for one in weights):
        raise ValueError("no gradient reaches the network's weights, so that it cannot learn")


# --- Estimators -------------------------------------------------------------------------------


@dataclass(config=STRICT, kw_only=True)
class Estimator(Model):
    """An estimator of scikit-learn's kind behind features of raw images; a subclass makes it.

    ``features``: pixels from 0 to 1, their square roots ("roots", a gamma correction that spreads
    the dark shades), or histograms of oriented gradients ("hog").
    """

    kept: ClassVar[tuple[str, ...]] = ("classes_", "temperature_", "flops_")

    features: Literal["pixels", "roots", "hog"] = "pixels"

    def make(self, seed: int) -> Any:
        """A new estimator with ``fit`` and ``predict_proba``, or else ``decision_function``."""
        raise NotImplementedError("an estimator wants a method make(self, seed)")

    def count_flops(self, features: Features) -> float | None:
        """Operations of one prediction, the mean over these features (n, features)."""
        return None

    def settings(self) -> dict[str, Any]:
        """The parameters of a subclass whose fields are named as its estimator's."""
        own = dataclasses.fields(self)
        return {field.name: getattr(self, field.name) for field in own if field.name != "features"}

    def fit(self, data: Dataset, seed: int = 9, progress: Progress = QUIET) -> Self:
        self.spec_, self.history_, watch = data.spec, [], Stopwatch()
        classes, encoded = np.unique(data.train_labels, return_inverse=True)  # without gaps
        self.classes_ = classes.tolist()
        with watch:
            self.estimator_ = self.make(seed)
            self.estimator_.fit(self.describe(data.train_images), encoded)
        self.train_seconds_, self.temperature_ = watch.seconds, 1.0
        if not hasattr(self.estimator_, "predict_proba"):
            self._calibrate(*data.validation)
        self.flops_ = self.count_flops(self.describe(data.validation_images[:500]))
        return self

    def check(self, data: Dataset) -> None:
        made = self.make(0)
        if not hasattr(made, "fit"):
            got = type(made).__name__
            raise ValueError(f"make() returns {got}, wanted an estimator with fit")
        if not (hasattr(made, "predict_proba") or hasattr(made, "decision_function")):
            wanted = "predict_proba, or else decision_function"
            raise ValueError(f"{type(made).__name__} has no {wanted}")

    def _calibrate(self, images: Images, labels: Labels) -> None:
        """Scores become probabilities by one temperature (Guo et al. 2017)."""
        known = np.isin(labels, self.classes_)  # a class that training never saw has no score
        encoded = np.searchsorted(self.classes_, labels[known])
        scores = self._scores(self.describe(images[known]))
        self.temperature_ = fit_temperature(scores, encoded)

    def _scores(self, features: Features) -> NDArray[np.float64]:
        """Logits (n, classes seen); of two, scikit-learn gives one number, for the second."""
        scores = np.asarray(self.estimator_.decision_function(features), np.float64)
        return np.stack([np.zeros_like(scores), scores], 1) if scores.ndim == 1 else scores

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        features = self.describe(check_images(images, self.spec_))
        if hasattr(self.estimator_, "predict_proba"):
            proba = self.estimator_.predict_proba(features)
        else:
            scaled = torch.from_numpy(self._scores(features) / self.temperature_)
            proba = scaled.softmax(1).numpy()
        full = np.zeros((len(proba), self.spec_.num_classes), np.float32)
        full[:, self.classes_] = proba  # a class that training never saw gets probability 0
        return full

    def describe(self, images: Images) -> Features:
        """The features float32 (n, features) of raw images."""
        if self.features == "hog":
            return hog(images)
        pixels = images.reshape(len(images), -1).astype(np.float32)
        pixels /= 255
        if self.features == "roots":
            np.sqrt(pixels, out=pixels)
        return pixels

    def flops_per_image(self) -> float | None:
        return self.flops_

    def dump(self, folder: Path) -> None:
        """Write the estimator as skops does: no pickle, and loading runs no code from the file."""
        from skops import io

        io.dump(self.estimator_, folder / "model.skops")

    def restore(self, folder: Path) -> None:
        """Take back the estimator that :meth:`dump` wrote.

        Only scikit-learn's types and those of the model's own module are made; of a user's model,
        those of any module that lies beside its own. Raises ValueError
        where a tree's nodes lead outside of it, which scikit-learn would follow unchecked.
        """
        from skops import io

        path = folder / "model.skops"
        modules = {cls.__module__ for cls in type(self).__mro__} | _beside(type(self))
        known = [
            kind
            for kind in io.get_untrusted_types(file=path)
            if kind.startswith("sklearn.") or kind.rpartition(".")[0] in modules
        ]
        self.estimator_ = io.load(path, trusted=known)
        for tree in _trees(self.estimator_):
            links = (tree.children_left, tree.children_right, tree.feature)
            check_that_it_leads_to_leaves(*links, tree.n_features)


def _beside(model: type[Model]) -> set[str]:
    """The modules in the folder of a user's model."""
    folder = Path(inspect.getfile(model)).resolve().parent
    if folder.is_relative_to(Path(__file__).parents[1]):
        return set()
    tops = {one.stem for one in folder.iterdir() if one.suffix in ("", ".py")}
    files = {name: getattr(module, "__file__", None) for name, module in [*sys.modules.items()]}
    return {
        name
        for name, file in files.items()
        if file and name.partition(".")[0] in tops and Path(file).is_relative_to(folder)
    }


def _trees(estimator: Any) -> Iterator[Any]:
    """The trees of scikit-learn that an estimator is made of."""
    if hasattr(estimator, "tree_"):
        yield estimator.tree_
    parts = np.ravel(getattr(estimator, "estimators_", [])).tolist()
    for part in parts + [step for _, step in getattr(estimator, "steps", [])]:
        yield from _trees(part)


def check_that_it_leads_to_leaves(
    left: NDArray[Any], right: NDArray[Any], feature: NDArray[Any], features: int
) -> None:
    """Raise ValueError unless every node of a tree that is no leaf leads on to two later nodes.

    ``left`` and ``right`` are the nodes' children, -1 of a leaf, and ``feature`` is what they ask
    for, of so many ``features``: int (nodes,). Libraries follow them unchecked.
    """
    nodes = np.flatnonzero(left != -1)
    children, asked = np.stack([left[nodes], right[nodes]]), feature[nodes]
    later = (children > nodes).all() and (children < len(left)).all()
    if not (later and (asked >= 0).all() and (asked < features).all()):
        raise ValueError("a tree's nodes lead outside of it")


def hog(
    images: Images, cell_size: int = 4, orientations: int = 9, batch_size: int = 2000
) -> Features:
    """Histograms of oriented gradients of images uint8 (n, H, W): float32 (n, features).

    Of colour images, of their mean over channels. Dalal and Triggs 2005,
    https://doi.org/10.1109/CVPR.2005.177: square-root gamma, unsigned gradients with votes shared
    between neighbouring orientations, square cells, overlapping blocks of 2 x 2 cells, clipped L2
    norm.
    """
    batches = torch.from_numpy(np.ascontiguousarray(images)).split(batch_size)
    return torch.cat([_hog_batch(batch, cell_size, orientations) for batch in batches]).numpy()


def _hog_batch(images: Tensor, cell_size: int, orientations: int) -> Tensor:
    grey = images.float() if images.ndim == 3 else images.float().mean(-1)
    x = (grey / 255).sqrt()
    dx = F.pad(x[:, :, 2:] - x[:, :, :-2], (1, 1))
    dy = F.pad(x[:, 2:] - x[:, :-2], (0, 0, 1, 1))
    magnitude = torch.hypot(dx, dy)
    angle = torch.atan2(dy, dx) % torch.pi / torch.pi * orientations
    lower = angle.floor()
    share, lower = angle - lower, lower.long()
    votes = x.new_zeros(len(x), orientations, *x.shape[1:])
    for bins, weight in ((lower, 1 - share), (lower + 1, share)):
        votes.scatter_add_(1, bins[:, None] % orientations, (magnitude * weight)[:, None])
    blocks = F.unfold(F.avg_pool2d(votes, cell_size), kernel_size=2).transpose(1, 2)
    clipped = F.normalize(blocks, dim=2).clamp(max=0.2)
    return F.normalize(clipped, dim=2).flatten(1)
