"""Jobs on a Dask cluster: the same records, whatever happens to workers and scheduler."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import synthetic
from commands import TINY

from fmlib import fitting
from fmlib.fitting import FitError, Job, job_of
from fmlib.measure import git_state
from fmlib.profiles import Profile, load_profile
from fmlib.project import HERE, Project
from fmlib.results import load, load_model
from fmreport import cluster, runner, studies

pytestmark = pytest.mark.slow

OWN = """
description: a user's own data and models
dataset: {npz: stripes.npz}
code: [code/own_models.py]
models:
  waiting: {marker: MARKER}
  decision_tree: {max_depth: 3}
"""
OWN_MODELS = """
import os
import time
from pathlib import Path

from helper import TREE

from fmlib.models import Estimator, register


@register("waiting")
class Waiting(Estimator):
    \"\"\"Waits in its first fit, of which it leaves its process' id, for somebody to end it.\"\"\"

    marker: str

    def make(self, seed):
        path = Path(self.marker)
        if not path.exists():
            path.with_suffix(".part").write_text(str(os.getpid()))
            path.with_suffix(".part").rename(path)
            time.sleep(120)
        return TREE
"""
HELPER = "from sklearn.tree import DecisionTreeClassifier\n\nTREE = DecisionTreeClassifier()\n"


def until(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What a condition gives as soon as it holds; fails where it never does."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not in {seconds} s: {what}"
        time.sleep(0.02)
    return found


class Cluster:
    """A scheduler, and workers of one thread, each a process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, []
        file = folder / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")
        self.scheduler = self.start("scheduler", *options, "--scheduler-file", str(file))
        until(file.is_file, "the scheduler's address")
        self.address = until(lambda: json.loads(file.read_text() or "{}"), "it whole")["address"]

    def start(self, kind: str, *arguments: str, **environment: str) -> psutil.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
        environment = os.environ | environment
        with (self.folder / f"{len(self.processes)}.log").open("w") as log:
            process = psutil.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def worker(self, **environment: str) -> psutil.Popen:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--resources", "slot=1")
        place = ("--host", "127.0.0.1", "--local-directory", str(self.folder))
        return self.start("worker", self.address, *options, *place, **environment)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
        psutil.wait_procs(self.processes, timeout=30)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[int], Cluster]]:
    """Starts a cluster of so many workers, which ends with the test."""
    made = []

    def start(workers: int) -> Cluster:
        made.append(Cluster(tmp_path / "cluster"))
        for _ in range(workers):
            made[-1].worker()
        return made[-1]

    (tmp_path / "cluster").mkdir()
    yield start
    for one in made:
        one.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three workers."""
    one = Cluster(tmp_path_factory.mktemp("cluster"))
    for _ in range(3):
        one.worker()
    yield one
    one.end()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A profile with data and models of a user's own, of which one waits the first time."""
    home = tmp_path / "own"
    (home / "code").mkdir(parents=True)
    (home / "code" / "own_models.py").write_text(OWN_MODELS)
    (home / "code" / "helper.py").write_text(HELPER)
    np.savez(home / "stripes.npz", **synthetic.stripes((8, 8), 2, 60))
    (home / "own.yaml").write_text(OWN.replace("MARKER", str(tmp_path / "marker")))
    for name in ("own_models", "helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return load_profile(str(home / "own.yaml"), Project(home))


def tiny(root: Path, text: str = TINY) -> Profile:
    (root / "params").mkdir(parents=True)
    (root / "params" / "tiny.yaml").write_text(text)
    return load_profile("tiny", Project(root))


def fitted(profile: Profile, scheduler: str) -> tuple[runner.Outcome, list[str]]:
    outcome, said = runner.Outcome(profile), []
    runner.fit_stale(outcome, said.append, scheduler=scheduler)
    return outcome, said


def fits(profile: Profile, address: str, said: list[str]) -> Iterator[tuple[Job, str]]:
    jobs = fitting.jobs(profile)
    return cluster.fits(address, jobs, profile.data().data_sha256, said.append)


# --- The same as here -------------------------------------------------------------------------


def test_fits_on_workers_leave_the_records_that_fits_here_leave(shared, tmp_path):
    here, there = (tiny(tmp_path / name).with_seeds(2) for name in ("here", "there"))
    fitted(here, "")
    outcome, said = fitted(there, shared.address)
    assert not outcome.failed and len(outcome.fitted) == 4
    assert any("accuracy" in line and "training on" in line for line in said)
    for mine, other in zip(fitting.jobs(here), fitting.jobs(there), strict=True):
        assert fitting.stale(other) == ""
        one, two = load(mine.folder), load(other.folder)
        assert one.proba.tobytes() == two.proba.tobytes()
        assert one.validation_proba.tobytes() == two.validation_proba.tobytes()
        assert one.key == two.key and two.git_commit == git_state(HERE)[0]
        assert load_model(other.folder).name == mine.model
    assert not [*shared.folder.rglob("fit-*")], "workers keep nothing of a fit"
    assert fitted(there, shared.address)[0].fitted == []


def test_a_users_data_and_files_are_sent_to_each_worker_once(shared, own, tmp_path):
    (tmp_path / "marker").touch()
    outcome, said = fitted(own.with_seeds(2), shared.address)
    assert not outcome.failed and len(outcome.fitted) == 4
    sent = " ".join(line for line in said if line.startswith("sending the data"))
    assert sent.count("tcp://") == 3
    assert load(job_of(own, "decision_tree").folder).accuracy > 0.9
    shutil.rmtree(own.results)
    assert not any("sending" in line for line in fitted(own, shared.address)[1])


def test_a_run_says_what_is_done_what_runs_where_and_for_how_long_yet(
    shared, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "ALIVE_SECONDS", 0.0)
    _, said = fitted(tiny(tmp_path), shared.address)
    running = r"\d done, [12] running \((decision_tree|mlp)-seed-9 on tcp://.*\), \d waiting"
    assert any(re.search(running, line) for line in said)


def test_two_clients_share_the_workers(shared, tmp_path):
    profiles = [tiny(tmp_path / name) for name in ("one", "other")]
    outcomes: list[runner.Outcome] = []
    runs = [
        threading.Thread(target=lambda one=one: outcomes.append(fitted(one, shared.address)[0]))
        for one in profiles
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(120)
    assert [len(one.fitted) for one in outcomes] == [2, 2]


def test_a_study_is_judged_on_workers_as_it_is_here(shared, tmp_path, monkeypatch):
    project = tiny(tmp_path).project
    (project.params / "tiny.yaml").rename(project.params / "cpu.yaml")
    project.studies.mkdir()
    text = (
        "description: d\nmodel: decision_tree\nvariants: {a: {max_depth: 2}, b: {max_depth: 3}}\n"
    )
    (project.studies / "decision_tree-search.yaml").write_text(text)
    name = "decision_tree-search"
    here = studies.run_study(name, project, say=str)
    (project.tables / f"{name}.csv").unlink()
    there = studies.run_study(name, project, say=str, fits=partial(cluster.fits, shared.address))
    columns = ["variant", "accuracy", "log_loss", "seed", "parameters"]
    assert there[columns].equals(here[columns])
    assert [path.name for path in (project.build / "studies").iterdir()] == [f"{name}.lock"]


# --- What is lost, wanting or other -----------------------------------------------------------


def test_a_worker_that_is_killed_in_a_fit_costs_that_fit_alone(started, own, tmp_path):
    one, said, ended = started(2), [], []
    run = threading.Thread(target=lambda: ended.extend(fits(own, one.address, said)))
    run.start()
    marker = tmp_path / "marker"
    until(marker.is_file, "a fit that waits")
    fit = psutil.Process(int(marker.read_text()))
    fit.parent().send_signal(signal.SIGKILL)
    until(lambda: not fit.is_running() or fit.status() == psutil.STATUS_ZOMBIE, "its fit's end")
    run.join(120)
    assert sorted((job.model, failure) for job, failure in ended) == [
        ("decision_tree", ""),
        ("waiting", ""),
    ]
    assert all(fitting.stale(job) == "" for job in fitting.jobs(own))


def test_what_arrived_before_the_scheduler_was_lost_is_kept(started, own, tmp_path):
    one, said = started(2), []
    ended = fits(own, one.address, said)
    assert [job.model for job, _ in [next(ended)]] == ["decision_tree"]
    until((tmp_path / "marker").is_file, "a fit that waits")
    one.scheduler.kill()
    ((job, failure),) = ended
    assert job.model == "waiting" and "the scheduler was lost" in failure
    assert [fitting.stale(job) for job in fitting.jobs(own)] == ["never fitted", ""]


def test_a_worker_with_other_code_is_refused_by_name_and_the_others_go_on(started, tmp_path):
    one = started(1)
    other = tmp_path / "other"
    shutil.copytree(HERE.root / "fmlib", other / "fmlib")
    with (other / "fmlib" / "training.py").open("a") as file:
        file.write("\nMORE = 1\n")
    one.worker(PYTHONPATH=str(other))
    said: list[str] = []
    until(lambda: workers(one.address) == 2, "two workers")
    profile = tiny(tmp_path / "mine")
    assert [failure for _, failure in fits(profile, one.address, said)] == [""] * 2
    (refusal,) = (line for line in said if "refused" in line)
    assert refusal.startswith("worker tcp://") and "fmlib/training.py has other code" in refusal


def workers(address: str) -> int:
    with cluster.Client(address, set_as_default=False) as client:
        return len(client.scheduler_info(n_workers=-1)["workers"])


def test_a_job_that_no_worker_can_take_is_named_with_what_to_start(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 1)
    profile = tiny(tmp_path, TINY + "cuda_only: [mlp]\n")
    outcome, said = fitted(profile, shared.address)
    wanted = "--nthreads 1 --resources 'gpu=1'`"
    assert any("can take mlp-seed-9:" in line and wanted in line for line in said)
    assert [job.model for job in outcome.fitted] == ["decision_tree"]
    assert wanted in outcome.failures["mlp-seed-9"]


RUN = """
import sys
from pathlib import Path
from fmlib.profiles import load_profile
from fmlib.project import Project
from fmreport import runner

path, address = sys.argv[1:]
profile = load_profile(path, Project(Path(path).parent)).with_seeds(9)
runner.fit_stale(runner.Outcome(profile), scheduler=address)
"""


def test_a_run_that_is_stopped_takes_back_what_is_queued(started, own, tmp_path):
    one = started(1)
    command = [sys.executable, "-c", RUN, str(own.path), one.address]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until((tmp_path / "marker").is_file, "a fit that waits")
    run.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in run.communicate(timeout=60)[1]
    with cluster.Client(one.address, set_as_default=False) as client:
        queued = partial(client.run_on_scheduler, lambda dask_scheduler: len(dask_scheduler.tasks))
        until(lambda: queued() == 0, "an empty queue")


def test_a_record_that_comes_back_damaged_or_is_another_jobs_is_refused(tmp_path):
    here, there = (tiny(tmp_path / name) for name in ("here", "there"))
    fitted(here, "")
    sent = job_of(here, "decision_tree")
    files = {path.name: path.read_bytes() for path in sent.folder.iterdir()}
    cut = files | {"predictions.npz": files["predictions.npz"][:-9]}
    mine, data = job_of(there, "decision_tree"), here.data().data_sha256
    assert "came back damaged" in cluster.keep(mine, cut, data)
    assert "of other data" in cluster.keep(mine, files, "another")
    assert "of another job" in cluster.keep(job_of(there, "mlp"), files, data)
    assert fitting.stale(mine) == "never fitted" and not [*there.folder.rglob("*.json")]
    assert cluster.keep(mine, files, data) == "" and fitting.stale(mine) == ""


def test_a_fit_that_fails_on_a_worker_leaves_its_log_here(shared, own, tmp_path):
    path = own.home / "code" / "own_models.py"
    path.write_text(
        path.read_text().replace("        path = Path", "        1 / 0\n        path = Path")
    )
    ended = dict((job.model, failure) for job, failure in fits(own, shared.address, []))
    assert ended["decision_tree"] == "" and "ZeroDivisionError" in ended["waiting"]
    assert "1 / 0" in job_of(own, "waiting").log.read_text()


def test_where_no_scheduler_answers_it_says_what_to_start(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(
        FitError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9: .*dask scheduler"
    ):
        fitted(tiny(tmp_path), "tcp://127.0.0.1:9")


def test_dask_is_needed_with_a_scheduler_alone():
    code = "import sys, fmreport.__main__, fmreport.runner, fmreport.merge, fmreport.studies\n"
    code += "print([name for name in sys.modules if name.split('.')[0] in ('dask', 'distributed')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
