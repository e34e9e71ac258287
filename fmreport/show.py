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

    from fmreport.plots import Plot

SVG_LIMIT = 150_000  # bytes; above it a picture may be cheaper, and is as sharp at PNG_DPI
PNG_DPI = 200
PAD = 0.1  # inches around a picture
MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"  # as wide as a digit, which a hyphen is not
BOX = "border:1px solid; border-left-width:4px; padding:0.5em 0.8em; max-width:46em"


def show_figure(plot: Plot | tuple[Figure, str], caption: str, name: str) -> None:
    """Display a plot, or a figure and its alternative text, with a caption; then close the figure.

    The caption is inline Markdown. ``name`` is what prose refers to, ``[](#fig-name)``.
    Raises ValueError where a text is empty or the name no slug.
    """
    import matplotlib.pyplot as plt

    from fmreport.plots import Plot

    plot = Plot(*plot)
    figure, alt = plot.figure, plot.alt
    _check("figure", name, caption=caption, alt=alt)
    mime, image = _picture(figure)
    img = f'<img alt="{escape(alt)}" src="{data_url(image, mime)}" style="max-width:100%">'
    html = f'<figure style="margin:0">{img}<figcaption>{_inline(caption)}</figcaption></figure>'
    content = image.decode() if mime == "image/svg+xml" else base64.b64encode(image).decode()
    # CSS pixels, as saved: without the margins that a tight bounding box cuts off.
    width = round(min(figure.get_tightbbox().width + 2 * PAD, figure.get_figwidth()) * 96)
    meta = {"caption": caption, "alt": alt, "width": width, "points": _places(plot)}
    if plot.numbers is not None:
        numbers = _with_index(plot.numbers)
        meta |= {"numbers": _cells(numbers, {}, {}), "csv": numbers.to_csv(index=False)}
    plt.close(figure)  # or the inline backend shows it once more at the end of the cell
    data = {mime: content, "text/html": html, "text/plain": alt}
    _display(data, kind="figure", name=name, **meta)


def data_url(content: bytes, mime: str) -> str:
    """The content as an address of its own (RFC 2397)."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _places(plot: Plot) -> list[tuple[float, float, str]]:
    """The plot's points: where in the picture, in per cent from left and top, and their words."""
    if not plot.points:
        return []
    box, dpi, found = plot.figure.get_tightbbox(), plot.figure.dpi, []
    for ax, x, y, words in plot.points:
        across, up = ax.transData.transform((x, y)) / dpi
        left = (across - box.x0 + PAD) / (box.width + 2 * PAD)
        top = (box.y1 - up + PAD) / (box.height + 2 * PAD)
        found.append((round(100 * left, 2), round(100 * top, 2), words))
    return found


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
    _check("table", name, caption=caption)
    frame, best, formats = _with_index(frame), best or {}, formats or {}
    columns = [str(column) for column in frame.columns]
    if unknown := sorted({*best, *formats} - {*columns}):
        raise ValueError(f"table {name!r}: no columns {unknown}; it has {columns}")
    cells = _cells(frame, best, formats)
    body = "".join(map(partial(_html_row, "td", cells["numeric"]), cells["rows"], cells["best"]))
    head = _html_row("th", cells["numeric"], columns, [True] * len(columns))
    table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    data = {
        "text/html": f"<p>{_inline(caption)}</p>{table}",
        "text/plain": frame.to_string(index=False),
    }
    _display(data, kind="table", name=name, caption=caption, **cells)


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an index other than 0, 1, 2... as its first columns."""
    import pandas as pd

    counted = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    return frame if counted else frame.reset_index()


def _cells(
    frame: pd.DataFrame, best: Mapping[str, Any], formats: Mapping[str, str]
) -> dict[str, Any]:
    """A table as plain data: columns; of each whether it is of numbers; rows of text; which cells
    are the best of their column; and what rows are sorted by, numbers where they are any."""
    columns = [str(column) for column in frame.columns]
    series = [frame.iloc[:, i].infer_objects() for i in range(len(columns))]
    texts = [_texts(one, formats.get(column)) for one, column in zip(series, columns, strict=True)]
    marks = [_marks(one, best.get(column)) for one, column in zip(series, columns, strict=True)]
    return {
        "columns": columns,
        "numeric": [_numeric(one) for one in series],
        "rows": [list(row) for row in zip(*texts, strict=True)],
        "best": [list(row) for row in zip(*marks, strict=True)],
        "sort": [list(row) for row in zip(*map(_sort_keys, series), strict=True)],
    }


def _sort_keys(column: pd.Series) -> list[str]:
    """What a column's cells are sorted by: "" of a missing number, and of text."""
    if not _numeric(column):
        return [""] * len(column)
    return column.map("{:.6g}".format).mask(column.isna(), "").tolist()


def show_code(source: str) -> None:
    """Display Python code, which a report folds away."""
    markdown = f"```python\n{source}\n```"
    _display({"text/markdown": markdown, "text/plain": source}, kind="code")


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
    """As SVG where that is all vector and either small or smaller, else as PNG; the same bytes each
    time."""
    import matplotlib as mpl
    from matplotlib.image import AxesImage

    def saved(kind: str, metadata: Mapping[str, None], **options: Any) -> bytes:
        buffer = io.BytesIO()
        figure.savefig(
            buffer,
            format=kind,
            metadata=metadata,
            bbox_inches="tight",
            pad_inches=PAD,
            facecolor="white",
            **options,
        )
        return buffer.getvalue()

    literal = {"text.parse_math": False}  # also of what is made as it is drawn, such as tick labels
    with mpl.rc_context({"svg.hashsalt": "fmreport", "svg.fonttype": "path", **literal}):
        svg = b""
        if not figure.findobj(AxesImage):
            svg = saved("svg", {"Date": None, "Creator": None})
        if b"<image" in svg:
            svg = b""
        if 0 < len(svg) <= SVG_LIMIT:
            return "image/svg+xml", svg
        png = saved("png", {"Software": None}, dpi=PNG_DPI)
        return ("image/svg+xml", svg) if 0 < len(svg) <= len(png) else ("image/png", png)


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
