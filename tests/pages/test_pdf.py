"""The PDF, read back."""

import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import pypdf
import pytest
from checks import bookmarks, check_that_it_is_tagged, elements
from synthetic_report import LONG_LINE, LONG_WORD, METADATA

from fmreport.merge import Chapter, write_report


@pytest.fixture(scope="module")
def pdf(report):
    return pypdf.PdfReader(report[1])


@pytest.fixture(scope="module")
def words(pdf):
    return "\n".join(page.extract_text() for page in pdf.pages)


def test_pages_and_metadata(pdf):
    assert 10 < len(pdf.pages) < 30
    assert [round(float(side)) for side in pdf.pages[0].mediabox[2:]] == [595, 842]
    assert pdf.metadata.title == METADATA.title
    assert pdf.metadata["/Keywords"] == "FashionMNIST, image classification"
    assert pdf.metadata.creation_date.date().isoformat() == METADATA.date


def test_the_first_page_says_what_the_report_is_and_has_the_answer(pdf):
    title_page = " ".join(pdf.pages[0].extract_text().split())
    for fact in (
        METADATA.title,
        METADATA.subtitle,
        METADATA.date,
        METADATA.profile,
        METADATA.machine,
        METADATA.commit,
    ):
        assert fact in title_page
    assert bookmarks(pdf)[0] == (1, "1 Comparison", 1)


def test_the_contents_tell_the_pages(pdf):
    text = re.sub(r"(?: \.)+ ", " ... ", pdf.pages[0].extract_text())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    told = [f"{title} ... {number}" for level, title, number in bookmarks(pdf) if level == 1]
    assert len(told) == 5 and [line for line in told if line not in lines] == []
    for _, title, number in bookmarks(pdf):
        text = " ".join(pdf.pages[number - 1].extract_text().split())
        assert title in text and text.endswith(str(number)), (
            "the page bears the number that the contents give"
        )


def test_a_page_that_goes_on_says_in_which_chapter(pdf):
    chapters = [(title, number) for level, title, number in bookmarks(pdf) if level == 1]
    heads = [" ".join(page.extract_text().split()) for page in pdf.pages]
    continued = 0
    for number in range(2, len(heads) + 1):
        before = [title for title, start in chapters if start < number]
        begins = [title for title, start in chapters if start == number]
        if begins and heads[number - 1].startswith(begins[0]):
            continue  # its heading says it
        continued += 1
        assert heads[number - 1].startswith(f"{before[-1]} {METADATA.title}"), number
    assert continued > 3


def share_filled(page: pypdf.PageObject) -> float:
    """How far down the page's text or pictures reach, from 0 to 1, its margins included."""
    lows: list[float] = []

    def note(operator, operands, matrix, text_matrix) -> None:
        if operator in (b"Tj", b"TJ", b"Do", b"re", b"l"):
            place = text_matrix[5] if operator in (b"Tj", b"TJ") else 0
            lows.append(matrix[5] + matrix[3] * place)

    page.extract_text(visitor_operand_before=note)
    height = float(page.mediabox[3])
    above = [low for low in lows if low > 0.09 * height]  # the page's number is below
    return 1 - min(above, default=height) / height


def test_no_page_but_the_last_is_more_than_a_third_empty(pdf):
    upright = [page for page in pdf.pages[:-1] if page.mediabox[2] < page.mediabox[3]]
    assert [share_filled(page) for page in upright if share_filled(page) < 0.62] == []


def test_it_is_tagged_and_says_its_language(pdf):
    check_that_it_is_tagged(pdf)


def test_figures_and_formulas_have_alternative_text(pdf):
    tree = pdf.trailer["/Root"]["/StructTreeRoot"]
    texts = [str(figure.get("/Alt", "")) for figure in elements(tree, "/Figure")]
    assert texts.count("A grid of ten true by ten predicted classes.") == 3
    formulas = [str(formula.get("/Alt", "")) for formula in elements(tree, "/Formula")]
    assert r"x \in \mathbb{R}^{784}" in formulas


def test_table_heads_are_marked_as_such(pdf):
    assert len(elements(pdf.trailer["/Root"]["/StructTreeRoot"], "/TH")) > 20


def test_every_font_is_embedded(pdf):
    embedded = set()
    for page in pdf.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            font = font.get_object().get("/DescendantFonts", [font])[0].get_object()
            descriptor = font["/FontDescriptor"].get_object()
            assert {"/FontFile", "/FontFile2", "/FontFile3"} & set(descriptor), font["/BaseFont"]
            embedded.add(str(font["/BaseFont"]))
    assert any("Libertinus" in name for name in embedded)


def test_bookmarks(pdf):
    titles = [title for _, title, _ in bookmarks(pdf)]
    assert titles[:5] == [
        "1 Comparison",
        "1.1 The answer",
        "1.1.1 In short",
        "2 The data",
        "2.1 Classes",
    ]
    assert {"3.1.3 Results", "3.2 Random Forest", "4.1.3 Results", "5 Transfer learning"} <= set(
        titles
    )


def test_code_is_whole_and_within_the_page(pdf, words):
    assert "\u200b" not in words, "code that is copied would not run"
    squeezed = re.sub(r"\s", "", words)
    assert squeezed.count(re.sub(r"\s", "", LONG_WORD)) == 3
    pages = "\f".join(re.sub(r"\s", "", page.extract_text()) for page in pdf.pages)
    page_end = "(?:[^\f]{0,300}\f[^\f]{0,100}?)?"  # with its notes, and the next page's head
    assert len(re.findall(page_end.join(map(re.escape, LONG_LINE.split())), pages)) == 3
    outside = []
    for page in pdf.pages:
        width = float(page.mediabox[2])
        words = []
        page.extract_text(
            visitor_text=lambda text, cm, tm, *_, words=words: words.append((text, tm[4] * cm[0]))
        )
        outside += [text for text, start in words if start > width - 70]
    assert not [text for text in outside if len(text.strip()) > 12]


def test_text_survives(words):
    text = " ".join(words.split())
    assert "naïve accents: São Paulo, Übermaß" in text
    assert (
        "“Transfer learning” is missing from this report: the kernel died (out of memory)" in text
    )
    assert "This step failed: ValueError: no such column" in text
    assert "Breiman, “Random Forests”" in text
    assert "<script>alert(1)" in text


def test_what_readers_are_spared(words):
    for hidden in ("Traceback", "secret", "epoch 1 loss", "warn!", "train()", "fig-", "injected"):
        assert hidden not in words


def test_a_table_over_two_pages_repeats_its_head(pdf):
    pages = [page.extract_text() for page in pdf.pages]
    parts = [page for page in pages if re.search(r"^Model \d", page, re.MULTILINE)]
    assert len(parts) == 2 and all("heading" in page for page in parts)


def test_a_long_narrow_table_stands_in_two_columns_on_one_page(pdf):
    rows = [f"setting {i} value {i}" for i in range(21)]
    [page] = [page for page in pdf.pages if "setting 0" in page.extract_text()]
    assert [row for row in rows if row not in page.extract_text()] == []
    places = {}
    page.extract_text(
        visitor_text=lambda text, matrix, *_: places.update({text.strip(): matrix[4:6]})
    )
    (left, top), (right, beside) = places["setting 0"], places["setting 11"]
    assert left < right and top == beside


def test_figures_and_tables_stay_with_their_captions(pdf):
    pages = [page.extract_text() for page in pdf.pages]
    described = [
        one
        for one in elements(pdf.trailer["/Root"]["/StructTreeRoot"], "/Figure")
        if one["/Alt"] != "a dot"
    ]
    numbers = {page.indirect_reference.idnum: i for i, page in enumerate(pdf.pages)}
    for i, figure in enumerate(described, 1):
        text = pages[numbers[figure.raw_get("/Pg").idnum]]
        assert re.search(rf"^Figure\s{i}\s", text, re.MULTILINE), i
    assert all(
        "precision" in text
        for text in pages
        if re.search(r"^Table\s\d+\s+Scores", text, re.MULTILINE)
    )


def test_the_same_report_gives_the_same_bytes_and_letter_paper_works(chapters, report, tmp_path):
    assert write_report(chapters, METADATA, tmp_path)[1].read_bytes() == report[1].read_bytes()
    letter = pypdf.PdfReader(
        write_report(chapters, METADATA, tmp_path / "letter", paper="us-letter")[1]
    )
    assert [round(float(side)) for side in letter.pages[0].mediabox[2:]] == [612, 792]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "letter",
        "report.html",
        "report.pdf",
    ]


def test_what_cannot_be_printed_costs_the_pdf_alone(chapters, tmp_path, capsys):
    write_report(chapters, METADATA, tmp_path)
    broken = deepcopy(chapters[3].notebook)
    outputs = [output for cell in broken.cells for output in cell.get("outputs", [])]
    pictures = [one.data for one in outputs if "image/svg+xml" in one.get("data", {})]
    pictures[0]["image/svg+xml"] = "no picture"
    paths = write_report([Chapter("Broken", broken)], METADATA, tmp_path)
    assert paths == [tmp_path / "report.html"] == list(tmp_path.iterdir())
    assert "there is no PDF, as it could not be made" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["html", "pdf"])
def test_nbconvert_knows_the_exporters(kind, tmp_path):
    nb = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# A título\n\nWith $x$.\n\n## Part")]
    )
    nbformat.write(nb, tmp_path / "one.ipynb")
    command = [
        sys.executable,
        "-m",
        "nbconvert",
        "--to",
        f"fmreport_{kind}",
        str(tmp_path / "one.ipynb"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    made = Path(tmp_path / f"one.{kind}")
    title = (
        pypdf.PdfReader(made).metadata.title
        if kind == "pdf"
        else re.search("<title>(.*)</title>", made.read_text())[1]
    )
    assert title == "A título"
