"""Open the notebooks in JupyterLab, by settings of the project's own.

Whatever JupyterLab, IPython and matplotlib write (settings, workspaces, history, caches) goes into
``build/lab``, where the outputs of the notebooks are kept too, and nothing into the user's home.
``config`` and ``share`` are searched by JupyterLab before its own folders.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pypandoc

from fmlib.project import Project

HERE = Path(__file__).parent
WELCOME = """\
The notebooks are in notebooks/. What they show is kept in build/lab, which `make clean` leaves.
Save and Export Notebook As (menu File): Fmreport_html and Fmreport_pdf look as the report does.
JupyterLab's own to LaTeX and PDF are not offered: they need LaTeX, Inkscape or a browser."""


# Code edited in fmlib or fmreport is seen without a restart, in notebooks opened here alone.
KERNEL = {
    "argv": [
        sys.executable,  # by which jupytext knows it for the kernel of a notebook that names none
        "-Xfrozen_modules=off",
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
        "--ext=autoreload",
        "--InteractiveShellApp.exec_lines=%autoreload 2",
    ],
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
    "metadata": {"debugger": True},
}


def environment(own: Path) -> dict[str, str]:
    """What JupyterLab's process needs besides the user's environment; it writes into ``own``."""
    pandoc = Path(pypandoc.get_pandoc_path()).parent  # which some exports look for
    return {
        "PATH": os.pathsep.join((str(pandoc), os.environ.get("PATH", ""))),
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_CONFIG_PATH": str(HERE / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_PATH": os.pathsep.join(map(str, (own / "share", HERE / "share"))),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "IPYTHONDIR": str(own / "ipython"),
        "MPLCONFIGDIR": str(own / "matplotlib"),
    }


def pair(project: Project) -> None:
    """Make the files that keep the notebooks' outputs, where there are none yet.

    With the metadata that a kernel adds: or a notebook would count as changed once it is opened.
    """
    import jupytext
    import nbformat
    from ipykernel.ipkernel import IPythonKernel

    language = {**IPythonKernel.language_info, "pygments_lexer": "ipython3"}
    kernel = {"name": "python3", "language": "python", "display_name": KERNEL["display_name"]}
    folder = project.build / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    for source in project.notebooks.glob("[0-9]*.py"):
        kept = folder / source.with_suffix(".ipynb").name
        if not kept.exists():
            notebook = jupytext.read(source)
            notebook.metadata |= {"kernelspec": kernel, "language_info": language}
            nbformat.write(notebook, kept)


def open_lab(project: Project, arguments: Sequence[str] = ()) -> None:
    """Become JupyterLab in the project's folder; ``arguments`` are JupyterLab's own."""
    own = project.build / "lab" / ".jupyter"
    kernel = own / "share" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_text(json.dumps(KERNEL), encoding="utf-8")
    pair(project)
    print(WELCOME, flush=True)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={project.root}"]
    command += ["--LabApp.default_url=/lab/tree/notebooks", *arguments]
    os.execve(sys.executable, command, os.environ | environment(own))
