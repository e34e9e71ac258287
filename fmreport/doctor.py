"""Look at the surroundings: what is there, what follows for a report, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil
import torch

from fmlib.device import available_cores, default_device, has_bfloat16
from fmlib.fetch import DOWNLOAD, is_at_hand
from fmlib.models.registry import MODELS, build
from fmlib.models.transfer import Transfer
from fmlib.project import Project

DISK_GB, MEMORY_GB = (
    3.0,
    4.0,
)  # of a whole cpu report: records and pages; the largest fit and kernels
FINE, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what follows or what to do, if anything."""

    state: str
    subject: str
    found: str
    follows: str = ""

    def __str__(self) -> str:
        then = f"; {self.follows}" if self.follows else ""
        return f"{self.state:8} {self.subject}: {self.found}{then}"


def examine(project: Project) -> Iterator[Finding]:
    """Everything that a report needs, or is better or quicker with, one finding a subject."""
    yield Finding(FINE, "Python", sys.version.partition(" ")[0])
    yield _packages(project)
    yield _data(project)
    yield from _weights()
    yield _device()
    yield _cores()
    yield _disk(project)
    yield _memory()
    yield _chromium()


def _packages(project: Project) -> Finding:
    """Whether what is installed is what the lock names."""
    lock = project.root / "requirements.lock"
    if not lock.is_file():
        return Finding(NOTE, "packages", "there is no requirements.lock to compare them with")
    lines = lock.read_text(encoding="utf-8").splitlines()
    wanted = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    other = [
        f"{name} {found or 'missing'}, locked {locked}"
        for name, locked in wanted.items()
        if (found := _version(name)) != locked
    ]
    if not other:
        return Finding(FINE, "packages", f"all {len(wanted)} as locked")
    more = f" and {len(other) - 3} more" if len(other) > 3 else ""
    follows = "`make setup` installs what is locked; fits of other versions are not used"
    return Finding(NOTE, "packages", f"{', '.join(other[:3])}{more}", follows)


def _version(name: str) -> str | None:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _data(project: Project) -> Finding:
    if is_at_hand(project.data):
        return Finding(FINE, "FashionMNIST", f"verified in {project.data}")
    follows = "it is downloaded at the first run (30 MB); PROFILE=smoke and lesson need none"
    return Finding(NOTE, "FashionMNIST", "not on this machine", follows)


def _weights() -> Iterator[Finding]:
    """ImageNet weights of the networks that can begin with some."""
    networks = [build(name) for name in MODELS]
    known = {one.title: one for one in networks if isinstance(one, Transfer)}
    there = [title for title, one in known.items() if _has_weights(one)]
    absent = [title for title in known if title not in there]
    if there:
        yield Finding(FINE, "ImageNet weights", f"here of {', '.join(there)}")
    if absent:
        follows = (
            "downloaded if that can be, else trained from scratch; FMLIB_WEIGHTS names a folder"
        )
        yield Finding(NOTE, "ImageNet weights", f"none here of {', '.join(absent)}", follows)


def _has_weights(network: Transfer) -> bool:
    """Whether its weights are on this machine."""
    places = [find() for where, find in network.places() if where != DOWNLOAD]
    return any(path.is_file() for path in places)


def _device() -> Finding:
    device = default_device()
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        found = f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB"
        return Finding(FINE, "GPU", found, "make report takes the profile gpu by default")
    return Finding(
        NOTE, "GPU", "no CUDA", "the profile cpu is the default; gpu's networks are refused"
    )


def _cores() -> Finding:
    cores, machine = available_cores(), os.cpu_count() or 1
    found = f"{cores} of {machine} to use"
    if has_bfloat16(torch.device("cpu")):
        return Finding(FINE, "cores", f"{found}, with bfloat16")
    return Finding(NOTE, "cores", f"{found}, without bfloat16", "networks take about twice as long")


def _disk(project: Project) -> Finding:
    free = shutil.disk_usage(project.root).free / 1e9
    found = f"{free:.1f} GB free below {project.root}"
    if free < DISK_GB:
        return Finding(PROBLEM, "disk", found, f"a whole cpu report needs {DISK_GB:g} GB")
    return Finding(FINE, "disk", found)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    found = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    if memory.available / 2**30 < MEMORY_GB:
        follows = f"a whole cpu report needs {MEMORY_GB:g}: end other programs, or lower batch_size"
        return Finding(PROBLEM, "memory", found, follows)
    return Finding(FINE, "memory", found)


def _chromium() -> Finding:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path:
        return Finding(FINE, "Chromium", path)
    return Finding(NOTE, "Chromium", "none", "only the tests of the page need it")
