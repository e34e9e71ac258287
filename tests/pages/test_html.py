"""The page, in a real browser."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pypdf
import pytest
from checks import check_that_it_fits_and_is_accessible, check_that_links_land
from playwright.sync_api import Page, expect
from synthetic_report import LONG_LINE, METADATA, code, notebook

from fmreport.merge import Chapter, write_report

pytestmark = pytest.mark.slow
# Of each element: how light its text is, and its own background where it has one, from 0 to 1.
LIGHTNESS = """(elements) => elements.map((element) => {
  const style = getComputedStyle(element);
  const [red, green, blue] = style.color.match(/[\\d.]+/g).map(Number);
  const [r, g, b, alpha = 1] = style.backgroundColor.match(/[\\d.]+/g).map(Number);
  return [(red + green + blue) / 765, alpha ? (r + g + b) / 765 : 1];
})"""


@pytest.fixture
def show(visit: Callable[..., Page], report: list[Path]) -> Callable[..., Page]:
    """Opens the synthetic report."""
    return partial(visit, report[0])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1440])
def test_it_fits_and_is_accessible(show, width, theme):
    check_that_it_fits_and_is_accessible(show(width, theme), f"report-{width}-{theme}")


@pytest.mark.parametrize("width", [360, 1440])
def test_every_link_within_the_page_lands(show, width):
    check_that_links_land(show(width, reduced_motion="reduce"))


@pytest.mark.parametrize("width", [360, 820, 1000, 1440])
def test_the_contents_are_complete_and_reached_by_scrolling_down_alone(show, width):
    page = show(width, reduced_motion="reduce")
    if width < 1024:
        page.locator("nav summary").click()
    cut_off = """(list) => [...list.querySelectorAll("a")].filter((link) => {
      link.scrollIntoView({ block: "nearest" });
      const [box, frame] = [link.getBoundingClientRect(), list.getBoundingClientRect()];
      return link.checkVisibility() && (box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
    }).map((link) => link.hash)"""
    assert page.locator("nav ol").evaluate("(list) => list.scrollWidth <= list.clientWidth")
    assert page.locator("nav ol").evaluate(cut_off) == []


@pytest.mark.parametrize("width", [360, 1440])
def test_only_what_scrolls_is_a_stop_of_the_tab_key(show, width):
    page = show(width)
    page.get_by_role("button", name="Show all code").click()
    stops = """() => [...document.querySelectorAll("main [tabindex]:not(button)")].map((box) => [
      box.tabIndex === 0,
      box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1,
    ])"""
    page.wait_for_function(f"({stops})().every(([stop, scrolls]) => stop === scrolls)")
    found = page.evaluate(stops)
    assert any(stop for stop, _ in found) and not all(stop for stop, _ in found)


def test_contents_links_scroll_and_follow_the_reader(show):
    page = show(reduced_motion="reduce")
    page.get_by_role("navigation").get_by_role("link", name="Random Forest").click()
    page.wait_for_function(
        "document.querySelector('#sec-random-forest').getBoundingClientRect().top < 100"
    )
    current = page.locator("nav a[aria-current]")
    page.wait_for_function(
        "document.querySelector('nav a[aria-current]').textContent.includes('How it works')"
    )
    assert current.get_attribute("href") == "#sec-how-it-works-2"
    assert page.locator("nav a[href='#sec-training-2']").is_visible()
    assert not page.locator("nav a[href='#sec-training-3']").is_visible()


def test_code_folds_by_keyboard_and_all_at_once(show):
    page = show()
    cell = page.locator("details.code:not([open])").first.element_handle()
    cell.query_selector("summary").focus()
    page.keyboard.press("Enter")
    assert cell.evaluate("details => details.open")
    page.get_by_role("button", name="Show all code").focus()
    page.keyboard.press("Enter")
    assert page.locator("details.code:not([open])").count() == 0
    page.keyboard.press("Space")
    assert page.locator("details.code[open]").count() == 0


def test_the_code_behind_a_figure_is_folded_after_it(show):
    behind = show().locator("#fig-decision_tree-learning-curve + details.code")
    assert behind.get_attribute("open") is None
    behind.locator("summary").click()
    assert behind.locator("pre").inner_text().strip() == "show()"


def test_the_switch_for_all_code_follows_what_is_open(visit, tmp_path):
    cells = [code("one()", tags=("key-code",)), code("two()", tags=("key-code",))]
    page = visit(write_report([Chapter("", notebook(cells))], METADATA, tmp_path)[0])
    button, opened = (
        page.get_by_role("button", name="Show all code"),
        page.locator("details.code[open]"),
    )
    expect(button).to_have_attribute("aria-pressed", "true")
    button.press("Enter")
    assert opened.count() == 0 and button.get_attribute("aria-pressed") == "false"
    for summary in page.locator("details.code > summary").all():
        summary.click()
    expect(button).to_have_attribute("aria-pressed", "true")


def test_the_theme_switches_by_keyboard_and_is_remembered(show):
    page = show()
    button = page.get_by_role("button", name="Dark theme")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    button.focus()
    page.keyboard.press("Enter")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark and button.get_attribute("aria-pressed") == "true"
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_a_figure_opens_large_and_closes_by_keyboard(show):
    page = show()
    button = page.get_by_role("button", name="Enlarge Figure\xa01").first
    button.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog[open] img")
    assert large.bounding_box()["width"] > button.locator("img").bounding_box()["width"]
    assert "Loss of Decision Tree" in page.locator("dialog p").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_a_figure_opens_larger_than_a_phone_in_a_box_that_scrolls(show):
    page = show(360)
    inline = page.locator("#fig-decision_tree-learning-curve img")
    before = inline.bounding_box()["width"]
    inline.click()
    assert page.locator("dialog[open] img").bounding_box()["width"] >= 1.5 * before
    box = page.locator("dialog[open] .scroll")
    sides = box.bounding_box()
    assert sides["x"] >= 0 and sides["x"] + sides["width"] <= 360
    box.evaluate("box => { box.scrollLeft = 1e6; }")
    assert box.evaluate("box => box.scrollLeft") > 100
    page.get_by_role("button", name="Close").click()
    assert page.locator("dialog[open]").count() == 0


def test_copy_puts_the_code_on_the_clipboard(show):
    page = show(permissions=["clipboard-read", "clipboard-write"])
    box = page.locator("details[open] .copyable").first
    box.hover()
    box.get_by_role("button", name="Copy").click()
    expect(box.locator("button")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == box.locator("pre").text_content() and LONG_LINE in copied


def test_the_contents_fold_on_a_phone(show):
    page = show(360)
    link = page.get_by_role("navigation").get_by_role("link", name="Comparison")
    assert not link.is_visible()
    page.locator("nav summary").press("Enter")
    assert link.is_visible()
    link.click()
    assert not link.is_visible()


def test_the_keyboard_reaches_the_report_first(show):
    page = show()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "report"


def test_it_works_without_javascript(show):
    page = show(360, java_script_enabled=False)
    assert page.get_by_role("link", name="1 Comparison").is_visible()
    assert not page.get_by_role("button", name="Dark theme").is_visible()
    opened = page.locator("details.code[open]")
    before = opened.count()
    opened.first.locator("summary").click()
    assert opened.count() == before - 1
    assert page.locator("math").count() >= 9 and page.locator("figure img").first.is_visible()


def test_formulas_need_no_font_of_the_readers(show):
    page = show()
    browser = page.context.new_cdp_session(page)
    browser.send("DOM.enable")
    browser.send("CSS.enable")
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    fonts = []
    for node in browser.send(
        "DOM.querySelectorAll", {"nodeId": root, "selector": "math :is(mi, mn, mo)"}
    )["nodeIds"]:
        fonts += browser.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
    assert {font["familyName"] for font in fonts if font["isCustomFont"]} == {"STIX Two Math"}
    assert [font["familyName"] for font in fonts if not font["isCustomFont"]] == []


def test_it_prints_without_its_controls(show, tmp_path):
    page = show()
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    path = tmp_path / "printed.pdf"
    page.pdf(path=path)
    sheets = [" ".join(one.extract_text().split()) for one in pypdf.PdfReader(path).pages]
    words = " ".join(sheets)
    assert "naïve accents" in words
    first = " ".join(page.locator("main > p").first.inner_text().split())[:30]
    assert first in sheets[0], "the title has no page to itself"
    assert "epoch 1 loss 0.5" not in words, "logs are not printed"


@pytest.mark.parametrize("chosen", ["by the switch", "by the system"])
def test_what_is_printed_from_the_dark_theme_is_dark_on_white(show, chosen):
    page = show(theme="light" if chosen == "by the switch" else "dark")
    if chosen == "by the switch":
        page.get_by_role("button", name="Dark theme").click()
    visible = "body, main h2, main p, main pre, main pre span, main a, "
    visible += ".label, .notice, .numeric, td strong, figcaption"
    assert page.eval_on_selector_all("body, main h2", LIGHTNESS)[0][1] < 0.2
    page.emulate_media(media="print", color_scheme="light" if chosen == "by the switch" else "dark")
    printed = page.eval_on_selector_all(visible, LIGHTNESS)
    assert len(printed) > 200 and all(text < 0.5 and ground > 0.9 for text, ground in printed)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


def test_what_is_on_the_page(report):
    html = report[0].read_text()
    assert len(html) < 8e6
    assert html.count("<h1") == 1, "the title; chapters are of the next level"
    assert f"<title>{METADATA.title}</title>" in html and '<html lang="en">' in html
    for fact in (METADATA.date, METADATA.profile, METADATA.machine, METADATA.commit):
        assert fact in html
    assert html.count("epoch 1 loss 0.5\nepoch 2 loss 0.4") == 3
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    for hidden in ("Traceback", "secret", "\x1b", 'https://example.org/x.png" '):
        assert hidden not in html
    assert html.index("is best here") < html.index("FashionMNIST has 70,000 images")
    assert html.count('role="doc-noteref"') == 5 and html.count('<li id="fn') == 5


def test_both_editions_have_the_same_numbers(report):
    html = re.sub(
        r"<style>.*?</style>|<script>.*?</script>|src=\"[^\"]*\"",
        "",
        report[0].read_text(),
        flags=re.DOTALL,
    )
    headings = re.findall(
        r'<h[2-4] id="[^"]*"><span class="number">([\d.]+)</span>\s*([^<]+)<', html
    )
    words = "\n".join(page.extract_text() for page in pypdf.PdfReader(report[1]).pages)
    words = re.sub(r"[^\S\n]+", " ", words)
    assert len(headings) == 20
    for number, title in headings:
        assert f"{number} {title.strip()}" in words
    see = "is best here; see (Figure.\\d+) and (Table.\\d+)"
    [said] = re.findall(see, re.sub("<[^>]+>", "", html))
    assert said == ("Figure\xa07", "Table\xa02"), "links reach into other chapters"
    assert tuple(label.replace("\xa0", " ") for label in said) in re.findall(
        see, words.replace("\n", " ")
    )
    captions = re.findall(
        r'<a class="label" href="#[^"]*">((?:Figure|Table)\xa0\d+)</a> (\w[\w ]+)', html
    )
    assert len(captions) >= 9
    for label, start in captions:
        assert f"{label.replace(chr(160), ' ')} {start[:20].strip()}" in words


# --- What the script adds ---------------------------------------------------------------------


def test_a_table_is_sorted_by_its_heads_with_the_keyboard(show):
    page = show()
    table = page.locator("table.sortable:has(tbody tr:nth-child(4))").first
    before = table.locator("tbody tr").all_text_contents()
    head = table.locator("thead button").last
    head.focus()
    page.keyboard.press("Enter")
    expect(table.locator("th[aria-sort=descending]")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(table.locator("th[aria-sort=ascending]")).to_have_count(1)
    after = table.locator("tbody tr").all_text_contents()
    assert sorted(after) == sorted(before)


def test_the_heads_of_a_table_are_one_stop_and_arrows_lead_on(show):
    page = show()
    heads = page.locator("table.sortable:has(tbody tr:nth-child(4)) thead").first.locator("button")
    stops = heads.evaluate_all("(all) => all.filter((one) => one.tabIndex === 0).length")
    assert stops == 1 and heads.count() > 1
    heads.first.focus()
    page.keyboard.press("ArrowRight")
    assert heads.nth(1).evaluate("(one) => one === document.activeElement")


def test_files_are_taken_away_from_the_page_itself(show):
    page = show()
    with page.expect_download() as download:
        page.get_by_role("link", name="the report as PDF").click()
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF")
