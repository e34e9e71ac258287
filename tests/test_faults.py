"""Kills at random moments: whatever is ended, and whenever, the next run ends the same.

Takes minutes: ``make test-faults``, which is no part of ``make test``. ``KILLS=5`` is shorter.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from commands import records, run

from fmlib.project import HERE

pytestmark = [pytest.mark.slow, pytest.mark.faults]
KILLS = int(os.environ.get("KILLS", "40"))
PROFILE = """
description: two models, of which one takes a few seconds
dataset: sample
models:
  decision_tree: {max_depth: 4}
  mlp: {hidden_sizes: [256], recipe: {epochs: 12, batch_size: 16, lr: 0.001}}
"""
TIMES = re.compile(r"\d+(?:[.,]\d+)*|data:[^\"']+")  # numbers, and pictures of them


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a small profile and two chapters."""
    root = tmp_path_factory.mktemp("killed") / "project"
    for folder in ("fmlib", "fmreport"):
        shutil.copytree(HERE.root / folder, root / folder)
    (root / "params").mkdir()
    (root / "params" / "tiny.yaml").write_text(PROFILE)
    (root / "notebooks").mkdir()
    for name in ("01_comparison.py", "04_mlp.py"):
        shutil.copy(HERE.notebooks / name, root / "notebooks")
    return root


def start(project: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "fmreport", "report", "--profile", "tiny"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"PYTHONPATH": str(project)}
    return subprocess.Popen(command, cwd=project, env=environment, start_new_session=True, **quiet)


def living(project: Path) -> list[psutil.Process]:
    """Processes of runs in the project, however they were started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(project)) and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]


def hidden(project: Path) -> list[str]:
    """What a run puts down for a while, but for how far a fit came."""
    names = {path.name for path in (project / "build").rglob(".*")}
    kept = re.compile(r"checkpoint|incoming$|^\.(lock|profile)$")
    return sorted(name for name in names if not kept.search(name))


def test_killed_at_any_moment_the_next_run_ends_the_same(project):
    began = time.monotonic()
    assert start(project).wait() == 0
    takes = time.monotonic() - began
    undisturbed = project.with_name("undisturbed")
    shutil.move(project / "build" / "tiny", undisturbed)
    chance = random.Random(9)
    for kill in range(KILLS):
        if kill % 8 == 0:  # or after a while nothing would be left to do
            shutil.rmtree(project / "build", ignore_errors=True)
        process = start(project)
        time.sleep(chance.uniform(0.2, 1.1 * takes))
        victims = [process, *living(project)]
        whom = victims[0] if kill % 2 else chance.choice(victims)
        try:
            whom.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
        process.wait(timeout=120)
        end = time.monotonic() + 10
        while living(project) and time.monotonic() < end:
            time.sleep(0.1)
        assert living(project) == [], f"kill {kill} left processes"
    assert start(project).wait() == 0
    assert hidden(project) == []
    built = project / "build" / "tiny"
    pairs = zip(records(built / "results"), records(undisturbed / "results"), strict=True)
    for one, other in pairs:
        assert one.model == other.model and np.array_equal(one.proba, other.proba)
    pages = [(folder / "report.html").read_text("utf-8") for folder in (built, undisturbed)]
    bare = [TIMES.sub("", page.partition("<main")[2]) for page in pages]
    assert bare[0] == bare[1], "pages are equal but for times"


def test_smoke_on_two_workers_of_which_one_is_killed_is_what_it_is_here(tmp_path):
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        for name in ("fmlib", "fmreport", "notebooks", "params", "docs/studies"):
            shutil.copytree(HERE.root / name, folder / name)
    here, there = folders
    command = ["-m", "fmreport", "report", "--profile", "smoke", "--seeds", "3"]
    run(here, *command)
    environment = os.environ | {"PYTHONPATH": str(there)}
    on_workers = [sys.executable, *command, "--scheduler", "local:2"]
    with (tmp_path / "said.txt").open("w") as said:
        process = psutil.Popen(on_workers, cwd=there, env=environment, stdout=said, stderr=said)
        while not (fits := fits_below(process)):
            assert process.poll() is None, (tmp_path / "said.txt").read_text()
            time.sleep(0.05)
        fits[0].parent().kill()
        assert process.wait(timeout=1800) == 0, (tmp_path / "said.txt").read_text()
    found = [records(folder / "build" / "smoke" / "results") for folder in folders]
    assert len(found[0]) == 16, "six models, of which the SVM has one seed"
    for one, other in zip(*found, strict=True):
        assert (one.model, one.seed, one.key) == (other.model, other.seed, other.key)
        assert one.proba.tobytes() == other.proba.tobytes(), (one.model, one.seed)


def fits_below(process: psutil.Process) -> list[psutil.Process]:
    """The fits that a run's workers have started."""
    found = []
    for one in process.children(recursive=True):
        try:
            if "fmlib.fitting" in one.cmdline():
                found.append(one)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
