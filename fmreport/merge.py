"""Merge executed notebooks into one document, a pandoc tree, and write it as HTML and PDF.

Each notebook becomes a Div of pieces. A piece is a Div whose class is its kind (prose, figure,
table, code, text, html, notice), whose attributes are what it shows, and whose content is its
Markdown: prose, or a caption. ``templates/report.lua`` numbers the pieces, resolves links between
them and turns them into the markup of either edition.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

import nbformat
import pypandoc
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from fmlib.fitting import fresh_results
from fmlib.project import sha256_of_file
from fmreport import markup
from fmreport.downloads import downloads
from fmreport.runner import Outcome

Paper = Literal["a4", "us-letter"]
PAPERS = get_args(Paper)
FILES, STAMP = ("report.html", "report.pdf"), "report.json"  # what it is made of
SUBTITLE = "Accuracy, time and memory, side by side"
TEMPLATES = Path(__file__).parent / "templates"
# CommonMark as JupyterLab reads it; an image alone in its paragraph is no numbered figure.
MARKDOWN = "commonmark_x-attributes-implicit_figures-emoji-gfm_auto_identifiers"
DROPPED = {"parameters", "injected-parameters", "remove-cell"}
CELLS = ("columns", "numeric", "rows", "best", "sort")  # of a table, in its metadata
IMAGES = ("image/svg+xml", "image/png", "image/jpeg")
NO_ALT = "An image without a description."  # of an image that bypassed show_figure
# code that a report depends on, beside its chapters
RENDERING = [f"{name}.py" for name in ("merge", "html", "pdf", "downloads", "markup")]
TELLING = {"figure", "table", "prose"}  # kinds of output that a reader may want to see the code of
# A footnote's name and text, up to a blank line or the next.
NOTE = re.compile(r"^([ >*+-]*\[\^([^\]\s]+)\]:)(.*?)(?=\n\s*\n|\n[ >*+-]*\[\^|\Z)", re.M | re.S)
# They have no place in a document.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True)
class ReportMetadata:
    """The facts of a report's title block; an empty one is left out.

    ``date`` is ISO, ``2026-01-31``. A report without a title is named after its first heading.
    """

    title: str
    subtitle: str = ""
    date: str = ""
    profile: str = ""
    machine: str = ""
    commit: str = ""
    keywords: tuple[str, ...] = ()

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The facts below the title, as (label, text)."""
        facts = {
            "Date": self.date,
            "Profile": self.profile,
            "Machine": self.machine,
            "Commit": self.commit,
        }
        return [(label, text) for label, text in facts.items() if text]


@dataclass(frozen=True)
class Chapter:
    """One chapter: an executed notebook, or why there is none.

    ``title`` (Markdown) and the first line of ``reason`` stand in place of a missing notebook.
    ``folder`` is where its local pictures lie.
    """

    title: str
    notebook: NotebookNode | None
    reason: str = ""
    folder: Path | None = None


@dataclass(frozen=True)
class Document:
    """A merged report: pandoc's tree, one Div a chapter, and the title block's facts."""

    tree: dict[str, Any]
    metadata: ReportMetadata
    macros: str = ""  # LaTeX that formulas use

    def convert(self, to: str, folder: Path, *options: str, **front: str) -> str:
        """The report in a format of pandoc's: ``html`` or ``typst``.

        ``folder`` receives the images that the markup names, ``options`` are pandoc's own, and
        ``front`` adds to what the page's template or Typst's function ``report`` is given.
        """
        known = {**asdict(self.metadata), "facts": self.metadata.facts, "macros": self.macros}
        known |= front
        meta = {"report": {"t": "MetaString", "c": json.dumps(known, ensure_ascii=False)}}
        return _pandoc(
            json.dumps({**self.tree, "meta": meta}),
            "json",
            to,
            "--wrap=none",
            f"--lua-filter={TEMPLATES / 'report.lua'}",
            *options,
            folder=folder,
        )


@dataclass(frozen=True)
class _Piece:
    """A part of a chapter before its Markdown is parsed."""

    kind: str
    attributes: dict[str, str] = field(default_factory=dict)
    markdown: str = ""


def merge(chapters: Sequence[Chapter], metadata: ReportMetadata) -> Document:
    """One document of all ``chapters``, at least one; their notebooks stay as they are."""
    every = [[_carrying(piece, one.folder) for piece in _pieces(one)] for one in chapters]
    trees = [
        markup.embed_pictures(_tree(one), of.folder)
        for one, of in zip(every, chapters, strict=True)
    ]
    blocks = [_div("chapter", {}, tree["blocks"]) for tree in trees]
    macros = markup.macros_of(piece.markdown for pieces in every for piece in pieces)
    return Document({**trees[0], "blocks": blocks}, metadata, macros)


def document_of(notebook: NotebookNode, resources: Mapping[str, Any]) -> Document:
    """One notebook as a report of its own; nbconvert's ``resources`` tell where it lies."""
    folder = Path(resources.get("metadata", {}).get("path", "."))
    return merge([Chapter("", notebook, folder=folder)], ReportMetadata(""))


def write_report(
    chapters: Sequence[Chapter],
    metadata: ReportMetadata,
    folder: Path,
    paper: Paper = "a4",
    files: Mapping[str, bytes] | None = None,
) -> list[Path]:
    """Write ``report.html`` and ``report.pdf``, never half a file.

    Of what cannot be printed the page alone, and the terminal tells why.

    The page carries the PDF and ``files`` for readers to take away. The ``folder`` is made where it
    is absent. Returns the paths.
    """
    from fmreport.html import page
    from fmreport.pdf import pdf

    document = merge(chapters, metadata)
    contents, carried = {}, dict(files or {})
    try:
        contents["report.pdf"] = carried["report.pdf"] = pdf(document, paper)
    except Exception as error:  # whatever it is, it must not cost the page
        markup.tell(f"there is no PDF, as it could not be made: {_first_line(str(error))}")
    contents["report.html"] = page(document, carried).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as scratch:
        for name, content in contents.items():
            (Path(scratch) / name).write_bytes(content)
        for name in FILES:
            if name in contents:
                os.replace(Path(scratch) / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    return [folder / name for name in FILES if name in contents]


# --- The report of a run ----------------------------------------------------------------------


def write_outcome(
    outcome: Outcome, paper: Paper = "a4", say: Callable[[str], None] = print
) -> list[Path]:
    """Write the report of a run's chapters, unless it is made of just these already.

    Returns the paths of the page and the PDF.
    """
    folder, start = outcome.profile.folder, time.monotonic()
    if is_current(outcome, paper):
        return [folder / name for name in FILES]
    (folder / STAMP).unlink(missing_ok=True)
    chapters = [
        Chapter(
            one.title,
            one.path and nbformat.read(one.path, as_version=4),
            one.reason,
            outcome.profile.project.notebooks,
        )
        for one in outcome.chapters
    ]
    metadata = metadata_of(outcome)
    files = downloads(fresh_results(outcome.profile), metadata.title, date.today())
    paths = write_report(chapters, metadata, folder, paper, files)
    stamp = {"inputs": _stamp(outcome, paper), "files": _files_sha256(folder)}
    (folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    say(f"report written in {time.monotonic() - start:.1f} s")
    return paths


def is_current(outcome: Outcome, paper: Paper | None = None) -> bool:
    """Whether the report on disk is made of just these chapters, for the paper or for any."""
    folder = outcome.profile.folder
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        if stamp["files"] != _files_sha256(folder) or {*stamp["files"]} != {*FILES}:
            return False
    except (OSError, ValueError, KeyError, TypeError):  # absent, cut or edited
        return False
    papers = [paper] if paper else PAPERS
    return stamp["inputs"] in {_stamp(outcome, one) for one in papers}


def _files_sha256(folder: Path) -> dict[str, str]:
    """Hashes of the page and, where there is one, the PDF."""
    there = [folder / name for name in FILES if (folder / name).is_file()]
    return {path.name: sha256_of_file(path) for path in there}


def metadata_of(outcome: Outcome) -> ReportMetadata:
    """The title block: machines and commits as the profile's records have them."""
    found, title = fresh_results(outcome.profile), outcome.profile.data_title
    commits = {f"{result.git_commit:.10}" for result in found if result.git_commit}
    dirty = " with local changes" if any(result.git_dirty for result in found) else ""
    return ReportMetadata(
        title=f"Which image classifier for {title}?",
        subtitle=SUBTITLE,
        date=date.today().isoformat(),
        profile=outcome.profile.name,
        machine="; ".join(sorted({result.environment.machine_id for result in found})),
        commit="; ".join(sorted(commits)) + dirty,
        keywords=("image classification", title, "benchmark"),
    )


def _stamp(outcome: Outcome, paper: Paper) -> str:
    """What a report depends on: its chapters, the code that renders it, the paper."""
    code = [Path(__file__).with_name(name) for name in RENDERING]
    templates = [path for path in sorted(TEMPLATES.rglob("*")) if path.is_file()]
    told = [one.path for one in outcome.chapters if one.path]
    hashes = [sha256_of_file(path) for path in (*code, *templates, *told)]
    missing = [(one.title, one.reason) for one in outcome.chapters if not one.path]
    return json.dumps([paper, outcome.profile.data_title, hashes, missing])


# --- A notebook's pieces ----------------------------------------------------------------------


def _tree(pieces: Sequence[_Piece]) -> dict[str, Any]:
    """A chapter's pieces as pandoc's tree, after one run of pandoc for all their Markdown.

    Each piece is a block quote of its own, out of which no open fence, comment or list can reach.
    """
    texts = _with_own_notes([piece.markdown for piece in pieces])
    source = "\n\n".join("> " + text.replace("\n", "\n> ") for text in texts)
    tree = json.loads(_pandoc(source, MARKDOWN, "json"))
    parsed = zip(pieces, tree["blocks"], strict=True)
    return {**tree, "blocks": [_div(one.kind, one.attributes, quote["c"]) for one, quote in parsed]}


def _with_own_notes(texts: Sequence[str]) -> list[str]:
    """The texts, with no footnote defined twice: a cell's own goes before an earlier cell's."""
    defined: set[str] = set()
    renamed = []
    for i, text in enumerate(texts):
        text = _clean(re.sub(r"\r\n?", "\n", markup.with_formulas(text))).expandtabs(4)
        # A note within a note may lead back to itself, and pandoc would follow it for ever.
        text = NOTE.sub(lambda note: note[1] + note[3].replace("[^", r"\[\^"), text)
        own = {note[2] for note in NOTE.finditer(text)}
        for name in own & defined:
            text = text.replace(f"[^{name}]", f"[^{name}-{i}]")
        defined |= own
        renamed.append(text)
    return renamed


def _pandoc(source: str, of: str, to: str, *options: str, folder: Path | None = None) -> str:
    return pypandoc.convert_text(
        source, to, format=of, extra_args=options, cworkdir=folder, verify_format=False
    )


def _carrying(piece: _Piece, folder: Path | None) -> _Piece:
    """The piece with local pictures of its HTML inside."""
    if piece.kind != "html":
        return piece
    html = markup.with_pictures(piece.attributes["html"], folder)
    return replace(piece, attributes=piece.attributes | {"html": html})


def _div(kind: str, attributes: dict[str, str], blocks: list[Any]) -> dict[str, Any]:
    pairs = [[name, _clean(text)] for name, text in attributes.items()]
    return {"t": "Div", "c": [["", [kind], pairs], blocks]}


def _pieces(chapter: Chapter) -> Iterator[_Piece]:
    if chapter.notebook is None:
        text = f"The chapter “{chapter.title}” is missing from this report: {chapter.reason}"
        yield _Piece("prose", markdown=f"# {chapter.title}")
        yield _notice(_first_line(text))
        return
    for cell in chapter.notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        if tags & DROPPED:
            continue
        if cell.cell_type == "markdown":
            yield _Piece("prose", markdown=_with_attachments(cell))
        elif cell.cell_type == "code":
            yield from _code_cell(cell, tags)


def _with_attachments(cell: NotebookNode) -> str:
    text = cell.source
    for name, bundle in cell.get("attachments", {}).items():
        mime, data = next(iter(bundle.items()))
        text = text.replace(f"attachment:{name}", f"data:{mime};base64,{''.join(data.split())}")
    return text


def _code_cell(cell: NotebookNode, tags: set[str]) -> list[_Piece]:
    """What a code cell shows, and its code: before it or, tagged ``hide-input``, behind it; tagged
    ``remove-input``, without it."""
    behind, logging = bool({"hide-input", "remove-input"} & tags), "training-log" in tags
    # A warning from a cell whose code stays behind means nothing to readers.
    raws = [raw for raw in cell.outputs if logging or not (behind and raw.output_type == "stream")]
    pieces = [piece for raw in raws if (piece := _output(raw, logging))]
    log = "\n".join(piece.attributes["text"] for piece in pieces if piece.kind == "log")
    shown = [piece for piece in pieces if piece.kind != "log"]
    source = "" if "remove-input" in tags else cell.source.strip()
    if behind and not TELLING & {piece.kind for piece in shown}:
        source = ""
    if not source and not log:
        return shown
    opened = "yes" if "key-code" in tags and not behind else "no"
    code = _Piece("code", {"source": source, "log": log, "open": opened})
    return [*shown, code] if behind else [code, *shown]


def _output(raw: NotebookNode, logging: bool) -> _Piece | None:
    """A cell's output, for now of kind ``log`` too; None where there is nothing to see."""
    if raw.output_type == "error":
        return _notice(_first_line(f"This step failed: {raw.ename}: {raw.evalue}"))
    stream = raw.output_type == "stream"
    data = {"text/plain": raw.text} if stream else raw.data
    meta = raw.get("metadata", {}).get("fmreport", {})
    text = markup.last_states(data.get("text/plain", ""))
    if meta.get("kind") in OWN:
        return OWN[meta["kind"]](meta, text)
    if "text/markdown" in data:
        return _Piece("prose", markdown=data["text/markdown"])
    if mime := next((mime for mime in IMAGES if mime in data), None):
        return _figure(mime, data[mime], meta)
    if "text/html" in data:
        return _Piece("html", {"html": data["text/html"], "text": markup.unshown(text) or text})
    if "text/latex" in data:
        return _Piece("prose", markdown=data["text/latex"])
    if why := markup.unshown(text):
        return _notice(why)
    return _Piece("log" if stream or logging else "text", {"text": text}) if text.strip() else None


def _table(meta: dict[str, Any], _text: str) -> _Piece:
    cells = json.dumps({key: meta[key] for key in CELLS}, ensure_ascii=False)
    return _Piece("table", {"name": meta["name"], "cells": cells}, _caption(meta))


def _figure(mime: str, image: str, meta: dict[str, Any]) -> _Piece:
    # As a data address, an SVG's ids can't meet those of another figure.
    encoded = base64.b64encode(image.encode()).decode() if mime == IMAGES[0] else image
    attributes = {
        "name": meta.get("name", ""),
        "alt": meta.get("alt", NO_ALT),
        "width": str(meta.get("width", "")),
        "src": f"data:{mime};base64,{''.join(encoded.split())}",
        "points": json.dumps(meta.get("points", [])),
    }
    if "numbers" in meta:
        table = base64.b64encode(meta["csv"].encode()).decode()
        attributes |= {"cells": json.dumps(meta["numbers"]), "csv": table}
    return _Piece("figure", attributes, _caption(meta) if meta else "")


def _caption(meta: dict[str, Any]) -> str:
    """The caption behind a stand-in for its label: a paragraph, whatever it starts with."""
    return f"`label` {' '.join(meta['caption'].split())}"


def _notice(text: str) -> _Piece:
    return _Piece("notice", {"text": text})


OWN: dict[str, Callable[[dict[str, Any], str], _Piece]] = {  # what fmreport.show made, by its kind
    "table": _table,
    "notice": lambda _meta, text: _notice(text),
    "code": lambda _meta, text: _Piece("code", {"source": text, "log": "", "open": "no"}),
    "explorer": lambda meta, _text: _Piece("explorer", {"data": json.dumps(meta["data"])}),
}


def _clean(text: str) -> str:
    return CONTROLS.sub("", text)


def _first_line(text: str) -> str:
    return strip_ansi(text).strip().partition("\n")[0]
