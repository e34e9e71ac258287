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

STAMP = "report.json"  # what the report on disk was made from
TITLE = "Which image classifier for FashionMNIST?"
SUBTITLE = "Accuracy, time and memory, honestly measured"


def write_report(outcome: Outcome, say: Callable[[str], None] = print) -> list[Path]:
    """Merge the outcome's notebooks and write report.html and report.pdf, unless they are made of the same already."""
    folder, paths = outcome.folder, [outcome.folder / "report.html", outcome.folder / "report.pdf"]
    notebooks = _in_report_order(outcome)
    missing = [
        Missing(job.model, job.display_name, job.notebook, failure.reason)
        for failure in outcome.failures if (job := failure.task.job)
    ]  # fmt: skip
    stamp = _stamp(notebooks, missing)
    if all(path.is_file() for path in paths) and (folder / STAMP).is_file() and stamp == (folder / STAMP).read_text():
        say(f"report: up to date: {paths[0]}")
        return paths
    (folder / STAMP).unlink(missing_ok=True)
    merged = merge([nbformat.read(path, as_version=4) for path in notebooks], missing)
    paths = list(render(merged, report_metadata(outcome), folder))
    (folder / STAMP).write_text(stamp)
    for path in paths:
        say(f"report: {path} ({path.stat().st_size / 2**20:.1f} MB)")
    return paths


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


def _stamp(notebooks: list[Path], missing: list[Missing]) -> str:
    library = sorted(path for path in Path(__file__).parent.rglob("*") if path.is_file() and path.suffix != ".pyc")
    content = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in [*notebooks, *library]}
    return json.dumps({"files": content, "missing": [vars(one) for one in missing]}, indent=1, sort_keys=True)
