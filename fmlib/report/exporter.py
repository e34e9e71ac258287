"""What the HTML and the PDF exporter share: both make their document from a merged notebook and a template of ours."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from nbconvert.exporters import TemplateExporter
from nbformat import NotebookNode, from_dict

from fmlib.report.merge import fragments, merge
from fmlib.report.metadata import ReportMetadata
from fmlib.report.prose import TEMPLATES, convert


class ReportExporter(TemplateExporter):
    """Base of the two; a notebook that is no merged one is merged alone."""

    markup: ClassVar[str]  # what prose is converted to

    def _extra_template_basedirs_default(self) -> list[str]:
        return [str(TEMPLATES)]

    def fill(self, nb: NotebookNode, resources: dict[str, Any] | None, media: Path | None = None) -> tuple[str, dict[str, Any]]:
        """The template filled with the report; images in its prose are written to ``media``, if given."""
        resources = self._init_resources(resources)
        merged = nb if nb.metadata.get("fmlib", {}).get("merged") else merge([nb])
        facts = merged.metadata.fmlib.get("report") or {"title": _title(merged, resources)}
        resources["report"] = ReportMetadata(**facts)
        prose, resources["notes"] = convert(fragments(merged), self.markup, media)
        self.register_filter("prose", prose.__getitem__)
        self.register_filter("inline", lambda text: prose[text].removeprefix("<p>").removesuffix("</p>"))
        return TemplateExporter.from_notebook_node(self, merged, resources)


def with_metadata(merged: NotebookNode, metadata: ReportMetadata) -> NotebookNode:
    """The merged notebook with its title page's facts, for an exporter."""
    return from_dict({**merged, "metadata": {"fmlib": {**merged.metadata.fmlib, "report": asdict(metadata)}}})


def _title(merged: NotebookNode, resources: dict[str, Any]) -> str:
    contents = merged.metadata.fmlib.contents
    return contents[0].title if contents else resources["metadata"].get("name") or "Report"
