"""Make the environment that everything runs in, or bring it up to date; nothing if it is.

`make` runs this before everything, with whatever Python there is: it needs Python's own library
alone. A line is printed before each long step, and another every ten seconds while it lasts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

OLDEST = (3, 11)
EVERY_SECONDS = 10
DISK_GB = 8  # 7 of packages, of which CUDA's libraries are 5, and what pip unpacks on the way
UNSPEAKABLE = "$:`\\\n\r"  # shells, make, or a PATH would read these in the name of a folder
CAUSES = {
    "no disk space is left": ("No space left on device", "Disk quota exceeded"),
    "the package index cannot be reached": (
        "Failed to establish a new connection",
        "Name or service not known",
        "Temporary failure in name resolution",
        "Read timed out",
        "ConnectTimeoutError",
        "ConnectionResetError",
        "ProxyError",
        "SSLError",
        "Network is unreachable",
        "(from versions: none)",  # of a package that is locked, so it exists
    ),
}


class SetupError(Exception):
    """What keeps the environment from being made, in a line."""


def main() -> None:
    """Make or update the environment that the command line names, from the lock it names."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("environment", type=Path, help="its folder, as .venv")
    options.add_argument("--lock", type=Path, default=Path("requirements.lock"))
    options.add_argument("--this-python", action="store_true", help="make it anew for another one")
    given = options.parse_args()
    try:
        set_up(given.environment, given.lock, given.this_python)
    except SetupError as error:
        _say(f"error: {error}", sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        _say("stopped; `make setup` goes on with what it has", sys.stderr)
        sys.exit(130)


def set_up(environment: Path, lock: Path, this_python: bool) -> None:
    """Leave `environment` with what `lock` names and this project, both at this very place.

    Raises SetupError for a folder that no shell can name, an old Python, too little disk, and
    what pip says.
    """
    wanted = _fingerprint(lock)
    stamp = environment / ".installed"
    other = this_python and _version(environment) not in (None, sys.version_info[:2])
    if _read(stamp) == wanted and not other:
        return
    _refuse_what_cannot_work(environment)
    began = time.monotonic()
    moved = _read(stamp).partition("\n")[0] != str(Path.cwd())
    if moved or other or not _works(_python(environment)):
        _make(environment, stamp)
    _install(_python(environment), lock)
    stamp.write_text(wanted, encoding="utf-8")
    _say(f"done in {time.monotonic() - began:.0f} s")


def _make(environment: Path, stamp: Path) -> None:
    """An environment with pip and nothing else, stamped with its place."""
    _say(
        f"Python {sys.version.split()[0]} makes {environment}/, in 2 to 3 minutes: 2.5 GB are "
        "downloaded and become 7, of which CUDA's libraries are 5; interrupted, it goes on"
    )
    _run([sys.executable, "-m", "venv", "--clear", str(environment)])
    stamp.write_text(f"{Path.cwd()}\n", encoding="utf-8")


def _install(python: Path, lock: Path) -> None:
    """What is locked, and this project as it stands here."""
    _say(f"pip installs what {lock} names and is not there yet")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    newer = [line for line in lock.read_text("utf-8").splitlines() if line.startswith("pip==")]
    if newer:  # first, as an old one cannot resume a download
        _run([*pip, *newer])
    _run([*pip, "--requirement", str(lock)])
    _run([*pip, "--quiet", "--no-deps", "--editable", "."])


def _fingerprint(lock: Path) -> str:
    """This folder, and what is installed in it: another clone's environment is none of ours."""
    sha256 = hashlib.sha256(lock.read_bytes() + Path("pyproject.toml").read_bytes())
    return f"{Path.cwd()}\n{sha256.hexdigest()}\n"


def _read(stamp: Path) -> str:
    return stamp.read_text(encoding="utf-8") if stamp.is_file() else ""


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _version(environment: Path) -> tuple[int, ...] | None:
    """The first two parts of the version of an environment's Python, None without one."""
    settings = _read(environment / "pyvenv.cfg")
    found = re.search(r"^version *= *(\d+)\.(\d+)", settings, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else None


def _works(python: Path) -> bool:
    """Whether an environment is whole enough for pip to go on in it."""
    command = [str(python), "-m", "pip", "--version"]
    return python.exists() and subprocess.run(command, capture_output=True).returncode == 0


def _refuse_what_cannot_work(environment: Path) -> None:
    """Say in words what would otherwise end in a riddle, minutes later."""
    if sys.version_info < OLDEST:
        wanted, found = ".".join(map(str, OLDEST)), sys.version.split()[0]
        raise SetupError(f"Python {wanted} or newer is needed, this is {found}: make PYTHON=...")
    bad = sorted(set(str(Path.cwd())) & set(UNSPEAKABLE))
    if bad:
        names = " and ".join(repr(mark) for mark in bad)
        raise SetupError(
            f"the folder's name has {names}, which make, shells or PATH misread: rename it"
        )
    free = shutil.disk_usage(".").free / 1e9
    if not environment.exists() and free < DISK_GB:
        raise SetupError(f"{DISK_GB} GB of free disk space are needed here, {free:.1f} are free")


def _run(command: list[str]) -> None:
    """Run a command and say now and then what it is at; SetupError if it fails."""
    # neither a user's settings of pip nor another Python's paths may reach the environment
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=inherited | {"PIP_USER": "0", "PYTHONUNBUFFERED": "1"},
    )
    said: list[str] = []
    listener = threading.Thread(target=_listen, args=(process.stdout, said), daemon=True)
    listener.start()
    began, free = time.monotonic(), shutil.disk_usage(".").free
    while not _has_ended(process):
        written = max(free - shutil.disk_usage(".").free, 0) / 1e9
        at = said[-1].strip()[:70] if said else "begins"
        _say(f"{time.monotonic() - began:4.0f} s, {written:.1f} GB written: {at}")
    listener.join()
    if process.returncode:
        raise SetupError(_reason(command, said))


def _listen(stream: TextIO, said: list[str]) -> None:
    for line in stream:
        said.append(line)


def _has_ended(process: subprocess.Popen) -> bool:
    """Wait for the end of a process, but no longer than silence is borne."""
    try:
        process.wait(EVERY_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _reason(command: list[str], said: list[str]) -> str:
    """Why a command failed: the cause if it is a common one, and the end of what it said."""
    told = "".join(said)
    lines = [line.strip() for line in said if line.strip()] or ["(no output)"]
    for cause, signs in CAUSES.items():
        if any(sign in told for sign in signs):
            return f"{cause}; `make setup` goes on with what it has ({lines[-1][:200]})"
    if "ensurepip" in told:
        return "this Python cannot make environments; on Debian, apt-get install python3-venv"
    return "\n".join([f"{' '.join(command[1:4])} failed:", *lines[-5:]])


def _say(line: str, stream: TextIO | None = None) -> None:
    print(f"setup: {line}", file=stream, flush=True)


if __name__ == "__main__":
    main()
