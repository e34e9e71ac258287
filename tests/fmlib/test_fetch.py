"""Where FashionMNIST's files and checkpoints come from, and that they are verified."""

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
from torchvision.datasets import FashionMNIST

from fmlib import fetch
from fmlib.data import FASHION_CLASSES, DataError, load_sample
from fmlib.fetch import (
    WeightsError,
    checkpoint_places,
    checkpoint_sha256,
    first_usable,
    get_data,
    load_fashion_mnist,
    raw_folder,
)

# --- A made-up FashionMNIST in the real file format -------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the format of the raw files."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def fake_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    files = {}
    for part, size in (("train", 60), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte"] = idx(
            rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        )
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
    """An empty data folder, where the made-up files are the correct ones.

    No source works, and nothing can reach the network.
    """
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: tuple[str, int]) -> None:
        assert address[0] == "127.0.0.1", f"a test tried to reach {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(fetch, "SHA256", sums)
    monkeypatch.setattr(fetch, "DEBIAN_FOLDER", tmp_path / "no debian")
    monkeypatch.delenv("FMLIB_DATA", raising=False)
    yield tmp_path / "data"


@pytest.fixture
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(fetch.SOURCES)[2:]:
        monkeypatch.setitem(fetch.SOURCES, name, fail)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- Sources ----------------------------------------------------------------------------------


def test_good_data_is_taken_as_it_is_without_asking_any_source(root, monkeypatch, capsys):
    put(raw_folder(root))
    monkeypatch.setattr(fetch, "SOURCES", {})
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

    names = list(fetch.SOURCES)
    order = ("FMLIB_DATA", "Debian", "torchvision", "apt-get")
    assert all(one in name for one, name in zip(order, names, strict=True))
    for name in names:
        monkeypatch.setitem(fetch.SOURCES, name, source(name, works=name == names[-1]))
    get_data(root, said.append)
    assert tried == names
    for name, line in zip(names[:-1], said[:-1], strict=True):
        assert f"not from {name}: {name} is broken" in line and "\n" not in line
    assert names[-1] in said[-1]


def test_the_first_source_that_works_ends_the_search(root, monkeypatch):
    monkeypatch.setenv("FMLIB_DATA", str(put(root.parent / "mine")))
    for name in list(fetch.SOURCES)[1:]:
        monkeypatch.setitem(fetch.SOURCES, name, lambda _: pytest.fail("a later source was asked"))
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
    put(fetch.DEBIAN_FOLDER, packed=True)
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
    packed = {path.name: path.read_bytes() for path in sorted(mirror.iterdir())}
    md5 = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    monkeypatch.setattr(FashionMNIST, "resources", md5)
    before = socket.getdefaulttimeout()
    with serving(mirror) as address:
        monkeypatch.setattr(FashionMNIST, "mirrors", [address])
        get_data(root)
    assert files_in(root) == FILES
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize("lists", ["fresh", "stale"])
def test_debians_package_is_fetched_and_unpacked_without_installing_it(root, monkeypatch, lists):
    put(root.parent / "package" / fetch.DEBIAN_FOLDER.relative_to("/"), packed=True)
    # stand-ins for apt-get and dpkg-deb: "download" leaves a file, "-x" copies the package's tree
    programs = root.parent / "bin"
    programs.mkdir()
    updated = root.parent / "updated"
    apt = f"""#!/bin/sh
case "$*" in
  *update) touch '{updated}' ;;
  *download*) [ {lists} = fresh ] || [ -e '{updated}' ] || {{ echo 'E: not found' >&2; exit 100; }}
              touch dataset-fashion-mnist_1_all.deb ;;
esac
"""
    dpkg = f"#!/bin/sh\ncp -R '{root.parent / 'package'}/.' \"$3\"\n"
    for name, script in (("apt-get", apt), ("dpkg-deb", dpkg)):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(fetch.SOURCES, "torchvision's download", fail)
    get_data(root)
    assert files_in(root) == FILES
    assert updated.exists() == (lists == "stale")


def test_a_machine_without_apt_gets_the_reason_in_words(root, monkeypatch):
    monkeypatch.setenv("PATH", str(root.parent / "empty"))
    monkeypatch.setitem(fetch.SOURCES, "torchvision's download", fail)
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
def test_files_that_are_not_whole_are_refused_and_not_left_in_place(
    root, no_downloads, monkeypatch, damage
):
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
    put(fetch.DEBIAN_FOLDER)
    get_data(root)
    assert files_in(root) == FILES


def test_a_damaged_file_does_not_hide_a_whole_one_beside_it(root, no_downloads, monkeypatch):
    folder = root.parent / "mine"
    put(folder, packed=True)
    (folder / ONE).write_bytes(b"cut short")
    monkeypatch.setenv("FMLIB_DATA", str(folder))
    get_data(root)
    assert files_in(root) == FILES


@pytest.mark.parametrize("obstacle", ["folder", "dangling link"])
def test_what_is_no_file_is_passed_over(root, no_downloads, obstacle):
    path = raw_folder(root) / ONE
    path.parent.mkdir(parents=True)
    if obstacle == "folder":
        path.mkdir()
    else:
        path.symlink_to(root / "nowhere")
    put(fetch.DEBIAN_FOLDER)
    if obstacle == "folder":
        path.rmdir()  # a user has to take it away
    get_data(root)
    assert files_in(root) == FILES


@pytest.mark.parametrize(
    "interruption",
    [KeyboardInterrupt, SystemExit, DataError, ConnectionResetError, StopIteration],
)
def test_a_source_that_stops_midway_leaves_nothing_behind(
    root, no_downloads, monkeypatch, interruption
):
    def half(incoming: Path) -> None:
        (incoming / ONE).write_bytes(FILES[ONE][:1000])
        raise interruption("stopped")

    monkeypatch.setitem(fetch.SOURCES, next(iter(fetch.SOURCES)), half)
    with pytest.raises((interruption, DataError)):
        get_data(root)
    assert list(root.iterdir()) == []
    put(fetch.DEBIAN_FOLDER)
    if issubclass(interruption, Exception):
        get_data(root)
        assert files_in(root) == FILES


def test_when_all_fails_the_error_lists_what_was_tried_and_what_to_do(root, no_downloads):
    with pytest.raises(DataError) as caught:
        get_data(root)
    message = str(caught.value)
    assert str(raw_folder(root)) in message and all(source in message for source in fetch.SOURCES)
    assert "FMLIB_DATA is not set" in message and "this source is out of order" in message
    assert "set FMLIB_DATA to it" in message and "PROFILE=smoke" in message


def test_the_right_files_are_the_published_ones():
    assert sorted(fetch.SHA256) == sorted(FILES)
    assert fetch.SHA256["train-images-idx3-ubyte"].startswith("c59f468a")


def test_the_sample_needs_no_source_and_no_network(root, monkeypatch):
    monkeypatch.setattr(fetch, "get_data", lambda *_: pytest.fail("it asked for the full data"))
    assert len(load_sample().test_labels) == 500
    assert not root.exists()


def test_the_full_data_set_is_read_from_its_files(root):
    put(raw_folder(root))
    loaded = load_fashion_mnist(root, validation_fraction=0.2)
    sizes = [len(labels) for _, labels in (loaded.train, loaded.validation, loaded.test)]
    assert (loaded.name, sizes) == ("fashion_mnist", [48, 12, 20])
    assert loaded.test_labels.tolist() == [i % 10 for i in range(20)]
    assert loaded.test_images.tobytes() == FILES["t10k-images-idx3-ubyte"][16:]
    assert loaded.class_names == FASHION_CLASSES and loaded.class_names[9] == "Ankle boot"
    assert loaded.train_images.dtype == np.uint8 and loaded.train_labels.dtype == np.int64


def test_a_folder_below_the_one_at_hand_will_do(root, no_downloads, monkeypatch):
    put(fetch.DEBIAN_FOLDER)
    monkeypatch.chdir(root.parent)
    get_data(Path("data"))
    assert files_in(root) == FILES


# --- Checkpoints ------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """Torch's hub cache, empty; nothing is downloaded, and FMLIB_WEIGHTS is not set."""

    def refuse(*_args: object, **_more: object) -> None:
        raise OSError("no internet in tests")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.delenv("FMLIB_WEIGHTS", raising=False)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


CONTENT = b"weights"
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
URL = f"https://example.org/{NAME}"


def read(path: Path) -> bytes:
    checkpoint_sha256(path)
    return path.read_bytes()


def test_a_checkpoint_is_looked_for_in_the_cache_then_in_the_folder_then_downloaded(
    hub, tmp_path, monkeypatch
):
    monkeypatch.setenv("FMLIB_WEIGHTS", str(tmp_path))
    names = [name for name, _ in checkpoint_places(URL)]
    assert [name.split()[0] for name in names] == ["torch's", "FMLIB_WEIGHTS", "download"]
    with pytest.raises(WeightsError, match=r"no weights.*hub cache.*FMLIB_WEIGHTS.*no internet"):
        first_usable("weights", checkpoint_places(URL), read)
    for folder in (tmp_path, hub):
        (folder / NAME).write_bytes(CONTENT)
        assert first_usable("weights", checkpoint_places(URL), read) == CONTENT


def test_a_damaged_checkpoint_is_passed_over_in_words(hub, tmp_path, monkeypatch):
    (hub / NAME).write_bytes(b"other")
    with pytest.raises(WeightsError, match=rf"{NAME} is damaged: its SHA-256"):
        first_usable("weights", checkpoint_places(URL), read)
    monkeypatch.setenv("FMLIB_WEIGHTS", str(tmp_path))
    (tmp_path / NAME).write_bytes(CONTENT)
    assert first_usable("weights", checkpoint_places(URL), read) == CONTENT


def test_a_downloaded_checkpoint_lands_in_the_cache_and_is_verified(hub, monkeypatch):
    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        assert (url, hash_prefix) == (URL, NAME[4:12])
        Path(target).write_bytes(CONTENT)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert first_usable("weights", checkpoint_places(URL), read) == CONTENT
    assert (hub / NAME).read_bytes() == CONTENT


def test_the_checksum_of_a_checkpoint_is_its_sha256(tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)
    assert checkpoint_sha256(tmp_path / NAME) == hashlib.sha256(CONTENT).hexdigest()


def test_where_no_place_has_weights_it_says_so():
    with pytest.raises(WeightsError, match=r"no weights\. Tried: nothing"):
        first_usable("weights", iter(()), read)
