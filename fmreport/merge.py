"""Merge executed notebooks into one: what is in the report, in which order, and how figures and tables are numbered.

HTML and PDF are both made from the merged notebook, so they agree. Every output says in ``metadata.fmlib`` what ``kind`` it
is (figure, table, prose, html, text, log, notice), every code cell how its ``code`` is shown (open, folded, hidden), and every
cell the ``place`` of its headings, which ``templates/prose.lua`` numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import takewhile

from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

DROPPED = {"parameters", "injected-parameters", "remove-cell"}
HEADING = re.compile(r"\s*#{1,6}\s")
NOTE = re.compile(r"\[\^([^\]\s]+)\]")
NOTE_TEXT = re.compile(r"^\[\^([^\]\s]+)\]:.*(?:\n(?!\s*\n|\[\^).+|\n+(?: {4}|\t).*)*\n?", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(#((?:fig|table)-[^)\s]+)\)")
IMAGES = ("image/svg+xml", "image/png", "image/jpeg")
NO_ALT = "An image without a description."  # of an image that bypassed show_figure; the tests refuse it in our notebooks
TELLING = {"figure", "table", "prose"}  # kinds of output that a reader may want to see the code of


@dataclass(frozen=True)
class Missing:
    """A model or, where ``model`` is empty, a chapter that the report should have had.

    ``position`` is the number of notebooks that stand before it; ``chapter`` the title of its chapter, needed where no notebook
    brings it; with ``summary`` the summary is missing too.
    """

    model: str
    display_name: str
    family: str
    reason: str
    position: int
    chapter: str = ""
    summary: bool = False


@dataclass
class _Part:
    """One executed notebook, or the notice of a missing one, on its way into the report."""

    meta: dict
    cells: list[NotebookNode]
    names: dict[str, tuple[str, str]] = field(default_factory=dict)  # figures and tables: name in prose -> (id, label)
    notes: dict[str, str] = field(default_factory=dict)  # footnotes that other cells may refer to: name -> markdown

    @property
    def model(self) -> str:
        return self.meta.get("model") or ""


def merge(notebooks: Sequence[NotebookNode], missing: Sequence[Missing] = ()) -> NotebookNode:
    """One notebook of all ``notebooks``, in their order, with a notice for each of the ``missing``; inputs stay as they are."""
    parts = [_part(nb, str(i)) for i, nb in enumerate(notebooks)]
    entries = [((i, 1), part) for i, part in enumerate(parts)] + [((m.position, 0), _notice(m)) for m in missing]
    placed = _layout([part for _, part in sorted(entries, key=lambda entry: entry[0])])
    summary = [(part, cell) for part, cell in placed if "summary" in cell.metadata.tags]
    if summary and not HEADING.match(next((holder[key] for holder, key in _texts(summary[0][1])), "")):
        summary.insert(0, (summary[0][0], _heading("# Summary")))
    placed = summary + [(part, cell) for part, cell in placed if "summary" not in cell.metadata.tags]
    counts: Counter[str] = Counter()
    for i, (part, cell) in enumerate(placed):
        own = part.model and "once" not in cell.metadata.tags
        cell.metadata.fmlib.place = f"{part.model or '-'} {1 if own else 0} {0 if i < len(summary) else 1} {i}"
        cell.id = f"cell-{i}"  # cells of a notebook that ran for several models have the same
        _number(part, cell, counts)
    everywhere = {name: found for part in reversed(parts) for name, found in part.names.items()}
    everywhere |= {found[0]: found for part in parts for found in part.names.values()}
    for part, cell in placed:
        _link(cell, everywhere | part.names, part.notes)
    return new_notebook(cells=[cell for _, cell in placed], metadata={"fmlib": {"merged": True}})


def fragments(merged: NotebookNode) -> Iterator[tuple[str, str]]:
    """All markdown of a merged notebook in reading order, prose and captions, with the place of its headings."""
    for cell in merged.cells:
        yield from ((holder[key], cell.metadata.fmlib.place) for holder, key in _texts(cell))


def _part(nb: NotebookNode, key: str) -> _Part:
    part = _Part(dict(nb.metadata.get("fmlib", {})), [])
    for cell in deepcopy(nb.cells):
        tags = set(cell.metadata.get("tags", []))
        models = {tag.removeprefix("model-") for tag in tags if tag.startswith("model-")}
        blank = not cell.source.strip() and not cell.get("outputs")
        if not (tags & DROPPED or blank or cell.cell_type == "raw" or (models and part.model not in models)):
            part.cells.append(_cell(cell, tags))
    for i, (holder, name) in enumerate(pair for cell in part.cells for pair in _texts(cell)):
        _name_notes(part, holder, name, key, i)
    return part


def _cell(cell: NotebookNode, tags: set[str]) -> NotebookNode:
    """The cell with attachments inlined, and its outputs in the few kinds that the exporters know."""
    if cell.cell_type == "code":
        quiet, logging = "remove-input" in tags, "training-log" in tags  # a warning from a hidden cell means nothing to readers
        raws = [raw for raw in cell.outputs if logging or not (quiet and raw.output_type == "stream")]
        cell.outputs = [output for raw in raws if (output := _output(raw, logging))]
    shared = {"shared": cell.source} if "once" in tags else {}
    cell.metadata = NotebookNode(tags=sorted(tags), fmlib=NotebookNode(code=_shown(cell, tags), **shared))
    for name, bundle in cell.pop("attachments", {}).items():
        mime, data = next(iter(bundle.items()))
        cell.source = cell.source.replace(f"attachment:{name}", f"data:{mime};base64,{''.join(data.split())}")
    return cell


def _shown(cell: NotebookNode, tags: set[str]) -> str:
    """How the cell's code is shown; of a ``remove-input`` cell only where it has something to show for it."""
    kinds = {output.metadata.fmlib.kind for output in cell.get("outputs", [])}
    if not cell.source.strip() or ("remove-input" in tags and not kinds & TELLING):
        return "hidden"
    return "open" if "key-code" in tags and "remove-input" not in tags else "folded"


def _output(raw: NotebookNode, logging: bool) -> NotebookNode | None:
    if raw.output_type == "error":
        return _made("notice", {"text/plain": _first_line(f"This step failed: {raw.ename}: {raw.evalue}")})
    stream = raw.output_type == "stream"
    data, meta = {"text/plain": raw.text} if stream else raw.data, dict({} if stream else raw.metadata.get("fmlib", {}))
    if meta.get("kind") in ("figure", "table"):
        return _made(meta.pop("kind"), data, **meta)
    if "text/markdown" in data:
        return _made("prose", data)
    if any(mime in data for mime in IMAGES):
        return _made("figure", data, caption="", alt=NO_ALT)
    if "text/html" in data and not re.search(r"<(script|style|link|iframe|img)\b", data["text/html"]):
        return _made("html", data)
    text = strip_ansi(data.get("text/plain", "")).strip("\n")
    return _made("log" if stream or logging else "text", {"text/plain": text}) if text.strip() else None


def _made(kind: str, data: dict, **meta: object) -> NotebookNode:
    return new_output("display_data", data=data, metadata={"fmlib": {"kind": kind, **meta}})


def _texts(cell: NotebookNode) -> Iterator[tuple[NotebookNode, str]]:
    """Where the cell holds markdown, as (holder, key), in reading order."""
    if cell.cell_type == "markdown":
        yield cell, "source"
    for output in cell.get("outputs", []):
        if output.metadata.fmlib.kind == "prose":
            yield output.data, "text/markdown"
        elif output.metadata.fmlib.get("caption"):
            yield output.metadata.fmlib, "caption"


def _name_notes(part: _Part, holder: NotebookNode, name: str, key: str, i: int) -> None:
    """Keep footnotes apart from those of other cells and notebooks.

    A reference to a note whose text stands elsewhere in the notebook brings it along: that cell may be left out.
    """
    own = {match[1]: match[0].strip() for match in NOTE_TEXT.finditer(holder[name])}
    part.notes = {f"{key}-{note}": NOTE.sub(f"[^{key}-{note}]", text, count=1) for note, text in own.items()} | part.notes
    holder[name] = NOTE.sub(lambda match: f"[^{key}-{f'{i}-' if match[1] in own else ''}{match[1]}]", holder[name])


def _notice(item: Missing) -> _Part:
    name = item.display_name if item.model else f"The chapter “{item.display_name}”"
    text = _first_line(f"{name} is missing from this report: {item.reason}")
    cells = [] if item.model else [_heading(f"# {item.display_name}")]
    for tags in [["summary"], []] if item.summary else [[]]:
        meta = NotebookNode(tags=tags, fmlib=NotebookNode(code="hidden"))
        cells.append(new_code_cell("", outputs=[_made("notice", {"text/plain": text})], metadata=meta))
    return _Part({**vars(item), "missing": True}, cells)


def _first_line(text: str) -> str:
    return strip_ansi(text).strip().partition("\n")[0]


def _layout(parts: Sequence[_Part]) -> list[tuple[_Part, NotebookNode]]:
    """All cells, each with the part whose names it uses, under chapter and model headings."""
    first = {part.meta.get("family"): part for part in reversed(parts) if part.model and not part.meta.get("missing")}
    opened, shown, placed = set(), set(), []
    for part in parts:
        family, cells = part.meta.get("family"), part.cells
        source = first.get(family, part)
        if part.model and family not in opened:
            opened.add(family)
            title = part.meta.get("chapter") or re.sub(r"^\d+_", "", str(family)).replace("_", " ").capitalize()
            opening = _opening(source) or [_heading(f"# {title}")]
            shown |= {(family, _shared(cell)) for cell in opening}
            placed += [(source, cell) for cell in opening]
        if part.model:
            placed.append((part, _heading(f"## {part.meta.get('display_name') or part.model}")))
            cells = [cell for cell in cells if not _shared(cell) or (family, _shared(cell)) not in shown]
            shown |= {(family, _shared(cell)) for cell in cells}
        placed += [(part, cell) for cell in cells]
    return placed


def _shared(cell: NotebookNode) -> str | None:
    """What a ``once`` cell said before its footnotes were renamed: the same in every notebook of a family."""
    return cell.metadata.fmlib.get("shared")


def _opening(part: _Part) -> list[NotebookNode]:
    """A family's introduction: the notebook's ``once`` cells before its first prose of its own."""
    before = takewhile(lambda cell: cell.cell_type == "code" or "once" in cell.metadata.tags, part.cells)
    return [cell for cell in before if "once" in cell.metadata.tags]


def _heading(source: str) -> NotebookNode:
    return new_markdown_cell(source, metadata=NotebookNode(tags=["once"], fmlib=NotebookNode(code="hidden")))


def _number(part: _Part, cell: NotebookNode, counts: Counter[str]) -> None:
    """Give the cell's figures and tables ids and labels; a repeated name stays unique by its model, or a count."""
    for meta in (output.metadata.fmlib for output in cell.get("outputs", []) if output.metadata.fmlib.get("name")):
        short = "fig" if meta.kind == "figure" else "table"
        counts[meta.kind] += 1
        wanted = "-".join(filter(None, [short, part.model, meta.name]))
        counts[wanted] += 1
        meta.id = wanted if counts[wanted] == 1 else f"{wanted}--{counts[wanted]}"
        meta.label = f"{meta.kind.capitalize()}\N{NO-BREAK SPACE}{counts[meta.kind]}"
        # One paragraph, whatever the caption starts with.
        start = r"^(\d*)(#|>|[-+*](?=\s)|[.)](?=\s)|:::|~~~|```|<)"
        meta.caption = re.sub(start, r"\1\\\2", " ".join(meta.caption.split()))
        part.names.setdefault(f"{short}-{meta.name}", (meta.id, meta.label))


def _link(cell: NotebookNode, names: dict[str, tuple[str, str]], notes: dict[str, str]) -> None:
    """Make references to figures and tables links with their labels, and bring along the footnotes of other cells."""
    for holder, key in _texts(cell):
        text = LINK.sub(lambda match: "[{1}](#{0})".format(*names[match[2]]) if match[2] in names else match[1], holder[key])
        used = [notes.pop(name) for name in dict.fromkeys(NOTE.findall(text)) if name in notes]
        holder[key] = "\n\n".join([text, *used])
