"""Put a finished report into ``docs/`` and refresh the README's tables and chart."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pandas as pd

from fmlib import fitting
from fmlib.profiles import Profile
from fmlib.results import FROM_SCRATCH, MANIFEST_FILE, PREDICTIONS_FILE, RESULT_FILE, Result
from fmlib.sources import SAMPLE
from fmreport.compare.audit import FACTS, STUDY
from fmreport.compare.table import by_machine, by_model, overview
from fmreport.compare.verdict import left_out
from fmreport.merge import is_current
from fmreport.runner import standing
from fmreport.text import kind_of_memory, literal, words

PAGE_LIMIT_MB = 8  # a page that a phone opens without complaint
COSTS = {
    "training (s)": ("train_seconds", ".0f"),
    "whole fit (s)": ("fit_wall_seconds", ".0f"),
    "one image (ms)": ("latency_ms", ".2f"),
    "all images (s)": ("predict_seconds", ".2f"),
    "memory (MiB)": ("memory_mb", ".0f"),
}
CHART, SVG = "answer.svg", "image/svg+xml"


class NotPublishable(RuntimeError):
    """A report that is unfinished, stale, too large, of the sample, or not of a clean commit."""


def publish(profile: Profile) -> Path:
    """Copy the profile's report and records, without the fitted models, into ``docs``.

    Of a profile other than cpu, into a folder of its own there. Returns the folder.
    """
    found = publishable(profile)
    readme = profile.project.root / "README.md"
    advice, chart, alt = answer(profile)
    picture = f"[![{alt}](docs/{CHART})](docs/report.pdf)"
    sections = {
        "cpu": {
            "advice": advice,
            "results": results_section(found, profile.is_fashion),
            "picture": picture,
        },
        "gpu": {"gpu results": results_section(found, profile.is_fashion)},
    }
    text = readme.read_text(encoding="utf-8")
    for marker, content in sections.get(profile.name, {}).items():
        text = refreshed(text, marker, content)  # is refused before anything is copied
    target = profile.project.published(profile.name)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(profile.folder / "report.html", target / "index.html")
    shutil.copyfile(profile.folder / "report.pdf", target / "report.pdf")
    shutil.rmtree(target / "results", ignore_errors=True)
    for job in fitting.known_jobs(profile):
        record = target / "results" / job.folder.relative_to(profile.results)
        record.mkdir(parents=True)
        for name in (RESULT_FILE, PREDICTIONS_FILE, MANIFEST_FILE):
            shutil.copyfile(job.folder / name, record / name)
    note_publication(profile, found)
    (target / CHART).write_text(chart, encoding="utf-8")
    readme.write_text(text, encoding="utf-8")
    return target


def note_publication(profile: Profile, found: list[Result]) -> None:
    """Add the accuracies to the table of all that were published, unless the last are the same."""
    path = profile.project.publications
    columns = ["publication", "date", "profile", "model", "seed", "accuracy"]
    before = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=columns)
    own = before[before["profile"] == profile.name]
    number = int(own["publication"].max()) if len(own) else 0
    rows = [(one.model, one.seed, round(one.accuracy, 6)) for one in found]
    last = own.loc[own["publication"] == number, columns[3:]]
    if {*last.itertuples(index=False, name=None)} == {*rows}:
        return
    head = (number + 1, datetime.now(UTC).date().isoformat(), profile.name)
    added = pd.DataFrame([(*head, *row) for row in rows], columns=columns)
    pd.concat([before, added]).to_csv(path, index=False, lineterminator="\n")


def publishable(profile: Profile) -> list[Result]:
    """The records of a report that may be published; raises NotPublishable otherwise."""
    if profile.dataset == SAMPLE:
        raise NotPublishable(f"profile {profile.name} runs on the sample; its numbers mean nothing")
    known = {job.name: fitting.fresh(job) for job in fitting.known_jobs(profile)}
    stale = [name for name, record in known.items() if not record]
    if stale or not is_current(standing(profile)):
        names = ", ".join(stale) or "the report"
        again = f"run `{profile.command}`"
        raise NotPublishable(f"unfinished or stale: {names}; {again}")
    size = (profile.folder / "report.html").stat().st_size / 1e6
    if size > PAGE_LIMIT_MB:
        raise NotPublishable(f"report.html has {size:.1f} MB; wanted at most {PAGE_LIMIT_MB} MB")
    found = [record for record in known.values() if record]
    dirty = [result.model for result in found if result.git_dirty is not False]
    if dirty:
        names = ", ".join(dirty)
        raise NotPublishable(f"measured with uncommitted changes or outside git: {names}")
    return found


def results_section(found: list[Result], is_fashion: bool) -> str:
    """The table of these results for the README, and what it says below it.

    The original study's results stand beside those of its own data, FashionMNIST.
    """
    local, elsewhere = by_machine(overview(by_model(found)))
    count, machine = f"{found[0].test_size:,}", local["machine"].iloc[0]
    told = [f"Accuracy on {count} test images with its 95 % interval, on {machine}."]
    if kind := kind_of_memory(bool(local["vram_mb"].any())):
        told.append(f"Memory{kind} is what training needs.")
    if away := left_out(local, elsewhere):
        told.append(words(away))
    table = results_table(found)
    if is_fashion:
        table.insert(2, "the original study", _study_of(table["model"]))
        told.append(f"The study's training was timed on {FACTS['machine']}.")
        if any(table["model"].str.endswith(FROM_SCRATCH) & table["the original study"].ne("")):
            told.append(f"What is{FROM_SCRATCH} here began with ImageNet weights there.")
    return f"{_markdown(table)}\n\n{' '.join(told)}"


def _study_of(models: pd.Series) -> list[str]:
    """What the original study had for each of these models: accuracy and seconds of training."""
    told: dict[str, list[str]] = {}
    for name, row in STUDY.iterrows():
        other_name = "" if name == row["model"] else f" as {name}"
        words = f"{row['accuracy']:.2f} in {row['train_seconds']:,.0f} s{other_name}"
        told.setdefault(row["model"], []).append(words)
    return ["; ".join(told.get(name.removesuffix(FROM_SCRATCH), [])) for name in models]


def results_table(found: list[Result]) -> pd.DataFrame:
    """A row a model, best accuracy first, as text; costs are those of one machine only."""
    table = overview(by_model(found))
    here = table.index.isin(by_machine(table)[0].index)
    accuracy = [
        f"{row.accuracy:.4f} ({row.low:.4f} to {row.high:.4f})" for row in table.itertuples()
    ]
    shown = {"model": table.index.map(literal), "accuracy": accuracy}
    for name, (column, form) in COSTS.items():
        texts = table[column].map(f"{{:{form}}}".format)
        shown[name] = texts.where(here, "").to_numpy()
    return pd.DataFrame(shown)


def _markdown(table: pd.DataFrame) -> str:
    rule = ["---", *["---:"] * (table.shape[1] - 1)]
    rows = [list(table.columns), rule, *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def refreshed(readme: str, marker: str, content: str) -> str:
    """The README with ``content`` between its markers of that name."""
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    if not pattern.search(readme):
        wanted = f"<!-- {marker} --> ... <!-- /{marker} -->"
        raise NotPublishable(f"the README has no markers {wanted}")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", readme)


def answer(profile: Profile) -> tuple[str, str, str]:
    """The report's first screen: its advice, and its chart as SVG with what that says.

    Raises NotPublishable where it has none.
    """
    advice = ""
    for path in sorted((profile.folder / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                advice = advice or data.get("text/markdown", "")
                meta = output.get("metadata", {}).get("fmreport", {})
                if meta.get("name") == "answer" and SVG in data:
                    return advice, data[SVG], literal(meta["alt"])
    raise NotPublishable("the report has no chart of the answer")
