"""The report that the smoke profile really gives: its page in a browser, its PDF read back."""

from __future__ import annotations

import json
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
from playwright.sync_api import Page, expect

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
    first_screen = ["table-needs", "fig-answer"]
    assert page.eval_on_selector_all("main > figure", UNEXPLAINED) == first_screen


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
    assert "settings.data()" in words and "Augmentation(flip=True" in words
    folded = ("class DecisionTree", "show_model(", "show_figure(")
    assert [one for one in folded if one in words] == []


# --- The first screen, and what a reader may look up -------------------------------------------


def test_the_answer_is_on_the_first_screen(show):
    page = show()
    for part in ("#table-needs", "#fig-answer img"):
        box = page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 900, part
    text = page.locator("main").inner_text()
    assert re.search(r"\b(Use|No model is told apart from|Only) ", text)
    assert page.get_by_role("link", name="how sure is that?", exact=True).is_visible()


def test_the_answer_is_on_the_first_two_screens_of_a_phone(show):
    box = show(width=390).locator("#fig-answer img").bounding_box()
    assert box["y"] + box["height"] <= 2 * 900


def test_a_point_tells_its_values_to_mouse_and_keyboard(show):
    page = show()
    points = page.locator("#fig-answer .point")
    assert points.count() > 3
    first = points.first
    assert not first.locator("span").is_visible()
    first.hover()
    assert first.locator("span").is_visible()
    page.mouse.move(0, 0)
    first.focus()
    page.keyboard.press("ArrowRight")
    focused = page.locator("#fig-answer .point:focus")
    assert focused.locator("span").is_visible()
    assert "%, training time (s)" in focused.inner_text()
    stops = points.evaluate_all("(all) => all.filter((one) => one.tabIndex === 0).length")
    assert stops == 1


def test_a_cell_of_the_confusion_shows_its_images(show):
    page = show()
    cell = page.locator(".explorer .matrix td button").first
    count = int(cell.inner_text())
    cell.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".explorer .gallery figure")).to_have_count(min(count, 60))
    assert f": {count}" in page.locator(".explorer [role=status]").inner_text()
    page.get_by_role("combobox", name="Confusion matrix of").select_option(index=1)
    assert page.locator(".explorer .matrix td button").count() > 0


def test_two_models_are_compared_image_by_image(show, smoke):
    page = show()
    page.get_by_role("combobox", name="Compare").select_option(index=0)
    page.get_by_role("combobox", name=re.compile("^with")).select_option(index=1)
    only = page.get_by_role("button", name=re.compile("^Only .* is correct"))
    counts = [int(one.rpartition(": ")[2]) for one in only.all_text_contents()]
    first, second = (
        next(one for one in records(smoke[0] / "results") if one.title == name)
        for name in page.get_by_role("combobox", name="Compare")
        .locator("option")
        .all_text_contents()[:2]
    )
    right = [one.proba.argmax(1) == one.labels for one in (first, second)]
    assert counts == [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    only.first.click()
    expect(page.locator(".explorer .gallery figure")).to_have_count(min(counts[0], 60))


def test_the_numbers_of_a_chart_are_a_table_and_a_file(show):
    page = show()
    numbers = page.locator("#fig-answer + details.numbers")
    numbers.locator("summary").click()
    assert numbers.locator("tbody tr").count() > 3
    with page.expect_download() as download:
        numbers.get_by_role("link", name="Download as CSV").click()
    assert Path(download.value.path()).read_text().startswith("model,accuracy,train_seconds\n")


def test_results_versions_and_citation_are_in_the_page(show, smoke):
    page = show()
    contents = {}
    for name in ("results as CSV", "results as JSON", "library versions", "BibTeX entry"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        contents[name] = Path(download.value.path()).read_text(encoding="utf-8")
    found = records(smoke[0] / "results")
    assert len(json.loads(contents["results as JSON"])) == len(found)
    assert contents["results as CSV"].count("\n") == len(found) + 1
    assert "torch==" in contents["library versions"]
    assert contents["BibTeX entry"].startswith("@misc{")


def test_without_javascript_everything_but_the_lookup_is_there(show):
    page = show(java_script_enabled=False)
    assert page.locator("#table-needs tbody tr").count() > 3
    assert page.locator("#fig-confusion img").is_visible()
    assert not page.locator(".explorer").is_visible()
    assert page.locator("nav ol a").count() > 15
    assert page.get_by_role("link", name="results as CSV").is_visible()


def test_every_control_is_reached_by_keyboard_and_has_a_name(show):
    nameless = """() => [...document.querySelectorAll("button, a[href], select, summary, input")]
      .filter((one) => one.checkVisibility())
      .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim()
        || one.labels?.length))
      .map((one) => one.outerHTML.slice(0, 120))"""
    page = show()
    assert page.evaluate(nameless) == []
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML.slice(0, 200)"))
    assert len(reached) == 40, "the focus is caught"


def test_it_is_light_enough_for_a_phone(smoke):
    assert (smoke[0] / "report.html").stat().st_size < 8e6


def test_chapters_print_without_what_only_a_screen_has(show):
    page = show()
    page.emulate_media(media="print")
    for part in (".explorer", ".point", "details.numbers", "nav.contents", ".downloads"):
        assert not page.locator(part).first.is_visible(), part
