"""Merge executed notebooks into one notebook: what is in the report, in which order, under which numbers and links.

HTML and PDF are both made from the merged notebook, so they agree. Every output of it says in ``metadata.fmlib`` what
``kind`` it is (figure, table, prose, html, text, log, notice), every code cell how its code is shown (``code``: open,
folded, hidden), and the notebook's ``metadata.fmlib`` lists the contents.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

DROPPED = {"parameters", "injected-parameters", "remove-cell"}
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
NOTE = re.compile(r"\[\^([^\]\s]+)\]")
NOTE_TEXT = re.compile(r"^\[\^([^\]\s]+)\]:.*(?:\n+(?: {4}|\t).*)*\n?", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(#([^)\s]+)\)")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
IMAGES = ("image/svg+xml", "image/png", "image/jpeg")
UNDESCRIBED = "An image without a description."


@dataclass(frozen=True)
class Missing:
    """A model that the report should have had; ``position`` is the number of notebooks that stand before it, if known."""

    model: str
    display_name: str
    family: str
    reason: str
    position: int | None = None


@dataclass
class _Part:
    """One executed notebook on its way into the report; ``prefix`` keeps its names apart from those of other notebooks."""

    meta: dict
    cells: list[NotebookNode]
    prefix: str = ""
    title: str = ""
    names: dict[str, tuple[str, str]] = field(default_factory=dict)  # name in prose -> (id, label)
    notes: dict[str, str] = field(default_factory=dict)  # footnote's name -> its markdown


def merge(notebooks: Sequence[NotebookNode], missing: Sequence[Missing] = ()) -> NotebookNode:
    """One notebook of all ``notebooks``, in their order, with a notice for each of the ``missing``; inputs stay as they are."""
    parts = _parts(notebooks)
    entries = [((i, 1), part) for i, part in enumerate(parts)] + [((_position(m, parts), 0), m) for m in missing]
    summary, body = _layout([entry for _, entry in sorted(entries, key=lambda pair: pair[0])])
    numbering = _Numbering()
    for part, cell in summary:
        numbering.add(part, cell, numbered=False)
    for part, cell in body:
        numbering.add(part, cell, numbered=True)
    names = {name: found for part in reversed(parts) for name, found in part.names.items()}
    names |= {_slug(found[0]): found for part in parts for found in part.names.values()}
    for part, cell in summary + body:
        _link(cell, names | part.names, part.notes)
    cells = [cell for _, cell in summary + body]
    return new_notebook(cells=cells, metadata={"fmlib": {"merged": True, "contents": numbering.contents}})


def fragments(merged: NotebookNode) -> Iterator[str]:
    """All markdown of a merged notebook in reading order: prose, captions, the contents' titles."""
    for _, holder, key in chain.from_iterable(_texts(cell) for cell in merged.cells):
        yield holder[key]
    yield from (entry["title"] for entry in merged.metadata.fmlib.contents)


def _parts(notebooks: Sequence[NotebookNode]) -> list[_Part]:
    metas = [dict(nb.metadata.get("fmlib", {})) for nb in notebooks]
    runs = Counter(meta.get("model") for meta in metas)
    parts = []
    for i, (nb, meta) in enumerate(zip(notebooks, metas, strict=True)):
        model, seed = meta.get("model"), meta.get("seed")
        part = _Part(meta, [_cell(cell) for cell in deepcopy(nb.cells) if _kept(cell, model)])
        if model:
            part.prefix = f"{model}-{seed}" if runs[model] > 1 else model
            part.title = meta.get("display_name") or model
            part.title += f" (seed {seed})" if runs[model] > 1 else ""
        _take_notes(part, str(i))
        parts.append(part)
    return parts


def _kept(cell: NotebookNode, model: str | None) -> bool:
    tags = set(cell.metadata.get("tags", []))
    models = {tag.removeprefix("model-") for tag in tags if tag.startswith("model-")}
    blank = not cell.source.strip() and not cell.get("outputs")
    return not (tags & DROPPED or blank or cell.cell_type == "raw" or (models and model not in models))


def _cell(cell: NotebookNode) -> NotebookNode:
    """The cell with attachments inlined, and its outputs in the few kinds that the exporters know."""
    tags = set(cell.metadata.get("tags", []))
    shown = "hidden" if "remove-input" in tags or not cell.source.strip() else "open" if "key-code" in tags else "folded"
    cell.metadata = NotebookNode(tags=sorted(tags), fmlib=NotebookNode(code=shown))
    if cell.cell_type == "code":
        cell.outputs = [output for output in (_output(raw, "training-log" in tags) for raw in cell.outputs) if output]
    for name, bundle in cell.pop("attachments", {}).items():
        mime, data = next(iter(bundle.items()))
        cell.source = cell.source.replace(f"attachment:{name}", f"data:{mime};base64,{''.join(data.split())}")
    return cell


def _output(raw: NotebookNode, logging: bool) -> NotebookNode | None:
    if raw.output_type == "error":
        message = ANSI.sub("", raw.evalue).strip().partition("\n")[0][:200]
        return _made("notice", {"text/plain": f"This step failed: {raw.ename}{': ' if message else ''}{message}"})
    if raw.output_type == "stream":
        text = ANSI.sub("", raw.text).strip("\n")
        return _made("log" if logging or raw.name == "stderr" else "text", {"text/plain": text}) if text else None
    data, meta = raw.data, dict(raw.metadata.get("fmlib", {}))
    if meta.get("kind") in ("figure", "table"):
        return _made(meta.pop("kind"), data, **meta)
    if "text/markdown" in data:
        return _made("prose", {"text/markdown": data["text/markdown"]})
    if any(mime in data for mime in IMAGES):
        return _made("figure", data, caption="", alt=UNDESCRIBED, name="")
    if "text/html" in data and not re.search(r"<(script|style|link|iframe|img)\b", data["text/html"]):
        return _made("html", data)
    text = ANSI.sub("", data.get("text/plain", ""))
    return _made("log" if logging else "text", {"text/plain": text}) if text.strip() else None


def _made(kind: str, data: dict, **meta: object) -> NotebookNode:
    return new_output("display_data", data=data, metadata={"fmlib": {"kind": kind, **meta}})


def _texts(cell: NotebookNode) -> Iterator[tuple[str, NotebookNode, str]]:
    """Where the cell holds markdown, as (kind, holder, key) in reading order."""
    if cell.cell_type == "markdown":
        yield "prose", cell, "source"
    for output in cell.get("outputs", []):
        meta = output.metadata.fmlib
        if meta.kind == "prose":
            yield "prose", output.data, "text/markdown"
        elif meta.kind in ("figure", "table") and meta.caption:
            yield "caption", meta, "caption"


def _take_notes(part: _Part, key: str) -> None:
    """Keep footnotes apart from other cells' and notebooks'; one whose text stands elsewhere in the notebook brings it along.

    That text may stand in a cell that the report leaves out.
    """
    for i, (_, holder, name) in enumerate(chain.from_iterable(_texts(cell) for cell in part.cells)):
        own = {match[1]: match[0].replace(f"[^{match[1]}]", f"[^{key}-{match[1]}]", 1) for match in NOTE_TEXT.finditer(holder[name])}
        part.notes = {f"{key}-{note}": text for note, text in own.items()} | part.notes
        holder[name] = NOTE.sub(lambda m: f"[^{key}-{i}-{m[1]}]" if m[1] in own else f"[^{key}-{m[1]}]", holder[name])  # noqa: B023


def _position(item: Missing, parts: list[_Part]) -> int:
    """Before which notebook a missing model's notice stands: after its family, or before the closing comparison."""
    if item.position is not None:
        return item.position
    family = [i for i, part in enumerate(parts) if part.meta.get("family") == item.family]
    models = [i for i, part in enumerate(parts) if part.prefix]
    return (family or models or [-1])[-1] + 1


def _layout(entries: Sequence[_Part | Missing]) -> tuple[list[tuple[_Part, NotebookNode]], list[tuple[_Part, NotebookNode]]]:
    """The summary's cells and all others, each with the part whose names it uses, with chapter and model headings."""
    parts = [entry for entry in entries if isinstance(entry, _Part)]
    first = {part.meta.get("family"): part for part in reversed(parts) if part.prefix}
    opened: set[str] = set()
    placed: list[tuple[_Part, NotebookNode]] = []
    for entry in entries:
        part = entry if isinstance(entry, _Part) else _missing(entry)
        family = part.meta.get("family") if part.prefix else None
        if part.prefix and family not in opened:
            opened.add(family)
            source = first.get(family, part)
            chapter = _opening(source) or [_heading(f"# {_family_name(str(family))}")]
            placed += [(source, cell) for cell in chapter]
        heading = [(part, _heading(f"## {part.title}"))] if part.title else []
        once = _opening(part) if part.prefix else []
        cells = [cell for cell in part.cells if not any(cell is other for other in once)]
        cells = [cell for cell in cells if not _once(cell) or not part.prefix or first.get(family) is part]
        placed += heading + [(part, cell) for cell in cells]
    summary = [(part, cell) for part, cell in placed if "summary" in cell.metadata.tags]
    if summary and not _starts_with_heading(summary[0][1]):
        summary.insert(0, (summary[0][0], _heading("# Summary")))
    return summary, [(part, cell) for part, cell in placed if "summary" not in cell.metadata.tags]


def _once(cell: NotebookNode) -> bool:
    return "once" in cell.metadata.tags


def _opening(part: _Part) -> list[NotebookNode]:
    """A family's introduction: the notebook's ``once`` cells before its first prose of its own."""
    prose = [i for i, cell in enumerate(part.cells) if cell.cell_type == "markdown" and not _once(cell)]
    return [cell for cell in part.cells[: prose[0] if prose else None] if _once(cell)]


def _heading(source: str) -> NotebookNode:
    return new_markdown_cell(source, metadata={"tags": ["once"], "fmlib": {"code": "hidden"}})


def _missing(item: Missing) -> _Part:
    text = f"{item.display_name} is missing from this report: {item.reason}".strip().partition("\n")[0]
    notice = _made("notice", {"text/plain": ANSI.sub("", text)})
    cell = new_code_cell("", outputs=[notice], metadata={"tags": [], "fmlib": {"code": "hidden"}})
    return _Part({"family": item.family}, [cell], item.model, item.display_name)


def _family_name(family: str) -> str:
    return family.upper() if len(family) <= 3 else family.replace("_", " ").capitalize()


def _starts_with_heading(cell: NotebookNode) -> bool:
    texts = [holder[key] for kind, holder, key in _texts(cell) if kind == "prose"]
    return bool(texts and HEADING.match(texts[0].lstrip().partition("\n")[0]))


class _Numbering:
    """Numbers sections, figures and tables in reading order, gives them ids, and keeps the contents."""

    def __init__(self) -> None:
        self.contents: list[dict] = []
        self._levels: list[int] = []  # the headings that the present one stands under, as notebooks count levels
        self._counts: list[int] = []
        self._captioned: Counter[str] = Counter()
        self._ids: set[str] = set()

    def add(self, part: _Part, cell: NotebookNode, numbered: bool) -> None:
        """Number what is in the cell; a model's own cells are one level below its notebook's ``once`` cells."""
        deeper = int(bool(part.title) and not _once(cell))
        for kind, holder, key in _texts(cell):
            if kind == "prose":
                holder[key] = self._prose(part, holder[key], deeper, numbered)
        for output in cell.get("outputs", []):
            meta = output.metadata.fmlib
            if meta.kind in ("figure", "table") and meta.name:
                self._captioned[meta.kind] += 1
                short = "fig" if meta.kind == "figure" else "table"
                meta.id = self._id(short, part.prefix, meta.name)
                meta.label = f"{meta.kind.capitalize()}\N{NO-BREAK SPACE}{self._captioned[meta.kind]}"
                meta.caption = _inline(meta.caption)
                part.names.setdefault(_slug(f"{short}-{meta.name}"), (meta.id, meta.label))

    def _prose(self, part: _Part, text: str, deeper: int, numbered: bool) -> str:
        lines, fence = [], ""
        for line in text.splitlines():
            match = FENCE.match(line)
            if match and not fence:
                fence = match[1]
            elif match and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            elif not fence and (heading := HEADING.match(line)):
                line = self._section(part, heading, deeper, numbered)
            lines.append(line)
        return "\n".join([*lines, fence])

    def _section(self, part: _Part, match: re.Match[str], deeper: int, numbered: bool) -> str:
        """The heading with its number and id; no level is left out, whatever the notebook does."""
        level, title = len(match[1]) + deeper, match[2]
        while self._levels and self._levels[-1] >= level:
            self._levels.pop()
        self._levels.append(level)
        depth = len(self._levels)
        number = self._number(depth) if numbered and depth <= 3 else ""
        found = self._id("sec", part.prefix if deeper else "", title)
        part.names.setdefault(_slug(title), (found, ""))
        if depth <= 3:
            self.contents.append({"level": depth, "number": number, "title": title, "id": found})
        prefix = f"[{number}]{{.number}} " if number else ""
        return f"\n{'#' * min(depth, 6)} {prefix}{title} {{#{found}}}\n"

    def _number(self, depth: int) -> str:
        self._counts = (self._counts + [0] * depth)[:depth]
        self._counts[-1] += 1
        return ".".join(map(str, self._counts))

    def _id(self, *words: str) -> str:
        wanted = found = _slug(" ".join(words))
        while found in self._ids:
            found = f"{wanted}-{sum(known.startswith(wanted) for known in self._ids) + 1}"
            wanted += "-x" if found in self._ids else ""
        self._ids.add(found)
        return found


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "section"


def _inline(text: str) -> str:
    """A caption as one paragraph, whatever it starts with."""
    return re.sub(r"^(\d*)(#|>|[-+*](?=\s)|[.)](?=\s)|:::|~~~|```|<)", r"\1\\\2", " ".join(text.split()))


def _link(cell: NotebookNode, names: dict[str, tuple[str, str]], notes: dict[str, str]) -> None:
    """Make references to figures, tables and sections links, and put footnotes' texts below where they are first used."""

    def resolve(match: re.Match[str]) -> str:
        found, label = names.get(_slug(match[2]), ("", ""))
        return f"[{label or match[1]}](#{found})" if found else match[1]

    for _, holder, key in _texts(cell):
        used = [notes.pop(name) for name in dict.fromkeys(NOTE.findall(holder[key])) if name in notes]
        holder[key] = "\n\n".join([LINK.sub(resolve, holder[key]), *used])
