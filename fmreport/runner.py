"""The run of a whole profile: fit what is stale, then tell what is not told yet."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import statistics
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import filelock
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fmlib import fitting
from fmlib.data import DataError
from fmlib.device import available_cores
from fmlib.fitting import FitError, Job
from fmlib.models.registry import MODELS, model_class
from fmlib.profiles import Profile, ProfileError
from fmlib.results import PREDICTIONS_FILE, RESULT_FILE, Result, ResultError, incoming, load
from fmreport.kernels import PROVISIONER
from fmreport.text import literal

KERNEL = "fmreport"  # the name of a kernelspec that only this module's kernels see
KERNELSPEC = {"name": KERNEL, "language": "python", "display_name": ""}  # as notebooks name it
MODEL_TAG = "model-"
EXERCISE = "exercise"  # a cell for who edits the notebook by hand, which the report leaves out
FASHION, OTHER_DATA = "fashion-mnist", "other-data"  # a cell for a report on these data alone
OWN = "own_models"  # the chapter of models that no notebook tells about
OWN_SETTINGS = """
from fmlib.profiles import load_profile
from fmreport import sections

settings = load_profile(profile)
"""
CALLED = ("plots", "show", "text", "sections", "studies", "tables", "explorer")
# what notebooks call; the modules that come after telling change no notebook
TELLING = ("compare", *(f"{name}.py" for name in CALLED))
RECORD = (RESULT_FILE, PREDICTIONS_FILE)
KEPT = (".py", ".yaml", ".csv", ".json")  # files that a notebook may depend on
ALIVE_SECONDS = 15.0  # between lines that say what runs
START_SECONDS = 8.0  # of a fit: Python, the libraries, the data


@dataclass(frozen=True)
class Told:
    """One chapter: its notebook's name and title, the executed notebook, or why there is none."""

    notebook: str
    title: str
    path: Path | None
    reason: str = ""


@dataclass
class Outcome:
    """What a run of a profile left: jobs by what became of them, and the chapters in order."""

    profile: Profile
    fitted: list[Job] = field(default_factory=list)
    kept: list[Job] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # job's name -> reason
    chapters: list[Told] = field(default_factory=list)
    told: int = 0

    @property
    def failed(self) -> bool:
        """Whether anything is missing."""
        return bool(self.failures) or any(chapter.path is None for chapter in self.chapters)


def run_profile(
    profile: Profile,
    say: Callable[[str], None] = print,
    models: Sequence[str] = (),
    retime: bool = False,
    scheduler: str = "",
) -> Outcome:
    """Fit the profile's stale jobs, one after another or on a cluster, then tell what is not told.

    Of some ``models`` alone, where any are named. ``retime``: also those whose times were measured
    beside other work. ``scheduler``: of Dask, as :func:`fmreport.cluster.fits` takes it.
    """
    outcome = Outcome(profile)
    fit_stale(outcome, say, models, retime, scheduler)
    tell(outcome, say)
    return outcome


@contextmanager
def sole_run(
    profile: Profile, wait: bool = False, say: Callable[[str], None] = print
) -> Iterator[None]:
    """Hold the profile's folder for the block, which no two runs, or profiles, may change at once.

    The system takes the lock from whoever ends, however that happens. Raises ProfileError where
    another run holds it, unless told to ``wait``. What a run that was killed left is removed.
    """
    profile.folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(profile.folder / ".lock")
    holder = profile.folder / ".lock-holder"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        who = holder.read_text(encoding="utf-8") if holder.is_file() else "another run"
        told = f"{profile.folder} is in use: {who}"
        if not wait:
            raise ProfileError(
                f"{told}; wait for it with WAIT=1 (--wait), or try again later"
            ) from None
        say(f"{told}; waiting for it")
        lock.acquire()
    try:
        since = datetime.now().isoformat(" ", timespec="seconds")
        holder.write_text(f"process {os.getpid()} since {since}", encoding="utf-8")
        for left in (*profile.folder.glob(".*-*"), *profile.results.glob("*/.*incoming*")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            elif left != holder:
                left.unlink(missing_ok=True)
        _claim(profile)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _claim(profile: Profile) -> None:
    """Note whose the folder is; ProfileError where it is that of another file of the same name."""
    root, owner = profile.project.root, profile.folder / ".profile"
    own = str(profile.place)
    other = owner.read_text(encoding="utf-8") if owner.is_file() else ""
    if other == own:
        return
    if other and (root / other).is_file():
        problem = f"{root / other} builds in the same folder, {profile.folder}"
        raise ProfileError(f"{profile.path}: {problem}; rename one of them")
    owner.write_text(own, encoding="utf-8")


@contextmanager
def alive(what: Callable[[], str], say: Callable[[str], None]) -> Iterator[None]:
    """Say every quarter of a minute what runs in the block, and since when."""
    start, ended = time.monotonic(), threading.Event()

    def speak() -> None:
        while not ended.wait(ALIVE_SECONDS):
            say(f"    {what()} for {_clock(start)}")

    threading.Thread(target=speak, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


# --- Fits -------------------------------------------------------------------------------------


def fit_stale(
    outcome: Outcome,
    say: Callable[[str], None] = print,
    models: Sequence[str] = (),
    retime: bool = False,
    scheduler: str = "",
) -> None:
    """Fit every stale job of the profile, or of ``models``; says first what and about how long."""
    profile = outcome.profile
    every = fitting.jobs(profile)
    stale = {job.name: why for job in every if (why := _wanting(job, retime))}
    outcome.kept = [job for job in every if job.name not in stale]
    waiting = [job for job in every if job.name in stale and job.model in (models or [job.model])]
    say(f"{profile.name}: {_plan(profile, waiting, outcome.kept)}")
    if not waiting:
        return
    data = profile.data(say)  # fetched here, once
    start = time.monotonic()
    if scheduler:
        from fmreport import cluster  # and with it Dask, which nothing else needs

        fits = cluster.fits(scheduler, waiting, data.data_sha256, say, partial(estimate, profile))
    else:
        fits = _fits(waiting, stale, start, say)
    for number, (job, failure) in enumerate(fits, 1):
        said = f"[{number}/{len(waiting)} {_clock(start)}] {job.title} with seed {job.seed}"
        if failure:
            outcome.failures[job.name] = failure
            say(f"{said}: failed: {failure}")
            if job.log.is_file():
                say(f"    its log: {job.log}")
            continue
        outcome.fitted.append(job)
        say(f"{said}: {_what_it_gave(load(job.folder), elsewhere=bool(scheduler))}")


def _fits(
    waiting: list[Job], stale: Mapping[str, str], start: float, say: Callable[[str], None]
) -> Iterator[tuple[Job, str]]:
    """Fit jobs here, one after another; each with why it failed, or ""."""
    for number, job in enumerate(waiting, 1):
        place = f"{number}/{len(waiting)} {_clock(start)}"
        say(f"[{place}] {job.title} with seed {job.seed}: fitting, {stale[job.name]}")
        try:
            with fitting.shown_progress(job.title) as progress, alive(job.title.__str__, say):
                fitting.fit(job, progress)
        except FitError as error:
            yield job, str(error)
        else:
            yield job, ""


def _what_it_gave(result: Result, elsewhere: bool) -> str:
    told = f"accuracy {result.accuracy:.4f}, {result.train_seconds:.1f} s of training"
    if elsewhere:
        told += f" on {result.environment.machine_id}"
    if result.contended:
        told += ", beside other work, so that its times are not compared (RETIME=1 repeats it)"
    return told


def _wanting(job: Job, retime: bool) -> str:
    """Why the job has to be fitted; "" where it has not."""
    why = fitting.stale(job)
    if not why and retime and load(job.folder).contended:
        return "its times were measured beside other work"
    return why


def _plan(profile: Profile, waiting: list[Job], kept: list[Job]) -> str:
    if not waiting:
        return f"nothing to fit, {len(kept)} kept"
    names = ", ".join(dict.fromkeys(job.model for job in waiting))
    seconds = estimate(profile, waiting, kept)
    about = f"about {_minutes(seconds)}" if seconds else "which has not been timed before"
    return f"{len(waiting)} to fit ({names}), {about}; {len(kept)} kept"


def estimate(profile: Profile, waiting: Sequence[Job], kept: Sequence[Job]) -> float | None:
    """About how many seconds the fits take, by earlier records or published ones; None if unknown.

    Published seconds are scaled by what this machine's records took of them.
    """
    published = {job.model: _published_seconds(profile, job.model) for job in [*waiting, *kept]}
    ratios = [
        own / seconds
        for job in kept
        if (own := _seconds(job.folder)) and (seconds := published[job.model])
    ]
    scale = statistics.median(ratios) if ratios else 1.0
    costs = []
    for job in waiting:
        if known := _times(job.folder.parent):
            costs.append(statistics.median(known))
        elif seconds := published[job.model]:
            costs.append(scale * seconds)
    if not costs:
        return None
    typical = statistics.median(costs)  # for those of which nothing is known
    unknown = len(waiting) - len(costs)
    return sum(costs) + unknown * typical + START_SECONDS * len(waiting)


def _published_seconds(profile: Profile, model: str) -> float | None:
    folder = profile.project.published(profile.name) / "results" / model
    return next(iter(_times(folder)), None)


def _times(folder: Path) -> list[float]:
    """How long the fits took of which a model's folder has readable records."""
    every = map(_seconds, sorted(folder.glob("seed-*")))
    return [seconds for seconds in every if seconds]


def _seconds(folder: Path) -> float | None:
    """How long a record's fit took, whatever its age."""
    try:
        return float(json.loads((folder / RESULT_FILE).read_text())["fit_wall_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- Telling ----------------------------------------------------------------------------------


def tell(outcome: Outcome, say: Callable[[str], None] = print) -> None:
    """Execute the notebooks that are not told yet, as many at once as there are cores."""
    profile, start = outcome.profile, time.monotonic()
    wanted = chapters(profile)
    inputs = inputs_sha256(wanted, profile)
    waiting = [name for name in wanted if not _is_told(profile, name, inputs[name])]
    if waiting:
        say(f"telling {', '.join(waiting)}")

    begun: set[str] = set()

    def one(name: str) -> tuple[str, str]:
        begun.add(name)
        reason = execute(profile, name, wanted[name], inputs[name])
        begun.discard(name)
        say(f"    {name}: {'failed: ' + reason if reason else 'told'} ({_clock(start)})")
        return name, reason

    def running() -> str:
        return f"telling {', '.join(name for name in waiting if name in begun)}"

    with (
        _kernel_environment(profile),
        ThreadPoolExecutor(available_cores()) as pool,
        alive(running, say),
    ):
        if len(waiting) > 1:
            _start_one_kernel()
        longest_first = sorted(waiting, key=lambda name: -_last_duration(profile, name))
        reasons = dict(pool.map(one, longest_first))
    outcome.told = sum(not reason for reason in reasons.values())
    for name, notebook in wanted.items():
        reason = reasons.get(name, "")
        path = None if reason else executed_path(profile, name)
        outcome.chapters.append(Told(name, title(notebook), path, reason))


def standing(profile: Profile) -> Outcome:
    """What stands in the build folder now, without running anything."""
    outcome = Outcome(profile)
    wanted = chapters(profile)
    inputs = inputs_sha256(wanted, profile)
    for name, notebook in wanted.items():
        told = _is_told(profile, name, inputs[name])
        place = executed_path(profile, name) if told else None
        outcome.chapters.append(Told(name, title(notebook), place, "not told yet"))
    return outcome


def executed_path(profile: Profile, name: str) -> Path:
    """Where a notebook lies once it is told."""
    return profile.folder / "notebooks" / f"{name}.ipynb"


def chapters(profile: Profile) -> dict[str, NotebookNode]:
    """The notebooks to tell, by name, in the report's order.

    Without what they say of other models or other data. A user's own model that none of them tells
    about gets a section in its family's, or in a chapter of such models behind the families'.
    """
    paths = sorted(profile.project.notebooks.glob("[0-9]*.py"))
    sources = {path.stem: _source(path) for path in paths}
    about = {name: set().union(*map(_models, one.cells)) for name, one in sources.items()}
    told = set().union(*about.values())
    untold = [
        model
        for model in profile.models
        if model not in told and not model_class(model).__module__.startswith("fmlib.")
    ]
    found: dict[str, NotebookNode] = {}
    for name, notebook in sources.items():
        if about[name]:
            families = {MODELS[model].family for model in about[name] if model in MODELS}
            here = [model for model in untold if model_class(model).family in families]
            notebook.cells += [cell for model in here for cell in _section(model)]
            untold = [model for model in untold if model not in here]
        elif untold and any(about[earlier] for earlier in found):
            found[OWN] = _own_chapter(untold)
            untold = []
        found[name] = notebook
    if untold:
        found[OWN] = _own_chapter(untold)
    whole = {name: _for_profile(notebook, profile) for name, notebook in found.items()}
    return {name: notebook for name, notebook in whole.items() if notebook is not None}


def _source(path: Path) -> NotebookNode:
    import jupytext

    notebook = jupytext.read(path)
    notebook.metadata["kernelspec"] = KERNELSPEC
    return notebook


def _for_profile(notebook: NotebookNode, profile: Profile) -> NotebookNode | None:
    """The notebook without cells that are of no concern here.

    None where its title goes too, or where all models go that it is about.
    """
    about = set().union(*map(_models, notebook.cells))
    if about and not about & profile.models.keys():
        return None
    notebook.cells = [cell for cell in notebook.cells if _concerns(cell, profile)]
    return notebook if title(notebook) else None


def _concerns(cell: NotebookNode, profile: Profile) -> bool:
    """Whether a report of the profile has the cell."""
    tags, models = _tags(cell), _models(cell)
    other_data = OTHER_DATA if profile.is_fashion else FASHION
    if EXERCISE in tags or other_data in tags:
        return False
    return not models or bool(models & profile.models.keys())


def _section(model: str) -> list[NotebookNode]:
    """A section on a model that no notebook tells about: its docstring, and what all show."""
    cls = model_class(model)
    text = f"## {literal(cls.title)}\n\n{inspect.cleandoc(cls.__doc__ or '')}"
    tags = {"tags": [f"{MODEL_TAG}{model}", "hide-input"]}
    call = f'sections.show_model(settings, "{model}", seed)'
    return [new_markdown_cell(text, metadata=tags), new_code_cell(call, metadata=tags)]


def _own_chapter(models: list[str]) -> NotebookNode:
    opening = [
        new_markdown_cell("# More models"),
        new_code_cell('profile: str = ""\nseed: int = 9', metadata={"tags": ["parameters"]}),
        new_code_cell(OWN_SETTINGS, metadata={"tags": ["hide-input"]}),
    ]
    cells = [*opening, *(cell for model in models for cell in _section(model))]
    return new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC})


def _models(cell: NotebookNode) -> set[str]:
    """The models that a cell is about, by its tags."""
    return {tag.removeprefix(MODEL_TAG) for tag in _tags(cell) if tag.startswith(MODEL_TAG)}


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def title(notebook: NotebookNode) -> str:
    """The first heading of a notebook; "" where it has none."""
    lines = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heads = [line for line in lines.splitlines() if line.startswith("# ")]
    return heads[0].removeprefix("# ").strip() if heads else ""


def inputs_sha256(wanted: Mapping[str, NotebookNode], profile: Profile) -> dict[str, str]:
    """A hash for each notebook of what it depends on once told, by name.

    That is its meaning, its records and what it calls. Its meaning is its cells' text and tags; how
    an editor writes the file does not count.
    """
    package, project = Path(__file__).parent, profile.project
    kept = (project.studies, project.tables, project.published("gpu"))
    places = [*(package / name for name in TELLING), Path(fitting.__file__).parent, *kept]
    settings = [profile.name, profile.seeds, profile.dataset, profile.validation_fraction]
    settings.append(profile.limits.output_mb)
    common = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    common.update(_content(profile.home / file for file in profile.code))
    common.update(_content(path for place in places for path in _files(place)))
    records = [(job.model, _record(job)) for job in fitting.known_jobs(profile)]
    hashes = {}
    for name, notebook in wanted.items():
        digest = common.copy()
        for cell in notebook.cells:
            if text := "\n".join(cell.source.strip().splitlines()):
                digest.update(json.dumps([cell.cell_type, text, _tags(cell)]).encode())
        own = set().union(*map(_models, notebook.cells)) or profile.models.keys()
        for model, record in records:
            if model in own:
                digest.update(record)
        hashes[name] = digest.hexdigest()
    return hashes


def _record(job: Job) -> bytes:
    """What a notebook shows of a job: its name, its record or why there is none."""
    files = [path for name in RECORD if (path := job.folder / name).is_file()]
    state = f"{job.name} {job.title} {fitting.stale(job)} {fitting.reason(job)}"
    return state.encode() + _content(files)


def _files(path: Path) -> list[Path]:
    found = path.rglob("*") if path.is_dir() else [path]
    return [one for one in found if one.suffix in KEPT and one.is_file()]


def _content(paths: Iterable[Path]) -> bytes:
    """A hash of files' names and content, whatever their line ends are."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.digest()


def _is_told(profile: Profile, name: str, inputs: str) -> bool:
    try:
        told = nbformat.read(executed_path(profile, name), as_version=4)
        stamp = told.metadata.pop("fmreport")
        return stamp == {"sha256": inputs, "content": _told_sha256(told)}
    except Exception:  # absent, cut short or edited: whatever it is, it has to be told again
        return False


def stamped(executed: NotebookNode, inputs: str) -> NotebookNode:
    """An executed notebook that says what it was told from, and what it then was itself."""
    told = nbformat.reads(nbformat.writes(executed), as_version=4)  # as it is read later
    told.metadata["fmreport"] = {"sha256": inputs, "content": _told_sha256(told)}
    return told


def _told_sha256(told: NotebookNode) -> str:
    """A hash of an executed notebook: one that was edited by hand is told again."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _last_duration(profile: Profile, name: str) -> float:
    """How many seconds the notebook took when it was last told; 0 where that is not known."""
    try:
        told = nbformat.read(executed_path(profile, name), as_version=4)
        return float(told.metadata["papermill"]["duration"])
    except Exception:  # whatever it is, it is told anew
        return 0.0


def execute(profile: Profile, name: str, notebook: NotebookNode, inputs: str) -> str:
    """Run a notebook in a kernel of its own; it is moved in place only when all went well.

    Returns why it failed, in a line, or ""; then the partial notebook lies in ``failed/``.
    """
    import papermill

    target, failed = executed_path(profile, name), profile.folder / "failed" / f"{name}.ipynb"
    for path in (target, failed):
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=profile.folder, prefix=".telling-") as scratch:
        output = Path(scratch) / target.name
        try:
            executed = papermill.execute_notebook(
                notebook,
                str(output),
                {"profile": profile.given, "seed": profile.seeds[0]},
                kernel_name=KERNEL,
                progress_bar=False,
                cwd=str(profile.project.notebooks),
                execution_timeout=round(60 * profile.limits.cell_minutes),
                extra_arguments=["--log-level=CRITICAL"],
            )
            _check_it_ended(executed)
        except Exception as error:
            if output.is_file():
                shutil.move(output, failed)
            return why(error)
        for cell in executed.cells:
            _shorten(cell, profile.limits.output_mb)
        nbformat.write(stamped(executed, inputs), output)
        os.replace(output, target)
    return ""


def _check_it_ended(executed: NotebookNode) -> None:
    """Raise RuntimeError where a cell was not run to its end, as behind ``sys.exit(0)``."""
    for number, cell in enumerate(executed.cells, 1):
        if cell.cell_type == "code" and cell.source.strip():
            if cell.metadata.get("papermill", {}).get("status") != "completed":
                raise RuntimeError(f"it ended before its cell {number} of {len(executed.cells)}")
            if any(one.output_type == "error" for one in cell.outputs):  # SystemExit among them
                raise RuntimeError(f"it ended in its cell {number} of {len(executed.cells)}")


def _shorten(cell: NotebookNode, most_mb: float) -> None:
    """Put a notice in place of a cell's outputs where they are too large for a page."""
    size = len(json.dumps(cell.get("outputs", [])))
    if size > 1e6 * most_mb:
        why = f"{size / 1e6:,.1f} MB of output, more than the {most_mb:g} of limits.output_mb"
        text = f"This cell shows {why}."
        meta = {"fmreport": {"kind": "notice"}}
        cell.outputs = [new_output("display_data", data={"text/plain": text}, metadata=meta)]


def _start_one_kernel() -> None:
    """Start a kernel, and end it: what starts kernels is set up at first use, which several threads
    must not do together."""
    import papermill

    papermill.execute_notebook(
        new_notebook(metadata={"kernelspec": KERNELSPEC}),
        None,
        kernel_name=KERNEL,
        progress_bar=False,
        extra_arguments=["--log-level=CRITICAL"],
    )


@contextmanager
def _kernel_environment(profile: Profile) -> Iterator[None]:
    """Kernels started in the block run this interpreter and this code.

    Whatever kernelspecs, IPython or matplotlib settings the user has; and they fit nothing.
    """
    with tempfile.TemporaryDirectory(dir=profile.folder, prefix=".kernel-") as scratch:
        folder = Path(scratch)
        spec = folder / "jupyter" / "kernels" / KERNEL
        spec.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        content = {"argv": argv, "display_name": "Python 3", "language": "python"}
        if sys.platform == "linux":  # elsewhere libraries do not survive a fork
            content["metadata"] = {"kernel_provisioner": {"provisioner_name": PROVISIONER}}
        (spec / "kernel.json").write_text(json.dumps(content))
        (folder / "matplotlibrc").touch()
        own = {
            "JUPYTER_PATH": str(folder / "jupyter"),
            "IPYTHONDIR": str(folder / "ipython"),
            "MATPLOTLIBRC": str(folder / "matplotlibrc"),
            "FMLIB_FIT": "never",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


# --- Records from elsewhere -------------------------------------------------------------------


def take_records(profile: Profile, folder: Path) -> tuple[list[str], list[str]]:
    """Copy records that are fresh for the profile's jobs from anywhere below a folder.

    Returns the names of the jobs that got one, and of those that are still stale. Raises DataError
    where there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    profile.folder.mkdir(parents=True, exist_ok=True)
    waiting = {job.key: job for job in fitting.jobs(profile) if fitting.stale(job)}
    taken = []
    for path in sorted(folder.rglob(RESULT_FILE)):
        try:
            job = waiting.get(load(path.parent).key)
        except ResultError:
            continue
        if job is not None:
            with incoming(job.folder) as record:
                shutil.copytree(path.parent, record, dirs_exist_ok=True)
            taken.append(job.name)
            del waiting[job.key]
    return taken, [job.name for job in waiting.values()]


# --- Words for the terminal -------------------------------------------------------------------


def why(error: Exception) -> str:
    """A notebook's failure in a line: of a cell, its number and its error."""
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, DeadKernelError):
        return "the kernel died (killed, or out of memory)"
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, PapermillExecutionError):
        told = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    return textwrap.shorten(told.partition("\n")[0], 300, placeholder=" ...")


def summary(outcome: Outcome) -> str:
    """What the run fitted, kept and told, in a line."""
    counts = {"fitted": len(outcome.fitted), "kept": len(outcome.kept), "told": outcome.told}
    counts["failed"] = len(outcome.failures) + sum(not one.path for one in outcome.chapters)
    words = [f"{count} {what}" for what, count in counts.items() if count or what != "failed"]
    return ", ".join(words)


def _clock(since: float) -> str:
    seconds = int(time.monotonic() - since)
    return f"{seconds // 60}:{seconds % 60:02d}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
