"""Device, seeds, threads and clocks: every process-wide setting, in one visible place."""

from __future__ import annotations

import ctypes
import os
import random
import time
from typing import Any

import numpy as np
import torch

# How OpenMP's threads wait for work. By default they spin for long, and beside a busy neighbour a
# small network trains 4 to 50 times slower by it. GNU's threads spin a little, which costs a quiet
# machine a tenth, where never spinning costs half; those of other libraries do not spin. It must be
# set before torch or XGBoost load.
WAITING_POLICY = {"GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "passive"}
OWN_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # a user's, which win


def default_device() -> torch.device:
    """CUDA where it is usable, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 products natively, and so gains by them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, torch and CUDA, and compute the same way every time.

    cuDNN chooses only deterministic algorithms, and float32 is rounded to nothing less.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # seeds CUDA too
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = False
    _multiply_by_onednn()


def _multiply_by_onednn() -> None:
    """Have oneDNN multiply float32 matrices with AVX512.

    MKL, torch's choice, takes twice as long on AMD's processors. Torch asks oneDNN only if it may
    round to bfloat16. With AVX512 it does not round; with AMX or on Arm it would, and is not asked.
    """
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("avx512_f") and not capabilities.get("amx_bf16"):
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]


# --- Threads and memory -----------------------------------------------------------------------


def available_cores() -> int:
    """Cores that this process may use: by affinity, a cgroup's quota and ``OMP_NUM_THREADS``."""
    import joblib

    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    limit = int(wanted) if wanted.isdigit() and int(wanted) > 0 else joblib.cpu_count()
    return min(limit, joblib.cpu_count())


def use_available_cores() -> int:
    """Let torch compute with the available cores and no more; returns their number."""
    cores = available_cores()
    torch.set_num_threads(cores)
    return cores


def waiting_policy(environment: dict[str, str]) -> dict[str, str]:
    """What a fit's environment needs besides ``environment`` to survive a busy neighbour."""
    return {} if any(name in environment for name in OWN_POLICIES) else dict(WAITING_POLICY)


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next tensor, from now on; glibc's alone.

    By default it gives tensors of more than 32 MiB back to the system, which hands out and blanks
    their pages anew at every step: a sixth of the time that VGG16 trains on a CPU. See mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        most_mappings, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
        mallopt(most_mappings, 0)
        mallopt(trim_threshold, 2**31 - 1)


def give_back_free_memory() -> None:
    """Give the system what malloc holds of freed memory, or later work would seem to need none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


# --- Clocks -----------------------------------------------------------------------------------


def synchronize(device: torch.device) -> None:
    """Wait for the device's queued work, so that a clock read next is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Adds up the seconds inside ``with stopwatch:`` blocks; on CUDA it waits at both ends."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device, self.seconds = device or torch.device("cpu"), 0.0

    def __enter__(self) -> Stopwatch:
        synchronize(self.device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: Any) -> None:
        synchronize(self.device)
        self.seconds += time.perf_counter() - self._start
