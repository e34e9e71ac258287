"""Show a figure or a table in a notebook so that JupyterLab, the HTML page and the PDF all present it well.

The output carries what each of them needs: ``text/html`` for JupyterLab, and under the metadata key ``fmlib`` the caption,
the alternative text and a table's cells as plain data, from which the exporters build their own.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SVG_LIMIT = 150_000  # bytes; above it a picture is cheaper, and as sharp in print at PNG_DPI
PNG_DPI = 200
MISSING = "–"  # noqa: RUF001 - an en dash is meant
NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")


def show_figure(plot: tuple[Figure, str], caption: str, name: str) -> None:
    """Display ``plot``, a figure and its alternative text, with a caption (inline markdown); then close the figure.

    ``name`` is what prose refers to, ``[](#fig-name)``. Raises ValueError where text is empty or the name no slug.
    """
    figure, alt = plot
    _check("figure", name, caption=caption, alt=alt)
    mime, image = _picture(figure)
    encoded = base64.b64encode(image).decode()
    html = (
        f'<figure style="margin:0"><img alt="{escape(alt)}" src="data:{mime};base64,{encoded}" style="max-width:100%">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
    data = image.decode() if mime == "image/svg+xml" else encoded
    width = round(figure.get_figwidth() * 96)
    _close(figure)
    meta = {"kind": "figure", "name": name, "caption": caption, "alt": alt, "width": width}
    _display({mime: data, "text/html": html, "text/plain": f"{caption}\n{alt}"}, meta)


def show_table(
    frame: pd.DataFrame,
    caption: str,
    name: str,
    best: Mapping[str, Literal["max", "min"]] | None = None,
    formats: Mapping[str, str] | None = None,
) -> None:
    """Display ``frame`` as a table with a caption; an index other than 0, 1, 2... becomes its first columns.

    ``best`` marks the largest or smallest value of a column, ties included; ``formats`` gives a column ``".1f"`` or
    ``"{:.1f} %"``. Missing values show as an en dash. ``name`` is what prose refers to, ``[](#table-name)``.
    Raises ValueError where the caption is empty, the name no slug, or ``best`` and ``formats`` name unknown columns.
    """
    _check("table", name, caption=caption)
    frame = _with_index(frame)
    best, formats = dict(best or {}), dict(formats or {})
    columns = [str(column) for column in frame.columns]
    if unknown := sorted({*best, *formats} - set(columns)):
        raise ValueError(f"table {name!r}: no columns {unknown}; it has {columns}")
    texts = [_texts(frame.iloc[:, i], formats.get(column)) for i, column in enumerate(columns)]
    marks = [_marks(frame.iloc[:, i], best.get(column)) for i, column in enumerate(columns)]
    meta = {
        "kind": "table",
        "name": name,
        "caption": caption,
        "columns": columns,
        "numeric": [_numeric(frame.iloc[:, i]) for i in range(len(columns))],
        "rows": [list(row) for row in zip(*texts, strict=True)],
        "best": [list(row) for row in zip(*marks, strict=True)],
    }
    _display({"text/html": _html_table(meta), "text/plain": frame.to_string(index=False)}, meta)


def _check(kind: str, name: str, **texts: str) -> None:
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ValueError(f"{kind} name {name!r}: wanted lower-case letters, digits, - and _, such as 'learning-curve'")
    for what, text in texts.items():
        if not (isinstance(text, str) and text.strip()):
            raise ValueError(f"{kind} {name!r}: its {what} is empty; wanted a sentence for readers, got {text!r}")


def _picture(figure: Figure) -> tuple[str, bytes]:
    """The figure as SVG where that is small and all vector, else as PNG for print; the same bytes for the same figure."""
    import matplotlib as mpl

    options = {"bbox_inches": "tight", "facecolor": "white"}
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "fmlib", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, **options)
    svg = buffer.getvalue()
    if len(svg) <= SVG_LIMIT and b"<image" not in svg:
        return "image/svg+xml", svg
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None}, **options)
    return "image/png", buffer.getvalue()


def _close(figure: Figure) -> None:
    # Without this, the inline backend shows every open figure once more at the end of the cell.
    import matplotlib.pyplot as plt

    plt.close(figure)


def _display(bundle: dict[str, str], meta: dict[str, Any]) -> None:
    from IPython.display import display

    display(bundle, metadata={"fmlib": meta}, raw=True)


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return frame if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None else frame.reset_index()


def _numeric(column: pd.Series) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(column.infer_objects()) and not is_bool_dtype(column)


def _texts(column: pd.Series, spec: str | None) -> list[str]:
    """A column's cells as text; one format for all, so that right-aligned decimals stand under each other."""
    from pandas.api.types import is_float_dtype

    whole = column.dropna()
    if spec is None and _numeric(column):
        spec = ".3f" if is_float_dtype(column.infer_objects()) and (whole % 1 != 0).any() else ",.0f"
    template = spec if spec and "{" in spec else f"{{:{spec or ''}}}"
    # A true minus sign is as wide as a digit; a hyphen is not.
    show = (lambda value: template.format(value).replace("-", "−")) if _numeric(column) else template.format  # noqa: RUF001
    return [MISSING if missing else show(value) for value, missing in zip(column, column.isna(), strict=True)]


def _marks(column: pd.Series, which: str | None) -> list[bool]:
    if which not in ("max", "min", None):
        raise ValueError(f"column {column.name!r}: best is {which!r}; wanted 'max' or 'min'")
    if which is None or column.isna().all():
        return [False] * len(column)
    return [bool(mark) for mark in (column == getattr(column, which)()).fillna(False)]


def _html_table(meta: Mapping[str, Any]) -> str:
    """The table for JupyterLab, which knows nothing of the report's styles."""
    sides = ["right" if numeric else "left" for numeric in meta["numeric"]]
    style = "text-align:{};font-variant-numeric:tabular-nums".format
    head = "".join(f'<th style="{style(s)}">{escape(c)}</th>' for c, s in zip(meta["columns"], sides, strict=True))
    rows = []
    for texts, marks in zip(meta["rows"], meta["best"], strict=True):
        inner = [f"<strong>{escape(text)}</strong>" if mark else escape(text) for text, mark in zip(texts, marks, strict=True)]
        rows.append("".join(f'<td style="{style(s)}">{cell}</td>' for cell, s in zip(inner, sides, strict=True)))
    caption = f'<caption style="caption-side:top;text-align:left">{escape(meta["caption"])}</caption>'
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
