"""What people write in notebooks, made into what both editions can show: LaTeX, pictures, progress.

What cannot be shown is told, in its place and on the terminal, and never dropped in silence.
"""

from __future__ import annotations

import mimetypes
import re
import sys
from collections.abc import Callable, Iterable
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from nbconvert.filters import strip_ansi

from fmreport.show import data_url

CODE = r"^([ >]*)(`{3,}|~{3,}).*?^\1\2[`~]*\s*$|`[^`\n]+`"
KEPT = re.compile(CODE, re.M | re.S)
MATH = re.compile(r"\$\$.*?\$\$", re.S)
KEPT_OR_MATH = re.compile(f"{CODE}|{MATH.pattern}", re.M | re.S)
# LaTeX that stands by itself, as JupyterLab reads it.
ENVIRONMENT = re.compile(
    r"\\begin\{((?:align|alignat|equation|eqnarray|gather|multline|flalign|displaymath|math)\*?)\}"
    r".*?\\end\{\1\}",
    re.S,
)
BRACED = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
MACRO = re.compile(
    r"\\(?:re|provide)?newcommand\*?\s*(?:\{\\\w+\}|\\\w+)(?:\[\d\])?(?:\[[^\]]*\])?\s*" + BRACED
    + r"|\\DeclareMathOperator\*?\s*(?:\{\\\w+\}|\\\w+)\s*" + BRACED
    + r"|\\def\s*\\\w+(?:#\d)*\s*" + BRACED
)  # fmt: skip
EMPTY_MATH = re.compile(r"\$\$\s*\$\$|(?<!\$)\$\s+\$(?!\$)")
ADDRESS = re.compile(r"<([\w.]+)(?: object)?[^<>]* at 0x[0-9a-fA-F]+>")
IMG = re.compile(r"""(<img\b[^>]*\bsrc=["'])([^"']+)(["'])""", re.I)
PICTURES = {"image/png", "image/jpeg", "image/gif", "image/svg+xml", "image/webp"}


def tell(problem: str) -> None:
    """A line on the terminal about what a report could not show as it was written."""
    print(f"report: {problem}", file=sys.stderr)


def macros_of(texts: Iterable[str]) -> str:
    """LaTeX definitions of all ``texts``, as any formula of a notebook may use them."""
    return "\n".join(match[0] for text in texts for match in MACRO.finditer(text))


def with_formulas(text: str) -> str:
    """Markdown whose LaTeX environments stand between dollars, and without definitions."""
    text = _but_for(KEPT, lambda part: EMPTY_MATH.sub("", MACRO.sub("", part)), text)
    text = _but_for(KEPT_OR_MATH, lambda part: ENVIRONMENT.sub(r"\n$$\g<0>$$\n", part), text)
    return _but_for(KEPT, lambda part: MATH.sub(_on_one_line, part), text)


def _on_one_line(formula: re.Match[str]) -> str:
    """A formula of which no line can be taken for a list or a quote."""
    return re.sub(r"\s*\n[\s>]*", " ", formula[0])


def _but_for(kept: re.Pattern[str], change: Callable[[str], str], text: str) -> str:
    """The text, changed but for what ``kept`` finds."""
    parts, end = [], 0
    for found in kept.finditer(text):
        parts += [change(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, change(text[end:])])


def last_states(text: str) -> str:
    """A terminal's text as it looks in the end: of what a carriage return overwrote the last."""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in strip_ansi(text).split("\n")]
    return "\n".join(lines).strip("\n")


def unshown(text: str) -> str:
    """What stands for an output that only says where in memory it was; "" of any other text."""
    found = ADDRESS.search(text)
    if not found:
        return ""
    kind = found[1].rpartition(".")[2]
    tell(f"an output of type {kind} has no form that a page or a PDF can show")
    return f"An output of type {kind} stands here, which has no form that this report can show."


def embed_pictures(node: Any, folder: Path | None) -> Any:
    """A tree of pandoc's whose local pictures are data; what is no picture there is told."""
    if isinstance(node, list):
        return [embed_pictures(one, folder) for one in node]
    if not isinstance(node, dict):
        return node
    if node.get("t") in ("RawInline", "RawBlock"):
        return node | {"c": [node["c"][0], with_pictures(node["c"][1], folder)]}
    if node.get("t") != "Image":
        return {key: embed_pictures(one, folder) for key, one in node.items()}
    attributes, words, (source, title) = node["c"]
    found = _picture(source, folder)
    if found is None:
        return {"t": "Strong", "c": [{"t": "Str", "c": f"[There is no picture {source}.]"}]}
    return {"t": "Image", "c": [attributes, words, [found, title]]}


def with_pictures(html: str, folder: Path | None) -> str:
    """HTML whose local pictures are data."""
    return IMG.sub(
        lambda found: found[1] + (_picture(unescape(found[2]), folder) or found[2]) + found[3], html
    )


def _picture(source: str, folder: Path | None) -> str | None:
    """A local picture as a data address, any other address as it is; None where there is none."""
    if re.match(r"[a-zA-Z][\w+.-]+:", source) or not folder:
        return source
    path = folder / unquote(source)
    mime = mimetypes.guess_type(path.name)[0] or ""
    if mime not in PICTURES or not path.is_file():
        tell(f"no picture {source}")
        return None
    return data_url(path.read_bytes(), mime)
