"""The report as a tagged PDF (PDF/UA-1), by Typst: the reader's edition, without logs and all but the key code."""

from __future__ import annotations

import base64
import datetime
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import typst
from nbformat import NotebookNode
from traitlets import Enum

from fmreport.exporter import TEMPLATES, ReportExporter
from fmreport.metadata import PAPERS

SUFFIXES = {"image/svg+xml": ".svg", "image/png": ".png", "image/jpeg": ".jpg"}


class PDFReportExporter(ReportExporter):
    """nbconvert's ``--to fmlib-pdf``."""

    markup: ClassVar[str] = "typst"
    export_from_notebook = "FashionMNIST report (PDF)"
    output_mimetype = "application/pdf"
    file_extension = ".pdf"
    template_name = "fmlib-typst"
    template_extension = ".typ.j2"
    paper = Enum(PAPERS, PAPERS[0], help="The paper's size").tag(config=True)

    def from_notebook_node(self, nb: NotebookNode, resources: Any = None, **kwargs: Any) -> tuple[bytes, dict[str, Any]]:
        """The PDF and nbconvert's resources."""
        with tempfile.TemporaryDirectory(prefix="fmlib-pdf-") as name:
            folder = Path(name)
            self.register_filter("string", _string)
            self.register_filter("picture", lambda data: _picture(data, folder))
            source, resources = self.fill(nb, {**(resources or {}), "paper": self.paper}, folder)
            shutil.copy(TEMPLATES / "fmlib-typst" / "report.typ", folder)
            # Typst takes absolute paths from its root, and pandoc writes those of the file system.
            (folder / "main.typ").write_text(source.replace(f'"{name}/', '"/'), encoding="utf-8")
            return _compiled(folder / "main.typ", resources["report"].date), resources


def _compiled(path: Path, date: str) -> bytes:
    # The report's own date and fonts, so that the same report gives the same bytes on any machine.
    moment = datetime.datetime.fromisoformat(date or "1970-01-01").replace(tzinfo=datetime.UTC)
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=True)
    return typst.Compiler(path, root=path.parent, font_paths=fonts).compile(
        format="pdf", pdf_standards=["ua-1"], timestamp=moment
    )


def _string(text: str) -> str:
    """A Typst string literal; control characters have no place in a document."""
    return json.dumps(re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", str(text)), ensure_ascii=False)


def _picture(data: dict[str, str], folder: Path) -> str:
    """The path, for Typst, of a figure's image, which is written to ``folder``."""
    mime = next(mime for mime in SUFFIXES if mime in data)
    path = folder / f"figure-{len(list(folder.iterdir()))}{SUFFIXES[mime]}"
    path.write_bytes(data[mime].encode() if mime == "image/svg+xml" else base64.b64decode(data[mime]))
    return f"/{path.name}"
