"""Show a figure, a table or a notice so that JupyterLab, the HTML page and the PDF present it well.

The output carries what each of them needs: ``text/html`` for JupyterLab, and under the metadata key
``fmreport`` its kind, the caption, the alternative text and a table's cells as plain data, from
which the report is made.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from fmlib.project import SLUG

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SVG_LIMIT = 150_000  # bytes; above it a picture is cheaper, and as sharp in print at PNG_DPI
PNG_DPI = 200
MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"  # as wide as a digit, which a hyphen is not
BOX = "border:1px solid; border-left-width:4px; padding:0.5em 0.8em; max-width:46em"


def show_figure(plot: tuple[Figure, str], caption: str, name: str) -> None:
    """Display ``plot``, a figure and its alternative text, with a caption; then close the figure.

    The caption is inline Markdown. ``name`` is what prose refers to, ``[](#fig-name)``.
    Raises ValueError where a text is empty or the name no slug.
    """
    import matplotlib.pyplot as plt

    figure, alt = plot
    _check("figure", name, caption=caption, alt=alt)
    mime, image = _picture(figure)
    encoded = base64.b64encode(image).decode()
    src = f"data:{mime};base64,{encoded}"
    img = f'<img alt="{escape(alt)}" src="{src}" style="max-width:100%">'
    html = f'<figure style="margin:0">{img}<figcaption>{_inline(caption)}</figcaption></figure>'
    content = image.decode() if mime == "image/svg+xml" else encoded
    # CSS pixels, as saved: without the margins that a tight bounding box cuts off.
    width = round(min(figure.get_tightbbox().width + 0.2, figure.get_figwidth()) * 96)
    plt.close(figure)  # or the inline backend shows it once more at the end of the cell
    data = {mime: content, "text/html": html, "text/plain": alt}
    _display(data, kind="figure", name=name, caption=caption, alt=alt, width=width)


def show_table(
    frame: pd.DataFrame,
    caption: str,
    name: str,
    best: Mapping[str, Literal["max", "min"]] | None = None,
    formats: Mapping[str, str] | None = None,
) -> None:
    """Display ``frame``; an index other than 0, 1, 2... becomes its first columns.

    The caption is inline Markdown. ``best`` marks the largest or smallest value of a column, ties
    included; ``formats`` gives a column ``".1f"`` or ``"{:.1f} %"``. Missing values show as an en
    dash. ``name`` is what prose refers to, ``[](#table-name)``. Raises ValueError where the caption
    is empty, the name no slug, or ``best`` and ``formats`` name unknown columns.
    """
    import pandas as pd

    _check("table", name, caption=caption)
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        frame = frame.reset_index()
    best, formats = best or {}, formats or {}
    columns = [str(column) for column in frame.columns]
    if unknown := sorted({*best, *formats} - {*columns}):
        raise ValueError(f"table {name!r}: no columns {unknown}; it has {columns}")
    series = [frame.iloc[:, i].infer_objects() for i in range(len(columns))]
    texts = [_texts(one, formats.get(column)) for one, column in zip(series, columns, strict=True)]
    marks = [_marks(one, best.get(column)) for one, column in zip(series, columns, strict=True)]
    numeric = [_numeric(one) for one in series]
    rows = [list(row) for row in zip(*texts, strict=True)]
    marked = [list(row) for row in zip(*marks, strict=True)]
    body = "".join(map(partial(_html_row, "td", numeric), rows, marked))
    head = _html_row("th", numeric, columns, [True] * len(columns))
    table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    data = {
        "text/html": f"<p>{_inline(caption)}</p>{table}",
        "text/plain": frame.to_string(index=False),
    }
    cells = {"columns": columns, "numeric": numeric, "rows": rows, "best": marked}
    _display(data, kind="table", name=name, caption=caption, **cells)


def show_notice(text: str) -> None:
    """Display a plain text that a reader must not miss, in a box."""
    html = f'<div role="note" style="{BOX}">{escape(text)}</div>'
    _display({"text/html": html, "text/plain": text}, kind="notice")


def _display(data: dict[str, str], **meta: object) -> None:
    from IPython.display import display

    display(data, metadata={"fmreport": meta}, raw=True)


def _check(kind: str, name: str, **texts: str) -> None:
    if not (isinstance(name, str) and SLUG.fullmatch(name)):
        wanted = "lower-case letters, digits, - and _, such as 'learning-curve'"
        raise ValueError(f"{kind} name {name!r}: wanted {wanted}")
    for what, text in texts.items():
        if not (isinstance(text, str) and text.strip()):
            wanted = f"wanted a sentence for readers, got {text!r}"
            raise ValueError(f"{kind} {name!r}: its {what} is empty; {wanted}")


def _picture(figure: Figure) -> tuple[str, bytes]:
    """As SVG where that is small and all vector, else as PNG; the same bytes each time."""
    import matplotlib as mpl
    from matplotlib.image import AxesImage

    def saved(kind: str, metadata: Mapping[str, None], **options: Any) -> bytes:
        buffer = io.BytesIO()
        figure.savefig(
            buffer,
            format=kind,
            metadata=metadata,
            bbox_inches="tight",
            facecolor="white",
            **options,
        )
        return buffer.getvalue()

    literal = {"text.parse_math": False}  # also of what is made as it is drawn, such as tick labels
    with mpl.rc_context({"svg.hashsalt": "fmreport", "svg.fonttype": "path", **literal}):
        if not figure.findobj(AxesImage):
            svg = saved("svg", {"Date": None, "Creator": None})
            if len(svg) <= SVG_LIMIT and b"<image" not in svg:
                return "image/svg+xml", svg
        return "image/png", saved("png", {"Software": None}, dpi=PNG_DPI)


def _inline(caption: str) -> str:
    """A caption as JupyterLab shows it, which has no numbers to refer to."""
    import mistune

    html = mistune.create_markdown(escape=True, plugins=["math"])(caption)
    return html.strip().removeprefix("<p>").removesuffix("</p>")


def _html_row(tag: str, numeric: Sequence[bool], texts: Sequence[str], bold: Sequence[bool]) -> str:
    """A table's row for JupyterLab, whose own style would align everything to the right."""
    cells = []
    for text, number, heavy in zip(texts, numeric, bold, strict=True):
        side = "right" if number else "left"
        weight = "bold" if heavy else "normal"
        style = f"text-align:{side};font-weight:{weight}"
        cells.append(f'<{tag} style="{style}">{escape(text)}</{tag}>')
    return f"<tr>{''.join(cells)}</tr>"


def _numeric(column: pd.Series) -> bool:
    return column.dtype.kind in "iuf"


def _texts(column: pd.Series, spec: str | None) -> list[str]:
    """A column's cells as text, in one format, so that decimals stand under each other."""
    if spec is None and _numeric(column):
        spec = ".3f" if (column.dropna() % 1 != 0).any() else ",.0f"
    template = spec if spec and "{" in spec else f"{{:{spec or ''}}}"
    missing = column.isna()
    texts = [
        MISSING if no else template.format(value) for value, no in zip(column, missing, strict=True)
    ]
    return [text.replace("-", MINUS) for text in texts] if _numeric(column) else texts


def _marks(column: pd.Series, which: str | None) -> list[bool]:
    if which not in ("max", "min", None):
        raise ValueError(f"column {column.name!r}: best is {which!r}; wanted 'max' or 'min'")
    wanted = None if which is None or column.isna().all() else getattr(column, which)()
    return [wanted is not None and bool(value == wanted) for value in column]
