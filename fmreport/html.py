"""The report as one HTML file that asks nothing of any other: styles, script, fonts, math and pictures are inside."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any, ClassVar

from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from fmreport.exporter import TEMPLATES, ReportExporter


class HTMLReportExporter(ReportExporter):
    """nbconvert's ``--to fmlib-html``."""

    markup: ClassVar[str] = "html"
    export_from_notebook = "FashionMNIST report (HTML)"
    output_mimetype = "text/html"
    file_extension = ".html"
    template_name = "fmlib-html"

    def from_notebook_node(self, nb: NotebookNode, resources: Any = None, **kwargs: Any) -> tuple[str, dict[str, Any]]:
        """The page and nbconvert's resources."""
        folder = TEMPLATES / "fmlib-html"
        script = (folder / "script.js").read_text(encoding="utf-8")
        fonts = {path.stem: _base64(path.read_bytes()) for path in folder.glob("fonts/*.woff2")}
        extra = {"script": script, "script_hash": _base64(hashlib.sha256(script.encode()).digest()), "fonts": fonts}
        self.register_filter("picture", _picture)
        self.register_filter("python", lambda code: highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)))
        return self.fill(nb, {**(resources or {}), **extra}, Path())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _picture(data: dict[str, str]) -> str:
    """A figure's image as a data address; inside one, an SVG's ids can't meet those of another figure."""
    if svg := data.get("image/svg+xml"):
        return f"data:image/svg+xml;base64,{_base64(svg.encode())}"
    mime = "image/png" if "image/png" in data else "image/jpeg"
    return f"data:{mime};base64,{''.join(data[mime].split())}"
