"""What is in the merged report, in which order and under which names."""

import base64
import io
import re
from html import escape

import pytest
from nbformat import NotebookNode, v4
from nbformat.v4 import new_output, new_raw_cell
from pypdf import PdfReader
from synthetic_report import code, notebook, printed, text

from fmreport.html import page
from fmreport.merge import Chapter, ReportMetadata, merge
from fmreport.pdf import pdf

METADATA = ReportMetadata("A report")


def main(*chapters: NotebookNode | Chapter, metadata: ReportMetadata = METADATA) -> str:
    """The report's part of the page that these chapters give."""
    made = [one if isinstance(one, Chapter) else Chapter("", one) for one in chapters]
    return (
        page(merge(made, metadata)).partition("<main")[2].partition(">")[2].partition("</main>")[0]
    )


def shown(*cells: NotebookNode) -> str:
    return main(notebook(list(cells)))


def in_print(*cells: NotebookNode) -> str:
    """The words of the PDF."""
    made = pdf(merge([Chapter("", notebook(list(cells)))], METADATA))
    return " ".join(page.extract_text() for page in PdfReader(io.BytesIO(made)).pages)


def words(html: str) -> str:
    """What a reader sees."""
    return " ".join(re.sub(r"<[^>]+>", "", html).split())


def headings(html: str) -> list[str]:
    return [words(one)[:-1].strip() for one in re.findall(r"<h\d.*?</h\d>", html)]


def figure(name: str, caption: str = "") -> NotebookNode:
    meta = {"kind": "figure", "name": name, "caption": caption or f"About {name}", "alt": "Alt"}
    data = {"image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'}
    return new_output("display_data", data=data, metadata={"fmreport": meta})


def table(name: str, cell: str = "1") -> NotebookNode:
    cells = {
        "columns": ["x"],
        "numeric": [True],
        "rows": [[cell]],
        "best": [[False]],
        "sort": [[cell]],
    }
    meta = {"kind": "table", "name": name, "caption": f"About {name}", **cells}
    return new_output("display_data", data={"text/plain": cell}, metadata={"fmreport": meta})


def display(**data: str) -> NotebookNode:
    mimes = {mime.replace("_", "/"): content for mime, content in data.items()}
    return new_output("display_data", data=mimes)


def test_inputs_stay_as_they_are():
    nb = notebook([text("# Chapter\r\n\twith a tab[^1]\n\n[^1]: N"), code("1", printed("x"))])
    before = v4.writes(nb)
    merge([Chapter("", nb), Chapter("", nb)], METADATA)
    assert v4.writes(nb) == before


def test_chapters_number_through_in_their_order():
    one = notebook([text("# Data\n\n## Classes"), text("### Ten\n\n#### Each\n\n## Balance")])
    two = notebook([text("# Trees\n\n### Deep")])
    found = headings(main(one, two))
    assert found == [
        "1 Data",
        "1.1 Classes",
        "1.1.1 Ten",
        "Each",
        "1.2 Balance",
        "2 Trees",
        "2.1 Deep",
    ]


@pytest.mark.parametrize("tag", ["parameters", "injected-parameters", "remove-cell"])
def test_cells_that_are_not_for_readers_are_left_out(tag):
    assert "secret" not in shown(code("secret = 1", printed("secret"), tags=(tag,)))


def test_empty_and_raw_cells_are_left_out():
    assert words(shown(text(""), code(""), new_raw_cell("raw"), text("here"))) == "here"


def test_how_code_is_shown():
    folded, opened = '<details class="code">', '<details class="code" open>'
    assert folded in shown(code("x = 1"))
    assert opened in shown(code("x = 1", tags=("key-code",)))
    assert "details" not in shown(code("x = 1", tags=("hide-input",)))


@pytest.mark.parametrize("made", [figure("f"), table("t"), display(text_markdown="**w**")])
def test_the_code_of_a_figure_table_or_prose_is_always_there_behind_it(made):
    for output, places in ((made, 1), (printed("1"), 0)):
        html = shown(code("x = 1", output, tags=("hide-input",)))
        assert html.count('<details class="code">') == places
    html = shown(code("x = 1", made, tags=("hide-input",)))
    assert html.rstrip().endswith("</details>")


def test_outputs_have_their_looks():
    plain = new_output("execute_result", data={"text/plain": "7 < 8"})
    assert '<pre class="output" tabindex="0">7 &lt; 8</pre>' in shown(code("x", plain))
    bold = shown(code("x", display(text_html="<b>t</b>", text_plain="t")))
    assert "<strong>t</strong>" in bold and "t</pre>" not in bold
    assert "<p><strong>w</strong></p>" in shown(
        code("x", display(text_markdown="**w**", text_plain="w"))
    )
    scripted = shown(code("x", display(text_html="<script>x</script>", text_plain="plain")))
    assert "<script" not in scripted and "plain</pre>" in scripted
    picture = shown(code("x", display(image_png="aG\nk=")))
    assert '<img src="data:image/png;base64,aGk=" alt="An image without a description.">' in picture
    assert "figcaption" not in picture


STYLER = "<style>#T td {color: red}</style><table><tr><th>a</th></tr><tr><td>41</td></tr></table>"
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
EXPECTATION = "\N{MATHEMATICAL DOUBLE-STRUCK CAPITAL E}"


def test_a_styled_table_is_a_table_in_both_editions():
    memory = "<pandas.io.formats.style.Styler at 0x7f3a2c1d>"
    cells = [code("x", display(text_html=STYLER, text_plain=memory))]
    assert "<td>41</td>" in shown(*cells) and "0x7f3a" not in shown(*cells)
    printed_words = in_print(*cells)
    assert "41" in printed_words and "0x7f3a" not in printed_words


def test_latex_is_a_formula_in_both_editions():
    alone = "\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}"
    cells = [
        text(f"Before.\n\n{alone}\n\nAfter."),
        text("$$\\newcommand{\\risk}{\\mathbb{E}}$$"),
        text("With $\\risk[x]$."),
        code("x", display(text_latex="$\\displaystyle y^2$", text_plain="<Math object>")),
    ]
    html = shown(*cells)
    assert html.count("<math") == 3 and "newcommand" not in words(html) and EXPECTATION in html
    assert "&amp;= b" not in re.sub(r"(?s)<annotation.*?</annotation>", "", html), "no raw LaTeX"
    assert EXPECTATION in in_print(*cells)


def test_a_formula_may_have_a_line_that_looks_like_a_list():
    html = shown(text("Then\n\n$$ a\n  - b\n  > c\n\n  + d $$\n\nholds."))
    assert html.count("<math") == 1 and "<li" not in html and "$$" not in html


def test_latex_in_code_stays_as_it_is():
    html = shown(text("`\\begin{align}x\\end{align}`\n\n```\n\\newcommand{\\a}{b}\n```"))
    assert "<math" not in html and "\\newcommand" in html and "\\begin{align}" in html


def test_what_has_no_form_but_an_address_is_told(capsys):
    odd = "<my.module.Thing object at 0x7f3a2c1d>"
    cells = [code("x", new_output("execute_result", data={"text/plain": odd}))]
    for made in (words(shown(*cells)), in_print(*cells)):
        assert "An output of type Thing stands here" in made and "0x7f3a" not in made
    assert "an output of type Thing" in capsys.readouterr().err


def test_local_pictures_are_carried_and_missing_ones_told(tmp_path, capsys):
    (tmp_path / "a dot.png").write_bytes(base64.b64decode(DOT))
    nb = notebook(
        [text("![A dot](a%20dot.png)\n\n![None](none.png)"), text('<img src="a dot.png">')]
    )
    html = main(Chapter("", nb, folder=tmp_path))
    assert html.count(f'src="data:image/png;base64,{DOT}"') == 2
    assert "There is no picture none.png" in html and "none.png" in capsys.readouterr().err


def test_of_a_progress_bar_the_last_state_stays():
    bar = printed("\r 0%|   | 0/2\r 50%|#  | 1/2\r100%|##| 2/2\n", "stderr")
    html = shown(code("x", bar))
    assert "100%|##| 2/2" in html and "50%" not in html


def test_logs_fold_with_the_code():
    logged = shown(code("x = 1", printed("a"), printed("b\x1b[31m", "stderr"), printed(" \n")))
    assert "1 line, and a log" in logged and '<pre class="log" tabindex="0">a\nb</pre>' in logged
    plain = new_output("execute_result", data={"text/plain": "7"})
    assert "7</pre>\n</details>" in shown(code("x", plain, tags=("training-log",)))
    quiet = shown(code("x", printed("a warning", "stderr"), plain, tags=("hide-input",)))
    assert words(quiet) == "7"
    assert "<summary>Log</summary>" in shown(
        code("x", printed("a"), tags=("hide-input", "training-log"))
    )


def test_a_failed_cell_is_a_short_notice():
    trace = ["Traceback (most recent call last)"]
    error = new_output("error", ename="KeyError", evalue="\x1b[31m'x'\nmore", traceback=trace)
    html = shown(code("x", error, tags=("hide-input",)))
    assert words(html) == "This step failed: KeyError: 'x'" and 'class="notice"' in html


def test_a_notice_is_a_notice():
    meta = {"fmreport": {"kind": "notice"}}
    data = {"text/html": "<div>Few</div>", "text/plain": "Few <images>"}
    html = shown(code("", new_output("display_data", data=data, metadata=meta)))
    assert '<p class="notice" role="note">Few &lt;images&gt;</p>' in html


def test_a_missing_chapter_has_a_notice_in_its_place():
    data, end = notebook([text("# The data")]), notebook([text("# The end")])
    html = main(data, Chapter("The *audit*", None, "no disk\nTraceback"), end)
    assert headings(html) == ["1 The data", "2 The audit", "3 The end"]
    assert "The chapter “The *audit*” is missing from this report: no disk</p>" in html


def test_a_report_of_nothing_but_missing_chapters():
    assert headings(main(Chapter("A", None, "x"), Chapter("B", None, "y"))) == ["1 A", "2 B"]
    assert pdf(merge([Chapter("A", None, "x")], METADATA)).startswith(b"%PDF")


def test_two_notebooks_with_the_same_names_stay_apart():
    cells = [
        text("# T\n\nSee [here](#fig-curve) and [](#table-t)."),
        code("", figure("curve"), table("t")),
    ]
    html = main(notebook(cells), notebook(cells))
    see = re.findall(r'See <a href="#(.*?)">(.*?)</a> and <a href="#(.*?)">(.*?)</a>\.', html)
    assert see == [
        ("fig-curve", "Figure\xa01", "table-t", "Table\xa01"),
        ("fig-curve-2", "Figure\xa02", "table-t-2", "Table\xa02"),
    ]
    assert re.findall(r'<figure id="(.*?)"', html) == [
        "fig-curve",
        "table-t",
        "fig-curve-2",
        "table-t-2",
    ]
    assert re.findall(r'<h2 id="(.*?)"', html) == ["sec-t", "sec-t-2"]


def test_links_reach_other_chapters_and_lead_nowhere_else():
    answer = text("See [](#fig-curve), [how](#How-it-works), [](#table-late), [gone](#fig-none).")
    html = main(
        notebook([answer]),
        notebook(
            [
                text("## How it works\n\nAs [](#fig-curve)."),
                code("", figure("curve"), table("late")),
            ]
        ),
    )
    links = '<a href="#fig-curve">Figure\xa01</a>, <a href="#sec-how-it-works">how</a>'
    assert f'See {links}, <a href="#table-late">Table\xa01</a>, gone.</p>' in html
    assert 'As <a href="#fig-curve">Figure\xa01</a>.' in html


def test_captions_are_one_paragraph_with_links_notes_and_no_html():
    for start in ("# h", "1. one", "- item", "> quote", "``` fence", "<div> x", "::: y", "| a |"):
        html = shown(code("", figure("f", f"{start} is\n\n*odd*")))
        said = words(html.partition("<figcaption>")[2])
        assert said.startswith(f"Figure 1 {escape(start)}")
        assert "is <em>odd</em></figcaption>" in html
    html = shown(text("[^n]: A note."), code("", figure("f", "As in [](#table-t)[^n]"), table("t")))
    assert '<a href="#table-t">Table\xa01</a><a href="#fn1"' in html and "A note." in html


def notes(html: str) -> list[str]:
    return re.findall(r'<li id="fn\d+"><p>(.*?)<a', html)


def test_footnotes_of_two_notebooks_stay_apart():
    one = notebook([text("# A[^s]"), text("[^s]: First.")])
    two = notebook([text("# B[^s] and[^gone]\n\n[^s]: Second.")])
    html = main(one, two)
    assert notes(html) == ["First.", "Second."]
    assert headings(html) == ["1 A1", "2 B2 and[^gone]", "Notes and sources"]


def test_a_cells_own_footnote_goes_before_that_of_another_cell():
    html = shown(
        text("One[^1].\n\n[^1]: First."), text("Two[^1].\n\n[^1]: Second."), text("Three[^1].")
    )
    assert notes(html) == ["First.", "Second.", "First."]


def test_a_footnote_that_refers_to_itself_ends():
    html = shown(text("One[^a].\n\n[^a]: See[^b],\nor[^a].\n[^b]: Other[^a]."))
    assert notes(html) == ["See[^b], or[^a]."]


@pytest.mark.parametrize(
    "open_end",
    [
        "```python\nx = 1",
        "~~~",
        "<!-- comment",
        "<div>",
        "<pre>\n",
        "::: box",
        "- item",
        "> quote",
        "\\",
        "    x",
        "x\r```\r",
        "{#a .b}",
    ],
)
def test_no_cell_swallows_the_next(open_end):
    html = shown(text(f"Before\n\n{open_end}"), text("# After\n\nThe *end*"), code("", figure("f")))
    assert headings(html) == ["1 After"] and "<p>The <em>end</em></p>" in html
    assert '<figure id="fig-f"' in html


def test_markup_of_html_and_control_characters_stay_out():
    html = shown(text('A\x00 <script>alert(1)</script><b onclick="x">b</b> [c](x){#report}'))
    assert "<script" not in html and "onclick" not in html and "\x00" not in html
    assert 'id="report"' not in html, "an id of the page's own"
    odd = notebook(
        [code("a\x1b = '\"\\'", printed("b\x07")), code("", table("t", '"\\ #x')), text("$\\")]
    )
    assert "\x1b" not in main(odd) and "\x07" not in main(odd)
    assert pdf(merge([Chapter("", odd)], METADATA)).startswith(b"%PDF")


HIEROGLYPH = "\N{EGYPTIAN HIEROGLYPH A001}"
FAILED = new_output("error", ename="E", evalue=HIEROGLYPH, traceback=[])


@pytest.mark.parametrize(
    "cell",
    [
        text(f"# {HIEROGLYPH} prose, `{HIEROGLYPH} code`, $x$"),
        code(f"x = '{HIEROGLYPH}'", tags=("key-code",)),
        code("", table("t", HIEROGLYPH)),
        code("", figure("f", f"Caption {HIEROGLYPH}")),
        code("", FAILED),
    ],
    ids=["prose", "code", "table", "caption", "failure"],
)
def test_a_character_without_a_font_costs_neither_pdf_nor_standard(cell, capsys):
    metadata = ReportMetadata(f"Title {HIEROGLYPH}")
    document = merge([Chapter("", notebook([text("# A chapter"), cell]))], metadata)
    read = PdfReader(io.BytesIO(pdf(document)))
    assert b"<pdfuaid:part>1" in read.trailer["/Root"]["/Metadata"].get_object().get_data()
    assert f"no font of the PDF has {HIEROGLYPH}" in capsys.readouterr().err


def test_headings_in_quotes_and_odd_code_do_not_cost_the_pdf():
    nb = notebook([text("# A\n\n> # Quoted\n\n- ## Listed\n\n`` a`b `` and ```` ``` ````")])
    assert headings(main(nb)) == ["1 A"]
    assert pdf(merge([Chapter("", nb)], METADATA)).startswith(b"%PDF")


def test_attachments_are_kept():
    cell = text("![x](attachment:x.png)")
    cell.attachments = {"x.png": {"image/png": "aG\nk="}}
    assert '<img src="data:image/png;base64,aGk=" alt="x" />' in shown(cell)


def test_a_title_is_text_and_absent_it_is_the_first_heading():
    odd = ReportMetadata('*A* <b> "c"', keywords=('"><script>',))
    html = page(merge([Chapter("", notebook([text("x")]))], odd))
    assert '<h1>*A* &lt;b&gt; "c"</h1>' in html and 'content="&quot;&gt;&lt;script&gt;"' in html
    html = page(
        merge(
            [Chapter("", notebook([text("## no"), text("# A *título*\n\nx")]))], ReportMetadata("")
        )
    )
    assert "<title>A título</title>" in html
