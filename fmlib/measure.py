"""Measure time, memory and operations, and describe the machine that they were measured on."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from fmlib.data import Dataset, Images
from fmlib.device import (
    Stopwatch,
    default_device,
    give_back_free_memory,
    has_bfloat16,
    synchronize,
    use_available_cores,
)
from fmlib.models.base import Model
from fmlib.project import Project
from fmlib.training import QUIET, Progress

MB = 2**20
LATENCY_IMAGES = 1000  # at most; fewer where fewer validation images are there


# --- Memory -----------------------------------------------------------------------------------


@dataclass
class MemoryUse:
    """The process's memory around a piece of work, in MiB.

    ``peak_vram_mb``, of CUDA tensors over what was there before, is None without CUDA.
    """

    rss_baseline_mb: float
    peak_rss_mb: float = 0.0
    peak_vram_mb: float | None = None


def _reset_peak() -> bool:
    """Ask Linux to count the peak anew (proc(5), clear_refs); False elsewhere."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_rss_mb(was_reset: bool) -> float:
    if was_reset:
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next(line for line in status if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


@contextmanager
def memory_use() -> Iterator[MemoryUse]:
    """Yield a MemoryUse whose peaks are those of the block, filled in when it ends."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # the first call makes CUDA's context, which is no part of a fit
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    give_back_free_memory()
    use = MemoryUse(psutil.Process().memory_info().rss / MB)
    held = torch.cuda.memory_allocated()  # workspaces that CUDA's libraries keep; 0 without CUDA
    was_reset = _reset_peak()
    yield use
    use.peak_rss_mb = max(_peak_rss_mb(was_reset), use.rss_baseline_mb)
    if torch.cuda.is_available():
        use.peak_vram_mb = (torch.cuda.max_memory_allocated() - held) / MB


# --- Time -------------------------------------------------------------------------------------


class Spent:
    """What a piece of work has cost since it began, by which a busy neighbour shows."""

    def __init__(self) -> None:
        self.started, self.before = time.perf_counter(), self._processors()

    def so_far(self) -> dict[str, float]:
        """Seconds by name: ``fit_wall_seconds``; ``cpu_seconds`` of this process, all its threads;
        ``others_seconds`` of all other processes of the machine; ``steal_seconds`` that a virtual
        machine's host gave to others. Without what the system does not tell."""
        now = self._processors()
        spent = {name: max(now[name] - self.before[name], 0.0) for name in now}
        busy = spent.pop("busy_seconds")
        spent["others_seconds"] = max(busy - spent["cpu_seconds"], 0.0)
        return {"fit_wall_seconds": time.perf_counter() - self.started, **spent}

    @staticmethod
    def _processors() -> dict[str, float]:
        times = psutil.cpu_times()._asdict()
        busy = sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
        found = {"cpu_seconds": time.process_time(), "busy_seconds": busy}
        return found | ({"steal_seconds": times["steal"]} if "steal" in times else {})


# --- One model, measured ----------------------------------------------------------------------


def latency_ms(
    predict: Callable[[Images], object], images: Images, most: int = LATENCY_IMAGES
) -> dict[str, Any]:
    """How many milliseconds ``predict`` takes for one image: median, 95th percentile, images timed.

    Each image once, of at most so many.
    """
    for image in images[:5]:
        predict(image[None])  # a warm-up
    milliseconds = []
    for image in images[:most]:
        start = time.perf_counter()
        predict(image[None])
        milliseconds.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(milliseconds, [50, 95]).tolist()
    return {
        "latency_ms_p50": p50,
        "latency_ms_p95": p95,
        "latency_images": len(milliseconds),
    }


def warm_up(device: torch.device) -> None:
    """Train a tiny network for a step: CUDA loads its libraries at their first use."""
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 10)]
    network = nn.Sequential(*layers).to(device)
    for enabled in (False, has_bfloat16(device)):
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            logits = network(torch.zeros(8, 1, 12, 12, device=device))
        logits.float().sum().backward()
    synchronize(device)


def measure(
    model: Model, data: Dataset, seed: int = 9, progress: Progress = QUIET
) -> dict[str, Any]:
    """Fit a model on the training images and predict the test images, once.

    Returns the measured fields of a ``results.Result``: seconds, milliseconds and MiB as named, and
    the class probabilities float32 (n, classes) of test and validation images.
    """
    device = default_device()
    use_available_cores()
    warm_up(device)
    fitted = _fit(model, data, seed, progress)
    validation_proba = model.predict_proba(data.validation_images)  # warms up what is timed next
    latency = latency_ms(model.predict_proba, data.validation_images)
    prediction = Stopwatch(device)
    with prediction:
        proba = model.predict_proba(data.test_images)
    one_view = model.predict_one_view(data.test_images) if model.views_ > 1 else None
    return {
        "predict_seconds": prediction.seconds,
        "parameter_count": model.parameter_count(),
        "parameters_used": model.parameters_used(),
        "flops_per_image": model.flops_per_image(),
        "views": model.views_,
        "proba": proba,
        "validation_proba": validation_proba,
        "one_view_proba": one_view,
        **fitted,
        **latency,
    }


def _fit(model: Model, data: Dataset, seed: int, progress: Progress) -> dict[str, Any]:
    """Fit a model; returns what that took, also in earlier processes of the same fit."""
    begun = datetime.now(UTC)
    with memory_use() as memory:
        synchronize(default_device())
        spent = Spent()
        progress.begin(spent.so_far)
        model.fit(data, seed, progress)
        synchronize(default_device())
        used = spent.so_far()
    return {
        "measured_at": begun.isoformat(timespec="seconds"),
        "train_seconds": model.train_seconds_,
        "history": model.history_,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        **vars(memory),
        **{name: value + progress.spent.get(name, 0.0) for name, value in used.items()},
    }


# --- The machine ------------------------------------------------------------------------------


def processor_name() -> str:
    """The processor's marketing name; virtual machines of unlike processors share one."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return re.sub(r"\((R|TM)\)", "", line.split(":", 1)[1]).strip()
    return platform.processor() or platform.machine()


def vector_units() -> str:
    """What torch computes with, which decides how fast networks are: ``AVX512 and bfloat16``."""
    capability = torch.backends.cpu.get_cpu_capability()
    matrix_units = " (AMX)" if torch.cpu.get_capabilities().get("amx_bf16") else ""
    bfloat16 = f"bfloat16{matrix_units}" if has_bfloat16(torch.device("cpu")) else ""
    named = "" if capability == "DEFAULT" else capability
    return " and ".join(filter(None, [named, bfloat16]))


def describe_machine(versions: dict[str, str]) -> dict[str, Any]:
    """The fields of ``results.Environment``: device, processor, threads used, memory, versions."""
    device = default_device()
    processor = " with ".join(filter(None, (processor_name(), vector_units())))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
    return {
        "device": device.type,
        "device_name": name,
        "processor": processor,
        "cores": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": platform.platform(terse=True),
        "versions": {"python": platform.python_version()} | versions,
    }


def git_state(project: Project) -> tuple[str | None, bool | None]:
    """The project's commit and whether tracked files differ from it; (None, None) outside git."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=project.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None, None
