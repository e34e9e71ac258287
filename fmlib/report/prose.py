"""Markdown to HTML and Typst by pandoc: all of a report's fragments in one run, so that footnotes number through."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

TEMPLATES = Path(__file__).parent / "templates"
# CommonMark as JupyterLab reads it; images in paragraphs of their own are not made into figures, which merge numbers.
MARKDOWN = "commonmark_x-implicit_figures-emoji-gfm_auto_identifiers"
MARK = "~~fmlib-fragment~~"


def convert(texts: Iterable[str], to: Literal["html", "typst"], media: Path | None = None) -> tuple[dict[str, str], str]:
    """Each markdown text's rendering by the text itself, and what comes after them all (HTML's footnotes).

    Raw HTML is dropped. Math becomes MathML or Typst's own. Images given as data are written to ``media``, for Typst.
    """
    unique = list(dict.fromkeys(texts))
    pieces = _pandoc(unique, to, media)
    if len(pieces) != len(unique):  # a text leaves something open, such as a comment, that swallows those after it
        unclosed = [len(_pandoc([text, ""], to, media)) != 2 for text in unique]
        pieces = _pandoc([_verbatim(t) if bad else t for t, bad in zip(unique, unclosed, strict=True)], to, media)
    *pieces, last = pieces or [""]
    last, notes, tail = last.partition('<section id="footnotes"')
    return {text: piece.strip() for text, piece in zip(unique, [*pieces, last], strict=False)}, notes + tail


def _pandoc(texts: list[str], to: str, media: Path | None) -> list[str]:
    import pypandoc

    options = ["--wrap=none", "--mathml", "--syntax-highlighting=none", f"--lua-filter={TEMPLATES / 'prose.lua'}"]
    options += [f"--extract-media={media}"] if media else []
    source = "".join(f"\n\n`````{{=mark}}\n{MARK}\n`````\n\n{text}" for text in texts)
    return pypandoc.convert_text(source, to, format=MARKDOWN, extra_args=options).split(MARK)[1:]


def _verbatim(text: str) -> str:
    return f"``````\n{text}\n``````"
