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
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SVG_LIMIT = 150_000  # bytes; above it a picture is cheaper, and as sharp in print at PNG_DPI
PNG_DPI = 200
MISSING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"  # this minus is as wide as a digit, a hyphen is not
NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")


def show_figure(plot: tuple[Figure, str], caption: str, name: str) -> None:
    """Display ``plot``, a figure and its alternative text, with a caption (inline markdown); then close the figure.

    ``name`` is what prose refers to, ``[](#fig-name)``. Raises ValueError where a text is empty or the name no slug.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    figure, alt = plot
    _check("figure", name, caption=caption, alt=alt)
    mime, image = _picture(figure)
    encoded = base64.b64encode(image).decode()
    img = f'<img alt="{escape(alt)}" src="data:{mime};base64,{encoded}" style="max-width:100%">'
    html = f'<figure style="margin:0">{img}<figcaption>{escape(caption)}</figcaption></figure>'
    data = {mime: image.decode() if mime == "image/svg+xml" else encoded, "text/html": html, "text/plain": alt}
    width = round(min(figure.get_tightbbox().width + 0.2, figure.get_figwidth()) * 96)  # CSS pixels, as saved
    plt.close(figure)  # or the inline backend shows it once more at the end of the cell
    meta = {"kind": "figure", "name": name, "caption": caption, "alt": alt, "width": width}
    display(data, metadata={"fmlib": meta}, raw=True)


def show_table(
    frame: pd.DataFrame,
    caption: str,
    name: str,
    best: Mapping[str, Literal["max", "min"]] | None = None,
    formats: Mapping[str, str] | None = None,
) -> None:
    """Display ``frame`` as a table with a caption (inline markdown); an index other than 0, 1, 2... becomes its first columns.

    ``best`` marks the largest or smallest value of a column, ties included; ``formats`` gives a column ``".1f"`` or
    ``"{:.1f} %"``. Missing values show as an en dash. ``name`` is what prose refers to, ``[](#table-name)``.
    Raises ValueError where the caption is empty, the name no slug, or ``best`` and ``formats`` name unknown columns.
    """
    import pandas as pd
    from IPython.display import display

    _check("table", name, caption=caption)
    frame = frame if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None else frame.reset_index()
    best, formats = best or {}, formats or {}
    columns = [str(column) for column in frame.columns]
    if unknown := sorted({*best, *formats} - {*columns}):
        raise ValueError(f"table {name!r}: no columns {unknown}; it has {columns}")
    series = {column: frame.iloc[:, i].infer_objects() for i, column in enumerate(columns)}
    texts = [_texts(one, formats.get(column)) for column, one in series.items()]
    marks = [_marks(one, best.get(column)) for column, one in series.items()]
    meta = {"kind": "table", "name": name, "caption": caption, "columns": columns}
    meta["numeric"] = [_numeric(one) for one in series.values()]
    meta["rows"], meta["best"] = ([list(row) for row in zip(*cells, strict=True)] for cells in (texts, marks))
    html = f"<p>{escape(caption)}</p>{pd.DataFrame(meta['rows'], columns=columns).to_html(index=False)}"
    display({"text/html": html, "text/plain": frame.to_string(index=False)}, metadata={"fmlib": meta}, raw=True)


def _check(kind: str, name: str, **texts: str) -> None:
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ValueError(f"{kind} name {name!r}: wanted lower-case letters, digits, - and _, such as 'learning-curve'")
    for what, text in texts.items():
        if not (isinstance(text, str) and text.strip()):
            raise ValueError(f"{kind} {name!r}: its {what} is empty; wanted a sentence for readers, got {text!r}")


def _picture(figure: Figure) -> tuple[str, bytes]:
    """The figure as SVG where that is small and all vector, else as PNG for print; the same bytes for the same figure."""
    import matplotlib as mpl

    buffer, options = io.BytesIO(), {"bbox_inches": "tight", "facecolor": "white"}
    with mpl.rc_context({"svg.hashsalt": "fmlib", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, **options)
    svg = buffer.getvalue()
    if len(svg) <= SVG_LIMIT and b"<image" not in svg:
        return "image/svg+xml", svg
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None}, **options)
    return "image/png", buffer.getvalue()


def _numeric(column: pd.Series) -> bool:
    return column.dtype.kind in "iuf"


def _texts(column: pd.Series, spec: str | None) -> list[str]:
    """A column's cells as text; one format for all, so that right-aligned decimals stand under each other."""
    if spec is None and _numeric(column):
        spec = ".3f" if (column.dropna() % 1 != 0).any() else ",.0f"
    template = spec if spec and "{" in spec else f"{{:{spec or ''}}}"
    texts = [MISSING if missing else template.format(value) for value, missing in zip(column, column.isna(), strict=True)]
    return [text.replace("-", MINUS) for text in texts] if _numeric(column) else texts


def _marks(column: pd.Series, which: str | None) -> list[bool]:
    if which not in ("max", "min", None):
        raise ValueError(f"column {column.name!r}: best is {which!r}; wanted 'max' or 'min'")
    wanted = None if which is None or column.isna().all() else getattr(column, which)()
    return [wanted is not None and bool(value == wanted) for value in column]
