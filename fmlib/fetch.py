"""Where files come from: FashionMNIST's four, and checkpoints of ImageNet weights; all verified.

FashionMNIST: Xiao, Rasul and Vollgraf, 2017, https://arxiv.org/abs/1708.07747.
"""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fmlib.data import FASHION_CLASSES, SPLIT_SEED, DataError, Dataset, Part, split
from fmlib.project import sha256_of_file

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
SHA256 = {
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
}
DOWNLOAD_TIMEOUT_SECONDS = 20
DOWNLOAD = "download"  # the place of a checkpoint that is none on this machine
T = TypeVar("T")


# --- FashionMNIST's files ---------------------------------------------------------------------


def raw_folder(root: Path) -> Path:
    """The folder in which torchvision's FashionMNIST looks for its raw files under ``root``."""
    return root / "FashionMNIST" / "raw"


def verify(folder: Path) -> None:
    """Raise DataError unless ``folder`` holds the four raw files with the right SHA-256 sums."""
    for name in SHA256:
        _verify_file(folder / name)


def _verify_file(path: Path) -> None:
    wanted = SHA256[path.name]
    if not path.is_file():
        raise DataError(f"{path.name} is missing")
    try:
        got = sha256_of_file(path)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}") from error
    if got != wanted:
        raise DataError(f"{path.name} has SHA-256 {got[:12]}..., wanted {wanted[:12]}...")


def _copy_from(folder: Path, incoming: Path) -> None:
    """Copy or unpack the four files, raw or gzipped, of a folder or torchvision's subfolder.

    Of several that a file may come from the first that is whole.
    """
    for name in SHA256:
        places = (folder / name, raw_folder(folder) / name, folder / "raw" / name)
        candidates = [one for raw in places for one in (raw, raw.with_name(f"{name}.gz"))]
        damage = f"no {name} (or .gz) in {folder}"
        for candidate in filter(Path.is_file, candidates):
            try:
                _copy(candidate, incoming / name)
                _verify_file(incoming / name)
                break
            except (DataError, OSError, EOFError, zlib.error) as error:
                damage = f"{candidate.name}: {_one_line(error)}"
        else:
            raise DataError(damage)


def _copy(candidate: Path, target: Path) -> None:
    if candidate.suffix != ".gz":
        shutil.copyfile(candidate, target)
        return
    with gzip.open(candidate) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _from_variable(incoming: Path) -> None:
    folder = os.environ.get("FMLIB_DATA")
    if not folder:
        raise DataError("FMLIB_DATA is not set")
    _copy_from(Path(folder).expanduser(), incoming)


def _from_debian(incoming: Path) -> None:
    _copy_from(DEBIAN_FOLDER, incoming)


@contextmanager
def download_timeout(seconds: float = DOWNLOAD_TIMEOUT_SECONDS) -> Iterator[None]:
    """Let no connection opened in the block wait longer: torch's downloads set no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _from_torchvision(incoming: Path) -> None:
    from torchvision.datasets import FashionMNIST

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
    """Debian's package, unpacked without root; lists may be absent or old, so get fresh ones."""
    with tempfile.TemporaryDirectory(dir=incoming) as folder:
        scratch = Path(folder)
        (scratch / "lists" / "partial").mkdir(parents=True)
        own = [f"-oDir::State::Lists={scratch / 'lists'}", f"-oDir::Cache={scratch}"]
        own.append("-oAPT::Sandbox::User=")
        try:
            _run(["apt-get", "download", DEBIAN_PACKAGE], scratch)
        except DataError:
            _run(["apt-get", *own, "update"], scratch)
            _run(["apt-get", *own, "download", DEBIAN_PACKAGE], scratch)
        _run(["dpkg-deb", "-x", next(scratch.glob("*.deb")), scratch], scratch)
        _copy_from(scratch / DEBIAN_FOLDER.relative_to("/"), incoming)


ON_THIS_MACHINE: dict[str, Callable[[Path], None]] = {
    "the folder in FMLIB_DATA": _from_variable,
    f"Debian's {DEBIAN_FOLDER}": _from_debian,
}
SOURCES = ON_THIS_MACHINE | {
    "torchvision's download": _from_torchvision,
    f"apt-get download {DEBIAN_PACKAGE}": _from_apt,
}


def get_data(
    root: Path,
    say: Callable[[str], None] = print,
    sources: Mapping[str, Callable[[Path], None]] | None = None,
) -> Path:
    """Make sure that ``root`` holds verified FashionMNIST files, and return ``root``.

    The ``sources``, by default all, are tried in order; each failure is told through ``say`` in one
    line. Files are gathered elsewhere, verified, and only then moved in place. Raises DataError
    with all that was tried if no source works.
    """
    root = root.resolve()  # programs are run in other folders
    home = raw_folder(root)
    failures = []
    try:
        verify(home)
        return root
    except DataError as error:
        failures.append(f"{home}: {error}")
    root.mkdir(parents=True, exist_ok=True)
    for source, bring in (sources or SOURCES).items():
        with tempfile.TemporaryDirectory(dir=root, prefix=".incoming-") as folder:
            incoming = Path(folder)
            try:
                bring(incoming)
                verify(incoming)
            except Exception as error:  # whatever ails one source must not stop the next
                failures.append(f"{source}: {_one_line(error)}")
                say(f"FashionMNIST: not from {failures[-1]}")
                continue
            home.mkdir(parents=True, exist_ok=True)
            for name in SHA256:
                os.replace(incoming / name, home / name)
        say(f"FashionMNIST: verified, from {source}")
        return root
    raise DataError(_all_that_was_tried(failures))


def _all_that_was_tried(failures: list[str]) -> str:
    """Why there is no FashionMNIST, source by source, and what to do."""
    return (
        "FashionMNIST could not be had. Tried, in order:\n  - "
        + "\n  - ".join(failures)
        + "\nWhat you can do: put the four idx files (raw or .gz) into a folder and set FMLIB_DATA "
        + f"to it, or install Debian's package {DEBIAN_PACKAGE}, or use PROFILE=smoke, which needs "
        + "no download."
    )


def load_fashion_mnist(
    root: Path,
    validation_fraction: float = 0.1,
    say: Callable[[str], None] = print,
    seed: int = SPLIT_SEED,
) -> Dataset:
    """All of FashionMNIST: 60,000 images to train and validate on, 10,000 to test.

    Fetched into ``root`` if need be; split by the seed.
    """
    train, test = read_fashion_mnist(root, say)
    return split("fashion_mnist", train, test, FASHION_CLASSES, validation_fraction, seed)


def read_fashion_mnist(root: Path, say: Callable[[str], None] = print) -> tuple[Part, Part]:
    """FashionMNIST's training and test images with their labels, fetched if need be."""
    from torchvision.datasets import FashionMNIST

    get_data(root, say)
    train, test = FashionMNIST(root, train=True), FashionMNIST(root, train=False)
    return (
        (train.data.numpy(), train.targets.numpy()),
        (test.data.numpy(), test.targets.numpy()),
    )


def is_at_hand(root: Path) -> bool:
    """Whether FashionMNIST lies in ``root``, or can be copied there from this machine."""
    try:
        get_data(root, lambda line: None, ON_THIS_MACHINE)
    except (DataError, OSError):
        return False
    return True


# --- Checkpoints ------------------------------------------------------------------------------


class WeightsError(RuntimeError):
    """Pre-trained weights that cannot be had; the message lists every place that was tried."""


def checkpoint_places(url: str) -> Iterator[tuple[str, Callable[[], Path]]]:
    """Where the checkpoint that torch's hub has at ``url`` may lie, in the order to look in."""
    import torch.hub

    name = url.rsplit("/", 1)[-1]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    yield "torch's hub cache", lambda: cached
    if folder := os.environ.get("FMLIB_WEIGHTS"):
        yield f"FMLIB_WEIGHTS ({folder})", lambda: Path(folder).expanduser() / name
    yield DOWNLOAD, lambda: _download(url, cached)


def _download(url: str, target: Path) -> Path:
    import torch.hub

    target.parent.mkdir(parents=True, exist_ok=True)
    wanted = target.stem.rsplit("-", 1)[-1]
    with download_timeout():
        torch.hub.download_url_to_file(url, str(target), hash_prefix=wanted, progress=False)
    return target


def checkpoint_sha256(path: Path) -> str:
    """The SHA-256 of a checkpoint, whose name ends in its first eight digits.

    Raises WeightsError where they do not agree.
    """
    digest, wanted = sha256_of_file(path), path.stem.rsplit("-", 1)[-1]
    if not digest.startswith(wanted):
        raise WeightsError(
            f"{path.name} is damaged: its SHA-256 begins {digest[:8]}, wanted {wanted}"
        )
    return digest


def first_usable(
    what: str, places: Iterator[tuple[str, Callable[[], Path]]], read: Callable[[Path], T]
) -> T:
    """What ``read`` makes of the first place where it works.

    WeightsError lists every place that was tried.
    """
    reasons = []
    for place, find in places:
        try:
            return read(find())
        except Exception as error:  # whatever is wrong with one place, the next may serve
            reasons.append(f"{place}: {_one_line(error)}")
    raise WeightsError(
        f"no {what}. Tried: {'; '.join(reasons) or 'nothing, since no place has them'}"
    )


def _one_line(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:160]
