"""Images with their labels, split in three; a wrapper data set that applies a transform; a sample.

Images are raw: uint8, (n, height, width) of grey or (n, height, width, channels) of colour. A model
scales, resizes and augments them by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch.utils.data
from numpy.typing import NDArray

SAMPLE_FILE = Path(__file__).with_name("sample.npz")
SPLIT_SEED = 9  # of a split into training and validation images where nothing else is said
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Part = tuple[Images, Labels]


class DataError(RuntimeError):
    """The data set cannot be had, or is not what it should be; each argument is one fault."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


@dataclass(frozen=True)
class Spec:
    """What a model must know of a data set before it sees an image."""

    num_classes: int
    height: int
    width: int
    channels: int = 1

    @property
    def pixels(self) -> int:
        """Numbers an image."""
        return self.height * self.width * self.channels

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one raw image."""
        return (self.height, self.width) + ((self.channels,) if self.channels > 1 else ())


@dataclass(frozen=True)
class Dataset:
    """One data set, split: images uint8 (n, *spec.image_shape), labels int64 (n,).

    The hashes identify the images and the split. Raises ValueError where images and labels do not
    fit together.
    """

    name: str
    train_images: Images
    train_labels: Labels
    validation_images: Images
    validation_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    data_sha256: str = ""
    split_sha256: str = ""

    def __post_init__(self) -> None:
        shape = np.shape(self.train_images)
        if len(shape) not in (3, 4):
            wanted = "(n, height, width) or (n, height, width, channels)"
            raise ValueError(f"train images: wanted uint8 of shape {wanted}, got shape {shape}")
        for part in ("train", "validation", "test"):
            check_images(getattr(self, f"{part}_images"), self.spec, f"{part} images")
            images, labels = getattr(self, part)
            _check_labels(images, labels, len(self.class_names), f"{part} labels")

    @property
    def spec(self) -> Spec:
        """Classes and the images' shape."""
        return Spec(len(self.class_names), *np.shape(self.train_images)[1:])

    @property
    def train(self) -> Part:
        """Images and labels to train on."""
        return self.train_images, self.train_labels

    @property
    def validation(self) -> Part:
        """Images and labels for choices, never for training."""
        return self.validation_images, self.validation_labels

    @property
    def test(self) -> Part:
        """Images and labels for the final number."""
        return self.test_images, self.test_labels


class TransformedDataset(torch.utils.data.Dataset[tuple[Any, int]]):
    """Applies a transform to the images of a data set: one base serves training and evaluation.

    ``base`` is a torchvision data set, or any sequence of pairs of an image and its label;
    ``transform`` takes such an image.
    """

    def __init__(self, base: Sequence[tuple[Any, int]], transform: Callable[[Any], Any]) -> None:
        self.base, self.transform = base, transform

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.base[index]
        return self.transform(image), label


def split(
    name: str,
    train: Part,
    test: Part,
    class_names: Sequence[str],
    validation_fraction: float,
    seed: int = SPLIT_SEED,
) -> Dataset:
    """Hold out a stratified share of the training images.

    With one seed the same one on every machine and for every model.
    """
    from sklearn.model_selection import train_test_split

    images, labels = train
    kept, held_out = train_test_split(
        np.arange(len(labels)),
        test_size=validation_fraction,
        stratify=labels,
        random_state=seed,
    )
    kept, held_out = np.sort(kept), np.sort(held_out)
    return Dataset(
        name,
        *(images[kept], labels[kept]),
        *(images[held_out], labels[held_out]),
        *test,
        tuple(class_names),
        sha256_of(*train, *test),
        sha256_of(kept, held_out),
    )


def load_sample(validation_fraction: float = 0.1, seed: int = SPLIT_SEED) -> Dataset:
    """2,000 training and 500 test images of FashionMNIST, which ship with fmlib."""
    with np.load(SAMPLE_FILE, allow_pickle=False) as arrays:
        train, test = (
            (arrays[f"{part}_images"], arrays[f"{part}_labels"].astype(np.int64))
            for part in ("train", "test")
        )
    return split("sample", train, test, FASHION_CLASSES, validation_fraction, seed)


def sha256_of(*arrays: NDArray[Any]) -> str:
    """SHA-256 over shapes, dtypes and bytes of arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the nearest known one, or all of them."""
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"


def check_images(images: Any, spec: Spec, name: str = "images") -> Images:
    """``images`` as an array uint8 (n, *spec.image_shape) with n > 0.

    ValueError says what was wanted and what came.
    """
    array = np.asarray(images)
    wanted = (
        f"{name}: wanted uint8 of shape (n, {', '.join(map(str, spec.image_shape))}) with n > 0"
    )
    if array.dtype != np.uint8:
        got = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{wanted}, got {got}; models scale raw images themselves")
    if array.shape[1:] != spec.image_shape or not len(array):
        raise ValueError(f"{wanted}, got shape {array.shape}")
    return array


def _check_labels(images: Images, labels: Any, num_classes: int, name: str) -> None:
    labels = np.asarray(labels)
    wanted = f"{name}: wanted {len(images)} integers from 0 to {num_classes - 1}, one an image"
    if labels.dtype != np.int64 or labels.shape != (len(images),):
        raise ValueError(f"{wanted}, got {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"{wanted}, got values from {labels.min()} to {labels.max()}")
