"""The notebooks in a real JupyterLab, as `make lab` opens it, in a real browser.

One server for all tests, on a copy of the project that is a git checkout, with an empty home.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from jupyterlab_window import (
    PATIENCE,
    Lab,
    close,
    finish,
    menu,
    open_notebook,
    run_all,
    save,
    until,
    window,
)
from playwright.sync_api import Browser, Locator, Page, expect

from fmlib.project import HERE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("a lab")
    for name in ("fmlib", "fmreport", "notebooks", "params", "docs/studies"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(HERE.root / name, folder / name, ignore=ignored)
    for name in ("jupytext.toml", ".gitignore"):
        shutil.copyfile(HERE.root / name, folder / name)
    home = tmp_path_factory.mktemp("home")
    running = Lab(folder, home)
    running.git("init", "--quiet")
    running.git("add", "--all")
    running.git("commit", "--quiet", "--message", "as it is")
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    with window(browser, lab) as page:
        yield page


def change_last_cell(notebook: Locator, first_line: str) -> None:
    """Put another first line into the last cell, as one who types."""
    editor = notebook.locator(".jp-CodeCell").last.locator(".cm-content")
    editor.click()
    keyboard = notebook.page.keyboard
    for keys in ("Control+Home", "Shift+End", "Delete"):
        keyboard.press(keys)
    keyboard.insert_text(first_line)


def test_a_chapter_opens_as_a_notebook_and_a_module_in_the_editor(page, lab):
    open_notebook(page, "08_appendix.py")
    close(page, "08_appendix.py")  # looking changes nothing
    page.goto(f"{lab.address}/lab/tree/fmreport/plots.py?reset")
    page.locator(".jp-FileEditor").wait_for()
    assert page.locator(".jp-NotebookPanel").count() == 0


def test_what_is_run_is_kept_and_fitted_once(page, lab):
    notebook = open_notebook(page, "04_mlp.py")
    run_all(page, notebook)
    shown = notebook.locator(".jp-OutputArea-output")
    assert notebook.locator('img[alt^="Validation loss is lowest"]').count() == 1
    assert notebook.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert notebook.locator("progress").count() == 0, "bars go when they are done"
    record = lab.folder / "build" / "lesson" / "results" / "mlp" / "seed-9" / "result.json"
    fitted, count = record.stat().st_ino, shown.count()
    save(page, lab)
    assert lab.git("status", "--porcelain") == "", "saving without an edit changes nothing"

    close(page, "04_mlp.py")
    notebook = open_notebook(page, "04_mlp.py")
    expect(notebook.locator(".jp-OutputArea-output")).to_have_count(count)

    run_all(page, notebook)
    assert record.stat().st_ino == fitted
    save(page, lab)
    assert lab.git("status", "--porcelain") == ""


def test_a_sentence_that_is_added_is_one_line_of_difference(page, lab):
    notebook = open_notebook(page, "04_mlp.py")
    text = notebook.locator(".jp-MarkdownCell").first
    text.dblclick()
    text.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text("\nA student adds a sentence.")
    save(page, lab)
    assert lab.git("diff", "--numstat").split() == ["1", "0", "notebooks/04_mlp.py"]
    lab.git("checkout", "--", "notebooks")


@pytest.mark.parametrize(("kind", "ending"), [("html", ".html"), ("pdf", ".pdf")])
def test_a_notebook_is_exported_by_menu_with_its_outputs(page, lab, kind, ending, tmp_path):
    open_notebook(page, "04_mlp.py")
    with page.expect_download() as waiting:
        menu(page, "File", "Save and Export Notebook As", f"Fmreport_{kind}")
    exported = tmp_path / f"exported{ending}"
    waiting.value.save_as(exported)
    assert exported.stat().st_size > 50_000
    if kind == "html":
        assert "loss and validation accuracy by epoch" in exported.read_text(encoding="utf-8")


def test_exports_that_are_offered_work_and_others_are_not_offered(page, lab):
    offered = page.evaluate("() => fetch('/api/nbconvert').then((answer) => answer.json())")
    named = {"asciidoc", "html", "markdown", "rst", "script", "slides"}
    assert named | {"fmreport_html", "fmreport_pdf"} <= offered.keys()
    assert not {"latex", "pdf", "webpdf", "qtpdf", "qtpng"} & offered.keys()
    for name in sorted(named):
        path = f"/nbconvert/{name}/notebooks/04_mlp.py"
        status = page.evaluate("(path) => fetch(path).then((answer) => answer.status)", path)
        assert (name, status) == (name, 200)


def test_a_colour_that_is_changed_in_the_library_is_seen_without_a_restart(page, lab):
    notebook = open_notebook(page, "04_mlp.py")
    run_all(page, notebook)
    plots = lab.folder / "fmreport" / "plots.py"
    plots.write_text(plots.read_text().replace("#0072B2", "#12AB34"))
    try:
        run_all(page, notebook)
        images = notebook.locator("img[alt]").evaluate_all("(all) => all.map((one) => one.src)")
        drawn = [page.evaluate("(src) => atob(src.split(',')[1])", image) for image in images]
        assert any("#12ab34" in one.lower() for one in drawn)
    finally:
        lab.git("checkout", "--", "fmreport")


def test_a_fit_shows_how_far_it_is_and_ends_when_it_is_stopped(page, lab):
    notebook = open_notebook(page, "04_mlp.py")
    run_all(page, notebook)
    change_last_cell(notebook, 'model, change = "mlp", {"recipe.epochs": 5000}')
    page.keyboard.press("Control+Enter")
    bar = notebook.locator(".jp-OutputArea-output:has(progress)")
    expect(bar).to_contain_text("accuracy", timeout=PATIENCE)
    for words in ("epoch ", "/5000", "loss", "left"):
        assert words in bar.inner_text(), words
    assert len(lab.fits()) == 1
    page.locator('[data-command="notebook:interrupt-kernel"]').first.click()
    until(lambda: not lab.fits(), 2, "the end of the fit")
    finish(notebook)

    change_last_cell(notebook, 'model, change = "mlp", {"recipe.epochs": 1}')
    page.keyboard.press("Control+Enter")
    finish(notebook)
    last = notebook.locator(".jp-CodeCell").last
    assert last.locator("progress").count() == 0
    assert "recipe.epochs: 1" in last.locator(".jp-OutputArea").inner_text()


def test_nothing_is_written_outside_of_the_project(lab):
    said = lab.stop()
    assert "Fmreport_html" in said and "LaTeX" in said
    assert list(lab.home.rglob("*")) == []
    assert {path.name for path in (lab.folder / "build").iterdir()} == {"lab", "lesson"}
