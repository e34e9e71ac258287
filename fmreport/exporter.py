"""What the HTML and the PDF exporter share: pandoc for the prose, and a template of ours for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from nbconvert.exporters import TemplateExporter
from nbformat import NotebookNode, from_dict

from fmreport.merge import fragments, merge
from fmreport.metadata import ReportMetadata

TEMPLATES = Path(__file__).parent / "templates"
# CommonMark as JupyterLab reads it; an image alone in its paragraph is no numbered figure.
MARKDOWN = "commonmark_x-implicit_figures-emoji-gfm_auto_identifiers"
MARK = "~~fmlib-fragment~~"  # what prose.lua prints at the start of each fragment
OPENING = re.compile(r"^\s*(<|```|~~~|:::)", re.MULTILINE)  # of blocks that may swallow what follows


class ReportExporter(TemplateExporter):
    """Base of the two; a notebook that is no merged one is merged alone."""

    markup: ClassVar[str]  # what prose is converted to

    def _extra_template_basedirs_default(self) -> list[str]:
        return [str(TEMPLATES)]

    def fill(self, nb: NotebookNode, resources: dict[str, Any] | None, media: Path) -> tuple[str, dict[str, Any]]:
        """The template filled with the report. Images in the PDF's prose are written to the folder ``media``."""
        resources = self._init_resources(resources)
        merged = nb if nb.metadata.get("fmlib", {}).get("merged") else merge([nb])
        prose_cells = (cell.source for cell in merged.cells if cell.cell_type == "markdown")
        title = re.search(r"^# +(.+)", "\n".join(prose_cells), re.MULTILINE)
        name = title[1] if title else resources["metadata"].get("name") or "Report"
        resources["report"] = ReportMetadata(**(merged.metadata.fmlib.get("report") or {"title": name}))
        prose, end = convert(fragments(merged), self.markup, media)
        resources["contents"], section, notes = end.partition('<section id="footnotes"')
        resources["notes"] = section + notes
        self.register_filter("prose", lambda text, cell: prose[text, cell.metadata.fmlib.place])
        self.register_filter("unwrap", lambda markup: re.sub(r"^<p>(.*)</p>$", r"\1", markup))
        return TemplateExporter.from_notebook_node(self, merged, resources)


def with_metadata(merged: NotebookNode, metadata: ReportMetadata) -> NotebookNode:
    """The merged notebook with its title page's facts, for an exporter."""
    return from_dict({**merged, "metadata": {"fmlib": {**merged.metadata.fmlib, "report": asdict(metadata)}}})


def convert(texts: Iterable[tuple[str, str]], to: str, media: Path) -> tuple[dict[tuple[str, str], str], str]:
    """Markdown texts with the places of their headings to ``html`` or ``typst``, and what follows them all.

    One run of pandoc for all, so that sections and footnotes number through. What follows is HTML's contents and footnotes.
    """
    unique, after = list(dict.fromkeys(texts)), to == "html"
    pieces = _pandoc(unique, to, media)
    if len(pieces) != len(unique) + after:  # some text leaves a comment or a fence open, and swallows the next
        ends = [not OPENING.search(one[0]) or len(_pandoc([one, ("", one[1])], to, media)) == 2 + after for one in unique]
        safe = [(text if ended else f"``````\n{text}\n``````", at) for (text, at), ended in zip(unique, ends, strict=True)]
        pieces = _pandoc(safe, to, media)
    end = pieces.pop() if after and pieces else ""
    return {one: piece.strip() for one, piece in zip(unique, pieces, strict=True)}, end


def _pandoc(texts: list[tuple[str, str]], to: str, media: Path) -> list[str]:
    import pypandoc

    options = ["--wrap=none", "--mathml", "--syntax-highlighting=none", f"--lua-filter={TEMPLATES / 'prose.lua'}"]
    options += [f"--extract-media={media}"] if to == "typst" else []
    source = "".join(f"\n\n`````{{=mark}}\n{place}\n`````\n\n{text}" for text, place in texts)
    return pypandoc.convert_text(source, to, format=MARKDOWN, extra_args=options).split(MARK)[1:]
