"""Measurements: what they count, and what they leave out."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fmlib import measure as module
from fmlib.data import Dataset
from fmlib.device import keep_freed_memory
from fmlib.measure import MB, Spent, describe_machine, git_state, latency_ms, measure, memory_use
from fmlib.models.base import Model
from fmlib.models.registry import build
from fmlib.project import Project
from fmlib.results import Environment, Result
from fmlib.training import QUIET, Progress

# --- Memory -----------------------------------------------------------------------------------


def allocate(megabytes: int) -> None:
    np.ones(megabytes * MB, np.uint8)  # ones, because zeros would touch no page


def test_memory_use_sees_what_was_allocated_and_freed_again_within_the_block():
    with memory_use() as use:
        allocate(200)
    assert 190 < use.peak_rss_mb - use.rss_baseline_mb < 300


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux alone"
)
def test_a_block_does_not_inherit_the_peak_of_an_earlier_one():
    with memory_use() as large:
        allocate(200)
    with memory_use() as small:
        allocate(1)
    assert small.peak_rss_mb < large.peak_rss_mb - 100
    assert small.peak_rss_mb >= small.rss_baseline_mb


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="memory is managed by another C library"
)
def test_memory_that_earlier_work_left_free_counts_when_it_is_used_again():
    keep_freed_memory()
    allocate(200)
    with memory_use() as use:
        allocate(200)
    assert use.peak_rss_mb - use.rss_baseline_mb > 190


def test_without_a_counter_to_reset_the_peak_is_that_of_the_process(monkeypatch):
    monkeypatch.setattr(module, "_reset_peak", lambda: False)
    with memory_use() as use:
        allocate(50)
    assert use.peak_rss_mb >= use.rss_baseline_mb > 0


def test_there_is_no_gpu_memory_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with memory_use() as use:
        pass
    assert use.peak_vram_mb is None


def test_cudas_own_memory_is_no_part_of_a_fit(monkeypatch):
    calls = []

    def noting(name: str, megabytes: int) -> Callable[[], int]:
        return lambda: calls.append(name) or megabytes * MB

    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, noting(name, 0))
    monkeypatch.setattr(torch.cuda, "memory_allocated", noting("memory_allocated", 2))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5 * MB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with memory_use() as use:
        wanted = ["synchronize", "empty_cache", "reset_peak_memory_stats", "memory_allocated"]
        assert calls == wanted
    assert use.peak_vram_mb == 3  # of 5 in all, 2 were held before


# --- Time -------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """A clock that stands still unless a test moves it, for latencies and for stopwatches."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def test_what_others_spent_is_told_apart_from_what_this_process_did():
    neighbour = "import time; end = time.process_time() + 1\nwhile time.process_time() < end: pass"
    spent = Spent()
    subprocess.run([sys.executable, "-c", neighbour], check=True)
    before = time.process_time()
    while time.process_time() < before + 0.5:
        pass
    found = spent.so_far()
    assert found["others_seconds"] >= 0.9 and found["cpu_seconds"] >= 0.5
    assert found["fit_wall_seconds"] >= 1.4 and found.get("steal_seconds", 0.0) >= 0


def test_latency_is_of_one_image_at_a_time_without_the_warm_up(clock, small):
    shapes, durations = [], iter([10.0] * 5 + [0.001] * 90 + [0.003] * 10)

    def predict(images: np.ndarray) -> None:
        shapes.append(images.shape)
        clock.now += next(durations)

    found = latency_ms(predict, small.train_images, most=100)
    assert (found["latency_ms_p50"], found["latency_ms_p95"]) == pytest.approx((1.0, 3.0))
    assert found["latency_images"] == 100
    assert set(shapes) == {(1, 28, 28)}


def test_latencies_of_a_real_model_are_positive_and_ordered(few):
    tree = build("decision_tree").fit(few)
    found = latency_ms(tree.predict_proba, few.test_images)
    assert 0 < found["latency_ms_p50"] <= found["latency_ms_p95"]
    assert found["latency_images"] == len(few.test_images)


class Spy(Model):
    """Takes 3 s to train within a fit of 5 s, and 2 s a call to predict; notes what it is given."""

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock, self.calls, self.history_ = clock, [], []

    def fit(self, data: Dataset, seed: int = 9, progress: Progress = QUIET) -> Spy:
        self.fitted_on, self.seed, self.progress, self.train_seconds_ = data, seed, progress, 3.0
        self.clock.now += 5
        return self

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(images)
        self.clock.now += 2
        return np.full((len(images), 10), 0.1, np.float32)


def test_a_model_is_fitted_once_and_sees_the_test_images_once_and_last(clock, few):
    spy, progress = Spy(clock), Progress()
    measured = measure(spy, few, 4, progress)
    assert (spy.fitted_on, spy.seed, spy.progress) == (few, 4, progress)
    of_test = [images is few.test_images for images in spy.calls]
    assert of_test == [False] * (len(spy.calls) - 1) + [True]
    assert measured["proba"].shape == measured["validation_proba"].shape == (20, 10)


def test_training_fitting_and_prediction_are_timed_apart_after_a_warm_up(clock, few):
    measured = measure(Spy(clock), few)
    seconds = [measured[f"{name}_seconds"] for name in ("train", "fit_wall", "predict")]
    assert seconds == [3, 5, 2]
    assert (measured["latency_ms_p50"], measured["latency_ms_p95"]) == (2000, 2000)
    assert measured["parameter_count"] is measured["flops_per_image"] is None


def test_what_is_measured_of_a_real_model_fits_the_schema_of_results(few):
    measured = measure(build("decision_tree", {"max_depth": 3}), few)
    assert set(measured) <= set(Result.model_fields)
    assert measured["measured_at"].endswith("+00:00") and measured["cpu_seconds"] > 0
    assert (measured["views"], measured["one_view_proba"]) == (1, None)
    assert measured["fit_wall_seconds"] >= measured["train_seconds"] > 0
    assert measured["peak_rss_mb"] >= measured["rss_baseline_mb"] > 0
    assert measured["proba"].dtype == np.float32


# --- The machine ------------------------------------------------------------------------------


def test_the_machine_is_described_as_results_want_it():
    machine = Environment(**describe_machine({"torch": "2.0"}))
    assert machine.cores == torch.get_num_threads() and machine.memory_gb > 0
    assert machine.versions == {"python": platform.python_version(), "torch": "2.0"}
    assert f"{machine.cores} core" in machine.machine_id and machine.processor in machine.machine_id


@pytest.mark.parametrize(
    ("capability", "matrix_units", "bfloat16", "units"),
    [
        ("AVX512", True, True, "AVX512 and bfloat16 (AMX)"),
        ("AVX512", False, True, "AVX512 and bfloat16"),
        ("AVX2", False, False, "AVX2"),
        ("DEFAULT", False, True, "bfloat16"),
        ("DEFAULT", False, False, ""),
    ],
)
def test_processors_of_one_name_and_different_units_are_different_machines(
    monkeypatch, capability, matrix_units, bfloat16, units
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": matrix_units})
    monkeypatch.setattr(module, "has_bfloat16", lambda _device: bfloat16)
    monkeypatch.setattr(module, "processor_name", lambda: "Some CPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    machine = Environment(**describe_machine({}))
    assert machine.machine_id.startswith(f"Some CPU with {units}, " if units else "Some CPU, ")


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_state_is_the_commit_and_whether_tracked_files_differ(tmp_path):
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    (tmp_path / "file").write_text("one")
    for command in (("init", "-q"), ("add", "file"), ("commit", "-qm", "first")):
        git(*command)
    assert git_state(Project(tmp_path)) == (git("rev-parse", "HEAD").strip(), False)
    (tmp_path / "untracked").write_text("new")
    assert git_state(Project(tmp_path))[1] is False
    (tmp_path / "file").write_text("two")
    assert git_state(Project(tmp_path))[1] is True


@pytest.mark.parametrize("why", ["no checkout", "no git"])
def test_git_state_is_unknown_outside_a_checkout_and_without_git(tmp_path, monkeypatch, why):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    if why == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(Project(tmp_path)) == (None, None)


def test_the_processor_has_a_name_where_the_system_does_not_tell_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Path", lambda _path: tmp_path / "cpuinfo")
    assert module.processor_name()
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Test(R) CPU(TM): v2\n")
    assert module.processor_name() == "Test CPU: v2"
