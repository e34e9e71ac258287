"""The report that the smoke profile really gives: its page in a browser, its PDF read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pypdf
import pytest
from checks import (
    bookmarks,
    check_that_it_fits_and_is_accessible,
    check_that_it_is_tagged,
    check_that_links_land,
    elements,
)
from commands import records
from playwright.sync_api import Page

from fmlib.profiles import load_profile
from fmlib.project import Project
from fmreport import runner
from fmreport.merge import NO_ALT

pytestmark = pytest.mark.slow
# Tables that are wider than the box that they stand in.
TOO_WIDE = """() => [...document.querySelectorAll("figure.table table")]
  .filter((table) => {
    const box = table.parentElement.getBoundingClientRect();
    return table.getBoundingClientRect().width > box.width + 1;
  })
  .map((table) => table.closest("figure").id)"""
# Figures and tables without the code that shows them: folded and behind them, before the next
# heading, or open and right before them.
UNEXPLAINED = """(figures) => figures.filter((figure) => {
  let behind = figure;
  while (behind && !behind.matches("details.code, h2, h3")) behind = behind.nextElementSibling;
  const before = figure.previousElementSibling;
  const codes = [behind, before?.matches("details.code[open]") ? before : null];
  return !codes.some((code) => /show_\\w+\\(/.test(code?.textContent));
}).map((figure) => figure.id)"""


@pytest.fixture
def show(visit: Callable[..., Page], smoke: tuple[Path, str]) -> Callable[..., Page]:
    """Opens the smoke run's report; fails where it asks for anything or complains."""
    return partial(visit, smoke[0] / "report.html")


@pytest.fixture(scope="module")
def pdf(smoke):
    return pypdf.PdfReader(smoke[0] / "report.pdf")


@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (1440, "dark")])
def test_it_fits_and_is_accessible(show, width, theme):
    check_that_it_fits_and_is_accessible(show(width, theme), f"smoke-{width}-{theme}")


@pytest.mark.parametrize("width", [360, 1440])
def test_every_link_within_the_page_lands(show, width):
    check_that_links_land(show(width, reduced_motion="reduce"))


def test_code_is_folded_and_the_first_press_opens_it_all(show):
    page = show()
    folded, opened = page.locator("details.code:not([open])"), page.locator("details.code[open]")
    assert folded.count() > opened.count() > 0
    button = page.get_by_role("button", name="Show all code")
    assert button.get_attribute("aria-pressed") == "false"
    button.press("Enter")
    assert folded.count() == 0 and button.get_attribute("aria-pressed") == "true"


def test_a_reader_can_see_how_each_figure_was_made(show):
    page = show()
    assert page.locator("main > figure").count() > 40
    assert page.eval_on_selector_all("main > figure", UNEXPLAINED) == []


def test_every_models_code_is_there_to_read(show, smoke):
    code = "\n".join(show().locator("main pre").all_text_contents())
    for one in records(smoke[0] / "results"):
        assert f'@register("{one.model}"' in code


def test_its_tables_fit_a_small_laptop(show):
    assert show(width=1152).evaluate(TOO_WIDE) == []


def test_its_tables_fit_a_printed_page(show):
    page = show(width=718)  # A4 less margins of 10 mm
    page.emulate_media(media="print")
    assert page.evaluate(TOO_WIDE) == []


def test_its_pdf_is_tagged_and_describes_its_figures(pdf, smoke):
    check_that_it_is_tagged(pdf)
    figures = elements(pdf.trailer["/Root"]["/StructTreeRoot"], "/Figure")
    texts = [str(figure["/Alt"]) for figure in figures]
    pictures = (smoke[0] / "report.html").read_text(encoding="utf-8").count('class="picture"')
    assert NO_ALT not in texts and len(texts) == pictures


def test_its_pdf_has_bookmarks_for_every_chapter_and_model(pdf, smoke):
    profile = load_profile("smoke", Project(smoke[0].parents[1]))
    notebooks = runner.chapters(profile).values()
    cells = [cell for one in notebooks for cell in one.cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^##? (.+)", "\n".join(cell.source for cell in cells), re.MULTILINE)
    titles = [re.sub(r"^[\d.]+ ", "", title) for _, title, _ in bookmarks(pdf)]
    assert len(headings) > 20 and [one for one in headings if one not in titles] == []


def test_its_pdf_shows_the_code_that_matters_and_none_that_was_folded(pdf):
    words = "\n".join(page.extract_text() for page in pdf.pages)
    assert "settings.data()" in words and "class DecisionTree" in words
    assert "show_model(" not in words and "show_figure(" not in words
