"""Get, verify and load FashionMNIST; the one train/validation split; a data set that applies a transform.

FashionMNIST: Xiao, Rasul and Vollgraf, 2017, https://arxiv.org/abs/1708.07747.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset
from torchvision.datasets import FashionMNIST

PROJECT_ROOT = Path(__file__).resolve().parents[1]
DATA_DIR = PROJECT_ROOT / "data"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
SAMPLE_FILE = Path(__file__).with_name("sample.npz")
SHA256 = {
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
}
CLASS_NAMES: tuple[str, ...] = tuple(FashionMNIST.classes)
NUM_CLASSES = len(CLASS_NAMES)
IMAGE_SIZE = 28
DOWNLOAD_TIMEOUT_SECONDS = 20

DatasetName = Literal["sample", "full"]
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class DataError(RuntimeError):
    """The data set cannot be had, or is not what it should be."""


# --- Where the four files come from ---------------------------------------------------------------------------------------


def raw_folder(root: Path) -> Path:
    """The folder in which torchvision's FashionMNIST looks for its raw files under ``root``."""
    return root / FashionMNIST.__name__ / "raw"


def verify(folder: Path) -> None:
    """Raise DataError unless ``folder`` holds the four raw files with the right SHA-256 sums."""
    for name, wanted in SHA256.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{name} is missing")
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != wanted:
            raise DataError(f"{name} has SHA-256 {got[:12]}..., wanted {wanted[:12]}...")


def _copy_from(folder: Path, incoming: Path) -> None:
    """Copy or unpack the four files from a folder that holds them, raw or gzipped, itself or in torchvision's subfolder."""
    for name in SHA256:
        for candidate in (folder / name, raw_folder(folder) / name, folder / "raw" / name):
            packed = candidate.with_name(f"{name}.gz")
            if candidate.is_file():
                shutil.copyfile(candidate, incoming / name)
                break
            if packed.is_file():
                with gzip.open(packed) as source, (incoming / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                break
        else:
            raise DataError(f"no {name} (or .gz) in {folder}")


def _from_variable(incoming: Path) -> None:
    folder = os.environ.get("FMLIB_DATA")
    if not folder:
        raise DataError("FMLIB_DATA is not set")
    _copy_from(Path(folder).expanduser(), incoming)


def _from_debian(incoming: Path) -> None:
    _copy_from(DEBIAN_FOLDER, incoming)


@contextmanager
def download_timeout(seconds: float = DOWNLOAD_TIMEOUT_SECONDS) -> Iterator[None]:
    """Let no connection opened in the block wait longer than ``seconds``; torch's and torchvision's downloads set no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _from_torchvision(incoming: Path) -> None:
    with download_timeout(), tempfile.TemporaryDirectory(dir=incoming) as root:
        FashionMNIST(root, download=True)
        _copy_from(Path(root), incoming)


def _run(command: list[str | Path], cwd: Path) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=300)
    except FileNotFoundError as error:
        raise DataError(f"there is no {command[0]} here") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise DataError(f"{command[0]} failed: {' '.join(last)}") from error


def _from_apt(incoming: Path) -> None:
    """Debian's package without installing it, hence without root; its package lists may be absent or old, so get fresh ones."""
    with tempfile.TemporaryDirectory(dir=incoming) as folder:
        scratch = Path(folder)
        (scratch / "lists" / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch}", "-o", "APT::Sandbox::User="]
        try:
            _run(["apt-get", "download", DEBIAN_PACKAGE], scratch)
        except DataError:
            _run(["apt-get", *own, "update"], scratch)
            _run(["apt-get", *own, "download", DEBIAN_PACKAGE], scratch)
        _run(["dpkg-deb", "-x", next(scratch.glob("*.deb")), scratch], scratch)
        _copy_from(scratch / DEBIAN_FOLDER.relative_to("/"), incoming)


SOURCES: dict[str, Callable[[Path], None]] = {
    "the folder in FMLIB_DATA": _from_variable,
    f"Debian's {DEBIAN_FOLDER}": _from_debian,
    "torchvision's download": _from_torchvision,
    f"apt-get download {DEBIAN_PACKAGE}": _from_apt,
}


def get_data(root: Path = DATA_DIR, say: Callable[[str], None] = print) -> Path:
    """Make sure that ``root`` holds verified FashionMNIST files, and return ``root``.

    The sources are tried in DESIGN's order; each failure is told through ``say`` in one line. Files are gathered elsewhere,
    verified, and only then moved in place. Raises DataError with all that was tried if no source works.
    """
    home = raw_folder(root)
    failures = []
    try:
        verify(home)
        return root
    except DataError as error:
        failures.append(f"{home}: {error}")
    root.mkdir(parents=True, exist_ok=True)
    for source, bring in SOURCES.items():
        with tempfile.TemporaryDirectory(dir=root, prefix=".incoming-") as folder:
            incoming = Path(folder)
            try:
                bring(incoming)
                verify(incoming)
            except Exception as error:  # whatever ails one source (zlib.error, HTTPException, ...) must not stop the next
                failures.append(f"{source}: {' '.join(str(error).split())[:160]}")
                say(f"FashionMNIST: not from {failures[-1]}")
                continue
            home.mkdir(parents=True, exist_ok=True)
            for name in SHA256:
                os.replace(incoming / name, home / name)
        say(f"FashionMNIST: verified, from {source}")
        return root
    raise DataError(
        "FashionMNIST could not be had. Tried, in order:\n  - " + "\n  - ".join(failures) + "\nWhat you can do: put the four "
        f"idx files (raw or .gz) into a folder and set FMLIB_DATA to it, or install Debian's package {DEBIAN_PACKAGE}, "
        "or use PROFILE=smoke, which needs no download."
    )


# --- Data sets ------------------------------------------------------------------------------------------------------------


class SampleFashionMNIST(FashionMNIST):
    """The real sample that ships with the package, as a torchvision data set: 2,000 training and 500 test images."""

    def __init__(self, train: bool = True, **kwargs: Any) -> None:
        super().__init__(SAMPLE_FILE.parent, train=train, **kwargs)

    def _check_exists(self) -> bool:
        return SAMPLE_FILE.is_file()

    def _load_data(self) -> tuple[torch.Tensor, torch.Tensor]:
        part = "train" if self.train else "test"
        with np.load(SAMPLE_FILE) as arrays:
            return torch.from_numpy(arrays[f"{part}_images"]), torch.from_numpy(arrays[f"{part}_labels"].astype(np.int64))


class TransformedDataset(Dataset[tuple[Any, int]]):
    """Applies a transform to the images of a data set, so that one base serves training and evaluation with different ones.

    ``transform`` takes what ``base[i][0]`` is: a PIL image for a torchvision data set without a transform of its own.
    """

    def __init__(self, base: Dataset[tuple[Any, int]], transform: Callable[[Any], Any]) -> None:
        self.base, self.transform = base, transform

    def __len__(self) -> int:
        return len(self.base)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.base[index]
        return self.transform(image), label


def load_base(dataset: DatasetName, train: bool) -> FashionMNIST:
    """The torchvision data set: all of FashionMNIST (fetched first if need be) or the embedded sample."""
    return FashionMNIST(get_data(), train=train) if dataset == "full" else SampleFashionMNIST(train)


@dataclass(frozen=True)
class ImageData:
    """One data set, split: images uint8 (n, 28, 28), labels int64 (n,). The hashes identify the images and the split."""

    dataset: str
    train_images: Images
    train_labels: Labels
    validation_images: Images
    validation_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    data_sha256: str
    split_sha256: str

    @property
    def train(self) -> tuple[Images, Labels]:
        return self.train_images, self.train_labels

    @property
    def validation(self) -> tuple[Images, Labels]:
        return self.validation_images, self.validation_labels

    @property
    def test(self) -> tuple[Images, Labels]:
        return self.test_images, self.test_labels


def split_indices(labels: Labels, validation_fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted train and validation indices of a seeded split, stratified by ``labels`` (n,)."""
    train, validation = train_test_split(
        np.arange(len(labels)), test_size=validation_fraction, stratify=labels, random_state=seed
    )
    return np.sort(train), np.sort(validation)


def sha256_of(*arrays: NDArray[Any]) -> str:
    """SHA-256 over shapes, dtypes and bytes of arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def load_data(dataset: DatasetName = "sample", validation_fraction: float = 0.1, split_seed: int = 9) -> ImageData:
    """Load and split a data set; the same arguments give the same split on every machine."""
    train, test = load_base(dataset, train=True), load_base(dataset, train=False)
    images, labels = train.data.numpy(), train.targets.numpy()
    test_images, test_labels = test.data.numpy(), test.targets.numpy()
    train_index, validation_index = split_indices(labels, validation_fraction, split_seed)
    return ImageData(
        dataset, images[train_index], labels[train_index], images[validation_index], labels[validation_index],
        test_images, test_labels, tuple(train.classes),
        sha256_of(images, labels, test_images, test_labels), sha256_of(train_index, validation_index),
    )  # fmt: skip


# --- What a model accepts -------------------------------------------------------------------------------------------------


def check_images(images: Any, name: str = "images") -> Images:
    """Return ``images`` as a NumPy array uint8 (n, 28, 28), or raise ValueError saying what was wanted and what came."""
    array = np.asarray(images)
    wanted = f"{name}: wanted uint8 of shape (n, {IMAGE_SIZE}, {IMAGE_SIZE}) with n > 0"
    if array.dtype != np.uint8:
        nan = " with NaN" if array.dtype.kind == "f" and np.isnan(array).any() else ""
        raise ValueError(f"{wanted}, got {array.dtype}{nan} of shape {array.shape}; models scale raw images themselves")
    if array.ndim != 3 or array.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE) or not len(array):
        raise ValueError(f"{wanted}, got shape {array.shape}")
    return array


def check_labelled(images: Any, labels: Any, name: str = "training") -> tuple[Images, Labels]:
    """Check images together with their labels: integers 0 to 9, shape (n,); returns uint8 and int64 arrays."""
    images, labels = check_images(images, f"{name} images"), np.asarray(labels)
    wanted = f"{name} labels: wanted {len(images)} integers from 0 to {NUM_CLASSES - 1}, one an image"
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise ValueError(f"{wanted}, got {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        raise ValueError(f"{wanted}, got values from {labels.min()} to {labels.max()}")
    return images, labels.astype(np.int64, copy=False)
