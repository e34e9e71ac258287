"""What is in the merged report, in which order and under which names."""

import pytest
from nbformat import NotebookNode, v4
from nbformat.v4 import new_output
from synthetic_report import code, notebook, printed, text

from fmreport.render import Missing, merge


def model(name: str, *cells: NotebookNode, family: str = "classical") -> NotebookNode:
    return notebook(list(cells), model=name, display_name=name.upper(), family=family)


def sources(merged: NotebookNode) -> list[str]:
    return [cell.source for cell in merged.cells if cell.cell_type == "markdown"]


def kinds(*outputs: NotebookNode, tags: tuple[str, ...] = ()) -> list[str]:
    merged = merge([notebook([code("x", *outputs, tags=tags)])])
    return [output.metadata.fmlib.kind for output in merged.cells[0].outputs]


def figure(name: str) -> NotebookNode:
    meta = {"fmlib": {"kind": "figure", "name": name, "caption": f"About {name}", "alt": "Alt"}}
    return new_output("display_data", data={"image/png": "aGk="}, metadata=meta)


def test_inputs_stay_as_they_are():
    nb = model("a", text("# Chapter", "once"), code("1", printed("x")))
    before = v4.writes(nb)
    merge([nb, nb])
    assert v4.writes(nb) == before


def test_each_family_is_introduced_once_and_each_model_has_a_heading():
    one, two = (model(name, text("# Trees", "once"), code("import x"), text("## Method")) for name in ("a", "b"))
    merged = merge([notebook([text("# Data")]), one, two])
    assert sources(merged) == ["# Data", "# Trees", "## A", "## Method", "## B", "## Method"]
    assert [cell.metadata.fmlib.place.split()[:2] for cell in merged.cells if cell.source == "## Method"] == [
        ["a", "1"],
        ["b", "1"],
    ]


def test_what_models_of_a_family_share_is_told_where_it_is_first_needed():
    kernels = text("Kernels.[^k]\n\n[^k]: A book.", "once", "model-b", "model-c")
    models = [model(name, text("# Chapter", "once"), text(f"About {name}."), kernels) for name in ("a", "b", "c")]
    merged = sources(merge(models))
    assert [source.split(".")[0] for source in merged] == [
        "# Chapter", "## A", "About a", "## B", "About b", "Kernels", "## C", "About c",
    ]  # fmt: skip


@pytest.mark.parametrize("tag", ["parameters", "injected-parameters", "remove-cell"])
def test_cells_that_are_not_for_readers_are_left_out(tag):
    assert merge([notebook([code("secret = 1", printed("secret"), tags=(tag,))])]).cells == []


def test_cells_of_other_models_are_left_out():
    nb = model("a", text("# T", "once"), text("mine", "model-b", "model-a"), text("theirs", "model-b"), text("all"))
    assert sources(merge([nb])) == ["# T", "## A", "mine", "all"]


@pytest.mark.parametrize(("tags", "shown"), [((), "folded"), (("key-code",), "open"), (("remove-input",), "hidden")])
def test_how_code_is_shown(tags, shown):
    assert merge([notebook([code("x = 1", tags=tags)])]).cells[0].metadata.fmlib.code == shown


@pytest.mark.parametrize("made", ["figure", "table", "prose"])
def test_the_code_of_a_figure_table_or_prose_is_always_there(made):
    data = {"text/markdown": "**w**"} if made == "prose" else {"image/png": "aGk="}
    output = new_output("display_data", data=data, metadata={"fmlib": {} if made == "prose" else {"kind": made}})
    merged = merge([notebook([code("x = 1", output, tags=("remove-input",)), code("x", printed("1"), tags=("remove-input",))])])
    assert [cell.metadata.fmlib.code for cell in merged.cells] == ["folded", "hidden"]


def test_outputs_have_kinds():
    plain = new_output("execute_result", data={"text/plain": "7"})
    table = new_output("display_data", data={"text/html": "<table></table>", "text/plain": "t"})
    script = new_output("display_data", data={"text/html": "<script>x</script>", "text/plain": "t"})
    words = new_output("display_data", data={"text/markdown": "**w**", "text/plain": "w"})
    picture = new_output("display_data", data={"image/png": "aGk="})
    assert kinds(plain, table, script, words, picture) == ["text", "html", "text", "prose", "figure"]
    assert kinds(printed("a"), printed("b", "stderr"), printed(" \n")) == ["log", "log"]
    assert kinds(plain, tags=("training-log",)) == ["log"]
    assert kinds(printed("a warning", "stderr"), plain, tags=("remove-input",)) == ["text"]
    assert kinds(printed("a log"), tags=("remove-input", "training-log")) == ["log"]


def test_a_failed_cell_is_a_short_notice():
    error = new_output("error", ename="KeyError", evalue="\x1b[31m'x'\nmore", traceback=["Traceback (most recent call last)"])
    [cell] = merge([notebook([code("x", error)])]).cells
    assert cell.outputs[0].data == {"text/plain": "This step failed: KeyError: 'x'"}


def test_the_summary_comes_first_and_has_a_heading():
    closing = notebook([text("# Comparison"), text("The verdict.", "summary"), text("More.", "summary")])
    assert sources(merge([notebook([text("# Data")]), closing])) == [
        "# Summary",
        "The verdict.",
        "More.",
        "# Data",
        "# Comparison",
    ]


def test_missing_models_have_a_notice_in_their_place():
    data, closing = notebook([text("# Data")]), notebook([text("# Comparison")])
    tree = model("tree", text("# Trees", "once"), text("body"))
    missing = [
        Missing("svm", "SVM", "classical", "no memory\nTraceback", position=2),
        Missing("first", "First", "classical", "x", position=1),
        Missing("vgg", "VGG", "04_transfer", "no weights", position=2),
    ]
    merged = merge([data, tree, closing], missing)
    assert sources(merged) == [
        "# Data",
        "# Trees",
        "## First",
        "## TREE",
        "body",
        "## SVM",
        "# Transfer",
        "## VGG",
        "# Comparison",
    ]
    notices = [output.data["text/plain"] for cell in merged.cells for output in cell.get("outputs", [])]
    assert notices[1] == "SVM is missing from this report: no memory"


def test_a_missing_chapter_has_a_notice_in_its_place_and_in_that_of_its_summary():
    missing = [
        Missing("", "The data", "00_dataset", "no disk", position=0),
        Missing("", "The end", "05_end", "x", position=1, summary=True),
    ]
    merged = merge([model("tree", text("# Trees", "once"))], missing)
    told = [cell.source or cell.outputs[0].data["text/plain"] for cell in merged.cells]
    end = "The chapter “The end” is missing from this report: x"
    data = "The chapter “The data” is missing from this report: no disk"
    assert told == ["# Summary", end, "# The data", data, "# Trees", "## TREE", "# The end", end]


def test_a_chapter_of_nothing_but_missing_models_has_its_title():
    missing = Missing("mlp", "MLP", "02_mlp", "x", position=0, chapter="A multilayer perceptron")
    merged = merge([model("tree", text("# Trees", "once"))], [missing])
    assert sources(merged) == ["# A multilayer perceptron", "## MLP", "# Trees", "## TREE"]


def test_a_report_of_nothing_but_missing_models():
    assert sources(merge([], [Missing("a", "A", "mlp", "x", position=0)])) == ["# Mlp", "## A"]


def test_figures_number_through_and_references_find_their_own_model_first():
    reference = text("See [here](#fig-curve), [](#fig-a-curve) and [gone](#fig-none).")
    merged = merge([model(name, text("# T", "once"), reference, code("f", figure("curve"))) for name in ("a", "b")])
    metas = [output.metadata.fmlib for cell in merged.cells for output in cell.get("outputs", [])]
    assert [(meta.id, meta.label) for meta in metas] == [("fig-a-curve", "Figure\xa01"), ("fig-b-curve", "Figure\xa02")]
    second = sources(merged)[-1]
    assert second == "See [Figure\xa02](#fig-b-curve), [Figure\xa01](#fig-a-curve) and gone."


def test_a_repeated_name_in_one_notebook_stays_unique():
    merged = merge([notebook([code("f", figure("x"), figure("x"))])])
    assert [output.metadata.fmlib.id for output in merged.cells[0].outputs] == ["fig-x", "fig-x--2"]


def test_footnotes_of_other_cells_come_along_and_do_not_collide():
    nb = [
        model(name, text("# T[^s]\n\n[^s]: Source.", "once"), text("Mine[^s] and[^own].\n\n[^own]: Own\n    text."))
        for name in ("a", "b")
    ]
    first, second = [source for source in sources(merge(nb)) if source.startswith("Mine")]
    assert "[^0-s]: Source." in first and "[^1-s]: Source." in second
    assert "[^1-1-own]: Own\n    text." in second


def test_attachments_are_kept():
    cell = text("![x](attachment:x.png)")
    cell.attachments = {"x.png": {"image/png": "aG\nk="}}
    assert sources(merge([notebook([cell])])) == ["![x](data:image/png;base64,aGk=)"]
