"""From the outcome of a run to the report's files."""

from __future__ import annotations

import hashlib
import json
import re
import time
from bisect import bisect
from collections.abc import Callable
from datetime import date
from pathlib import Path

import nbformat

from fmlib import results
from fmlib.profiles import jobs
from fmreport import runner
from fmreport.merge import Missing, merge
from fmreport.metadata import PAPERS, Paper, ReportMetadata
from fmreport.render import render
from fmreport.runner import COMPARISON_NOTEBOOK, Failure, Outcome, Task

FILES = ("report.html", "report.pdf")
STAMP = "report.json"  # what the report on disk was made from
TITLE = "Which image classifier for FashionMNIST?"
SUBTITLE = "Accuracy, time and memory, honestly measured"


def write_report(outcome: Outcome, say: Callable[[str], None] = print, paper: Paper = "a4") -> list[Path]:
    """Merge the outcome's notebooks and write report.html and report.pdf, unless they are made of the same already."""
    folder, started = outcome.folder, time.monotonic()
    if is_current(outcome, paper):
        say(f"report: up to date: {folder / FILES[0]}")
        return [folder / name for name in FILES]
    (folder / STAMP).unlink(missing_ok=True)
    notebooks = [nbformat.read(path, as_version=4) for _, path in _shown(outcome)]
    paths = list(render(merge(notebooks, _missing(outcome)), report_metadata(outcome), folder, paper))
    (folder / STAMP).write_text(_stamp(outcome, paper), encoding="utf-8")
    for path in paths:
        say(f"report: {path} ({path.stat().st_size / 2**20:.1f} MB)")
    say(f"report: rendered in {time.monotonic() - started:.1f} s")
    return paths


def is_current(outcome: Outcome, paper: Paper | None = None) -> bool:
    """Whether the report's files are there, made of just these notebooks by just this code, for the paper or for any."""
    stamp = outcome.folder / STAMP
    whole = all((outcome.folder / name).is_file() for name in (*FILES, STAMP))
    return whole and stamp.read_text(encoding="utf-8") in {_stamp(outcome, one) for one in ([paper] if paper else PAPERS)}


def report_metadata(outcome: Outcome) -> ReportMetadata:
    """The title block: machine and commit as the results have them."""
    records = results.load_all(outcome.folder / "results")
    machines = sorted({record.result.environment.machine_id for record in records})
    commits = sorted({_commit(record.result) for record in records})
    return ReportMetadata(
        title=TITLE, subtitle=SUBTITLE, date=date.today().isoformat(), profile=outcome.profile.name,
        machine="; ".join(machines), commit="; ".join(filter(None, commits)),
        keywords=("image classification", "FashionMNIST", "benchmark"),
    )  # fmt: skip


def _commit(result: results.Result) -> str:
    return f"{result.git_commit[:10]}{' with local changes' if result.git_dirty else ''}" if result.git_commit else ""


def _place(task: Task, outcome: Outcome) -> tuple[str, int]:
    """What tasks are sorted by in the report: by notebook, models in the profile's order."""
    return task.notebook, jobs(outcome.profile).index(task.job) if task.job else 0


def _shown(outcome: Outcome) -> list[tuple[Task, Path]]:
    """The executed notebooks in the report's order; of several seeds only the first tells its story."""
    first = min(outcome.profile.seeds)  # as in the comparison
    chosen = [(task, path) for task, path in outcome.executed if task.job is None or task.job.seed == first]
    return sorted(chosen, key=lambda pair: _place(pair[0], outcome))


def _missing(outcome: Outcome) -> list[Missing]:
    """A notice for each failure, in the place of what failed."""
    before = [_place(task, outcome) for task, _ in _shown(outcome)]
    failures = sorted(outcome.failures, key=lambda failure: _place(failure.task, outcome))
    return [_notice(failure, bisect(before, _place(failure.task, outcome)), outcome) for failure in failures]


def _notice(failure: Failure, position: int, outcome: Outcome) -> Missing:
    job, notebook = failure.task.job, failure.task.notebook
    chapter = _title(runner.NOTEBOOKS_DIR / f"{notebook}.py")
    if job is None:
        return Missing("", chapter, notebook, failure.reason, position, summary=notebook == COMPARISON_NOTEBOOK)
    name = job.display_name if job.seed == min(outcome.profile.seeds) else f"{job.display_name} with seed {job.seed}"
    return Missing(job.model, name, notebook, failure.reason, position, chapter)


def _title(source: Path) -> str:
    """The first heading of a notebook's source."""
    found = re.search(r"^# # (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else source.stem


def _stamp(outcome: Outcome, paper: Paper) -> str:
    library = sorted(path for path in Path(__file__).parent.rglob("*") if path.is_file() and path.suffix != ".pyc")
    notebooks = [path for _, path in _shown(outcome)]
    content = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in [*notebooks, *library]}
    return json.dumps({"paper": paper, "files": content, "missing": [vars(one) for one in _missing(outcome)]}, indent=1)
