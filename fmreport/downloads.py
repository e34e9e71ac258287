"""What a reader takes away from the page: results, versions, and how to cite the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from html import escape

import pandas as pd

from fmlib.results import Result
from fmreport.compare.significance import wilson
from fmreport.show import data_url

MIME = {"csv": "text/csv", "json": "application/json", "pdf": "application/pdf"}
LABELS = {
    "report.pdf": "the report as PDF",
    "results.csv": "results as CSV",
    "results.json": "results as JSON",
    "versions.txt": "library versions",
    "report.bib": "BibTeX entry",
}
HEAD = """<section class="downloads" aria-labelledby="downloads">
<h2 id="downloads">Downloads
<a class="anchor" href="#downloads" aria-label="Link to section Downloads">#</a></h2>"""
ARRAYS = {"labels", "proba", "validation_labels", "validation_proba", "one_view_proba", "fitted"}


def downloads(results: Iterable[Result], title: str, day: date) -> dict[str, bytes]:
    """Files by name: every fit's results as CSV and JSON, versions of libraries, a BibTeX entry."""
    results = list(results)
    whole = [one.model_dump(mode="json", exclude=ARRAYS) for one in results]
    versions = {
        f"{name}=={version}"
        for one in results
        for name, version in one.environment.versions.items()
    }
    texts = {
        "results.csv": results_csv(results),
        "results.json": json.dumps(whole, separators=(",", ":")),
        "versions.txt": "".join(f"{line}\n" for line in sorted(versions)),
        "report.bib": bibtex(title, day),
    }
    return {name: text.encode() for name, text in texts.items()}


def results_csv(results: Iterable[Result]) -> str:
    """A row a fit: what it is, its scores with the interval of its accuracy, its costs."""
    rows = []
    for one in results:
        values = one.model_dump(mode="json", exclude=ARRAYS)
        plain = {key: value for key, value in values.items() if not isinstance(value, (dict, list))}
        low, high = wilson(one.accuracy * one.test_size, one.test_size)
        machine = one.environment.machine_id
        rows.append({"title": one.title, **plain, "low": low, "high": high, "machine": machine})
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def bibtex(title: str, day: date) -> str:
    """How to cite the report."""
    safe = title.translate({ord(mark): f"\\{mark}" for mark in "{}%&#$_"})
    return (
        f"@misc{{image-classifier-report-{day.year},\n"
        f"  title = {{{{{safe}}}}},\n"
        "  howpublished = {A report made by fashion-mnist-report},\n"
        f"  year = {{{day.year}}},\n"
        f"  month = {day.month},\n"
        f"  note = {{{day.isoformat()}}},\n"
        "}\n"
    )


def links(files: Mapping[str, bytes]) -> str:
    """Links to the files, which they carry themselves, as HTML; "" of none."""
    if not files:
        return ""
    shown = []
    for name, label in LABELS.items():
        if name in files:
            mime = MIME.get(name.rpartition(".")[2], "text/plain")
            address = data_url(files[name], mime)
            shown.append(
                f'<li><a download="{escape(name)}" href="{address}">{label}</a> '
                f"({len(files[name]) / 1000:,.0f} kB)</li>"
            )
    return "\n".join([HEAD, "<ul>", *shown, "</ul>\n</section>"])
