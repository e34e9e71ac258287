"""Where a profile's data come from: FashionMNIST, the sample, torchvision, or a user's own files.

Whatever is wrong with a user's data is told as a DataError: where, what was wanted, what came.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from fmlib.data import (
    FASHION_CLASSES,
    SAMPLE_FILE,
    SPLIT_SEED,
    DataError,
    Dataset,
    Part,
    load_sample,
    nearest,
    sha256_of,
    split,
)
from fmlib.fetch import SHA256, download_timeout, load_fashion_mnist, read_fashion_mnist
from fmlib.project import Project, sha256_of_file

FASHION_MNIST, SAMPLE = "fashion_mnist", "sample"
PARTS = ("train", "test")
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
PACKAGE = Path(__file__).parent
SMALLEST, MOST_CLASSES = 8, 1000  # pixels a side; classes
Size = Annotated[int, Field(ge=SMALLEST)]


class Source(BaseModel):
    """A data set as a profile describes it; paths start at ``home``, the profile's own folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = ""
    licence: str = ""

    @property
    def name(self) -> str:
        """What to call it where it has no title."""
        raise NotImplementedError

    def read(self, home: Path, project: Project) -> dict[str, Any]:
        """``ARRAYS`` by name, and perhaps ``class_names``, as they come."""
        raise NotImplementedError

    def key(self, home: Path) -> str:
        """What identifies the images and labels, without reading them where it can."""
        raise NotImplementedError


class Npz(Source):
    """Arrays in one file of NumPy's, without pickles: ``ARRAYS`` and perhaps ``class_names``."""

    npz: str

    @property
    def name(self) -> str:
        return Path(self.npz).stem

    def read(self, home: Path, project: Project) -> dict[str, Any]:
        path = _there(home / self.npz)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except Exception as error:  # whatever NumPy finds wrong with a file
            wanted = f"wanted an archive of arrays without pickles, {', '.join(ARRAYS)}"
            raise DataError(f"{path}: {wanted}, got: {error}") from error

    def key(self, home: Path) -> str:
        return file_sha256(_there(home / self.npz))


class Folder(Source):
    """Pictures in folders named after their classes, below ``train`` and ``test``.

    With ``test_share``, the class folders lie at the top, and a seeded, stratified share of the
    pictures is for testing. ``size`` in pixels, or (height, width): pictures are scaled and cut to
    it about their middle; without it all must be of one size. ``colour``: three channels, not one.
    """

    folder: str
    size: Size | tuple[Size, Size] | None = None
    colour: bool = False
    test_share: float | None = Field(default=None, gt=0, lt=1)

    @property
    def name(self) -> str:
        return Path(self.folder).name

    def read(self, home: Path, project: Project) -> dict[str, Any]:
        root = _there(home / self.folder)
        if self.test_share is None:
            parts = {part: pictures(root / part) for part in PARTS}
        else:
            parts = self._shared_out(pictures(root))
        named = {
            part: [(name, path) for name, paths in classes.items() for path in paths]
            for part, classes in parts.items()
        }
        images = iter(self._images([path for pairs in named.values() for _, path in pairs]))
        arrays: dict[str, Any] = {}
        for part, pairs in named.items():
            arrays[f"{part}_labels"] = np.array([name for name, _ in pairs])
            arrays[f"{part}_images"] = np.stack([next(images) for _ in pairs])
        return arrays

    def _shared_out(self, classes: dict[str, list[Path]]) -> dict[str, dict[str, list[Path]]]:
        rng = np.random.default_rng(SPLIT_SEED)
        parts: dict[str, dict[str, list[Path]]] = {"train": {}, "test": {}}
        for name, paths in classes.items():
            shuffled = [paths[i] for i in rng.permutation(len(paths))]
            held_out = max(1, round(len(paths) * (self.test_share or 0)))
            parts["test"][name], parts["train"][name] = shuffled[:held_out], shuffled[held_out:]
        return parts

    def _images(self, files: Sequence[Path]) -> list[NDArray[np.uint8]]:
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        images: list[NDArray[np.uint8]] = []
        unreadable, shapes, faults = [], {}, []
        for path in files:
            try:
                images.append(picture(path, size, self.colour))
                shapes[images[-1].shape[:2]] = path
            except Exception as error:  # whatever Pillow finds wrong with a file
                unreadable.append(f"{path} ({error})")
        if unreadable:
            faults.append(f"{len(unreadable)} pictures cannot be read: {some(unreadable)}")
        if len(shapes) > 1:
            found = [f"{path} has {h} x {w}" for (h, w), path in shapes.items()]
            faults.append(f"pictures of several sizes, set `size`: {some(found)}")
        if faults:
            raise DataError(*faults)
        return images

    def key(self, home: Path) -> str:
        root = _there(home / self.folder)
        files = [(path.relative_to(root).as_posix(), file_sha256(path)) for path in _pictures(root)]
        return _sha256([self.size, self.colour, self.test_share, files])


class TorchVision(Source):
    """A data set of torchvision's by its name there; ``split``, where it has several, as EMNIST."""

    torchvision: str
    split: str | None = None

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.torchvision, self.split)))

    def read(self, home: Path, project: Project) -> dict[str, Any]:
        from torchvision import datasets

        if self.torchvision not in datasets.__all__:
            hint = nearest(self.torchvision, datasets.__all__)
            raise DataError(f"torchvision: no data set {self.torchvision!r}; {hint}")
        made: Any = getattr(datasets, self.torchvision)
        arrays: dict[str, Any] = {}
        for part in PARTS:
            try:
                with download_timeout():
                    one = made(project.data, download=True, **self._options(made, part))
                arrays |= _of_torchvision(one, part)
            except Exception as error:  # no network, a wrong split, a broken file
                raise DataError(f"torchvision's {self.name}, {part}: {error}") from error
        if self.torchvision == "EMNIST":  # which keeps its images on their side
            for part in PARTS:
                arrays[f"{part}_images"] = arrays[f"{part}_images"].swapaxes(1, 2)
        return arrays

    def _options(self, made: Any, part: str) -> dict[str, Any]:
        """How the set is asked for that part: by ``train``, as MNIST, or by ``split``, as SVHN."""
        known = {
            name for cls in made.__mro__ for name in inspect.signature(cls.__init__).parameters
        }
        if "train" not in known:
            if self.split:
                raise DataError("it has no splits but train and test; leave `split` out")
            return {"split": part}
        return {"train": part == "train"} | ({"split": self.split} if self.split else {})

    def key(self, home: Path) -> str:
        return _sha256([self.torchvision, self.split])  # its files are verified by torchvision


class Code(Source):
    """A function in a user's file, ``my.py:load``, that returns ``ARRAYS`` in a dictionary.

    It is called in its file's folder.
    """

    code: str

    @field_validator("code")
    @classmethod
    def _file_and_function(cls, code: str) -> str:
        if not re.fullmatch(r".+\.py:\w+", code):
            raise ValueError("wanted FILE.py:FUNCTION")
        return code

    @property
    def name(self) -> str:
        return Path(self.file).stem

    @property
    def file(self) -> str:
        """The file's path, from the profile's folder."""
        return self.code.rpartition(":")[0]

    def read(self, home: Path, project: Project) -> dict[str, Any]:
        path, function = (home / self.file).resolve(), self.code.rpartition(":")[2]
        load = getattr(import_file(path), function, None)
        if not callable(load):
            raise DataError(f"{path}: wanted a function {function!r}, there is none")
        try:
            with contextlib.chdir(path.parent):  # wherever it is called from
                arrays = load()
        except Exception as error:
            raise DataError(f"{path}: {function}() failed: {in_user_code(error, path)}") from error
        if not isinstance(arrays, Mapping):
            wanted = f"a dictionary of {', '.join(ARRAYS)}"
            raise DataError(f"{path}: {function}(): wanted {wanted}, got {type(arrays).__name__}")
        return dict(arrays)

    def key(self, home: Path) -> str:
        return _content_key(self, home)  # for nobody knows what the function reads


@cache
def _content_key(source: Code, home: Path) -> str:
    arrays = source.read(home, Project(home))
    (train, test, names) = checked(arrays, source.name)
    return sha256_of(*train, *test, np.array(names))


KINDS: dict[str, type[Source]] = {
    "npz": Npz,
    "folder": Folder,
    "torchvision": TorchVision,
    "code": Code,
}


def load_dataset(
    source: str | Source,
    validation_fraction: float,
    project: Project,
    home: Path,
    say: Callable[[str], None] = print,
    seed: int = SPLIT_SEED,
) -> Dataset:
    """A profile's data set, checked and split by the seed; raises DataError."""
    if isinstance(source, str):
        if source == SAMPLE:
            return load_sample(validation_fraction, seed)
        return load_fashion_mnist(project.data, validation_fraction, say, seed)
    train, test, names = checked(source.read(home, project), source.name)
    count, fewest = len(train[1]), np.bincount(train[1]).min()
    held_out = math.ceil(count * validation_fraction)
    if min(held_out, count - held_out) < len(names) or fewest < 2:
        wanted = f"at least {len(names)} images to train on and to hold out, two of each class"
        raise DataError(
            f"{source.name}: wanted {wanted}, got {count - held_out} and {held_out} by a "
            f"validation_fraction of {validation_fraction}, and {fewest} of the smallest class"
        )
    return split(source.title or source.name, train, test, names, validation_fraction, seed)


def as_npz(source: str | Source, project: Project, home: Path) -> bytes:
    """A data set other than the sample as a file that :class:`Npz` reads; raises DataError."""
    if isinstance(source, str):
        train, test = read_fashion_mnist(project.data)
        names: tuple[str, ...] = FASHION_CLASSES
    else:
        train, test, names = checked(source.read(home, project), source.name)
    arrays: dict[str, Any] = dict(zip(ARRAYS, (*train, *test), strict=True))
    file = io.BytesIO()
    np.savez(file, **arrays, class_names=np.array(names))
    return file.getvalue()


def data_key(source: str | Source, home: Path) -> str:
    """What identifies a data set's images and labels."""
    if isinstance(source, Source):
        return source.key(home)
    return file_sha256(SAMPLE_FILE) if source == SAMPLE else _sha256(SHA256)


# --- Checking a user's arrays -----------------------------------------------------------------


def checked(arrays: Mapping[str, Any], where: str) -> tuple[Part, Part, tuple[str, ...]]:
    """Training and test images uint8 with labels int64 from 0 on, and the classes' names.

    Labels may be whole numbers, from 0 or 1 on, or names. ``where`` begins what a DataError says.
    """
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise DataError(f"{where}: wanted {', '.join(ARRAYS)}, without {', '.join(missing)}")
    images: dict[str, NDArray[np.uint8]] = {}
    labels: dict[str, NDArray[Any]] = {}
    faults: list[str] = []
    for part in PARTS:
        try:
            images[part] = _images(arrays[f"{part}_images"], f"{where}: {part}_images")
            count = len(images[part])
            labels[part] = _labels(arrays[f"{part}_labels"], count, f"{where}: {part}_labels")
        except DataError as error:
            faults += error.args
    shapes = {part: array.shape[1:] for part, array in images.items()}
    if len({*shapes.values()}) > 1:
        train, test = shapes.values()
        faults.append(f"{where}: training images are of shape {train}, test images of {test}")
    names: tuple[str, ...] = ()
    codes: dict[str, NDArray[np.int64]] = {}
    if len(labels) == len(PARTS):
        try:
            names, codes = _classes(labels, arrays.get("class_names"), where)
        except DataError as error:
            faults += error.args
    if faults:
        raise DataError(*faults)
    return (images["train"], codes["train"]), (images["test"], codes["test"]), names


def _images(given: Any, where: str) -> NDArray[np.uint8]:
    images = _array(given, where)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    wanted = f"{where}: wanted uint8 (n, height, width) or (n, height, width, 3)"
    if not images.size:
        raise DataError(f"{where}: there is no image")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise DataError(f"{wanted}, got {images.dtype} of shape {images.shape}")
    if min(images.shape[1:3]) < SMALLEST:
        raise DataError(f"{wanted} of at least {SMALLEST} pixels a side, got {images.shape[1:3]}")
    return images


def _labels(given: Any, count: int, where: str) -> NDArray[Any]:
    labels = _array(given, where)
    if labels.dtype.kind == "O" and all(isinstance(one, str) for one in labels.tolist()):
        labels = labels.astype(str)  # as pandas has them
    if labels.shape != (count,) or labels.dtype.kind not in "iuU":
        wanted = f"{count} whole numbers or names, one an image"
        raise DataError(f"{where}: wanted {wanted}, got {labels.dtype} of shape {labels.shape}")
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)


def _array(given: Any, where: str) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except ValueError as error:  # lists of unequal length
        raise DataError(f"{where}: wanted an array, got {type(given).__name__}: {error}") from error


def _classes(
    given: Mapping[str, NDArray[Any]], class_names: Any, where: str
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """The classes' names, and the labels as their numbers."""
    if len({labels.dtype.kind for labels in given.values()}) > 1:
        raise DataError(f"{where}: labels are names in one part and numbers in the other")
    seen = np.unique(np.concatenate([given[part] for part in PARTS]))
    if class_names is None:
        known, names = seen, tuple(map(str, seen))
    else:
        given_names = _array(class_names, f"{where}: class_names")
        if given_names.ndim != 1:
            raise DataError(f"{where}: class_names: wanted a list, got shape {given_names.shape}")
        names = tuple(map(str, given_names.tolist()))
        if len({*names}) < len(names):
            raise DataError(f"{where}: class_names: wanted each name once, got {some(names)}")
        start = int(seen.dtype.kind in "iu" and seen.min() == 1 and seen.max() == len(names))
        named = seen.dtype.kind == "U"
        known = np.array(names) if named else np.arange(start, start + len(names))
        if strange := [one for one in seen.tolist() if one not in known.tolist()]:
            raise DataError(
                f"{where}: labels out of range: {some(strange)}; there are {len(names)} classes, "
                f"{some(known.tolist())}"
            )
    number = {one: i for i, one in enumerate(known.tolist())}
    codes = {
        part: np.array([number[one] for one in labels.tolist()], np.int64)
        for part, labels in given.items()
    }
    faults = []
    if not 2 <= len(names) <= MOST_CLASSES:
        faults.append(f"{where}: wanted 2 to {MOST_CLASSES} classes, got {len(names)}")
    for part in PARTS:
        absent = [names[c] for c in sorted({*range(len(names))} - {*codes[part].tolist()})]
        if absent:
            faults.append(f"{where}: no {part} image of {some(absent)}")
    if faults:
        raise DataError(*faults)
    return names, codes


def _of_torchvision(one: Any, part: str) -> dict[str, Any]:
    """Arrays of a torchvision data set, by its arrays or by its items."""
    labels = np.asarray(getattr(one, "targets", getattr(one, "labels", None)))
    if hasattr(one, "data") and labels.ndim:
        images = np.asarray(one.data)
        if images.ndim == 4 and images.shape[1] == 3:  # as SVHN has them
            images = images.transpose(0, 2, 3, 1)
    else:
        items = [one[i] for i in range(len(one))]
        images = np.stack([np.asarray(image) for image, _ in items])
        labels = np.array([label for _, label in items])
    labels = labels[:, 0] if labels.ndim == 2 else labels  # QMNIST's say more than the class
    names = getattr(one, "classes", None)
    if names is not None and labels.max() < len(names):
        labels = np.array([str(names[label]) for label in labels])
    return {f"{part}_images": images, f"{part}_labels": labels}


# --- Files ------------------------------------------------------------------------------------


def picture(path: Path, size: tuple[int, int] | None, colour: bool) -> NDArray[np.uint8]:
    """A picture file as a raw image: upright, grey or in colour, scaled and cut to ``size``.

    ``size`` is (height, width); what is transparent becomes white.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGBA")
    white = Image.new("RGBA", upright.size, "white")
    flat = Image.alpha_composite(white, upright).convert("RGB" if colour else "L")
    if size:
        flat = ImageOps.fit(flat, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(flat, np.uint8)


def pictures(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each class, which is a folder's name; DataError where there is none."""
    if not _there(folder).is_dir():
        raise DataError(f"{folder}: wanted a folder")
    folders = [one for one in sorted(folder.iterdir()) if one.is_dir()]
    classes = {one.name: _pictures(one) for one in folders if not one.name.startswith(".")}
    if not any(classes.values()):
        raise DataError(f"{folder}: wanted a folder of pictures for each class, there is none")
    if empty := [name for name, paths in classes.items() if not paths]:
        raise DataError(f"{folder}: no picture of {some(empty)}")
    return classes


def _pictures(folder: Path) -> list[Path]:
    from PIL import Image

    known = {*Image.registered_extensions()}
    found = [path for path in folder.rglob("*") if path.suffix.lower() in known]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _there(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    return path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, computed once for as long as its size and time stay."""
    state = path.stat()
    return _file_sha256(path, state.st_size, state.st_mtime_ns)


@cache
def _file_sha256(path: Path, _size: int, _mtime: int) -> str:
    return sha256_of_file(path)


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def some(things: Iterable[Any], most: int = 3) -> str:
    """At most so many of the things, and how many more there are; "none" of none."""
    shown = [str(one) for one in things]
    more = [f"and {len(shown) - most} more"] if len(shown) > most else []
    return ", ".join([*shown[:most], *more]) or "none"


# --- A user's code ----------------------------------------------------------------------------


def import_file(path: Path) -> ModuleType:
    """The module in a user's file, which may import what lies beside it; raises DataError."""
    path = _there(path.resolve())
    known = sys.modules.get(path.stem)
    if known and Path(getattr(known, "__file__", None) or "").resolve() != path:
        raise DataError(f"{path}: the name {path.stem} is another module's; rename the file")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        module = importlib.import_module(path.stem)
    except Exception as error:  # whatever is wrong with a user's file
        raise DataError(f"{path}: {in_user_code(error, path)}") from error
    if Path(module.__file__ or "").resolve() != path:
        raise DataError(f"{path}: the name {path.stem} is another module's; rename the file")
    return module


def in_user_code(error: BaseException, path: Path) -> str:
    """An error in a line, with the last line of the user's folder that led to it."""
    line, trace = "", error.__traceback__
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        libraries = file.is_relative_to(PACKAGE) or "site-packages" in file.parts
        if file.is_relative_to(path.parent) and not libraries:
            line = f"{file.name}, line {trace.tb_lineno}: "
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        line = f"{Path(error.filename).name}, line {error.lineno}: "
    return f"{line}{type(error).__name__}: {error}".partition("\n")[0]
