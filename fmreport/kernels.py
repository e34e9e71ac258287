"""Kernels that have the libraries loaded when they start: forked from a process that imported them.

To import torch and what else every notebook needs takes longer than most notebooks do. So one
process of a run imports it, computes nothing, and every kernel is a fork of that process, which
shares nothing with it, or with other kernels, that either of them changes.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from fmlib.process import end_with_parent

PROVISIONER = "fmreport-forked"  # its name among pyproject's entry points
PRELOADED = ["fmreport.forkserver"]  # first, as the others take seconds
PRELOADED += ["fmreport.explorer", "fmreport.tables", "fmreport.compare.audit"]
PRELOADED += ["sklearn.model_selection", "skops.io", "timm", "torchvision.datasets"]  # used later
PRELOADED += ["ipykernel.kernelapp"]
CONTEXT: Any = multiprocessing.get_context("forkserver")


class Forked(LocalProvisioner):
    """Starts a kernel as a fork, where other provisioners run its command."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork it; of the command only the options behind the launcher's module count."""
        CONTEXT.set_forkserver_preload(PRELOADED)
        options = cmd[cmd.index("ipykernel_launcher") + 1 :]
        self.cwd = kwargs.get("cwd") or os.getcwd()
        process = CONTEXT.Process(target=run_kernel, args=(options, self.cwd, kwargs["env"]))
        process.start()
        self.process, self.pid = Running(process), process.pid
        return self.connection_info


class Running:
    """A forked process as ``LocalProvisioner`` knows processes, which is as ``Popen``'s."""

    stdin = stdout = stderr = None

    def __init__(self, process: Any) -> None:
        self.process, self.kill, self.terminate = process, process.kill, process.terminate

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self.process.exitcode

    def wait(self) -> int | None:
        """Its exit status, once it has ended."""
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)


def run_kernel(options: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be a kernel, in the forked process, until it is told to end."""
    from ipykernel.kernelapp import IPKernelApp

    end_with_parent()  # a kernel in a long call would not notice that the run is over
    os.setsid()  # Ctrl-C is for the run
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["ipykernel_launcher", *options]
    IPKernelApp.launch_instance(options)
