"""The report as a tagged PDF (PDF/UA-1), by Typst: without logs, and with key code only."""

from __future__ import annotations

import datetime
import io
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pikepdf
import typst
from nbconvert.exporters import Exporter
from nbformat import NotebookNode
from traitlets import Enum

from fmreport import markup
from fmreport.merge import PAPERS, TEMPLATES, Document, Paper, document_of

USUAL = 0x17F  # the last character of Latin's that every font has
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
NO_GLYPH = re.compile(r'the text `"(.+?)"` could not be displayed')


def pdf(document: Document, paper: Paper = "a4") -> bytes:
    """The PDF of a merged report; the same report gives the same bytes on any machine."""
    with tempfile.TemporaryDirectory(prefix="fmreport-pdf-") as name:
        folder = Path(name)
        source = document.convert("typst", folder, "--extract-media=.", paper=paper)
        system = bool(_without_glyphs(source))  # fonts of this machine, where ours do not do
        if unknown := _without_glyphs(source, system):
            markup.tell(
                f"no font of the PDF has {' '.join(unknown)}: {REPLACEMENT} stands for them"
            )
            source = source.translate({ord(one): REPLACEMENT for one in unknown})
        shutil.copy(TEMPLATES / "report.typ", folder)
        date = datetime.datetime.fromisoformat(document.metadata.date or "1970-01-01")
        timestamp = date.replace(tzinfo=datetime.UTC)
        try:
            made = _compiled(source, folder, timestamp, system)
        except typst.TypstError as error:  # what can be read is worth more than the standard
            markup.tell(f"the PDF does not meet PDF/UA-1: {error}")
            made = _compiled(source, folder, timestamp, system, standards=())
        return _packed(made)


def _compiled(
    source: str,
    folder: Path,
    timestamp: datetime.datetime | None = None,
    system: bool = False,
    standards: Sequence[str] = ("ua-1",),
) -> bytes:
    """The PDF of a source of Typst's that finds what it names in ``folder``."""
    (folder / "main.typ").write_text(source, encoding="utf-8")
    fonts = typst.Fonts(include_system_fonts=system, include_embedded_fonts=True)
    compiler = typst.Compiler(folder / "main.typ", root=folder, font_paths=fonts)
    made = compiler.compile(format="pdf", pdf_standards=[*standards], timestamp=timestamp)
    return made  # type: ignore[return-value]  # a PDF is one file


def _without_glyphs(source: str, system: bool = False) -> list[str]:
    """The characters of a source for which no font has a glyph, of the system's neither where these
    are asked; as Typst itself tells of a page of all that are unusual."""
    unusual = {one for one in source if ord(one) > USUAL and one.isprintable()}
    unknown: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="fmreport-glyphs-") as name:
        while left := sorted(unusual - unknown):
            lines = "".join(f"#{json.dumps(one, ensure_ascii=False)}\n\n" for one in left)
            try:
                _compiled(f'#set document(title: "Glyphs")\n{lines}', Path(name), system=system)
                break
            except typst.TypstError as error:
                found = {*"".join(NO_GLYPH.findall(str(error)))} & {*left}
                if not found:
                    break
                unknown |= found
    return sorted(unknown)


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
        return pdf(document_of(nb, resources), self.paper), resources
