"""A user's own data: every kind is read as it should be, every fault is told in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fmlib.data import DataError, Dataset
from fmlib.models.registry import ParameterError
from fmlib.profiles import load_dataset, source_of
from fmlib.project import Project
from fmlib.sources import checked, data_key, import_file

LETTERS = ("ant", "bee", "cat")


def arrays(
    count: int = 30, shape: tuple[int, ...] = (8, 8), classes: int = 3, start: int = 0
) -> dict[str, Any]:
    """Made-up images, ``count`` a part, whose labels take turns."""
    rng = np.random.default_rng(9)
    made: dict[str, Any] = {}
    for part in ("train", "test"):
        made[f"{part}_images"] = rng.integers(0, 256, (count, *shape), np.uint8)
        made[f"{part}_labels"] = np.arange(count) % classes + start
    return made


def load(dataset: Any, home: Path) -> Dataset:
    return load_dataset(dataset, 0.2, Project(home), home)


def npz(home: Path, **changes: Any) -> Dataset:
    """A data set of an archive, with some of its arrays changed; None leaves one out."""
    content = {k: v for k, v in (arrays() | changes).items() if v is not None}
    np.savez(home / "own.npz", **content)
    return load({"npz": "own.npz"}, home)


def paint(path: Path, shade: int = 100, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 0, 0)).save(path)


def folder(home: Path, each: int = 6, parts: tuple[str, ...] = ("train", "test")) -> Path:
    """Folders of pictures, 12 wide and 10 high, of which the classes have different shades."""
    root = home / "pictures"
    for part in parts:
        for shade, name in enumerate(LETTERS):
            for number in range(each):
                paint(root / part / name / f"{number}.png", 40 + 80 * shade)
    return root


# --- Kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8), (9, 14), (8, 8, 1), (16, 16, 3)])
@pytest.mark.parametrize("start", [0, 1])
def test_arrays_of_any_size_and_colour_are_taken(tmp_path, shape, start):
    content = arrays(shape=shape, start=start)
    data = npz(tmp_path, **content)
    assert data.spec.image_shape == (shape[:2] if shape[2:] in ((), (1,)) else shape)
    assert data.class_names == tuple(str(c + start) for c in range(3))
    assert data.test_labels.tolist() == (content["test_labels"] - start).tolist()
    assert (len(data.train_labels), len(data.validation_labels)) == (24, 6)
    assert data.name == "own"


@pytest.mark.parametrize("start", [0, 1])
def test_class_names_of_ones_own_are_in_the_order_of_the_labels(tmp_path, start):
    data = npz(tmp_path, **arrays(start=start), class_names=np.array(["zebra", "ape", "cow"]))
    assert data.class_names == ("zebra", "ape", "cow")
    assert data.test_labels[:3].tolist() == [0, 1, 2]


def test_labels_may_be_names(tmp_path):
    named = {k: np.array(LETTERS)[v] for k, v in arrays().items() if k.endswith("labels")}
    assert npz(tmp_path, **named).class_names == LETTERS
    backwards = npz(tmp_path, **named, class_names=np.array(LETTERS[::-1]))
    assert backwards.class_names == LETTERS[::-1] and backwards.test_labels[0] == 2


def test_titles_are_a_users_own_and_two_to_a_thousand_classes_go(tmp_path):
    content = arrays(count=3000, classes=1000)
    np.savez(tmp_path / "many.npz", **content)
    data = load_dataset({"npz": "many.npz", "title": "Many"}, 0.35, Project(tmp_path), tmp_path)
    assert data.name == "Many" and len(data.class_names) == 1000
    assert len(npz(tmp_path, **arrays(classes=2)).class_names) == 2


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("size", "shape"), [(None, (10, 12)), (8, (8, 8)), ([9, 20], (9, 20))])
def test_folders_of_pictures_are_read_grey_or_in_colour_at_any_size(tmp_path, colour, size, shape):
    folder(tmp_path)
    (tmp_path / "pictures" / "train" / "ant" / ".DS_Store").touch()
    (tmp_path / "pictures" / "train" / "ant" / "notes.txt").touch()
    data = load({"folder": "pictures", "size": size, "colour": colour}, tmp_path)
    assert data.spec.image_shape == shape + ((3,) if colour else ())
    assert data.class_names == LETTERS and len(data.test_labels) == 18
    shades = [data.test_images[data.test_labels == c].max() for c in range(3)]
    assert shades == sorted(shades) and shades[0] < shades[2]


def test_a_share_for_testing_is_drawn_from_each_class_and_always_the_same(tmp_path):
    folder(tmp_path, each=10, parts=("",))
    settings = {"folder": "pictures", "test_share": 0.3}
    first, again = load(settings, tmp_path), load(settings, tmp_path)
    assert np.bincount(first.test_labels).tolist() == [3, 3, 3]
    assert first.data_sha256 == again.data_sha256
    assert len(first.train_labels) + len(first.validation_labels) == 21


def test_a_function_in_a_file_may_make_the_data(tmp_path):
    np.savez(tmp_path / "x.npz", **arrays())
    (tmp_path / "making_data.py").write_text(
        "from pathlib import Path\nimport numpy as np\n"
        "def load():\n    return np.load(Path(__file__).with_name('x.npz'))\n"
    )
    assert load({"code": "making_data.py:load"}, tmp_path).spec.num_classes == 3


class Tensors:
    """A data set as torchvision's MNIST and CIFAR10 are."""

    classes = ("none", *LETTERS)

    def __init__(self, root: Path, train: bool = True, download: bool = False) -> None:
        part = "train" if train else "test"
        self.data = torch.from_numpy(arrays(start=1)[f"{part}_images"])
        self.targets = torch.from_numpy(arrays(start=1)[f"{part}_labels"])


class ChannelsFirst:
    """As SVHN is."""

    def __init__(self, root: Path, split: str = "train", download: bool = False) -> None:
        self.data = arrays(shape=(3, 8, 8))[f"{split}_images"]
        self.labels = arrays()[f"{split}_labels"]


class Items:
    """One that is known by its items alone."""

    def __init__(self, root: Path, split: str = "train", download: bool = False) -> None:
        self.content = arrays(shape=(8, 8, 3))
        self.part = split

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        image = Image.fromarray(self.content[f"{self.part}_images"][index])
        return image, int(self.content[f"{self.part}_labels"][index])


@pytest.mark.parametrize(
    ("made", "shape", "names"),
    [
        (Tensors, (8, 8), LETTERS),
        (ChannelsFirst, (8, 8, 3), ("0", "1", "2")),
        (Items, (8, 8, 3), ("0", "1", "2")),
    ],
)
def test_torchvisions_data_sets_are_read_by_arrays_or_items(
    tmp_path, monkeypatch, made, shape, names
):
    monkeypatch.setattr(torchvision.datasets, "Own", made, raising=False)
    monkeypatch.setattr(torchvision.datasets, "__all__", (*torchvision.datasets.__all__, "Own"))
    data = load({"torchvision": "Own"}, tmp_path)
    assert data.spec.image_shape == shape and data.class_names == names
    assert (data.test_labels == arrays()["test_labels"]).all()


# --- Faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"test_images": None}, "without test_images"),
        ({"test_images": np.empty((0, 8, 8), np.uint8), "test_labels": []}, "there is no image"),
        ({"train_images": np.zeros((30, 8, 8), np.float32)}, "wanted uint8.*got float32"),
        ({"train_images": np.full((30, 8, 8), np.nan)}, "wanted uint8.*got float64"),
        ({"train_images": np.zeros((30, 7, 8), np.uint8)}, "at least 8 pixels"),
        (
            {"train_images": np.zeros((30, 8, 8, 4), np.uint8)},
            r"got uint8 of shape \(30, 8, 8, 4\)",
        ),
        ({"train_images": np.zeros((30, 9, 9), np.uint8)}, "training images are of shape"),
        ({"train_labels": np.zeros(29, int)}, "wanted 30 whole numbers"),
        ({"train_labels": np.zeros(30)}, "got float64"),
        ({"train_labels": np.arange(30) % 2}, "no train image of 2"),
        ({"test_labels": np.arange(30) % 2}, "no test image of 2"),
        ({"class_names": np.array(["a", "b"])}, "labels out of range: 2"),
        ({"class_names": np.array(["a", "b", "b"])}, "each name once"),
        ({"train_labels": np.zeros(30, int), "test_labels": np.zeros(30, int)}, "got 1"),
        ({"train_labels": np.array([{}] * 30)}, "without pickles"),
    ],
)
def test_what_is_wrong_with_arrays_is_told(tmp_path, changes, says):
    with pytest.raises(DataError, match=rf"own.*{says}"):
        npz(tmp_path, **changes)


def test_an_archive_with_a_pickle_runs_nothing(tmp_path):
    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    with pytest.raises(DataError, match="without pickles"):
        npz(tmp_path, train_labels=np.array([Touch()] * 30, object))
    assert not (tmp_path / "touched").exists()


def test_too_few_images_to_hold_any_out_are_told(tmp_path):
    with pytest.raises(DataError, match="at least 3 images to train on and to hold out"):
        npz(tmp_path, **arrays(count=6))


def _unreadable(root: Path) -> None:
    for number in range(5):
        (root / "train" / "bee" / f"{number}.png").write_bytes(b"no picture")


def _another_size(root: Path) -> None:
    paint(root / "train" / "bee" / "0.png", size=(20, 20))


def _empty_class(root: Path) -> None:
    (root / "train" / "dog").mkdir()


def _no_test(root: Path) -> None:
    (root / "test").rename(root / "tests")


def _class_lacks_tests(root: Path) -> None:
    for path in (root / "test" / "bee").iterdir():
        path.rename(root / "test" / "ant" / f"bee {path.name}")
    (root / "test" / "bee").rmdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_unreadable, r"5 pictures cannot be read: .*0\.png.*and 2 more"),
        (_another_size, "several sizes, set `size`: .*20 x 20"),
        (_empty_class, "no picture of dog"),
        (_no_test, "test: there is no such file or folder"),
        (_class_lacks_tests, "no test image of bee"),
    ],
)
def test_what_is_wrong_with_pictures_is_told(tmp_path, spoil: Callable[[Path], None], says):
    spoil(folder(tmp_path))
    with pytest.raises(DataError, match=says):
        load({"folder": "pictures"}, tmp_path)


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ("fashion_mnits", "did you mean 'fashion_mnist'"),
        ({"zip": "x"}, "wanted one of the keys npz, folder, torchvision, code"),
        ({"npz": "x.npz", "folder": "x"}, "wanted one of the keys"),
        ({"folder": "x", "sise": 8}, r"dataset\.sise: unknown key; did you mean 'size'"),
        ({"folder": "x", "size": 4}, r"dataset\.size"),
        ({"code": "load"}, r"dataset\.code"),
    ],
)
def test_settings_of_data_that_cannot_be_are_refused(dataset, says):
    with pytest.raises(ParameterError, match=says):
        source_of(dataset)


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ({"npz": "nowhere.npz"}, "nowhere.npz: there is no such file"),
        ({"torchvision": "KMNITS"}, "did you mean 'KMNIST'"),
        ({"code": "nowhere.py:load"}, "nowhere.py: there is no such file"),
        ({"code": "faulty_data.py:load"}, r"faulty_data\.py, line 2: KeyError"),
        ({"code": "faulty_data.py:none"}, "wanted a function 'none'"),
        ({"code": "faulty_data.py:text"}, "wanted a dictionary.*got str"),
    ],
)
def test_data_that_cannot_be_had_are_told_with_file_and_line(tmp_path, dataset, says):
    code = "def load():\n    return {}['x']\n\ndef text():\n    return 'x'\n"
    stem = tmp_path.name  # a module's name is taken once a process
    (tmp_path / f"{stem}.py").write_text(code)
    renamed = {kind: value.replace("faulty_data", stem) for kind, value in dataset.items()}
    with pytest.raises(DataError, match=says.replace("faulty_data", stem)):
        load(renamed, tmp_path)


def test_code_whose_name_a_library_has_is_refused(tmp_path):
    (tmp_path / "json.py").write_text("")
    with pytest.raises(DataError, match="rename the file"):
        import_file(tmp_path / "json.py")
    assert json.dumps({}) == "{}"


# --- Keys, and anything at all ----------------------------------------------------------------


def test_a_data_sets_key_follows_its_content_and_not_its_title(tmp_path):
    root, settings = folder(tmp_path), {"folder": "pictures"}

    def key(**more: Any) -> str:
        return data_key(source_of(settings | more), tmp_path)

    before = key()
    assert key(title="Animals", licence="mine") == before != key(size=8)
    paint(root / "train" / "ant" / "0.png", 41)
    assert key() != before


@given(st.lists(st.integers(-3, 5) | st.sampled_from("abc"), min_size=1, max_size=12))
def test_any_labels_are_taken_or_refused_in_words(labels):
    images = np.zeros((len(labels), 8, 8), np.uint8)
    content = {"train_images": images, "test_images": images}
    content |= {"train_labels": np.array(labels), "test_labels": np.array(labels)}
    try:
        (_, train), (_, test), names = checked(content, "here")
    except DataError as error:
        assert str(error).startswith("here")
        return
    assert [names[c] for c in train] == [str(one) for one in np.array(labels)]
    assert (train == test).all() and len(names) >= 2
