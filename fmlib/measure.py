"""Measure time, memory, parameters and operations, and describe the machine that they were measured on."""

from __future__ import annotations

import ctypes
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import nn

from fmlib.data import PROJECT_ROOT, ImageData, Images, Labels
from fmlib.models.base import Classifier
from fmlib.training import Stopwatch, default_device, has_bfloat16, rss_mb, synchronize

PACKAGES = ("numpy", "scikit-learn", "torch", "torchvision", "xgboost", "timm")
MB = 2**20
CALIBRATION_BINS = 15
SMALLEST = 1e-7  # probability that a log loss reckons with: about float16's smallest, in which probabilities are kept


# --- Memory ---------------------------------------------------------------------------------------------------------------


@dataclass
class MemoryUse:
    """The process's memory around a piece of work, in MiB; ``peak_vram_mb``, of CUDA tensors over what was there before, is
    None without CUDA."""

    rss_baseline_mb: float
    peak_rss_mb: float = 0.0
    peak_vram_mb: float | None = None

    @property
    def over_baseline_mb(self) -> float:
        return self.peak_rss_mb - self.rss_baseline_mb


def _give_back_free_memory() -> None:
    """Return to the system what malloc holds of memory that was freed: work that took it again would seem to need none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def _reset_peak() -> bool:
    """Ask Linux to count the peak anew (proc(5), clear_refs); False elsewhere."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_rss_mb(was_reset: bool) -> float:
    if was_reset:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


@contextmanager
def memory_use() -> Iterator[MemoryUse]:
    """Yield a MemoryUse whose peaks are those of the block, filled in when it ends."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # the first call makes CUDA's context, hundreds of MiB that are no part of any fit
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    _give_back_free_memory()
    use = MemoryUse(rss_mb())
    held = torch.cuda.memory_allocated()  # workspaces that CUDA's libraries keep; 0 without CUDA
    was_reset = _reset_peak()
    yield use
    use.peak_rss_mb = max(_peak_rss_mb(was_reset), use.rss_baseline_mb)
    if torch.cuda.is_available():
        use.peak_vram_mb = (torch.cuda.max_memory_allocated() - held) / MB


# --- One model, measured --------------------------------------------------------------------------------------------------


def latency_ms(predict: Callable[[Images], object], images: Images, repeats: int = 100) -> tuple[float, float]:
    """Median and 95th percentile of the milliseconds that ``predict`` takes for one image, over ``repeats`` images."""
    seconds = []
    for i in range(repeats + 5):
        start = time.perf_counter()
        predict(images[i % len(images)][None])
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(seconds[5:], [50, 95]) * 1000  # the first few are a warm-up
    return float(p50), float(p95)


def expected_calibration_error(proba: NDArray[np.floating], labels: Labels, bins: int = CALIBRATION_BINS) -> float:
    """How far confidence and accuracy lie apart, on average over images grouped in ``bins`` equal steps of confidence.

    ``proba`` (n, classes), ``labels`` (n,); Naeini et al. 2015, Guo et al. 2017 (https://arxiv.org/abs/1706.04599).
    """
    confidence, correct = proba.max(1).astype(np.float64), proba.argmax(1) == labels
    group = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(group, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


@dataclass(frozen=True)
class Measurement:
    """What one fit and one pass over the test images gave: class probabilities float32 (n, classes), seconds, MiB."""

    proba: NDArray[np.float32]
    validation_proba: NDArray[np.float32]
    train_seconds: float
    fit_wall_seconds: float
    predict_seconds: float
    latency_ms_p50: float
    latency_ms_p95: float
    memory: MemoryUse


def warm_up(device: torch.device) -> None:
    """Train a tiny network for a step: CUDA loads its libraries at their first use, which is no part of any fit."""
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 10)).to(device)
    for enabled in (False, has_bfloat16(device)):
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            logits = network(torch.zeros(8, 1, 12, 12, device=device))
        logits.float().sum().backward()
    synchronize(device)


def measure(classifier: Classifier, data: ImageData) -> Measurement:
    """Fit a classifier on the training images and predict the test images, once, with everything measured."""
    warm_up(default_device())
    wall, prediction = Stopwatch(default_device()), Stopwatch(default_device())
    with memory_use() as memory, wall:
        classifier.fit(*data.train, data.validation)
    validation_proba = classifier.predict_proba(data.validation_images)  # also the warm-up of what is timed next
    p50, p95 = latency_ms(classifier.predict_proba, data.validation_images)
    with prediction:
        proba = classifier.predict_proba(data.test_images)
    return Measurement(
        proba, validation_proba, classifier.train_seconds_, wall.seconds, prediction.seconds, p50, p95, memory
    )


# --- The machine ----------------------------------------------------------------------------------------------------------


def processor_name() -> str:
    """The processor's marketing name, as well as the system tells it; virtual machines of unlike processors share one."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return re.sub(r"\((R|TM)\)", "", line.split(":", 1)[1]).strip()  # without trademark signs
    return platform.processor() or platform.machine()


def vector_units() -> str:
    """What torch computes with here, which decides how fast networks are: ``AVX2``, ``AVX512 and bfloat16 (AMX)``."""
    capability = torch.backends.cpu.get_cpu_capability()
    matrix_units = " (AMX)" if torch.cpu.get_capabilities().get("amx_bf16") else ""
    bfloat16 = f"bfloat16{matrix_units}" if has_bfloat16(torch.device("cpu")) else ""
    return " and ".join(filter(None, ["" if capability == "DEFAULT" else capability, bfloat16]))


def describe_machine(device: torch.device) -> dict[str, object]:
    """The fields of ``results.Environment``: device, processor, cores this process may use, memory, versions."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)
    processor = " with ".join(filter(None, (processor_name(), vector_units())))
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "processor": processor,
        "cores": len(affinity()) if affinity else psutil.cpu_count() or 1,
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": platform.platform(terse=True),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def git_state() -> tuple[str | None, bool | None]:
    """The project's commit and whether tracked files differ from it; (None, None) outside a git checkout."""
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=PROJECT_ROOT, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
