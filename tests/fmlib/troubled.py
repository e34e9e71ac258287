"""A user's own models, each with a trouble of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sklearn.dummy import DummyClassifier

from fmlib.models import Estimator, register


@register("failing")
class Failing(Estimator):
    """Cannot be fitted."""

    def make(self, seed: int) -> Any:
        print("words before the end")
        raise RuntimeError("the estimator is\nout of order")


@register("silent")
class Silent(Estimator):
    """Fails without a word."""

    def make(self, seed: int) -> Any:
        raise ValueError


@register("killed")
class Killed(Estimator):
    """Ends as a process does for which there is no memory left."""

    def make(self, seed: int) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


@register("leaving")
class Leaving(Estimator):
    """Leaves the process without a word."""

    def make(self, seed: int) -> Any:
        os._exit(3)


@register("noisy")
class Noisy(Estimator):
    """Writes wherever a program can write."""

    def make(self, seed: int) -> Any:
        print("words on standard output")
        print("words on standard error", file=sys.stderr)
        sys.__stdout__.write("words on the first standard output\n")
        sys.__stdout__.flush()
        os.system("echo words of another program")
        return DummyClassifier()


@register("slow_once")
class SlowOnce(Estimator):
    """Takes a minute unless there is a file ``marker``, in which it notes its process."""

    marker: str

    def make(self, seed: int) -> Any:
        path = Path(self.marker)
        if not path.exists():
            path.with_suffix(".part").write_text(str(os.getpid()))
            path.with_suffix(".part").rename(path)
            time.sleep(60)
        return DummyClassifier()
