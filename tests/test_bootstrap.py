"""Set-up from nothing: what it does, what it says, and what it says when it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import OWN

import bootstrap
from fmlib.project import HERE

FILES = ("Makefile", "bootstrap.py", "pyproject.toml", "requirements.lock")
LOCK = Path("requirements.lock")
# Stands in for Python: makes an environment whose python is itself, and writes down what it is
# asked for; what pip does is a line of shell.
STAND_IN = """#!/bin/sh
echo "$@" >> log
case "$*" in
    "-m venv"*)
        mkdir -p "$4/bin"
        cp "$0" "$4/bin/python"
        echo "version = {version}" > "$4/pyvenv.cfg"
        ;;
    *"pip install"*) {pip} ;;
esac
"""


def clone(folder: Path) -> Path:
    """A folder as a clone leaves it, as far as set-up knows."""
    folder.mkdir()
    for name in FILES:
        shutil.copyfile(HERE.root / name, folder / name)
    return folder


class Here:
    """The working folder, where Python and pip are stood in for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def set_up(self, pip: str = "true", version: str = "", this_python: bool = False) -> list[str]:
        """Set up; what Python and pip were asked for meanwhile."""
        python = Path("python")
        version = version or sys.version.split()[0]
        python.write_text(STAND_IN.format(pip=pip, version=version))
        python.chmod(0o755)
        if Path(".venv/bin/python").exists():
            shutil.copy(python, ".venv/bin/python")
        Path("log").write_text("")
        self.monkeypatch.setattr(sys, "executable", str(python.absolute()))
        bootstrap.set_up(Path(".venv"), LOCK, this_python)
        return Path("log").read_text().splitlines()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.chdir(clone(tmp_path / 'a "clone" & an ü\'s #1'))
    return Here(monkeypatch)


def made(asked: list[str]) -> bool:
    return any(line.startswith("-m venv --clear .venv") for line in asked)


def installed(asked: list[str]) -> bool:
    return any("--requirement requirements.lock" in line for line in asked)


def test_a_fresh_clone_is_set_up_once_and_says_what_it_costs(here, capsys):
    asked = here.set_up()
    assert made(asked) and installed(asked)
    assert asked[-1].endswith("--no-deps --editable .")
    said = capsys.readouterr().out
    assert "2.5 GB" in said and "become 7" in said and "done in" in said
    assert here.set_up() == []
    assert capsys.readouterr().out == ""


def test_a_changed_lock_is_installed_into_what_is_there(here):
    here.set_up()
    LOCK.write_text(LOCK.read_text().replace("pip==", "# pip=="))
    asked = here.set_up()
    assert installed(asked) and not made(asked)


def test_a_renamed_clone_is_set_up_anew(here, monkeypatch, tmp_path):
    here.set_up()
    monkeypatch.chdir(Path.cwd().rename(tmp_path / "renamed"))
    assert made(here.set_up())


def test_a_broken_environment_is_made_again(here):
    here.set_up()
    Path(".venv/.installed").unlink()
    Path(".venv/bin/python").unlink()
    assert made(here.set_up())


def test_a_python_that_was_asked_for_replaces_another(here):
    here.set_up(version="3.999.1")
    assert here.set_up() == []
    assert made(here.set_up(this_python=True))
    assert here.set_up(this_python=True) == []


def test_what_is_long_is_never_silent(here, capsys, monkeypatch):
    monkeypatch.setattr(bootstrap, "EVERY_SECONDS", 0.1)
    here.set_up(pip="echo Downloading torch; sleep 0.5")
    lines = [line for line in capsys.readouterr().out.splitlines() if "GB written" in line]
    assert len(lines) >= 3
    assert lines[1].endswith("Downloading torch")


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("OSError: [Errno 28] No space left on device", "no disk space is left"),
        (
            "Failed to establish a new connection: [Errno 111]",
            "the package index cannot be reached",
        ),
        ("ERROR: No matching distribution found for torch==9", "pip install.*\n.*torch==9"),
    ],
)
def test_a_failure_is_told_in_words_and_the_next_try_goes_on(here, says, reason):
    with pytest.raises(bootstrap.SetupError, match=reason):
        here.set_up(pip=f"echo '{says}'; exit 1")
    asked = here.set_up()
    assert installed(asked) and not made(asked)


@pytest.mark.parametrize("name", ["costs $5", "a:b", "`ls`", "back\\slash"])
def test_a_folder_that_shells_would_misread_is_refused_in_words(here, monkeypatch, tmp_path, name):
    monkeypatch.chdir(clone(tmp_path / name))
    with pytest.raises(bootstrap.SetupError, match="rename it"):
        here.set_up()
    assert not Path(".venv").exists()


def test_too_little_disk_and_too_old_a_python_are_told_first(here, monkeypatch):
    monkeypatch.setattr(bootstrap, "DISK_GB", 10**9)
    with pytest.raises(bootstrap.SetupError, match="of free disk space are needed here"):
        here.set_up()
    monkeypatch.setattr(bootstrap, "OLDEST", (9, 0))
    with pytest.raises(bootstrap.SetupError, match=r"Python 9.0 or newer is needed"):
        here.set_up()
    assert not Path(".venv").exists()


def test_a_users_settings_of_pip_and_python_reach_no_environment(here, monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    asked = here.set_up(pip='echo "user=$PIP_USER path=$PYTHONPATH" >> log')
    assert "user=0 path=" in asked


@pytest.mark.slow
def test_without_a_network_make_says_so_in_a_line(tmp_path):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    folder = clone(tmp_path / 'a "clone" & an ü\'s #1')
    own = (*OWN, "PIP_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    done = subprocess.run(
        ["make", "report"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=inherited | nowhere | {"HOME": "/nonexistent", "PIP_CONFIG_FILE": os.devnull},
    )
    assert done.returncode == 2
    assert "setup: error: the package index cannot be reached" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
