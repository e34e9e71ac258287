"""Getting, verifying, loading and splitting the data."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms.functional import pil_to_tensor

from fmlib import data
from fmlib.data import DataError, check_images, check_labelled, get_data, load_data, raw_folder, split_indices

# --- A made-up FashionMNIST in the real file format -----------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the format of the raw files."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def fake_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    files = {}
    for part, size in (("train", 60), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (size, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(size, dtype=np.uint8) % 10)
    return files


FILES = fake_files()
ONE = "train-images-idx3-ubyte"
Place = Callable[[Path, bytes], None]


def put(folder: Path, files: dict[str, bytes] = FILES, packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def fail(_incoming: Path) -> None:
    raise DataError("this source is out of order")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty data folder; the made-up files are the right ones, all sources fail, and nothing can reach the network."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: tuple[str, int]) -> None:
        assert address[0] == "127.0.0.1", f"a test tried to reach {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    monkeypatch.setattr(data, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()})
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "no debian")
    monkeypatch.delenv("FMLIB_DATA", raising=False)
    yield tmp_path / "data"


@pytest.fixture
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(data.SOURCES)[2:]:
        monkeypatch.setitem(data.SOURCES, name, fail)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- Sources --------------------------------------------------------------------------------------------------------------


def test_good_data_is_taken_as_it_is_without_asking_any_source(root, monkeypatch, capsys):
    put(raw_folder(root))
    monkeypatch.setattr(data, "SOURCES", {})
    assert get_data(root) == root
    assert capsys.readouterr().out == ""


def test_sources_are_tried_in_order_and_each_failure_is_one_line(root, monkeypatch):
    tried, said = [], []

    def source(name: str, works: bool) -> Place:
        def bring(incoming: Path) -> None:
            tried.append(name)
            if not works:
                raise OSError(f"{name} is\nbroken")
            put(incoming)
        return bring

    names = list(data.SOURCES)
    assert ["FMLIB_DATA" in names[0], "Debian" in names[1], "torchvision" in names[2], "apt-get" in names[3]] == [True] * 4
    for name in names:
        monkeypatch.setitem(data.SOURCES, name, source(name, works=name == names[-1]))
    get_data(root, said.append)
    assert tried == names
    assert all(f"not from {name}: {name} is broken" in line for name, line in zip(names[:-1], said[:-1], strict=True))
    assert names[-1] in said[-1] and not any("\n" in line for line in said)


def test_the_first_source_that_works_ends_the_search(root, monkeypatch):
    monkeypatch.setenv("FMLIB_DATA", str(put(root.parent / "mine")))
    for name in list(data.SOURCES)[1:]:
        monkeypatch.setitem(data.SOURCES, name, lambda _: pytest.fail("a later source was asked"))
    get_data(root)
    assert files_in(root) == FILES


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw", "raw"])
def test_a_folder_may_hold_raw_or_gz_files_in_any_usual_layout(root, monkeypatch, layout, packed):
    put(root.parent / "mine" / layout, packed=packed)
    monkeypatch.setenv("FMLIB_DATA", str(root.parent / "mine"))
    get_data(root)
    assert files_in(raw_folder(root)) == FILES


def test_debians_package_is_used_where_it_is_installed(root, no_downloads):
    put(data.DEBIAN_FOLDER, packed=True)
    get_data(root)
    assert files_in(root) == FILES


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a web server on this machine for the files of a folder."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_torchvisions_download_is_used_and_verified(root, monkeypatch):
    mirror = put(root.parent / "mirror", packed=True)
    md5 = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(mirror.iterdir())]
    monkeypatch.setattr(FashionMNIST, "resources", md5)
    before = socket.getdefaulttimeout()
    with serving(mirror) as address:
        monkeypatch.setattr(FashionMNIST, "mirrors", [address])
        get_data(root)
    assert files_in(root) == FILES
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize("lists", ["fresh", "stale"])
def test_debians_package_is_fetched_and_unpacked_without_installing_it(root, monkeypatch, lists):
    put(root.parent / "package" / data.DEBIAN_FOLDER.relative_to("/"), packed=True)
    # stand-ins for apt-get and dpkg-deb: "download" leaves a file, "-x" copies the package's tree
    programs = root.parent / "bin"
    programs.mkdir()
    updated = root.parent / "updated"
    apt = f"""#!/bin/sh
case "$*" in
  *update) touch '{updated}' ;;
  *download*) [ {lists} = fresh ] || [ -e '{updated}' ] || {{ echo 'E: Unable to locate package' >&2; exit 100; }}
              touch dataset-fashion-mnist_1_all.deb ;;
esac
"""
    dpkg = f"#!/bin/sh\ncp -R '{root.parent / 'package'}/.' \"$3\"\n"
    for name, script in (("apt-get", apt), ("dpkg-deb", dpkg)):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(data.SOURCES, "torchvision's download", fail)
    get_data(root)
    assert files_in(root) == FILES
    assert updated.exists() == (lists == "stale")


def test_a_machine_without_apt_gets_the_reason_in_words(root, monkeypatch):
    monkeypatch.setenv("PATH", str(root.parent / "empty"))
    monkeypatch.setitem(data.SOURCES, "torchvision's download", fail)
    with pytest.raises(DataError, match="there is no apt-get here"):
        get_data(root)


def corrupt(folder: Path) -> None:
    content = bytearray(FILES[ONE])
    content[100] ^= 1
    put(folder, FILES | {ONE: bytes(content)})


def truncate(folder: Path) -> None:
    put(folder, FILES | {ONE: FILES[ONE][:-1]})


def leave_out(folder: Path) -> None:
    put(folder, {name: content for name, content in FILES.items() if name != ONE})


def pack_half(folder: Path) -> None:
    put(folder, packed=True)
    path = folder / f"{ONE}.gz"
    path.write_bytes(path.read_bytes()[:-100])


def pack_rubbish(folder: Path) -> None:
    put(folder, packed=True)
    path = folder / f"{ONE}.gz"
    content = bytearray(path.read_bytes())
    content[10] = 0xFF  # no such kind of block: zlib.error, which is no OSError
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [corrupt, truncate, leave_out, pack_half, pack_rubbish])
def test_files_that_are_not_whole_are_refused_and_not_left_in_place(root, no_downloads, monkeypatch, damage):
    damage(root.parent / "mine")
    monkeypatch.setenv("FMLIB_DATA", str(root.parent / "mine"))
    said = []
    with pytest.raises(DataError):
        get_data(root, said.append)
    assert "FMLIB_DATA" in said[0] and len(said) == 4
    assert files_in(root) == {} and list(root.iterdir()) == []


@pytest.mark.parametrize("damage", [corrupt, truncate, leave_out])
def test_damaged_data_is_replaced_by_whole_files(root, no_downloads, damage):
    damage(raw_folder(root))
    put(data.DEBIAN_FOLDER)
    get_data(root)
    assert files_in(root) == FILES


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, DataError, ConnectionResetError, StopIteration])
def test_a_source_that_stops_midway_leaves_nothing_behind(root, no_downloads, monkeypatch, interruption):
    def half(incoming: Path) -> None:
        (incoming / ONE).write_bytes(FILES[ONE][:1000])
        raise interruption("stopped")

    monkeypatch.setitem(data.SOURCES, next(iter(data.SOURCES)), half)
    with pytest.raises((interruption, DataError)):
        get_data(root)
    assert list(root.iterdir()) == []
    put(data.DEBIAN_FOLDER)
    if issubclass(interruption, Exception):
        get_data(root)
        assert files_in(root) == FILES


def test_when_all_fails_the_error_lists_what_was_tried_and_what_to_do(root, no_downloads):
    with pytest.raises(DataError) as caught:
        get_data(root)
    message = str(caught.value)
    assert str(raw_folder(root)) in message and all(source in message for source in data.SOURCES)
    assert "FMLIB_DATA is not set" in message and "this source is out of order" in message
    assert "set FMLIB_DATA to it" in message and "PROFILE=smoke" in message


def test_the_right_files_are_the_published_ones():
    assert sorted(data.SHA256) == sorted(FILES)
    assert data.SHA256["train-images-idx3-ubyte"].startswith("c59f468a")


def test_the_sample_needs_no_source_and_no_network(root, monkeypatch):
    monkeypatch.setattr(data, "get_data", lambda: pytest.fail("the sample asked for the full data"))
    assert len(load_data("sample").test_labels) == 500
    assert not root.exists()


# --- Splits ---------------------------------------------------------------------------------------------------------------

balances = st.lists(st.integers(10, 40), min_size=2, max_size=10)
fractions = st.floats(0.1, 0.5)
seeds = st.integers(0, 2**32 - 1)


def labels_of(counts: list[int]) -> np.ndarray:
    return np.random.default_rng(len(counts)).permutation(np.repeat(np.arange(len(counts)), counts))


@given(balances, fractions, seeds)
def test_a_split_is_disjoint_complete_and_sorted(counts, fraction, seed):
    train, validation = split_indices(labels_of(counts), fraction, seed)
    assert sorted([*train, *validation]) == list(range(sum(counts)))
    assert list(train) == sorted(train) and list(validation) == sorted(validation)


@given(balances, fractions, seeds)
def test_a_split_is_stratified(counts, fraction, seed):
    labels = labels_of(counts)
    held_out = np.bincount(labels[split_indices(labels, fraction, seed)[1]], minlength=len(counts))
    assert np.abs(held_out - fraction * np.array(counts)).max() < 1.5


@given(balances, fractions, seeds)
def test_a_split_depends_on_its_seed_alone(counts, fraction, seed):
    labels = labels_of(counts)
    again = [split_indices(labels, fraction, one)[1].tolist() for one in (seed, seed, (seed + 1) % 2**32)]
    assert again[0] == again[1] != again[2]


def test_hashes_tell_splits_and_data_apart(sample):
    other_seed, other_share = load_data("sample", split_seed=1), load_data("sample", validation_fraction=0.2)
    assert load_data("sample").split_sha256 == sample.split_sha256
    assert len({one.split_sha256 for one in (sample, other_seed, other_share)}) == 3
    assert len({one.data_sha256 for one in (sample, other_seed, other_share)}) == 1


@given(st.integers(0, 99), st.integers(0, 27), st.integers(0, 27))
def test_any_changed_pixel_changes_the_hash(small, image, row, column):
    changed = small.test_images.copy()
    changed[image, row, column] ^= 1
    assert data.sha256_of(changed) != data.sha256_of(small.test_images)


def test_the_hash_sees_shape_and_type_and_not_memory_layout():
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert data.sha256_of(array) == data.sha256_of(np.asfortranarray(array))
    assert len({data.sha256_of(one) for one in (array, array.reshape(3, 2), array.astype(np.int32), array.T)}) == 4


# --- Data sets ------------------------------------------------------------------------------------------------------------


def test_the_embedded_sample_is_small_real_and_balanced(sample):
    assert data.SAMPLE_FILE.stat().st_size < 1.5e6
    for train, size in ((True, 2000), (False, 500)):
        base = data.load_base("sample", train)
        assert isinstance(base, FashionMNIST) and len(base) == size
        assert base.data.dtype == torch.uint8 and base.targets.dtype == torch.int64
        assert set(np.bincount(base.targets).tolist()) == {size // 10}
        assert base.classes == FashionMNIST.classes
    assert len(sample.train_labels) == 1800 and len(sample.validation_labels) == 200
    assert set(np.bincount(sample.validation_labels)) == {20}


def test_no_image_is_in_two_parts_of_the_sample(sample):
    parts = [{image.tobytes() for image in images} for images, _ in (sample.train, sample.validation, sample.test)]
    assert parts[0] & parts[1] == parts[0] & parts[2] == parts[1] & parts[2] == set()


def test_the_full_data_set_is_read_from_its_files(root, monkeypatch):
    put(raw_folder(root))
    monkeypatch.setattr(data, "get_data", lambda: get_data(root))
    loaded = load_data("full", validation_fraction=0.2)
    assert [len(labels) for _, labels in (loaded.train, loaded.validation, loaded.test)] == [48, 12, 20]
    assert loaded.test_labels.tolist() == [i % 10 for i in range(20)]
    assert loaded.test_images.tobytes() == FILES["t10k-images-idx3-ubyte"][16:]
    assert loaded.class_names == data.CLASS_NAMES and loaded.class_names[9] == "Ankle boot"


def test_a_wrapped_data_set_transforms_its_images_in_a_data_loader():
    base = data.load_base("sample", train=False)
    wrapped = data.TransformedDataset(base, lambda image: pil_to_tensor(image).float() / 255)
    images, labels = next(iter(DataLoader(wrapped, batch_size=32)))
    assert len(wrapped) == 500
    assert images.shape == (32, 1, 28, 28) and images.dtype == torch.float32 and images.max() <= 1
    assert torch.equal(images[:, 0], base.data[:32] / 255) and torch.equal(labels, base.targets[:32])


def test_one_base_serves_two_transforms():
    base = data.load_base("sample", train=False)
    plain, inverted = (data.TransformedDataset(base, transform) for transform in (np.asarray, lambda i: 255 - np.asarray(i)))
    assert np.array_equal(plain[3][0], 255 - inverted[3][0])


# --- What models accept ---------------------------------------------------------------------------------------------------

IMAGES, LABELS = np.zeros((4, 28, 28), np.uint8), np.array([0, 1, 9, 9])


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (IMAGES.astype(np.float32), "float32"),
        (np.full((4, 28, 28), np.nan), "NaN"),
        (IMAGES[0], r"\(28, 28\)"),
        (IMAGES.reshape(4, 784), r"\(4, 784\)"),
        (IMAGES[:, :27], r"\(4, 27, 28\)"),
        (IMAGES[:0], r"\(0, 28, 28\)"),
        ([], r"\(0,\)"),
        ("boots", "str|<U"),
    ],
)
def test_what_is_no_batch_of_images_is_refused_with_wanted_and_got(images, got):
    with pytest.raises(ValueError, match=rf"things: wanted uint8 of shape \(n, 28, 28\).*got .*{got}"):
        check_images(images, "things")


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (LABELS[:3], r"\(3,\)"),
        (LABELS[:, None], r"\(4, 1\)"),
        (LABELS.astype(float), "float64"),
        (np.array([0, np.nan, 1, 2]), "float64"),
        (LABELS + 1, "from 1 to 10"),
        (LABELS - 1, "from -1 to 8"),
        (np.array(list("abcd")), "<U1"),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_wanted_and_got(labels, got):
    with pytest.raises(ValueError, match=f"validation labels: wanted 4 integers from 0 to 9.*got .*{got}"):
        check_labelled(IMAGES, labels, "validation")


def test_good_images_and_labels_of_any_integer_type_pass_unchanged():
    images, labels = check_labelled(torch.from_numpy(IMAGES), LABELS.astype(np.uint8))
    assert images.dtype == np.uint8 and np.array_equal(images, IMAGES)
    assert labels.dtype == np.int64 and np.array_equal(labels, LABELS)
