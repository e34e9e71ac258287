"""The examples: someone's own models and own data, from files to a whole report."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pypdf
import pytest
from checks import (
    check_that_it_fits_and_is_accessible,
    check_that_it_is_tagged,
    check_that_links_land,
)
from commands import records, run
from playwright.sync_api import Page
from synthetic import stripes

from fmlib.project import HERE

EXAMPLES = HERE.root / "examples"
ODD = "Net_v2 *tuned* <b> $a$ [x](y)"
PROFILES = (
    "examples/own_data/digits.yaml",
    "examples/own_data/pictures.yaml",
    "examples/own_model/models.yaml",
    "odd/odd.yaml",
)
every_report = pytest.mark.parametrize("name", [Path(one).stem for one in PROFILES])
pytestmark = pytest.mark.slow


def write_odd(folder: Path) -> None:
    """A profile whose models, classes and data have names full of marks."""
    folder.mkdir()
    code = (EXAMPLES / "own_model" / "my_models.py").read_text()
    code = code.replace("k nearest neighbours", ODD).replace('"knn"', '"odd"')
    (folder / "odd_models.py").write_text(code.replace('"tiny_net"', '"odd_net"'))
    arrays = stripes((8, 8), 2)
    np.savez(folder / "odd.npz", **arrays, class_names=np.array([ODD, "plain"]))
    data = f"dataset: {{npz: odd.npz, title: '{ODD}'}}"
    text = (
        f"description: odd\n{data}\ncode: [odd_models.py]\nmodels: {{odd: {{}}, odd_net: {{}}}}\n"
    )
    (folder / "odd.yaml").write_text(text)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder of a copy of the project, as a clone has it, with all these reports."""
    copy = tmp_path_factory.mktemp("examples")
    for name in ("fmlib", "fmreport", "notebooks", "params", "docs/studies", "examples"):
        ignored = shutil.ignore_patterns("__pycache__", "pictures")
        shutil.copytree(HERE.root / name, copy / name, ignore=ignored)
    run(copy / "examples" / "own_data", "export.py")
    write_odd(copy / "odd")
    commands = [(copy, "-m", "fmreport", "report", "--profile", one) for one in PROFILES]
    with ThreadPoolExecutor(2) as pool:  # nothing here is about time
        list(pool.map(lambda command: run(*command), commands))
    return copy / "build"


def text_of(build: Path, name: str) -> str:
    """What a reader sees of a report's page."""
    page = (build / name / "report.html").read_text("utf-8")
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"(?s)<(script|style).*?</\1>", "", page)))


def test_the_digits_make_a_report_that_is_about_nothing_else(build):
    seen = text_of(build, "digits")
    assert "Which image classifier for Handwritten digits?" in seen
    for name in ("FashionMNIST", "fashion", "original study", "Shirt", " 784 "):
        assert name not in seen, name
    found = records(build / "digits" / "results")
    assert {one.model for one in found} >= {"knn", "tiny_net", "svm", "mlp"}
    assert all(one.accuracy > 0.75 for one in found), "guessing scores a tenth"
    for title in ("k nearest neighbours", "Tiny net", "Decision Tree", "SVM", "MLP"):
        assert title in seen, title
    assert "The commonest class among the training images" in seen, "a docstring is told as prose"


def test_the_digits_as_coloured_pictures_do_too(build):
    with (
        np.load(build.parent / "examples" / "own_data" / "digits.npz") as made,
        np.load(EXAMPLES / "own_data" / "digits.npz") as kept,
    ):
        assert all((made[name] == kept[name]).all() for name in kept.files)
    seen = text_of(build, "pictures")
    assert "Coloured digits" in seen and "in colour" in seen and "FashionMNIST" not in seen
    assert all(one.accuracy > 0.75 for one in records(build / "pictures" / "results"))


def test_ones_own_models_stand_beside_the_librarys(build):
    seen = text_of(build, "models")
    for title in ("k nearest neighbours", "Tiny net", "Decision Tree", "MLP"):
        assert seen.count(title) > 5, title


def test_a_name_of_marks_is_shown_as_it_is_everywhere(build):
    assert text_of(build, "odd").count(ODD) > 20
    page = (build / "odd" / "report.html").read_text("utf-8")
    assert "<em>tuned</em>" not in page and 'href="y"' not in page and "<b>" not in page
    pdf = pypdf.PdfReader(build / "odd" / "report.pdf")
    words = " ".join(" ".join(one.extract_text() for one in pdf.pages).split())
    assert words.count("*tuned* <b> $a$ [x](y)") > 10


@pytest.mark.parametrize(
    ("name", "width", "theme"),
    [
        ("digits", 360, "dark"),
        ("pictures", 1440, "light"),
        ("models", 820, "light"),
        ("odd", 360, "light"),
    ],
)
def test_their_pages_fit_and_are_accessible(build, visit: Callable[..., Page], name, width, theme):
    page = visit(build / name / "report.html", width, theme)
    check_that_it_fits_and_is_accessible(page, f"{name}-{width}-{theme}")


@every_report
def test_every_link_within_their_pages_lands(build, visit: Callable[..., Page], name):
    page = visit(build / name / "report.html", reduced_motion="reduce")
    check_that_links_land(page, links=40, sections=10)


@every_report
def test_their_pdfs_are_tagged_and_describe_their_figures(build, name):
    check_that_it_is_tagged(pypdf.PdfReader(build / name / "report.pdf"))
