"""The rendered report: what notebooks show, how they are merged, and the HTML page and PDF made of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fmreport.merge import Missing, merge
from fmreport.metadata import Paper, ReportMetadata
from fmreport.show import show_figure, show_table

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Missing", "ReportMetadata", "merge", "render", "show_figure", "show_table"]


def render(merged: NotebookNode, metadata: ReportMetadata, folder: Path, paper: Paper = "a4") -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.pdf`` into ``folder``, made where absent; both or none, never half a file."""
    from fmreport.exporter import with_metadata
    from fmreport.html import HTMLReportExporter
    from fmreport.pdf import PDFReportExporter

    merged = with_metadata(merged, metadata)
    page, _ = HTMLReportExporter().from_notebook_node(merged)
    pdf, _ = PDFReportExporter(paper=paper).from_notebook_node(merged)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "report.html", folder / "report.pdf"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as scratch:
        for path, content in zip(paths, (page.encode(), pdf), strict=True):
            (Path(scratch) / path.name).write_bytes(content)
        for path in paths:
            os.replace(Path(scratch) / path.name, path)
    return paths
