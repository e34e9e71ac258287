"""Put a finished report into ``docs/`` and refresh the README's tables and picture."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from fmlib import results
from fmlib.data import PROJECT_ROOT
from fmlib.profiles import Profile
from fmreport.build import is_current
from fmreport.compare.table import by_machine, kind_of_memory, overview, representatives
from fmreport.runner import BUILD_DIR, current_outcome

DOCS = PROJECT_ROOT / "docs"
README = PROJECT_ROOT / "README.md"
PAGE_LIMIT_MB = 8  # a page that a phone opens without complaint


class NotPublishable(RuntimeError):
    """A report that is unfinished, stale, too large, of the sample, or not of a clean commit; the message says which."""


def publish(profile: Profile, build_dir: Path = BUILD_DIR, docs: Path = DOCS, readme: Path = README) -> Path:
    """Copy the profile's report and results into ``docs`` (``docs/gpu`` for the gpu profile); returns that folder."""
    folder = build_dir / profile.name
    records = _publishable(profile, build_dir)
    target = docs if profile.name == "cpu" else docs / profile.name
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "report.html", target / "index.html")
    shutil.copyfile(folder / "report.pdf", target / "report.pdf")
    shutil.rmtree(target / "results", ignore_errors=True)
    shutil.copytree(folder / "results", target / "results")
    if profile.name == "cpu":
        _picture(folder / "report.html", docs / "report.png")
        refresh_readme(readme, records, "results")
        _refresh(readme, "picture", "[![The report's first page](docs/report.png)](docs/index.html)")
    elif profile.name == "gpu":
        refresh_readme(readme, records, "gpu results")
    return target


def _publishable(profile: Profile, build_dir: Path) -> list[results.Record]:
    """The records of a report that may be published; raises NotPublishable otherwise."""
    if profile.dataset != "full":
        raise NotPublishable(f"profile {profile.name} runs on the sample; its numbers mean nothing")
    outcome = current_outcome(profile, build_dir)
    stale = [failure.task.name for failure in outcome.failures]
    if stale or not is_current(outcome):
        names = ", ".join(stale) or "the report"
        raise NotPublishable(f"unfinished or stale: {names}; run `make report PROFILE={profile.name}`")
    size = (outcome.folder / "report.html").stat().st_size / 1e6
    if size > PAGE_LIMIT_MB:
        raise NotPublishable(f"report.html has {size:.1f} MB; wanted at most {PAGE_LIMIT_MB} MB")
    records = results.load_all(outcome.folder / "results")
    dirty = [record.result.model for record in records if record.result.git_dirty is not False]
    if dirty:
        raise NotPublishable(f"measured with uncommitted changes or outside git: {', '.join(dirty)}")
    return records


def refresh_readme(readme: Path, records: list[results.Record], marker: str) -> None:
    """Write the table of these results between the README's markers of that name."""
    local, left_out = by_machine(overview(representatives(records)))
    count, machine = f"{records[0].result.test_size:,}", local["machine"].iloc[0]
    caption = f"Accuracy on {count} test images with its 95 % interval, on {machine}."
    memory = f"Memory{kind} is what training needs." if (kind := kind_of_memory(local)) else ""
    caption = " ".join(filter(None, (caption, memory, left_out)))
    _refresh(readme, marker, f"{_markdown(results_table(records))}\n\n{caption}")


def results_table(records: list[results.Record]) -> pd.DataFrame:
    """One row a model, best accuracy first, as text for the README; costs are those of one machine only."""
    table, size = overview(representatives(records)), records[0].result.test_size
    here = table.index.isin(by_machine(table)[0].index)
    costs = {"training (s)": ("train_seconds", ".0f"), "whole fit (s)": ("fit_wall_seconds", ".0f"),
             f"predicting {size:,} (s)": ("predict_seconds", ".2f"), "memory (MiB)": ("memory_mb", ".0f")}
    return pd.DataFrame({
        "model": table.index,
        "accuracy": [f"{row.accuracy:.4f} ({row.low:.4f} to {row.high:.4f})" for row in table.itertuples()],
        **{name: table[column].map(f"{{:{form}}}".format).where(here, "").to_numpy() for name, (column, form) in costs.items()},
    })  # fmt: skip


def _markdown(table: pd.DataFrame) -> str:
    rule = ["---", *["---:"] * (table.shape[1] - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(table.columns), rule, *table.to_numpy().tolist()])


def _refresh(readme: Path, marker: str, content: str) -> None:
    text = readme.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    if not pattern.search(text):
        raise NotPublishable(f"the README has no markers <!-- {marker} --> ... <!-- /{marker} -->")
    readme.write_text(pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text), encoding="utf-8")


def _picture(page: Path, target: Path) -> None:
    """A screenshot of the page's beginning; without a browser the old picture stays."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium here: the README's picture stays as it is", file=sys.stderr)
        return
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,1000"]
    subprocess.run([browser, *options, f"--screenshot={target}", page.resolve().as_uri()], check=True, capture_output=True)
