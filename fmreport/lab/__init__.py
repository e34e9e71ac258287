"""Open the notebooks in JupyterLab, by settings of the project's own.

Whatever JupyterLab, IPython and matplotlib write (settings, workspaces, history, caches) goes into
``build/lab``, where the outputs of the notebooks are kept too, and nothing into the user's home.
``config`` and ``share`` are searched by JupyterLab before its own folders.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fmlib.project import Project

HERE = Path(__file__).parent
WELCOME = """\
The notebooks are in notebooks/. What they show is kept in build/lab, which `make clean` leaves.
Save and Export Notebook As (menu File): Fmreport_html and Fmreport_pdf look as the report does.
JupyterLab's own exports to PDF are not offered: they need LaTeX or a browser."""


def environment(project: Project) -> dict[str, str]:
    """What JupyterLab's process needs besides the user's environment."""
    own = project.build / "lab" / ".jupyter"
    folders = {
        "JUPYTER_CONFIG_DIR": own / "config",
        "JUPYTER_CONFIG_PATH": HERE / "config",
        "JUPYTER_DATA_DIR": own / "data",
        "JUPYTER_PATH": HERE / "share",
        "JUPYTER_RUNTIME_DIR": own / "runtime",
        "IPYTHONDIR": own / "ipython",
        "MPLCONFIGDIR": own / "matplotlib",
    }
    return {name: str(folder) for name, folder in folders.items()}


def open_lab(project: Project, arguments: Sequence[str] = ()) -> None:
    """Become JupyterLab in the project's folder; ``arguments`` are JupyterLab's own."""
    print(WELCOME, flush=True)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={project.root}"]
    command += ["--LabApp.default_url=/lab/tree/notebooks", *arguments]
    os.execve(sys.executable, command, os.environ | environment(project))
