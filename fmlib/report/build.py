"""From the outcome of a run to the report's files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import nbformat

from fmlib import results
from fmlib.report import Missing, ReportMetadata, merge, render
from fmlib.runner import Outcome

FILES = ("report.html", "report.pdf")
STAMP = "report.json"  # what the report on disk was made from
TITLE = "Which image classifier for FashionMNIST?"
SUBTITLE = "Accuracy, time and memory, honestly measured"


def write_report(outcome: Outcome, say: Callable[[str], None] = print) -> list[Path]:
    """Merge the outcome's notebooks and write report.html and report.pdf, unless they are made of the same already."""
    folder = outcome.folder
    if is_current(outcome):
        say(f"report: up to date: {folder / FILES[0]}")
        return [folder / name for name in FILES]
    (folder / STAMP).unlink(missing_ok=True)
    notebooks = [nbformat.read(path, as_version=4) for path in _in_report_order(outcome)]
    paths = list(render(merge(notebooks, _missing(outcome)), report_metadata(outcome), folder))
    (folder / STAMP).write_text(_stamp(outcome))
    for path in paths:
        say(f"report: {path} ({path.stat().st_size / 2**20:.1f} MB)")
    return paths


def is_current(outcome: Outcome) -> bool:
    """Whether the report's files are there, made of just these notebooks by just this code."""
    stamp = outcome.folder / STAMP
    whole = all((outcome.folder / name).is_file() for name in (*FILES, STAMP))
    return whole and stamp.read_text() == _stamp(outcome)


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


def _in_report_order(outcome: Outcome) -> list[Path]:
    """By notebook, models in the profile's order; of several seeds only the first tells its story."""
    first = outcome.profile.seeds[0]
    chosen = [(task.notebook, path) for task, path in outcome.executed if task.job is None or task.job.seed == first]
    return [path for _, path in sorted(chosen, key=lambda pair: pair[0])]


def _missing(outcome: Outcome) -> list[Missing]:
    return [
        Missing(job.model, job.display_name, job.notebook, failure.reason)
        for failure in outcome.failures if (job := failure.task.job)
    ]  # fmt: skip


def _stamp(outcome: Outcome) -> str:
    library = sorted(path for path in Path(__file__).parent.rglob("*") if path.is_file() and path.suffix != ".pyc")
    content = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in [*_in_report_order(outcome), *library]}
    return json.dumps({"files": content, "missing": [vars(one) for one in _missing(outcome)]}, indent=1)
