"""Fits on other machines, by Dask: jobs go to a scheduler's workers, and records come back.

A worker needs this project installed, of the same versions, and nothing else: the data and a user's
own files are sent where they are wanting, and records come back through the scheduler. What is sent
to run there travels by value, so that a worker with other code can say so instead of failing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import dask
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker, wait

from fmlib import fitting
from fmlib.device import default_device
from fmlib.fitting import FitError, Job
from fmlib.profiles import source_of
from fmlib.results import ResultError, incoming, load, load_model
from fmlib.sources import SAMPLE, as_npz

SLOT, GPU = (
    "slot",
    "gpu",
)  # resources: of a worker that takes one job at a time, and of one with CUDA
CONNECT_SECONDS = 15.0
TICK_SECONDS = 0.5  # between looks at who has joined
ALIVE_SECONDS = 15.0  # between lines that say what runs
PATIENCE_SECONDS = 600.0  # without any worker that could take what is left

Estimate = Callable[[Sequence[Job], Sequence[Job]], float | None]


def fits(
    address: str,
    jobs: list[Job],
    data_sha256: str,
    say: Callable[[str], None],
    estimate: Estimate = lambda waiting, kept: None,
) -> Iterator[tuple[Job, str]]:
    """Fit jobs on the workers of a scheduler; each job as it ends, with why it failed, or "".

    ``address``: tcp://HOST:PORT, or local:N for a cluster of so many workers on this machine.
    ``data_sha256``: of the data set that all jobs share. Where the scheduler is lost, the jobs that
    are left have failed for that. What is queued is cancelled when the generator is closed.
    """
    with _connected(address, say) as client:
        run = _Run(client, jobs, data_sha256, say, estimate)
        try:
            yield from run.ended()
        finally:
            run.cancel()


@contextmanager
def _connected(address: str, say: Callable[[str], None]) -> Iterator[Client]:
    """A client of the scheduler; raises FitError where there is none at the address."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it means is told in words
    kind, _, count = address.partition(":")
    if kind == "local":
        with (
            LocalCluster(
                n_workers=int(count),
                threads_per_worker=1,
                resources=_own_resources(int(count)),
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            ) as cluster,
            _client(cluster.scheduler_address) as client,
        ):
            say(f"{count} workers here; dashboard: {client.dashboard_link}")
            yield client
        return
    with _client(address) as client:
        say(f"scheduler {address}; dashboard: {client.dashboard_link}")
        yield client


@contextmanager
def _client(address: str) -> Iterator[Client]:
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        start = "start one with `dask scheduler`"
        raise FitError(f"no scheduler answers at {address}: {error}; {start}") from error
    try:
        yield client
    finally:
        client.close(timeout=5)


def _own_resources(workers: int) -> dict[str, float]:
    """What each of so many workers on this machine has."""
    import torch

    return {SLOT: 1.0} | ({GPU: 1.0} if torch.cuda.device_count() >= workers else {})


def _resource(job: Job) -> str:
    return GPU if job.device == "cuda" else SLOT


@dataclass
class _Run:
    """What one run knows of its jobs and workers, by the workers' addresses."""

    client: Client
    jobs: list[Job]
    data_sha256: str
    say: Callable[[str], None]
    estimate: Estimate
    pending: dict[Future, Job] = field(default_factory=dict)
    met: dict[str, dict[str, float]] = field(default_factory=dict)  # resources of who may work
    refused: set[str] = field(default_factory=set)
    bounds: list[str] | None = None  # to whom jobs are given, where not to anybody
    unwanted: set[str] = field(default_factory=set)  # resources that were told to be wanting
    told: float = field(default_factory=time.monotonic)
    able: float = field(default_factory=time.monotonic)  # when there last was a worker for each job

    def __post_init__(self) -> None:
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        self.installation = fitting.installation()
        # a key holds the kind of device, so that a job goes where there is one of the same kind
        device = default_device().type
        self.jobs = [dataclasses.replace(job, device=job.device or device) for job in self.jobs]
        first = self.jobs[0]
        source = source_of(first.dataset)
        self.source_key = fitting.data_key(first)
        self.npz = None if source == SAMPLE else as_npz(source, first.project, first.home)
        self.npz_sha256 = hashlib.sha256(self.npz).hexdigest() if self.npz else ""

    # --- Jobs ---------------------------------------------------------------------------------

    def ended(self) -> Iterator[tuple[Job, str]]:
        """Each job as it ends, with why it failed, or ""."""
        try:
            self._meet()
            for job in self.jobs:
                self._submit(job)
            while self.pending:
                for future in self._done():
                    job = self.pending.pop(future)
                    failure = self._take(job, future)
                    if failure is not None:
                        yield job, failure
                self._meet()
                self._tell_now_and_then()
                yield from self._without_worker()
        except (
            CancelledError,
            OSError,
        ) as error:  # Dask's own errors of a lost connection are these
            lost = f"the scheduler was lost ({error}); what had arrived is kept, run it again"
            for job in self.pending.values():
                yield job, lost

    def cancel(self) -> None:
        """Take back what is queued; a fit that runs goes on to its end, which nobody hears."""
        if self.pending and self.client.status == "running":
            self.client.cancel([*self.pending], force=True)

    def _submit(self, job: Job) -> None:
        order = {
            "job": job.as_json(),
            "key": job.key,
            "installation": self.installation,
            "files": _files(job),
            "npz": self.npz_sha256,
            "source key": self.source_key,
        }
        future = self.client.submit(
            fit_there,
            order,
            key=f"{job.name}-{os.urandom(8).hex()}",  # no other client's
            pure=False,
            resources={_resource(job): 1},
            workers=self.bounds,
        )
        self.pending[future] = job

    def _done(self) -> list[Future]:
        """The jobs that have ended, after a while at most."""
        if self.client.status != "running":
            raise OSError("its connection is closed")
        with self.client.as_current():
            try:
                return list(wait([*self.pending], TICK_SECONDS, "FIRST_COMPLETED").done)
            except TimeoutError:
                return []

    def _take(self, job: Job, future: Future) -> str | None:
        """Take in what a job gave: why it failed, "", or None where it is queued again."""
        if future.status == "cancelled":
            self.pending[future] = job
            raise CancelledError("the job was cancelled")
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                return f"{error.allowed_failures + 1} workers ended while they fitted it"
            return f"{type(error).__name__}: {error}"
        answer = future.result()
        worker = answer["worker"]
        if "differs" in answer:
            self._refuse(worker, answer["differs"])
        elif "wants data" in answer:
            self._send_data([worker])
        elif "failure" in answer:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.write_text(answer["log"], encoding="utf-8")
            return f"{answer['failure']} (on {worker})"
        else:
            return keep(job, answer["files"], self.data_sha256)
        self._submit(job)
        return None

    # --- Workers ------------------------------------------------------------------------------

    def _meet(self) -> None:
        """Look at who has joined and who has left."""
        info = self.client.scheduler_info(n_workers=-1)["workers"]
        self.met = {address: found for address, found in self.met.items() if address in info}
        new = [address for address in info if address not in self.met.keys() | self.refused]
        if new:
            self._look_at(new, info)
        bounds = [*self.met] if self.refused else None
        if bounds != self.bounds:  # Dask holds a job to the workers that it was given to
            self.bounds = bounds
            self._give_again()

    def _look_at(self, new: list[str], info: dict[str, Any]) -> None:
        """Who differs is refused, who lacks the data is sent them."""
        given = (self.installation, self.npz_sha256, self.jobs[0].dataset)
        answers = self.client.run(examine, *given, workers=new, on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, Exception):
                if not isinstance(answer, OSError):  # else it is gone again
                    self._refuse(address, f"{type(answer).__name__}: {answer}")
                continue
            difference, _ = answer
            if difference:
                self._refuse(address, difference)
                continue
            self.met[address] = found = info[address]["resources"]
            if not {SLOT, GPU} & {*found}:
                self.say(f"worker {address} takes no jobs: start it with --resources '{SLOT}=1'")
        wanting = [address for address in new if address in self.met and answers[address][1]]
        if wanting:
            self._send_data(wanting)

    def _refuse(self, address: str, difference: str) -> None:
        self.met.pop(address, None)
        if address not in self.refused:
            self.refused.add(address)
            self.say(f"worker {address} is refused, as its fits would differ: {difference}")

    def _send_data(self, workers: list[str]) -> None:
        assert self.npz
        self.say(f"sending the data, {len(self.npz) / 2**20:.1f} MiB, to {', '.join(workers)}")
        self.client.run(store, self.npz, self.npz_sha256, workers=workers, on_error="return")

    def _give_again(self) -> None:
        """Queue again what is queued."""
        runs = {key for keys in self._running().values() for key in keys}
        waiting = {
            one: job
            for one, job in self.pending.items()
            if one.key not in runs and one.status == "pending"  # and has not ended meanwhile
        }
        self.client.cancel([*waiting])
        for future, job in waiting.items():
            del self.pending[future]
            self._submit(job)

    def _running(self) -> dict[str, list[str]]:
        """The keys of the jobs that are being fitted, by worker."""
        answers = self.client.run(executing, workers=[*self.met], on_error="ignore")
        mine = {future.key for future in self.pending}
        return {one: [key for key in keys if key in mine] for one, keys in answers.items()}

    # --- Words for the terminal ---------------------------------------------------------------

    def _tell_now_and_then(self) -> None:
        if time.monotonic() - self.told < ALIVE_SECONDS:
            return
        self.told = time.monotonic()
        names = {future.key: job.name for future, job in self.pending.items()}
        runs = [
            f"{names[key]} on {worker}" for worker, keys in self._running().items() for key in keys
        ]
        done, waiting = len(self.jobs) - len(self.pending), len(self.pending) - len(runs)
        told = f"{done} done, {len(runs)} running ({', '.join(runs)}), {waiting} waiting"
        seconds = self.estimate([*self.pending.values()], [])
        if seconds and runs:
            told += f", about {max(1, round(seconds / len(runs) / 60))} min to go"
        self.say(f"    {told}")

    def _without_worker(self) -> Iterator[tuple[Job, str]]:
        """Name the jobs that no worker can take; after a while they have failed for that."""
        there = {name for found in self.met.values() for name in found}
        wanting = {_resource(job) for job in self.pending.values()} - there
        if not wanting:
            self.able = time.monotonic()
        for name in sorted(wanting - self.unwanted):
            jobs = [job.name for job in self.pending.values() if _resource(job) == name]
            self.say(f"no worker can take {', '.join(jobs)}: {self._how_to_start(name)}")
        self.unwanted = wanting
        if wanting and time.monotonic() - self.able > PATIENCE_SECONDS:
            for future, job in [*self.pending.items()]:
                if _resource(job) in wanting:
                    self.client.cancel([future])
                    del self.pending[future]
                    yield job, f"no worker took it: {self._how_to_start(_resource(job))}"

    def _how_to_start(self, resource: str) -> str:
        address = self.client.scheduler.address
        return f"start one with `dask worker {address} --nthreads 1 --resources '{resource}=1'`"


def keep(job: Job, files: dict[str, bytes], data_sha256: str) -> str:
    """Put a record's files into its place if they are whole and of this job, of the data of that
    hash; else why they are not."""
    try:
        with incoming(job.folder) as folder:
            for name, content in files.items():
                (folder / Path(name).name).write_bytes(content)
            result = load(folder)
            load_model(folder)
            if (result.key, result.data_sha256) != (job.key, data_sha256):
                raise ResultError("it is of another job, or of other data")
    except ResultError as error:
        return f"its record came back damaged: {error}"
    job.log.unlink(missing_ok=True)
    return ""


def _files(job: Job) -> dict[str, Any]:
    """A user's files that the job runs, by their paths from one folder, and the profile's."""
    files, home = fitting.users_files(job), job.home.resolve()
    base = Path(os.path.commonpath([home, *(file.parent for file in files)]))
    content = {file.relative_to(base).as_posix(): file.read_bytes() for file in files}
    return {"content": content, "home": home.relative_to(base).as_posix()}


# --- What runs on a worker --------------------------------------------------------------------


def difference(installation: dict[str, str]) -> str:
    """How what is installed here differs from that; "" where it does not."""
    try:
        from fmlib.fitting import installation as installed

        mine = installed()
    except Exception as error:  # whatever an installation may lack
        return f"fmlib is not what it is there ({type(error).__name__}: {error})"
    other = [name for name in installation | mine if installation.get(name) != mine.get(name)]
    shown = []
    for name in other[:3]:
        is_code = name.endswith(".py")
        versions = f"{mine.get(name, 'absent')}, wanted {installation.get(name, 'none')}"
        shown.append(f"{name} has other code" if is_code else f"{name} {versions}")
    more = [f"and {len(other) - 3} more"] if len(other) > 3 else []
    return ", ".join([*shown, *more])


def examine(
    installation: dict[str, str], npz_sha256: str, dataset: Any, dask_worker: Any
) -> tuple[str, bool]:
    """How a worker differs, and whether it wants the data."""
    found = difference(installation)
    return found, not found and wants_data(npz_sha256, dataset, dask_worker)


def wants_data(npz_sha256: str, dataset: Any, worker: Any) -> bool:
    """Whether a worker has the data set neither by itself nor as it was sent."""
    from fmlib.fetch import is_at_hand
    from fmlib.project import HERE
    from fmlib.sources import FASHION_MNIST

    if not npz_sha256 or (Path(worker.local_directory) / f"{npz_sha256}.npz").is_file():
        return False
    return dataset != FASHION_MNIST or not is_at_hand(HERE.data)


def store(content: bytes, npz_sha256: str, dask_worker: Any) -> None:
    """Keep the data set for as long as the worker lives; raises ValueError where it is damaged."""
    if hashlib.sha256(content).hexdigest() != npz_sha256:
        raise ValueError("the data came damaged")
    path = Path(dask_worker.local_directory) / f"{npz_sha256}.npz"
    path.with_suffix(".part").write_bytes(content)
    path.with_suffix(".part").rename(path)


def executing(dask_worker: Any) -> list[str]:
    """The keys of the jobs that a worker is fitting."""
    return [task.key for task in dask_worker.state.executing]


def fit_there(order: dict[str, Any]) -> dict[str, Any]:
    """Fit a job on a worker, in a process of its own; what came of it, by what it is."""
    import tempfile

    worker = get_worker()
    answer = {"worker": worker.address}
    if found := difference(order["installation"]):
        return answer | {"differs": found}
    dataset = json.loads(order["job"])["dataset"]
    if wants_data(order["npz"], dataset, worker):
        return answer | {"wants data": True}
    with tempfile.TemporaryDirectory(dir=worker.local_directory, prefix="fit-") as scratch:
        return answer | fit_in(Path(scratch), order, Path(worker.local_directory))


def fit_in(scratch: Path, order: dict[str, Any], sent: Path) -> dict[str, Any]:
    """Fit a job in a folder that goes afterwards: the record's files, or why there is none."""
    from fmlib import fitting
    from fmlib.project import HERE
    from fmlib.results import record_folder

    for name, content in order["files"]["content"].items():
        file = scratch / "home" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    npz = sent / f"{order['npz']}.npz"
    job = fitting.Job.from_json(order["job"])
    job = dataclasses.replace(
        job,
        project=HERE,  # with its data and its commit
        folder=record_folder(scratch / "build" / "results", job.model, job.seed),
        home=scratch / "home" / order["files"]["home"],
        arrays=fitting.Arrays(npz, order["source key"]) if npz.is_file() else None,
    )
    job.home.mkdir(parents=True, exist_ok=True)
    try:
        with as_it_was_given():
            fitting.fit(job, key=order["key"])
    except fitting.FitError as error:
        log = job.log.read_text(encoding="utf-8") if job.log.is_file() else ""
        return {"failure": str(error), "log": log}
    return {"files": {path.name: path.read_bytes() for path in job.folder.iterdir()}}


@contextmanager
def as_it_was_given() -> Iterator[None]:
    """The environment without what Dask adds: a fit uses all cores, as it does locally."""
    added = dask.config.get("distributed.nanny.pre-spawn-environ")
    ours = {
        name: os.environ.pop(name)
        for name, value in added.items()
        if os.environ.get(name) == str(value)
    }
    try:
        yield
    finally:
        os.environ.update(ours)
