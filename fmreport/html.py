"""The report as one HTML file, with styles, script, fonts, formulas and pictures inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbconvert.exporters import Exporter
from nbformat import NotebookNode

from fmreport.downloads import links
from fmreport.merge import TEMPLATES, Document, document_of
from fmreport.show import data_url


def page(document: Document, files: Mapping[str, bytes] | None = None) -> str:
    """The page of a merged report, with ``files`` that a reader may take away."""
    parts = (TEMPLATES / "vendor" / "sortable.min.js", TEMPLATES / "script.js")
    script = "\n".join(part.read_text(encoding="utf-8").strip() for part in parts)
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    for font in TEMPLATES.glob("fonts/*.woff2"):
        style = style.replace(f"fonts/{font.name}", data_url(font.read_bytes(), "font/woff2"))
    made = document.convert(
        "html",
        Path(),
        "--mathml",
        f"--template={TEMPLATES / 'page.html'}",
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    link = '<div><dt>Download</dt><dd><a href="#downloads">PDF, data</a></dd></div>'
    made = made.replace("<!--to downloads-->", link if files else "", 1)
    return made.replace("<!--downloads-->", links(files or {}), 1)


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
        return page(document_of(nb, resources)), resources
