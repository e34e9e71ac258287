"""Strangers' walks through a fresh clone of the last commit, where no home can be written to.

They take a quarter of an hour, set-up included: ``make walks``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import OWN
from PIL import Image

from fmlib.project import HERE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.walks,
    pytest.mark.skipif(not (HERE.root / ".git").exists(), reason="walks are in clones"),
]
SCRIPTS = ["reader.sh", "student.py", "engineer.sh", "contributor.sh"]
SMALL = """
description: the cpu profile, small enough for a walk
dataset: sample
models:
  decision_tree: {max_depth: 4}
  mlp: {hidden_sizes: [16], recipe: {epochs: 1}}
  cnn: {widths: [8, 16], recipe: {epochs: 1}}
"""
# What the README names and a walk leaves out, and where it is run instead.
TOO_LONG = {
    "make test": "CI runs it",
    "make test-faults": "half an hour",
    "make walks": "is this",
    "make bench": "tests/test_bench.py runs it small",
    "make steps": "tests/test_bench.py runs it small",
    "make search SCHEDULER=tcp://host:8786": "hours; tests/fmreport/test_studies.py runs one small",
    "make check": "the contributor runs it",
    "make report PROFILE=gpu": "needs a GPU",
}


class Clone:
    """A fresh clone in a folder of an odd name, of a user whose home can hold nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        cache = subprocess.run(
            [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True
        )
        own = (*OWN, "PYTEST", "FMLIB", "JUPYTER", "MPL")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        self.environment = kept | {"HOME": "/dev/null/home", "PIP_CACHE_DIR": cache.stdout.strip()}
        subprocess.run(["git", "clone", "--quiet", HERE.root, folder], check=True)
        self.run("make", "setup")

    def run(self, *command: str) -> None:
        """Run a command as one types it; prints for how long the terminal was silent at most."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said, silence, last = [], 0.0, time.monotonic()
        for line in process.stdout:
            silence = max(silence, time.monotonic() - last)
            last = time.monotonic()
            said.append(line)
        assert process.wait() == 0, "".join(said)
        print(f"{shlex.join(command)}: silent for {silence:.0f} s at most")

    @contextmanager
    def cluster(self) -> Iterator[str]:
        """Dask's scheduler and a worker, started by the README's words; the scheduler's address."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        port = address.rpartition(":")[2]
        worker = ["worker", address, "--nthreads", "1", "--resources", "slot=1", "--no-dashboard"]
        parts = [
            subprocess.Popen(
                [".venv/bin/python", "-m", "dask", *part], cwd=self.folder, env=self.environment
            )
            for part in (
                ["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"],
                worker,
            )
        ]
        try:
            yield address
        finally:
            for part in reversed(parts):
                part.terminate()
                part.wait(60)

    def forget(self) -> None:
        """Undo what a walk changed, but for the environment."""
        self.run("git", "checkout", "--quiet", "--", ".")
        self.run("git", "clean", "--quiet", "-fdx", "--exclude=.venv", "--exclude=fmlib.egg-info")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("walks")
    return Clone(folder / 'a "clone" & an ü\'s #1')


@pytest.fixture
def clone(made: Clone) -> Iterator[Clone]:
    yield made
    made.forget()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_stranger_gets_there(clone, script):
    program = ".venv/bin/python" if script.endswith(".py") else "bash"
    clone.run(program, f"tests/walks/{script}")


def commands(text: str) -> list[str]:
    """The lines of a page's shell blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def write_what_the_readme_has_the_reader_write(clone: Clone, text: str) -> None:
    blocks = re.findall(r"^```(?:python|yaml)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        if block.startswith("# my_models.py"):
            (clone.folder / "my_models.py").write_text(block)
        if block.startswith("# mine.yaml"):
            (clone.folder / "mine.yaml").write_text(block)
    Image.new("L", (60, 80), 90).save(clone.folder / "shirt.jpg")
    (clone.folder / "params" / "cpu.yaml").write_text(SMALL)


def test_every_command_of_the_readme_runs_as_it_stands_there(clone):
    text = (clone.folder / "README.md").read_text(encoding="utf-8")
    write_what_the_readme_has_the_reader_write(clone, text)
    every = commands(text)
    assert set(TOO_LONG) <= set(every) and "make report" in every
    with clone.cluster() as scheduler:
        for command in every:
            if command not in TOO_LONG:
                if "tcp://" in command:  # with something left to fit
                    shutil.rmtree(clone.folder / "build" / "cpu" / "results")
                if "import" in command:  # from a folder that another machine left
                    elsewhere = clone.folder.parent / "elsewhere" / "build" / "cpu"
                    shutil.copytree(clone.folder / "build" / "cpu", elsewhere)
                command = command.replace("tcp://host:8786", scheduler)
                clone.run(*shlex.split(command.replace("make lab", "make lab LAB=--version")))
    for page in ("cpu", "smoke", "mine"):
        assert (clone.folder / "build" / page / "report.pdf").is_file()
