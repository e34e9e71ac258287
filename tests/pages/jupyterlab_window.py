"""JupyterLab as `make lab` opens it, and what a person does in its window."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Locator, Page, expect

PATIENCE = 180_000  # milliseconds: two cores, which may be busy
GIT = ("git", "-c", "user.name=a student", "-c", "user.email=student@example.org")


def until(true: Callable[[], object], seconds: float = 120, what: str = "it") -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.1)


class Lab:
    """A running JupyterLab, its folder and its home."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
        options += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
        options += ["--IdentityProvider.token=", "--ServerApp.terminals_enabled=False"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fmreport", "lab", "--", *options],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder), "HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.address = f"http://127.0.0.1:{port}"
        until(self.answers, what="JupyterLab's start")

    def answers(self) -> bool:
        assert self.process.poll() is None, "JupyterLab ended"
        try:
            with urllib.request.urlopen(f"{self.address}/api/status", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self) -> str:
        """End the server and its kernels; returns what it said at its start."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            return self.process.communicate(timeout=30)[0]
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.communicate()[0]

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            [*GIT, *arguments], cwd=self.folder, check=True, capture_output=True, text=True
        )
        return done.stdout

    def fits(self) -> list[psutil.Process]:
        """Processes that fit a model now."""
        every = psutil.Process(self.process.pid).children(recursive=True)
        return [
            one for one in every if one.is_running() and "fmlib.fitting" in " ".join(_line(one))
        ]


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


@contextmanager
def window(browser: Browser, lab: Lab) -> Iterator[Page]:
    """JupyterLab's window, with nothing open but the list of the notebooks."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{lab.address}/lab/tree/notebooks?reset")
    page.locator(".jp-DirListing-item").first.wait_for()
    yield page
    context.close()


def menu(page: Page, bar: str, *path: str) -> None:
    page.get_by_role("menuitem", name=bar, exact=True).click()
    for name in path:
        page.locator(".lm-Menu-itemLabel").get_by_text(name, exact=True).click()


def open_notebook(page: Page, name: str) -> Locator:
    """Double click on a notebook's name; returns it when its kernel is ready."""
    page.locator(f'.jp-DirListing-item[title*="{name}"]').dblclick()
    notebook = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    notebook.locator(".jp-Cell").first.wait_for()
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=PATIENCE)
    return notebook


def finish(notebook: Locator) -> None:
    """Wait until every cell that runs has run."""
    expect(notebook.get_by_text("[*]:", exact=True)).to_have_count(0, timeout=PATIENCE)


def run_all(page: Page, notebook: Locator) -> None:
    menu(page, "Run", "Run All Cells")
    expect(notebook.get_by_text("[*]:", exact=True).first).to_be_visible()
    finish(notebook)


def save(page: Page, lab: Lab, name: str = "04_mlp") -> None:
    kept = lab.folder / "build" / "lab" / f"{name}.ipynb"
    before = kept.stat().st_mtime_ns if kept.is_file() else 0
    page.keyboard.press("Control+s")
    until(lambda: kept.is_file() and kept.stat().st_mtime_ns > before, what="saving")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)


def close(page: Page, name: str) -> None:
    """Close a notebook that counts as saved, so that nothing is asked."""
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    page.get_by_role("tab", name=name).locator(".lm-TabBar-tabCloseIcon").click()
    expect(page.locator(".jp-NotebookPanel")).to_have_count(0)
    assert page.locator(".jp-Dialog").count() == 0
