"""An epoch of our networks in the loops that people use, skorch's and Lightning's, and in ours.

They are written as their documentation shows them: PIL images that torchvision's transforms augment
one by one, a ``DataLoader``, float32. Network, images, batch size, augmentation and optimiser are
ours. All are timed in one run, in turns. ``python -m benchmarks.peers`` prints the ratios; it needs
``pip install .[bench]``.
"""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Timer
from PIL import Image
from skorch import NeuralNetClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.bench import Say, begin, first, with_epochs
from fmlib.data import Dataset, TransformedDataset
from fmlib.models.base import Dropout, Network
from fmlib.models.registry import build
from fmlib.profiles import load_dataset, load_profile
from fmlib.training import Recipe

MODELS = ("mlp", "cnn", "mobilenet_v3_small")
IMAGES, TURNS = 10_000, 3
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def skorch_epoch(network: nn.Module, images: TransformedDataset, recipe: Recipe) -> float:
    """Seconds of training in an epoch by skorch."""
    options = {f"optimizer__{name}": value for name, value in optimizer_options(recipe).items()}
    net = NeuralNetClassifier(
        network,
        criterion=nn.CrossEntropyLoss,
        optimizer=OPTIMIZERS[recipe.optimizer],
        max_epochs=1,
        batch_size=recipe.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device="cuda" if torch.cuda.is_available() else "cpu",
        **options,
    )
    net.fit(images, y=None)
    return float(net.history[-1, "dur"])


class Classifier(lightning.LightningModule):
    """A network as Lightning wants it."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimiser."""
        made = OPTIMIZERS[self.recipe.optimizer]
        return made(self.parameters(), **optimizer_options(self.recipe))


def lightning_epoch(network: nn.Module, images: TransformedDataset, recipe: Recipe) -> float:
    """Seconds of training in an epoch by Lightning."""
    timer = Timer()
    trainer = lightning.Trainer(
        max_epochs=1,
        callbacks=[timer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(images, batch_size=recipe.batch_size, shuffle=True)
    trainer.fit(Classifier(network, recipe), loader)
    return float(timer.time_elapsed("train"))


Epoch = Callable[[nn.Module, TransformedDataset, Recipe], float]
PEERS: dict[str, Epoch] = {"skorch": skorch_epoch, "Lightning": lightning_epoch}


def optimizer_options(recipe: Recipe) -> dict[str, Any]:
    """What torch's optimiser is given."""
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    return options | ({"momentum": recipe.momentum} if recipe.optimizer == "sgd" else {})


def as_documented(data: Dataset, recipe: Recipe) -> TransformedDataset:
    """The training images as PIL's, with the recipe's augmentation and size by torchvision."""
    height, width = data.spec.height, data.spec.width
    size = recipe.image_size or height
    steps: list[Callable[..., Any]] = [Image.fromarray]
    if recipe.augmentation.flip:
        steps.append(transforms.RandomHorizontalFlip())
    if recipe.augmentation.crop_padding:
        steps.append(transforms.RandomCrop((height, width), recipe.augmentation.crop_padding))
    if (size, size) != (height, width):
        steps.append(transforms.Resize((size, size)))
    steps += [transforms.ToTensor(), transforms.Normalize(0.286, 0.353)]
    images, labels = data.train
    base = list(zip(images, labels.tolist(), strict=True))
    return TransformedDataset(base, transforms.Compose(steps))


def plain_network(classifier: Network, example: Tensor) -> nn.Module:
    """A fitted classifier's network made anew, of torch's own layers."""
    network = classifier.build(classifier.spec_, example)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Dropout):
                setattr(parent, name, nn.Dropout(child.p))
    return network


def compare_peers(
    data: Dataset, models: Sequence[str] = MODELS, turns: int = TURNS, say: Say = print
) -> dict[str, dict[str, float]]:
    """Seconds of training in an epoch, the least of ``turns``, by model and by loop.

    Ours are under "ours". Networks begin with random weights.
    """
    seconds: dict[str, dict[str, float]] = {}
    for model in models:
        least: dict[str, float] = {}
        for _ in range(turns):
            for loop, took in _one_turn(model, data):
                least[loop] = min(took, least.get(loop, took))
        seconds[model] = least
        told = [
            f"{peer} {least[peer]:.1f} s, ratio {least[peer] / least['ours']:.1f}" for peer in PEERS
        ]
        count = len(data.train_labels)
        say(f"{model}, an epoch of {count:,} images: ours {least['ours']:.1f} s; {'; '.join(told)}")
    return seconds


def _one_turn(model: str, data: Dataset) -> list[tuple[str, float]]:
    """Seconds of an epoch by each loop."""
    parameters = with_epochs(load_profile("cpu").models[model], 1)
    if "scratch" in parameters:
        parameters["weights"] = "none"
    classifier = build(model, parameters)
    assert isinstance(classifier, Network)
    classifier.fit(data)
    recipe = classifier.recipe_
    images = as_documented(data, recipe)
    example = torch.stack([images[index][0] for index in range(2)])
    network = plain_network(classifier, example)
    took = [(peer, epoch(copy.deepcopy(network), images, recipe)) for peer, epoch in PEERS.items()]
    return [("ours", classifier.train_seconds_), *took]


def main(models: Sequence[str]) -> None:
    """Print the machine and the ratios, of the models that are named or of all."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")  # of a loader without workers, as wanted
    begin(print)
    data = load_dataset("fashion_mnist")
    compare_peers(first(data, IMAGES), models or MODELS)


if __name__ == "__main__":
    main(sys.argv[1:])
