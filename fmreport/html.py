"""The report as one HTML file, with styles, script, fonts, formulas and pictures inside."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from nbconvert.exporters import Exporter
from nbformat import NotebookNode

from fmreport.merge import TEMPLATES, Chapter, Document, ReportMetadata, merge


def page(document: Document) -> str:
    """The page of a merged report."""
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8").strip()
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    for font in TEMPLATES.glob("fonts/*.woff2"):
        address = f"data:font/woff2;base64,{_base64(font.read_bytes())}"
        style = style.replace(f"fonts/{font.name}", address)
    return document.convert(
        "html",
        Path(),
        "--mathml",
        f"--template={TEMPLATES / 'page.html'}",
        style=style,
        script=script,
        script_hash=_base64(hashlib.sha256(script.encode()).digest()),
    )


class HTMLReportExporter(Exporter):
    """nbconvert's ``--to fmreport_html``: one notebook as a report of its own."""

    export_from_notebook = "As the report shows it (HTML)"
    output_mimetype = "text/html"
    file_extension = ".html"

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: Any = None, **kwargs: Any
    ) -> tuple[str, dict[str, Any]]:
        """The page and nbconvert's resources."""
        nb, resources = super().from_notebook_node(nb, resources, **kwargs)
        return page(merge([Chapter("", nb)], ReportMetadata(""))), resources


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
