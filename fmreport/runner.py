"""Which jobs are stale; run each in a kernel of its own; put its outcome in place atomically."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from fmlib import results
from fmlib.data import PROJECT_ROOT, SAMPLE_FILE, get_data
from fmlib.measure import PACKAGES
from fmlib.models import registry
from fmlib.profiles import STUDIES_DIR, TABLES_DIR, Job, Profile, jobs
from fmlib.training import default_device

NOTEBOOKS_DIR = PROJECT_ROOT / "notebooks"
BUILD_DIR = PROJECT_ROOT / "build"
STUDY_DIRS = (STUDIES_DIR, TABLES_DIR)
DATASET_NOTEBOOK, COMPARISON_NOTEBOOK = "00_dataset", "05_comparison"
# what these modules do cannot change what a job measures
LATER_MODULES = ("profiles.py", "compare", "runner.py", "report", "studies.py", "__main__.py")


class NeedsCuda(RuntimeError):
    """A job that its profile allows on a CUDA GPU only."""


@dataclass(frozen=True)
class Task:
    """One execution of one notebook: a model's job, or a notebook without a model. ``inputs`` is hashed for staleness."""

    name: str
    notebook: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Any]
    job: Job | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.inputs, sort_keys=True, default=str).encode()).hexdigest()


@dataclass
class Failure:
    """A task that failed, with its reason in a few lines."""

    task: Task
    reason: str


@dataclass
class Outcome:
    """What a run of a profile left: tasks with their executed notebooks, in the order of the run, and what failed."""

    profile: Profile
    folder: Path
    executed: list[tuple[Task, Path]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


# --- Staleness ------------------------------------------------------------------------------------------------------------


def code_sha256(folder: Path = PROJECT_ROOT / "fmlib", leave_out: Collection[Path] = ()) -> str:
    """SHA-256 of the library's code but for ``LATER_MODULES`` and some files.

    Comments and docstrings do not count, nor do the registry's lines: a job's own one is an input of its own.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        if path.relative_to(folder).parts[0] not in LATER_MODULES and path not in leave_out:
            digest.update(f"{path.relative_to(folder)}\n{_without_docstrings(path)}".encode())
    return digest.hexdigest()


def modules_of_others(model: str) -> set[Path]:
    """Files that define other models, and that the modules of the model's own classes do not import from."""
    own = {cls.__module__ for cls in registry.entry(model).schema.__mro__ if cls.__module__.startswith(registry.__package__)}
    used = own | {name for module in own for name in _imports(Path(sys.modules[module].__file__))}
    return {Path(sys.modules[one.schema.__module__].__file__) for one in registry.REGISTRY.values()
            if one.schema.__module__ not in used}


def _imports(path: Path) -> Iterator[str]:
    """What a source file imports, by full name: modules, and all that might be one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _without_docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path == Path(registry.__file__):
        kept = (node for node in tree.body if not isinstance(node, (ast.ImportFrom, ast.AnnAssign)))
        tree.body = list(kept)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body[0].value.value = ""
    return ast.dump(tree)


def _inputs(notebook: str, parameters: Mapping[str, Any], leave_out: Collection[Path] = ()) -> dict[str, Any]:
    source = (NOTEBOOKS_DIR / f"{notebook}.py").read_bytes()
    # of the full data set, the code knows the checksums
    sample = hashlib.sha256(SAMPLE_FILE.read_bytes()).hexdigest() if parameters["dataset"] == "sample" else None
    return {
        **({"sample": sample} if sample else {}),
        "code": code_sha256(leave_out=leave_out), "notebook": hashlib.sha256(source).hexdigest(),
        "parameters": dict(parameters), "versions": {name: version(name) for name in PACKAGES},
        "device": default_device().type,
    }  # fmt: skip


def is_fresh(task: Task, folder: Path) -> bool:
    """Whether the task's notebook was executed with just these inputs, and its result, if it has one, is whole."""
    path = notebook_path(task, folder)
    try:
        if nbformat.read(path, as_version=4).metadata["fmlib"]["sha256"] != task.sha256:
            return False
        if task.job:
            return _loaded(task.job, folder).result.job_sha256 == task.sha256
    except Exception:  # absent, cut short or edited: whatever is wrong with it, it has to be made again
        return False
    return True


# --- Tasks of a profile ---------------------------------------------------------------------------------------------------


def notebook_path(task: Task, folder: Path) -> Path:
    return folder / "notebooks" / f"{task.name}.ipynb"


def failed_path(task: Task, folder: Path) -> Path:
    return folder / "failed" / f"{task.name}.ipynb"


def dataset_task(profile: Profile) -> Task:
    parameters = {"dataset": profile.dataset, "validation_fraction": profile.validation_fraction}
    return Task(DATASET_NOTEBOOK, DATASET_NOTEBOOK, parameters, _inputs(DATASET_NOTEBOOK, parameters) | _later_code())


def model_task(job: Job, folder: Path) -> Task:
    plain = asdict(job)
    inputs = _inputs(job.notebook, plain, modules_of_others(job.model))
    one = registry.entry(job.model)
    inputs["entry"] = [one.display_name, str(one.schema), str(one.classifier), repr(one.schema.__pydantic_fields__)]
    for path in (path for folder in STUDY_DIRS for path in folder.glob(f"{job.model}-*")):  # the notebook shows them
        inputs[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    task = Task(job.name, job.notebook, plain, inputs, job)
    return replace(task, parameters=plain | {"results_dir": str(folder / "results"), "job_sha256": task.sha256})


def comparison_task(profile: Profile, folder: Path, missing: list[str]) -> Task:
    parameters = {
        "profile": profile.name, "dataset": profile.dataset, "results_dir": str(folder / "results"), "missing": missing,
    }  # fmt: skip
    inputs = _inputs(COMPARISON_NOTEBOOK, parameters)
    for path in sorted((folder / "results").glob(f"*/*/{results.RESULT_FILE}")):
        inputs[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return Task(COMPARISON_NOTEBOOK, COMPARISON_NOTEBOOK, parameters, inputs | _later_code())


def _later_code() -> dict[str, Any]:
    """What a notebook without a model, which is soon run again, also depends on: how it compares and shows."""
    library = PROJECT_ROOT / "fmreport"
    shown = [*sorted((library / "compare").glob("*.py")), library / "show.py"]
    study = (library / "compare" / "study.yaml").read_text(encoding="utf-8")
    return {"later": [_without_docstrings(path) for path in shown], "study": study}


def current_outcome(profile: Profile, build_dir: Path = BUILD_DIR) -> Outcome:
    """What stands in the build folder now, without running anything; what is absent or stale counts as failed."""
    folder = build_dir / profile.name
    outcome = Outcome(profile, folder)
    models = [model_task(job, folder) for job in jobs(profile)]
    for task in (dataset_task(profile), *models, comparison_task(profile, folder, [])):
        if is_fresh(task, folder):
            outcome.executed.append((task, notebook_path(task, folder)))
        else:
            outcome.failures.append(Failure(task, "not run, or stale"))
    return outcome


# --- Execution ------------------------------------------------------------------------------------------------------------


def run_profile(profile: Profile, say: Callable[[str], None] = print, build_dir: Path = BUILD_DIR) -> Outcome:
    """Run all stale tasks of a profile, one after another; a failed one leaves the others running."""
    folder = build_dir / profile.name
    if profile.dataset == "full":
        get_data(say=say)
    _forget_what_left_the_profile(profile, folder, say)
    outcome = Outcome(profile, folder)
    tasks = [dataset_task(profile), *(model_task(job, folder) for job in jobs(profile))]
    started, count = time.monotonic(), len(tasks) + 1
    for number, task in enumerate(tasks, start=1):
        _run_or_keep(task, outcome, say, f"[{number}/{count} {_clock(started)}]")
    missing = [failure.task.job.display_name for failure in outcome.failures if failure.task.job]
    _run_or_keep(comparison_task(profile, folder, missing), outcome, say, f"[{count}/{count} {_clock(started)}]")
    return outcome


def _run_or_keep(task: Task, outcome: Outcome, say: Callable[[str], None], prefix: str) -> None:
    if is_fresh(task, outcome.folder):
        say(f"{prefix} {task.name}: up to date")
    else:
        say(f"{prefix} {task.name}: running {task.notebook}")
        started = time.monotonic()
        try:
            _refuse_without_cuda(task, outcome)
            execute(task, outcome.folder)
        except Exception as error:  # one job's fault, whatever it is, must not stop the others
            reason = explain(error)
            outcome.failures.append(Failure(task, reason))
            say(f"{prefix} {task.name}: FAILED after {_clock(started)}\n{_indent(reason)}")
            if (partial := failed_path(task, outcome.folder)).is_file():
                say(_indent(f"the whole story: {os.path.relpath(partial)}"))
            return
        say(f"{prefix} {task.name}: done in {_clock(started)}")
    outcome.executed.append((task, notebook_path(task, outcome.folder)))


def _refuse_without_cuda(task: Task, outcome: Outcome) -> None:
    profile = outcome.profile
    if task.job and task.job.model in profile.cuda_only and default_device().type != "cuda":
        _remove_outcome(task, outcome.folder)  # one left by a GPU does not belong beside what runs now
        raise NeedsCuda(f"{task.job.display_name} of profile {profile.name} needs a CUDA GPU, and there is none here")


def execute(task: Task, folder: Path) -> Path:
    """Run a task's notebook in a kernel of its own; the executed notebook is moved in place only when all went well.

    On failure the partial notebook goes to ``failed/``, the task's old outcome is gone, and the exception is raised.
    """
    target, failed = notebook_path(task, folder), failed_path(task, folder)
    _remove_outcome(task, folder)
    failed.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, (str(PROJECT_ROOT), os.environ.get("PYTHONPATH"))))  # the kernel runs this very code
    variables = {"FMLIB_PROGRESS": "lines", "PYTHONPATH": path}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".running-") as scratch, _environment(**variables):
        output = Path(scratch) / target.name
        try:
            executed = papermill.execute_notebook(
                _source(task), str(output), dict(task.parameters), kernel_name="python3", progress_bar=False,
                cwd=str(NOTEBOOKS_DIR), extra_arguments=["--log-level=CRITICAL"],
            )  # fmt: skip
            _check_outcome(task, folder)
        except BaseException:
            _remove_outcome(task, folder)
            if output.is_file():
                failed.parent.mkdir(parents=True, exist_ok=True)
                os.replace(output, failed)
            raise
        executed.metadata["fmlib"] = _metadata(task, folder)
        nbformat.write(executed, output)
        os.replace(output, target)
    return target


def _source(task: Task) -> NotebookNode:
    """The notebook's source as a notebook object; refuses parameters that its parameters cell does not have."""
    path = NOTEBOOKS_DIR / f"{task.notebook}.py"
    notebook = jupytext.read(path)
    cells = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    known = {node.target.id for node in ast.walk(ast.parse("\n".join(cells))) if isinstance(node, ast.AnnAssign)}
    unknown = sorted(set(task.parameters) - known)
    if len(cells) != 1 or unknown:
        raise ValueError(f"{path.name}: its parameters cell knows {sorted(known)}, not {unknown}")
    return notebook


def _check_outcome(task: Task, folder: Path) -> None:
    if task.job and _loaded(task.job, folder).result.job_sha256 != task.sha256:
        raise results.ResultError(f"{task.name}: the notebook ended but its result is not of this run")


def _loaded(job: Job, folder: Path) -> results.Record:
    return results.load(results.record_folder(folder / "results", job.model, job.seed))


def _metadata(task: Task, folder: Path) -> dict[str, Any]:
    job = task.job
    return {
        "notebook": task.notebook, "sha256": task.sha256, "model": job and job.model, "seed": job and job.seed,
        "display_name": job and _loaded(job, folder).result.display_name, "family": job and job.notebook,
    }  # fmt: skip


def _remove_outcome(task: Task, folder: Path) -> None:
    notebook_path(task, folder).unlink(missing_ok=True)
    if task.job:
        shutil.rmtree(results.record_folder(folder / "results", task.job.model, task.job.seed), ignore_errors=True)


def _forget_what_left_the_profile(profile: Profile, folder: Path, say: Callable[[str], None]) -> None:
    """Outcomes of models and seeds that the profile no longer names would otherwise stay in the comparison."""
    wanted = {(job.model, f"seed-{job.seed}") for job in jobs(profile)}
    for record in sorted((folder / "results").glob("*/seed-*")):
        if (record.parent.name, record.name) not in wanted:
            shutil.rmtree(record)
            (folder / "notebooks" / f"{record.parent.name}-{record.name}.ipynb").unlink(missing_ok=True)
            say(f"{record.parent.name}-{record.name}: not in the profile any more, removed")


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


# --- Words for the terminal -----------------------------------------------------------------------------------------------


def explain(error: BaseException) -> str:
    """An error in a few readable lines: of a cell, its error and the line that raised it."""
    if isinstance(error, PapermillExecutionError):
        plain = strip_ansi("\n".join(error.traceback))
        arrow = next((line.strip() for line in plain.splitlines() if re.match(r"-+> *\d", line.strip())), "")
        return "\n".join(filter(None, (f"cell {error.exec_count}: {error.ename}: {error.evalue}", arrow)))
    if isinstance(error, NeedsCuda):
        return str(error)
    if isinstance(error, DeadKernelError):
        return "the kernel died (killed, or out of memory)"
    return f"{type(error).__name__}: {error}"


def _clock(since: float) -> str:
    seconds = int(time.monotonic() - since)
    return f"{seconds // 60}:{seconds % 60:02d}"


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
