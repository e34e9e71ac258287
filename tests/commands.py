"""The project's command line in a copy of the project, as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
