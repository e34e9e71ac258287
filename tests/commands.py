"""The project's command line in a copy of the project, as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fmlib.results import RESULT_FILE, Result, load

# A profile of two models in a second, for a copy of the project or a small one of its own.
TINY = """
description: two models in a second
dataset: sample
models:
  decision_tree: {max_depth: 4}
  mlp: {hidden_sizes: [16], recipe: {epochs: 1}}
"""
OWN = (  # of a make that runs these tests
    *("MAKE", "MFLAGS", "PYTHON", "VENV", "LOWEST", "COVERAGE"),
    *("PROFILE", "PAPER", "SEEDS", "MODELS", "RETIME", "WAIT", "SCHEDULER", "LAB", "STEPS"),
)
REPORT = ("-m", "fmreport", "report", "--profile", "smoke")


def run(folder: Path, *arguments: str) -> str:
    """Run Python on the library of a copy of the project, and return what it said."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def records(folder: Path) -> list[Result]:
    """Every record in a folder, by model and seed."""
    return [load(path.parent) for path in sorted(folder.glob(f"*/seed-*/{RESULT_FILE}"))]
