"""What holds for every report: checks of a page in a browser, and of a PDF read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pypdf
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

ARTIFACTS = Path(__file__).parents[2] / "build" / "test-artifacts"
# Clicks every link of the contents; returns those whose section does not stand in the window then.
LOST = """async () => {
  const lost = [];
  const frame = () => new Promise(requestAnimationFrame);
  for (const link of document.querySelectorAll("nav ol a")) {
    link.click();
    await frame(); await frame();
    const top = document.getElementById(link.hash.slice(1))?.getBoundingClientRect().top;
    if (!(top >= 0 && top < innerHeight)) lost.push(link.hash);
  }
  return lost;
}"""
# Headings whose anchor does not lead to them, and figures or tables whose label does not.
UNLINKED = """() => [
  ...[...document.querySelectorAll("main :is(h1, h2, h3, h4, h5, h6)")]
    .filter((it) => !it.matches(it.querySelector("a.anchor[href^='#']")?.hash || "never")),
  ...[...document.querySelectorAll("main figure")]
    .filter((it) => !it.id || it.querySelector("figcaption a.label")?.hash !== `#${it.id}`),
].map((it) => it.outerHTML.slice(0, 200))"""


def check_that_it_fits_and_is_accessible(page: Page, name: str) -> None:
    """Keeps a picture; checks that the page never scrolls sideways and what axe says of it."""
    width = page.viewport_size["width"]
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(
        "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    assert [
        (one["id"], one["nodes"][0]["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
    ] == []


def check_that_links_land(page: Page, links: int = 60, sections: int = 15) -> None:
    """Checks that ids are unique, and that all links within the page lead somewhere.

    There are more than so many links, and more than so many sections in the contents.
    """
    targets = page.eval_on_selector_all(
        "a[href^='#']", "links => links.map((link) => link.getAttribute('href').slice(1))"
    )
    ids = page.eval_on_selector_all("[id]", "elements => elements.map((element) => element.id)")
    assert len(ids) == len(set(ids)) and len(targets) > links
    assert set(targets) <= set(ids)
    assert page.evaluate(UNLINKED) == []
    assert page.locator("nav ol a").count() > sections and page.evaluate(LOST) == []


def check_that_it_is_tagged(pdf: pypdf.PdfReader) -> None:
    """Checks that the PDF is PDF/UA-1, says its language, and that its figures have a text."""
    root = pdf.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] and root["/Lang"] == "en"
    assert b"<pdfuaid:part>1</pdfuaid:part>" in root["/Metadata"].get_object().get_data()
    figures = elements(root["/StructTreeRoot"], "/Figure")
    assert figures and all(str(figure.get("/Alt", "")).strip() for figure in figures)


def elements(node: Any, kind: str) -> list[pypdf.generic.DictionaryObject]:
    """All structure elements of a kind below ``node`` in the PDF's tag tree."""
    node = node.get_object()
    if isinstance(node, pypdf.generic.ArrayObject):
        return [found for child in node for found in elements(child, kind)]
    if not isinstance(node, pypdf.generic.DictionaryObject):
        return []
    below = elements(node["/K"], kind) if "/K" in node else []
    return ([node] if node.get("/S") == kind else []) + below


def bookmarks(
    pdf: pypdf.PdfReader, outline: list | None = None, level: int = 1
) -> list[tuple[int, str, int]]:
    """The PDF's outline as (level, title, number of the page)."""
    found = []
    for entry in pdf.outline if outline is None else outline:
        if isinstance(entry, list):
            found += bookmarks(pdf, entry, level + 1)
        else:
            found.append(
                (level, " ".join(entry.title.split()), pdf.get_destination_page_number(entry) + 1)
            )
    return found
