"""The report as a tagged PDF (PDF/UA-1), by Typst: without logs, and with key code only."""

from __future__ import annotations

import datetime
import io
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pikepdf
import typst
from nbconvert.exporters import Exporter
from nbformat import NotebookNode
from traitlets import Enum

from fmreport.merge import PAPERS, TEMPLATES, Chapter, Document, Paper, ReportMetadata, merge


def pdf(document: Document, paper: Paper = "a4") -> bytes:
    """The PDF of a merged report; the same report gives the same bytes on any machine."""
    with tempfile.TemporaryDirectory(prefix="fmreport-pdf-") as name:
        folder = Path(name)
        source = document.convert("typst", folder, "--extract-media=.", paper=paper)
        (folder / "main.typ").write_text(source, encoding="utf-8")
        shutil.copy(TEMPLATES / "report.typ", folder)
        date = datetime.datetime.fromisoformat(document.metadata.date or "1970-01-01")
        fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=True)
        compiler = typst.Compiler(folder / "main.typ", root=folder, font_paths=fonts)
        timestamp = date.replace(tzinfo=datetime.UTC)
        try:
            made = compiler.compile(format="pdf", pdf_standards=["ua-1"], timestamp=timestamp)
        except typst.TypstError as error:
            # A character that no font has, say: what can be read is worth more than the standard.
            made = compiler.compile(format="pdf", timestamp=timestamp)
            warnings.warn(f"the PDF does not meet PDF/UA-1: {error}", stacklevel=2)
        return _packed(made)  # type: ignore[arg-type]  # a PDF is one file


def _packed(made: bytes) -> bytes:
    """The same PDF, half as large: what describes its structure is compressed too."""
    packed = io.BytesIO()
    with pikepdf.open(io.BytesIO(made)) as document:
        together = pikepdf.ObjectStreamMode.generate
        document.save(packed, object_stream_mode=together, deterministic_id=True)
    return packed.getvalue()


class PDFReportExporter(Exporter):
    """nbconvert's ``--to fmreport_pdf``: one notebook as a report of its own."""

    export_from_notebook = "As the report shows it (PDF)"
    output_mimetype = "application/pdf"
    file_extension = ".pdf"
    paper = Enum(PAPERS, PAPERS[0], help="The paper's size").tag(config=True)

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: Any = None, **kwargs: Any
    ) -> tuple[bytes, dict[str, Any]]:
        """The PDF and nbconvert's resources."""
        nb, resources = super().from_notebook_node(nb, resources, **kwargs)
        folder = Path(resources.get("metadata", {}).get("path", "."))
        return pdf(
            merge([Chapter("", nb, folder=folder)], ReportMetadata("")), self.paper
        ), resources
