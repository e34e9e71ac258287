"""Process-wide settings: seeds, precision, threads, clocks."""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmlib.device import (
    Stopwatch,
    available_cores,
    default_device,
    seed_everything,
    use_available_cores,
    waiting_policy,
)
from fmlib.project import HERE

# --- Seeds and precision ----------------------------------------------------------------------


def test_seeding_covers_python_numpy_and_torch():
    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_everything(3)
    first = draw()
    assert draw() != first
    seed_everything(3)
    assert draw() == first


def test_float32_products_are_those_of_float32_on_every_processor():
    seed_everything(3)
    left, right = torch.randn(64, 512), torch.randn(512, 64)
    exact = left.double() @ right.double()
    rounded = left.bfloat16() @ right.bfloat16()
    assert (left @ right - exact).abs().max() < 1e-3 < (rounded - exact).abs().max()


@pytest.mark.parametrize(
    ("capabilities", "asked"),
    [
        ({"avx512_f": True, "amx_bf16": False}, True),
        ({"avx512_f": True, "amx_bf16": True}, False),
        ({"avx2": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_onednn_is_asked_only_where_it_does_not_round(monkeypatch, capabilities, asked):
    matmul = SimpleNamespace(fp32_precision="none")
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", matmul)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    seed_everything(3)
    assert matmul.fp32_precision == ("bf16" if asked else "none")


@pytest.mark.parametrize(("usable", "kind"), [(True, "cuda"), (False, "cpu")])
def test_the_device_is_cuda_where_it_is_usable(monkeypatch, usable, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    assert default_device().type == kind


# --- Threads ----------------------------------------------------------------------------------


def said_by(program: str) -> str:
    """What a new process prints that has no number of threads from its user."""
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=own | {"PYTHONPATH": str(HERE.root)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


CORES = "from fmlib.device import available_cores; print(available_cores())"


def test_threads_are_as_many_as_the_process_may_use():
    assert 1 <= int(said_by(CORES)) <= len(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_affinity_is_honoured():
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert int(said_by(f"{one_core}\n{CORES}")) == 1


@pytest.mark.parametrize(
    ("wish", "most"),
    [("1", 1), ("1,2", 1), ("10000", None), ("", None), ("zero", None), ("0", None)],
)
def test_a_users_number_of_threads_is_honoured_as_far_as_there_are_cores(monkeypatch, wish, most):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    without = available_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", wish)
    assert available_cores() == (most or without)


def test_torch_computes_with_the_available_cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        assert use_available_cores() == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_fits_threads_spin_a_little_or_not_at_all():
    wanted = {"GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "passive"}
    assert waiting_policy({"PATH": "/bin"}) == wanted


@pytest.mark.parametrize(
    "own", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "1000"}, {"KMP_BLOCKTIME": "200"}]
)
def test_a_users_own_way_to_wait_wins(own):
    assert waiting_policy(own) == {}


MEMORY = """
import psutil, torch
from fmlib.device import give_back_free_memory, keep_freed_memory

def held():
    return psutil.Process().memory_info().rss / 2**20

def use():
    torch.ones(4096, 4096)
    return held()

before = use()
keep_freed_memory()
kept = use()
give_back_free_memory()
print(kept - before, held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's memory")
def test_memory_of_large_tensors_is_kept_until_it_is_given_back():
    kept, given_back = map(float, said_by(MEMORY).split())
    assert kept > 60 > 10 > given_back  # of 64 MiB


# --- Clocks -----------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1000), max_size=5), st.floats(0, 1000))
def test_a_stopwatch_adds_up_what_happens_inside_its_blocks(durations, pause):
    clock, watch = SimpleNamespace(now=0.0), Stopwatch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: clock.now)
        for duration in durations:
            with watch:
                clock.now += duration
            clock.now += pause
    assert watch.seconds == pytest.approx(sum(durations))
