"""The report that the smoke profile really gives: its page in a real browser, and its PDF read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pypdf
import pytest
from checks import bookmarks, check_that_it_fits_and_is_accessible, check_that_it_is_tagged, check_that_links_land, elements
from playwright.sync_api import Page

from fmlib import results
from fmreport.merge import NO_ALT

pytestmark = pytest.mark.slow
# Tables that are wider than the box that they stand in.
TOO_WIDE = """() => [...document.querySelectorAll("figure.table table")]
  .filter((table) => table.getBoundingClientRect().width > table.parentElement.getBoundingClientRect().width + 1)
  .map((table) => table.closest("figure").id)"""


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
    figures = page.locator("main > figure").count()
    made = page.eval_on_selector_all("main > figure", """(figures) => figures.filter((figure) => {
      let it = figure;
      while (it && !it.matches("details.code, h1, h2")) it = it.nextElementSibling;
      return /show_(figure|table|training|ablation|search|outcome)/.test(it?.textContent);
    }).length""")  # fmt: skip
    assert made == figures > 20


def test_its_tables_fit_a_small_laptop(show):
    assert show(width=1152).evaluate(TOO_WIDE) == []


def test_its_tables_fit_a_printed_page(show):
    page = show(width=718)  # A4 less margins of 10 mm
    page.emulate_media(media="print")
    assert page.evaluate(TOO_WIDE) == []


def test_its_pdf_is_tagged_and_describes_its_figures(pdf, smoke):
    check_that_it_is_tagged(pdf)
    texts = [str(figure["/Alt"]) for figure in elements(pdf.trailer["/Root"]["/StructTreeRoot"], "/Figure")]
    assert NO_ALT not in texts and len(texts) == (smoke[0] / "report.html").read_text().count('class="picture"')


def test_its_pdf_has_bookmarks_for_every_chapter_and_model(pdf, smoke):
    titles = [re.sub(r"^[\d.]+ ", "", title) for _, title, _ in bookmarks(pdf)]
    names = [record.result.display_name for record in results.load_all(smoke[0] / "results")]
    assert [name for name in (*names, "The data", "The comparison") if name not in titles] == []


def test_its_pdf_shows_no_code_that_was_folded(pdf):
    words = "\n".join(page.extract_text() for page in pdf.pages)
    assert "measure(classifier" in words and "show_figure(" not in words and "make_record(" not in words
