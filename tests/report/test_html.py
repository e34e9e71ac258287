"""The page, in a real browser."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pypdf
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from synthetic_report import METADATA

ARTIFACTS = Path(__file__).parents[2] / "build" / "test-artifacts"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = pytest.mark.slow
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        message = "no chromium on the PATH: apt-get install chromium"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def show(browser, report) -> Iterator[Open]:
    """Opens the page; at the end, checks that it asked for nothing but itself and that its console is empty."""
    pages, requests, complaints = [], [], []

    def opened(width: int = 1440, theme: str = "light", **options: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(report[0].as_uri())
        pages.append(page)
        return page

    yield opened
    assert {url for url in requests if not url.startswith("data:")} == {report[0].as_uri()}
    assert complaints == []
    for page in pages:
        page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1440])
def test_it_fits_and_is_accessible(show, width, theme):
    page = show(width, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"report-{width}-{theme}.png", full_page=True)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")] == []


def test_every_link_within_the_page_lands(show):
    page = show()
    links = page.eval_on_selector_all("a[href^='#']", "links => links.map((link) => link.getAttribute('href').slice(1))")
    ids = page.eval_on_selector_all("[id]", "elements => elements.map((element) => element.id)")
    assert len(ids) == len(set(ids)) and len(links) > 60
    assert set(links) <= set(ids)


def test_contents_links_scroll_and_follow_the_reader(show):
    page = show(reduced_motion="reduce")
    page.get_by_role("navigation").get_by_role("link", name="Random Forest").click()
    page.wait_for_function("document.querySelector('#sec-random-forest').getBoundingClientRect().top < 100")
    current = page.locator("nav a[aria-current]")
    page.wait_for_function("document.querySelector('nav a[aria-current]').textContent.includes('How it works')")
    assert current.get_attribute("href") == "#sec-random_forest-how-it-works"
    assert page.locator("nav a[href='#sec-random_forest-training']").is_visible()
    assert not page.locator("nav a[href='#sec-mlp-training']").is_visible()


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


def test_copy_puts_the_code_on_the_clipboard(show):
    page = show(permissions=["clipboard-read", "clipboard-write"])
    box = page.locator("details[open] .copyable").first
    box.hover()
    box.get_by_role("button", name="Copy").click()
    expect(box.locator("button")).to_have_text(re.compile("Copied|Selected"))


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
    assert page.get_by_role("link", name="5 Comparison").is_visible()
    assert not page.get_by_role("button", name="Dark theme").is_visible()
    page.locator("details.code > summary").first.click()
    assert page.locator("details.code").first.get_attribute("open") is None
    assert page.locator("math").count() >= 9 and page.locator("figure img").first.is_visible()


def test_it_prints_without_its_controls(show, tmp_path):
    page = show()
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    path = tmp_path / "printed.pdf"
    page.pdf(path=path)
    assert "naïve accents" in " ".join(" ".join(sheet.extract_text() for sheet in pypdf.PdfReader(path).pages).split())


def test_what_is_on_the_page(report):
    html = report[0].read_text()
    assert len(html) < 8e6
    assert f"<title>{METADATA.title}</title>" in html and '<html lang="en">' in html
    for fact in (METADATA.date, METADATA.profile, METADATA.machine, METADATA.commit):
        assert fact in html
    assert html.count("epoch 1 loss 0.5\nepoch 2 loss 0.4") == 3
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    for hidden in ("Traceback", "secret", "\x1b", "Only for another model", 'https://example.org/x.png" '):
        assert hidden not in html
    assert html.index("is best here") < html.index("FashionMNIST has 70,000 images")
    assert html.count('role="doc-noteref"') == 5 and html.count('<li id="fn') == 5


def test_both_editions_have_the_same_numbers(report):
    html = re.sub(r"<style>.*?</style>|<script>.*?</script>|src=\"[^\"]*\"", "", report[0].read_text(), flags=re.DOTALL)
    headings = re.findall(r'<h[1-3] id="[^"]*"><span class="number">([\d.]+)</span>\s*([^<]+)<', html)
    words = "\n".join(page.extract_text() for page in pypdf.PdfReader(report[1]).pages)
    words = re.sub(r"[^\S\n]+", " ", words)
    assert len(headings) == 20
    for number, title in headings:
        assert f"{number} {title.strip()}" in words
    captions = re.findall(r'<a class="label" href="#[^"]*">((?:Figure|Table)\xa0\d+)</a> (\w[\w ]+)', html)
    assert len(captions) >= 9
    for label, start in captions:
        assert f"{label.replace(chr(160), ' ')} {start[:20].strip()}" in words
