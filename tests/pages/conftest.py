"""The synthetic report, written once for all tests, and a real browser to open pages with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, chromium
from playwright.sync_api import Browser, Page
from synthetic_report import METADATA
from synthetic_report import chapters as synthetic_chapters

from fmreport.merge import Chapter, write_report

pytest.register_assert_rewrite("checks", "jupyterlab_window")


@pytest.fixture(scope="session")
def chapters() -> list[Chapter]:
    return synthetic_chapters()


@pytest.fixture(scope="session")
def report(chapters: list[Chapter], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_report(chapters, METADATA, tmp_path_factory.mktemp("a report"))


@pytest.fixture(
    scope="module"
)  # no longer: playwright's event loop is in the way of tests that run notebooks
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        message = "no chromium on the PATH: apt-get install chromium"
        pytest.fail(message) if os.environ.get("CI", "false") != "false" else pytest.skip(message)
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages; checks at the end that none asked for anything and that none complained."""
    pages, asked, complaints = [], [], []

    def visited(path: Path, width: int = 1440, theme: str = "light", **options: object) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, **options
        )
        context.set_default_timeout(120_000)  # half a minute to draw it on a slow machine
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        pages.append((page, path.as_uri()))
        return page

    yield visited
    assert {url for url in asked if not url.startswith("data:")} == {url for _, url in pages}
    # Chromium's own developer tools ask for the page's file again when a test uses them.
    own = {f"Unsafe attempt to load URL {url} from frame with URL {url}." for _, url in pages}
    assert [one for one in complaints if not one.startswith(tuple(own))] == []
    for page, _ in pages:
        page.context.close()
