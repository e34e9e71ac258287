"""Fit once: a job, its key, and the process of its own in which it is fitted.

``python -m fmlib.fitting JOB`` is that process: it tells its progress on its standard output, as
lines of JSON, and leaves a record.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import html
import inspect
import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import psutil
import torch
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from tqdm import tqdm

import fmlib
from fmlib import fast, measure, results, scores, sources
from fmlib.data import Dataset
from fmlib.device import default_device, waiting_policy
from fmlib.models.base import Model, Network
from fmlib.models.registry import build, model_class
from fmlib.process import end_with_parent
from fmlib.profiles import DatasetSettings, Profile, load_dataset, source_of
from fmlib.project import HERE, Project
from fmlib.training import QUIET, Progress

PACKAGE = Path(fmlib.__file__).parent
# What a fit's outcome does not depend on: where files lie and come from, which are verified, and
# what a model is called.
NO_INPUT = {PACKAGE / "fetch.py", PACKAGE / "project.py", PACKAGE / "models" / "registry.py"}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow"}
SEED_FOLDER = re.compile(r"seed-(0|[1-9]\d*)")
REGISTER = "register"  # the decorator's name: titles and registration are no inputs either


class FitError(RuntimeError):
    """A fit that failed; the message is its reason in one line."""


# --- A job and its key ------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrays:
    """A data set as arrays in a file of NumPy's, for where its source, of that key, is not."""

    path: Path
    key: Any


@dataclass(frozen=True)
class Job:
    """One model with one seed on one data set; ``folder`` is where its record belongs."""

    model: str
    parameters: Mapping[str, Any]
    seed: int
    dataset: DatasetSettings
    validation_fraction: float
    project: Project
    folder: Path
    home: Path = HERE.params  # where paths in the data set's settings and of the code start
    code: tuple[str, ...] = ()
    hours: float = 24.0  # of wall-clock time that the fit may take
    memory_gb: float | None = None  # that its process may need, in GiB
    device: str = ""  # "cpu" or "cuda"; "" is what the machine has
    arrays: Arrays | None = None  # in the place of the data set's source

    @property
    def name(self) -> str:
        """Model and seed."""
        return f"{self.model}-seed-{self.seed}"

    @property
    def title(self) -> str:
        """The model's name for readers."""
        return model_class(self.model).title

    @property
    def log(self) -> Path:
        """Where the log of a fit that failed lies."""
        return self.folder.parents[2] / "failed" / f"{self.name}.log"

    @cached_property
    def key(self) -> str:
        """A hash of all that the outcome of the fit depends on, and of nothing else."""
        code, versions = dependencies(model_class(self.model))
        content = {
            "model": self.model,
            "parameters": build(self.model, self.parameters).parameters(),
            "seed": self.seed,
            "data": data_key(self),
            "validation_fraction": self.validation_fraction,
            "code": code,
            "versions": versions,
            "device": self.device or default_device().type,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def as_json(self) -> str:
        """The job as one line, for a process of its own."""
        return TypeAdapter(Job).dump_json(self).decode()

    @staticmethod
    def from_json(line: str) -> Job:
        """The job that :meth:`as_json` wrote."""
        return TypeAdapter(Job).validate_json(line)


def job_of(profile: Profile, model: str, seed: int | None = None) -> Job:
    """The profile's job for a model; without a seed the first seed's, as of a deterministic one."""
    if seed is None or model_class(model).deterministic:
        seed = profile.seeds[0]
    return Job(
        model,
        profile.models[model],
        seed,
        profile.dataset,
        profile.validation_fraction,
        profile.project,
        results.record_folder(profile.results, model, seed),
        profile.home,
        tuple(profile.code),
        profile.limits.fit_hours,
        profile.limits.fit_memory_gb,
        "cuda" if model in profile.cuda_only else "",
    )


def jobs(profile: Profile) -> list[Job]:
    """The profile's jobs: all models with the first seed, then with the next.

    A deterministic model has one.
    """
    every = [job_of(profile, model, seed) for seed in profile.seeds for model in profile.models]
    return [*{job.name: job for job in every}.values()]


def known_jobs(profile: Profile) -> list[Job]:
    """The profile's jobs, and those of its models with further seeds that have a fresh record."""
    own = jobs(profile)
    known = {job.name for job in own}
    further = [
        job_of(profile, model, int(found[1]))
        for model in profile.models
        for folder in (profile.results / model).glob("seed-*")
        if (found := SEED_FOLDER.fullmatch(folder.name))
    ]
    further = [job for job in further if job.name not in known and not stale(job)]
    return own + sorted(further, key=lambda job: job.seed)


def data_key(job: Job) -> Any:
    """What identifies a data set's images and labels; of a user's own, with the code that reads."""
    if job.arrays:
        return job.arrays.key
    source = source_of(job.dataset)
    key = sources.data_key(source, job.home)
    if isinstance(source, str):
        return key
    return [key, _normalised(_text(Path(sources.__file__)), frozenset())]


# --- The code that a model's outcome depends on -----------------------------------------------


def dependencies(model: type[Model]) -> tuple[dict[str, str], dict[str, str]]:
    """Hashes of the code that a model's outcome depends on, by file, and versions of libraries.

    The code is the model's module, how it is measured, and whatever these import of fmlib, or of
    the folder in which a user's own module lies. Comments, docstrings, formatting and line ends do
    not count, nor do other models of the same module that this one does not use, titles and names.
    """
    try:
        home = Path(inspect.getfile(model)).resolve()
    except (OSError, TypeError) as error:  # of a class that a notebook's cell defines
        problem = "its class lies in no file; put it into one that the profile's `code` names"
        raise FitError(f"{model.title}: {problem}") from error
    roots = [home, Path(measure.__file__), Path(scores.__file__)]
    if issubclass(model, Network):
        roots.append(Path(fast.__file__))
    lineage = frozenset(cls.__name__ for cls in model.__mro__)
    code, libraries = {}, set()
    for path in _closure(roots, home.parent):
        inside = path.is_relative_to(PACKAGE)
        name = path.relative_to(PACKAGE.parent if inside else home.parent).as_posix()
        code[name] = _normalised(_text(path), lineage if path == home else frozenset())
        libraries |= {module.partition(".")[0] for module, _ in _imports(_text(path))}
    return code, _versions(libraries - {PACKAGE.name, ""})  # "" of relative imports


def _closure(roots: Iterable[Path], home: Path) -> list[Path]:
    """Files that are imported, directly or not, from ``roots``, of fmlib or below ``home``."""
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        path = waiting.pop()
        if path in found or path in NO_INPUT:
            continue
        found.add(path)
        for base, module, names in _imported(path, home):
            waiting += _files(base, module, names)
    return sorted(found)


def _imported(path: Path, home: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """What a file imports: below which folder, from which module, which names."""
    for module, names in _imports(_text(path)):
        level = len(module) - len(module.lstrip("."))
        if level:  # relative to the package in which the file lies
            package = path.parents[level - 1]
            yield package.parent, f"{package.name}.{module[level:]}".rstrip("."), names
        else:
            of_fmlib = module.partition(".")[0] == PACKAGE.name
            yield PACKAGE.parent if of_fmlib else home, module, names


def _files(base: Path, module: str, names: list[str]) -> Iterator[Path]:
    """The files below ``base`` that an import of ``names`` from ``module`` reads."""
    path = base.joinpath(*module.split("."))
    if path.with_suffix(".py").is_file():
        yield path.with_suffix(".py")
    elif (opening := path / "__init__.py").is_file():
        for name in names:
            if (path / f"{name}.py").is_file():
                yield path / f"{name}.py"
                continue
            for below, source, passed_on in _imported(opening, base):  # a name that it passes on
                if name in passed_on and below.joinpath(*source.split(".")) != path:
                    yield from _files(below, source, [name])
        if module.partition(".")[0] != PACKAGE.name or not names:
            yield opening


PARSING = threading.Lock()


def _parsed(text: str) -> ast.Module:
    """The syntax tree of a module. Python 3.11 fails where another thread, or what the garbage
    collector calls, parses meanwhile (https://github.com/python/cpython/issues/106905)."""
    with PARSING:
        collected = gc.isenabled()
        gc.disable()
        try:
            return ast.parse(text)
        finally:
            if collected:
                gc.enable()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _imports(text: str) -> list[tuple[str, list[str]]]:
    """What a module imports: from which module, which names; relative ones begin with dots."""
    found: list[tuple[str, list[str]]] = []
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found.append((module, [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
    return found


@cache
def _normalised(text: str, lineage: frozenset[str]) -> str:
    """A hash of what the code does; with a ``lineage``, without models that are not of it."""
    tree = _parsed(text)
    if lineage:
        tree.body = _without_other_models(tree.body, lineage)
    return hashlib.sha256(ast.dump(_Bare().visit(tree)).encode()).hexdigest()


def _without_other_models(body: list[ast.stmt], lineage: frozenset[str]) -> list[ast.stmt]:
    """A module's statements but for models that are neither of the lineage nor named elsewhere."""
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    models = [node for node in classes if any(map(_is_register, node.decorator_list))]
    others = {node.name: node for node in models if node.name not in lineage}
    waiting: list[ast.stmt] = [node for node in body if node not in others.values()]
    while waiting:
        for part in ast.walk(waiting.pop()):
            if isinstance(part, ast.Name) and part.id in others:
                waiting.append(others.pop(part.id))
    return [node for node in body if node not in others.values()]


def _is_register(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(called, "id", getattr(called, "attr", "")) == REGISTER


class _Bare(ast.NodeTransformer):
    """Takes docstrings and registrations away."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.decorator_list = [one for one in node.decorator_list if not _is_register(one)]
        return self.generic_visit(node)


def installation() -> dict[str, str]:
    """What a fit elsewhere must share with one here: versions, and hashes of fmlib's modules."""
    files = sorted(PACKAGE.rglob("*.py"))
    libraries = {name.partition(".")[0] for file in files for name, _ in _imports(_text(file))}
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    found |= _versions(libraries - {PACKAGE.name})
    for file in files:
        found[file.relative_to(PACKAGE.parent).as_posix()] = _normalised(_text(file), frozenset())
    return found


def users_files(job: Job) -> list[Path]:
    """The files of a user's own that the job runs: its profile's ``code``, and what that imports of
    the folder in which it lies."""
    given = [(job.home / name).resolve() for name in job.code]
    found = {one for path in given for one in _closure([path], path.parent)}
    return sorted(one for one in found if not one.is_relative_to(PACKAGE))


def _versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of the installed libraries among these top-level modules."""
    found = {}
    for name in sorted(libraries):
        distribution = DISTRIBUTIONS.get(name, name)
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            continue  # Python's own, or fmlib
    return found


# --- Fitting ----------------------------------------------------------------------------------


def stale(job: Job) -> str:
    """Why the job has to be fitted; "" where its record is fresh."""
    if not job.folder.exists():
        return "never fitted"
    try:
        found = results.load(job.folder)
    except results.ResultError as error:
        return f"its record is no good: {error}"
    return "" if found.key == job.key else "its code, parameters, data or libraries have changed"


def fresh(job: Job) -> results.Result | None:
    """The job's record; None where it is stale."""
    try:
        found = results.load(job.folder)
    except results.ResultError:
        return None
    return found if found.key == job.key else None


def fresh_results(profile: Profile) -> list[results.Result]:
    """The profile's records that are fresh, of further seeds too, in the order of its jobs."""
    return [found for job in known_jobs(profile) if (found := fresh(job))]


def fit_or_load(job: Job, here: bool = False) -> tuple[results.Result, Model]:
    """The job's record and the fitted model: at once where fresh, else by a fit.

    The fit runs in a process of its own, which ends if this one is interrupted; ``here=True`` fits
    in this process, for debugging one's own model. Raises FitError with the reason of a failure,
    also where ``FMLIB_FIT`` is "never" and the record is not fresh.
    """
    why = stale(job)
    if not why:
        try:
            return results.load(job.folder), results.load_model(job.folder)
        except results.ResultError as error:  # of the model: a record is checked without it
            why = f"its record is no good: {error}"
    if os.environ.get("FMLIB_FIT") == "never":
        raise FitError(reason(job) or why)
    with shown_progress(job.title) as progress:
        fit(job, progress, here)
    return results.load(job.folder), results.load_model(job.folder)


def fit(job: Job, progress: Progress = QUIET, here: bool = False, key: str = "") -> None:
    """Fit the job whether it is stale or not, and leave its record; raises FitError.

    ``key`` is the job's where somebody else has computed it, so that no user's code is loaded here.
    """
    if job.device == "cuda" and default_device().type != "cuda":
        raise FitError("the profile wants a CUDA GPU for it, and there is none here")
    if here:
        job.log.unlink(missing_ok=True)  # of an earlier failure
        fit_here(job, progress, key)
        return
    job.log.parent.mkdir(parents=True, exist_ok=True)
    key = key or job.key
    with job.log.open("w", encoding="utf-8") as log, _start(job, key, log) as process:
        assert process.stdout
        late = threading.Timer(3600 * job.hours, process.kill)
        late.start()
        try:
            for line in process.stdout:
                method, arguments = json.loads(line)
                getattr(progress, method)(*arguments)
            status = process.wait()
        finally:
            process.kill()  # does nothing to one that has ended
            in_time = late.is_alive()
            late.cancel()
    if status < 0:
        with job.log.open("a", encoding="utf-8") as log:
            why = f"its process was ended by signal {-status}"
            if not in_time:
                why = f"it took longer than the {job.hours:g} hours of limits.fit_hours"
            print(f"\n{why}", file=log)
    if status:
        raise FitError(reason(job))
    job.log.unlink()


LONGEST_REASON = 300  # characters; the log has all of it


def reason(job: Job) -> str:
    """Why the job's last fit failed, in one line; "" where it is not known to have failed."""
    if not job.log.is_file():
        return ""
    lines = job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "its process was ended"
    shown = last if len(last) <= LONGEST_REASON else f"{last[:LONGEST_REASON]} ..."
    return shown + _advice(last)


def _advice(why: str) -> str:
    """What to do where a fit failed for want of memory, which Linux answers with signal 9."""
    wanting = (
        "MemoryError",
        "out of memory",
        "can't allocate memory",
        f"signal {signal.SIGKILL:d}",
    )
    if not any(words.lower() in why.lower() for words in wanting):
        return ""
    return "; where memory was short, lower batch_size or image_size"


def _start(job: Job, key: str, log: IO[str]) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path}
    if job.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return subprocess.Popen(
        [sys.executable, "-m", "fmlib.fitting", job.as_json(), key],
        stdin=subprocess.PIPE,  # which ends when this process does
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment | waiting_policy(environment),
        start_new_session=True,  # Ctrl-C reaches this process alone, which ends the other
    )


def fit_here(job: Job, progress: Progress = QUIET, key: str = "") -> None:
    """Fit the job in this process, measure it, and leave its record.

    ``key`` is the job's as its caller took it, before this process imported any code.
    """
    fast.enable()
    key = key or job.key
    _check_key(job, key)
    source = {"npz": str(job.arrays.path)} if job.arrays else job.dataset
    data = load_dataset(source, job.validation_fraction, job.project, job.home, seed=job.seed)
    model = build(job.model, job.parameters)
    if job.code:
        check(model, data)
    measured = measure.measure(model, data, job.seed, progress)
    _check_key(job, key)
    results.save(_record(job, key, model, data, measured), model, job.folder)
    checkpoint_path(job.folder).unlink(missing_ok=True)


def _record(
    job: Job, key: str, model: Model, data: Dataset, measured: dict[str, Any]
) -> results.Result:
    """The record of a fit that was measured: with scores, and what it was made of, where."""
    halves = ("proba", "validation_proba", "one_view_proba")
    given = [name for name in halves if measured[name] is not None]
    measured = measured | {name: results.half(measured[name]) for name in given}
    commit, dirty = measure.git_state(job.project)
    weights = getattr(model, "weights_", None)
    versions = dependencies(type(model))[1]
    return results.Result(
        model=job.model,
        seed=job.seed,
        key=key,
        parameters=model.parameters(),
        weights=results.Weights(source=weights[0], sha256=weights[1]) if weights else None,
        train_size=len(data.train_labels),
        validation_size=len(data.validation_labels),
        test_size=len(data.test_labels),
        environment=results.Environment(**measure.describe_machine(versions)),
        data_sha256=data.data_sha256,
        split_sha256=data.split_sha256,
        git_commit=commit,
        git_dirty=dirty,
        labels=data.test_labels,
        validation_labels=data.validation_labels,
        **measured,
        **scores.scores(measured["proba"], data.test_labels, data.class_names),
    )


def _check_key(job: Job, key: str) -> None:
    """Raise FitError where what the outcome depends on is not any more what it was."""
    if replace(job).key != key:  # computed anew
        raise FitError("its code was changed while it ran; run it again")


def check(model: Model, data: Dataset) -> None:
    """Raise FitError, in words, where it shows before training that a model cannot be fitted."""
    try:
        model.check(data)
    except Exception as error:  # whatever is wrong with a user's model
        home = Path(inspect.getfile(type(model))).resolve()
        told = sources.in_user_code(error, home)
        if isinstance(error, ValueError) and told == f"ValueError: {error}":  # one of ours
            line = inspect.getsourcelines(type(model))[1]
            told = f"{home.name}, line {line}: {error}"
        raise FitError(f"{model.title}: {told}") from error


# --- Progress ---------------------------------------------------------------------------------


class Checkpoint:
    """How far the fit of a job came, on disk: what a later process of the same job goes on from.

    The state of every stage of training, tensors and plain values, and what was ``spent``. Written
    whole or not at all, at most every ``EVERY`` seconds; one of another key, or damaged, is none.
    """

    EVERY = 2.0

    def __init__(self, job: Job) -> None:
        self.path, self.written = checkpoint_path(job.folder), time.monotonic()
        self.content: dict[str, Any] = {"key": job.key, "spent": {}, "stages": {}}
        try:
            found = torch.load(self.path, weights_only=True)
            if found["key"] == job.key:
                self.content = found
        except Exception:  # whatever is wrong with it, the fit begins anew
            return

    def write(self, stage: str, state: dict[str, Any], spent: Mapping[str, float]) -> None:
        """Replace what is on disk."""
        self.content["stages"][stage], self.content["spent"] = state, dict(spent)
        incoming = self.path.with_suffix(".incoming")
        incoming.parent.mkdir(parents=True, exist_ok=True)
        with incoming.open("wb") as file:
            torch.save(self.content, file)
            file.flush()
            os.fsync(file.fileno())  # a power cut leaves this one or the one before
        os.replace(incoming, self.path)
        self.written = time.monotonic()


def checkpoint_path(folder: Path) -> Path:
    """Where a fit keeps how far it came whose record will lie in ``folder``."""
    return folder.with_name(f".{folder.name}.checkpoint")


class Told(Progress):
    """Tells another process: a line of JSON a call, steps a few times a second.

    Keeps how far it came in a checkpoint.
    """

    def __init__(self, stream: IO[str], checkpoint: Checkpoint) -> None:
        self.stream, self.flushed, self.checkpoint = stream, 0.0, checkpoint
        self.spent = dict(checkpoint.content["spent"])

    def begin(self, clock: Callable[[], dict[str, float]]) -> None:
        self.clock = clock

    def keep(self, stage: str, state: Callable[[], dict[str, Any]]) -> None:
        if time.monotonic() - self.checkpoint.written >= Checkpoint.EVERY:
            now = self.clock()
            spent = {name: now[name] + self.spent.get(name, 0.0) for name in now}
            self.checkpoint.write(stage, state(), spent)

    def kept(self, stage: str) -> dict[str, Any] | None:
        return self.checkpoint.content["stages"].get(stage)

    def start(self, stage: str, epochs: int, steps: int, done: int = 0) -> None:
        self._say("start", stage, epochs, steps, done)

    def step(self) -> None:
        self._say("step", flush=time.monotonic() - self.flushed > 0.25)

    def epoch(self, row: dict[str, Any]) -> None:
        self._say("epoch", row)

    def _say(self, method: str, *arguments: Any, flush: bool = True) -> None:
        print(json.dumps([method, arguments]), file=self.stream, flush=flush)
        if flush:
            self.flushed = time.monotonic()


class Shown(Progress):
    """A bar that counts steps and tells the time that is left, or without it a line an epoch.

    As a context manager it takes the bar away at the end, also of a fit that was interrupted.
    """

    def __init__(self, title: str, with_bar: bool, bar: type[tqdm] = tqdm) -> None:
        self.title, self.make_bar, self.with_bar = title, bar, with_bar
        self.bar: Any = None  # until a stage starts

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *exc: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, stage: str, epochs: int, steps: int, done: int = 0) -> None:
        self.epochs = epochs
        self.bar = self.make_bar(
            total=steps * epochs,
            initial=steps * done,
            desc=f"{self.title}, {stage}",
            unit="step",
            leave=False,
            file=sys.stdout,
            disable=not self.with_bar,
        )

    def step(self) -> None:
        self.bar.update()

    def epoch(self, row: dict[str, Any]) -> None:
        losses = f"train loss {row['train_loss']:.4f}, validation loss {row['validation_loss']:.4f}"
        accuracy = f"accuracy {row['validation_accuracy']:.4f}"
        words = f"epoch {row['epoch']}/{self.epochs}: {losses}, {accuracy}"
        self.bar.set_postfix_str(words)
        if not self.with_bar:
            cost = f"{row['train_seconds']:.1f} s, {row['rss_mb']:.0f} MB"
            print(f"{row['stage']} {words}, {cost}", flush=True)
        if row["epoch"] == self.epochs:
            self.bar.close()


class NotebookBar(tqdm):
    """tqdm's bar as HTML, which leaves nothing behind; tqdm's own wants ipywidgets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from IPython.display import display

        self.handle = display({"text/plain": ""}, raw=True, display_id=True)
        form = "{desc}: {elapsed}, {remaining} left{postfix}"
        super().__init__(*args, **kwargs | {"bar_format": form, "file": io.StringIO()})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the bar as it is now; tqdm calls this."""
        text = html.escape(str(self))
        bar = f'<progress value="{self.n}" max="{self.total}"></progress> {text}'
        self.handle.update({"text/html": bar, "text/plain": text}, raw=True)

    def close(self) -> None:
        """Take the bar away."""
        super().close()
        self.handle.update({"text/plain": ""}, raw=True)


def shown_progress(title: str) -> Shown:
    """A bar on a terminal and in JupyterLab, lines elsewhere."""
    if "ipykernel" in sys.modules:  # which a process that is no kernel may have loaded
        from IPython import get_ipython

        if hasattr(get_ipython(), "kernel"):
            return Shown(title, with_bar=True, bar=NotebookBar)
    return Shown(title, with_bar=sys.stdout.isatty())


# --- The process of a fit ---------------------------------------------------------------------


def main() -> int:
    """Fit the job that the command line names; returns the exit status."""
    # What a model prints goes to the log, also what a library or another program prints for it.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr  # in order with errors
    job = Job.from_json(sys.argv[1])
    end_with_parent()
    threading.Thread(target=_end_with_caller, daemon=True).start()
    threading.Thread(target=_watch_memory, args=(job.memory_gb,), daemon=True).start()
    try:
        for file in job.code:
            sources.import_file(job.home / file)
        fit_here(job, Told(told, Checkpoint(job)), sys.argv[2])
    except Exception as error:
        import traceback

        traceback.print_exc()
        print(f"{type(error).__name__}: {results.in_words(error)}", file=sys.stderr)
        return 1
    return 0


def _watch_memory(limit_gb: float | None) -> None:
    """End this process before it takes the machine's memory."""
    limit, process = limit_gb or 0.9 * psutil.virtual_memory().total / 2**30, psutil.Process()
    while (held := process.memory_info().rss / 2**30) <= limit:
        time.sleep(0.2)
    why = f"it held {held:.1f} GiB, more than the {limit:.1f} of limits.fit_memory_gb"
    print(f"MemoryError: {why}", file=sys.stderr, flush=True)
    os._exit(1)


def _end_with_caller() -> None:
    """The caller keeps standard input open for as long as it lives."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
