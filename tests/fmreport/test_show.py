"""What a figure or a table leaves in the notebook."""

import re
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from nbformat import NotebookNode
from synthetic_report import shown

from fmreport.plots import Plot
from fmreport.show import show_figure, show_notice, show_table


def line() -> plt.Figure:
    figure, ax = plt.subplots(figsize=(4, 3))
    ax.plot([1, 2, 3])
    return figure


def table(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame, **options: object) -> NotebookNode:
    return shown(monkeypatch, lambda: show_table(frame, "A caption", "name", **options)).metadata[
        "fmreport"
    ]


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_a_figure_without_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="alt is empty"):
        show_figure((line(), alt), "A caption", "name")


@pytest.mark.parametrize("caption", ["", "\n", None])
def test_empty_captions_are_refused(caption):
    with pytest.raises(ValueError, match="caption is empty"):
        show_figure((line(), "Words"), caption, "name")
    with pytest.raises(ValueError, match="caption is empty"):
        show_table(pd.DataFrame({"a": [1]}), caption, "name")


@pytest.mark.parametrize("name", ["", "Two words", "a#b", "-a", 'a"b'])
def test_a_name_that_is_no_slug_is_refused(name):
    with pytest.raises(ValueError, match="wanted lower-case letters"):
        show_figure((line(), "Words"), "A caption", name)


def test_a_small_drawing_stays_vector_and_is_the_same_each_time(monkeypatch):
    plt.close("all")
    outputs = [
        shown(monkeypatch, lambda: show_figure((line(), "One line"), "A *caption*", "a-line"))
        for _ in range(2)
    ]
    assert outputs[0] == outputs[1]
    assert "image/svg+xml" in outputs[0].data
    assert 'alt="One line"' in outputs[0].data["text/html"]
    meta = dict(outputs[0].metadata["fmreport"])
    points = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', outputs[0].data["image/svg+xml"])[1])
    assert meta.pop("width") == pytest.approx(points / 72 * 96, abs=2), (
        "as wide as the saved picture, in CSS pixels"
    )
    words = {"name": "a-line", "caption": "A *caption*", "alt": "One line"}
    assert meta == {"kind": "figure", "points": [], **words}
    assert not plt.get_fignums()


def test_a_plots_numbers_and_points_go_with_it(monkeypatch):
    figure, ax = plt.subplots(figsize=(4, 2))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    numbers = pd.DataFrame({"accuracy": [0.9]}, ["a"]).rename_axis("model")
    points = [(ax, 0, 1, "top left"), (ax, 1, 0, "bottom right")]
    plot = Plot(figure, "Alt", numbers, points)
    meta = shown(monkeypatch, lambda: show_figure(plot, "A caption", "name")).metadata["fmreport"]
    assert meta["csv"] == "model,accuracy\na,0.9\n"
    assert meta["numbers"]["columns"] == ["model", "accuracy"]
    (left, top, first), (right, bottom, second) = meta["points"]
    assert (first, second) == ("top left", "bottom right")
    assert 0 < left < 25 and 0 < top < 15 and 85 < right < 100 and 75 < bottom < 95


def test_photos_are_png(monkeypatch):
    figure, ax = plt.subplots()
    ax.imshow(np.zeros((28, 28)))
    data = shown(monkeypatch, lambda: show_figure((figure, "A photo"), "A caption", "photo")).data
    assert "image/png" in data and "image/svg+xml" not in data


def test_text_in_the_notebook_is_escaped(monkeypatch):
    output = shown(monkeypatch, lambda: show_figure((line(), '"><script>'), "<script>", "name"))
    assert "<script>" not in output.data["text/html"]


def test_numbers_of_a_column_share_one_format(monkeypatch):
    frame = pd.DataFrame(
        {"n": [60000, 1], "x": [0.5, 12.25], "signed": [-1.0, 2.0], "share": [0.5, None]},
        index=["a", "b"],
    )
    meta = table(monkeypatch, frame.rename_axis("model"), formats={"x": "{:.1f} s", "share": ".0%"})
    assert meta["columns"] == ["model", "n", "x", "signed", "share"]
    assert meta["rows"] == [
        ["a", "60,000", "0.5 s", "\N{MINUS SIGN}1", "50%"],
        ["b", "1", "12.2 s", "2", "\N{EN DASH}"],
    ]
    assert meta["numeric"] == [False, True, True, True, True]


def test_best_values_are_marked_with_ties_and_without_missing(monkeypatch):
    meta = table(
        monkeypatch,
        pd.DataFrame({"up": [1, 3, 3], "down": [None, 2.0, 1.0]}),
        best={"up": "max", "down": "min"},
    )
    assert meta["best"] == [[False, False], [True, False], [True, True]]


def test_unknown_columns_and_directions_are_refused():
    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(ValueError, match=r"no columns \['b'\]; it has \['a'\]"):
        show_table(frame, "A caption", "name", best={"b": "max"})
    with pytest.raises(ValueError, match="wanted 'max' or 'min'"):
        show_table(frame, "A caption", "name", best={"a": "most"})


def test_an_empty_table_is_shown(monkeypatch):
    assert table(monkeypatch, pd.DataFrame({"a": [], "b": []}))["rows"] == []


def test_jupyterlab_shows_a_table_well(monkeypatch):
    frame = pd.DataFrame({"model": ["a<b", "c"], "score": [0.5, 0.25]})
    caption = "Scores of *all* `<models>`, <b>bold</b>"
    output = shown(monkeypatch, lambda: show_table(frame, caption, "scores", {"score": "max"}))
    html = output.data["text/html"]
    assert html.startswith("<p>Scores of <em>all</em> <code>&lt;models&gt;</code>, &lt;b&gt;")
    assert re.findall(r'<t[dh] style="text-align:(\w+);font-weight:(\w+)">(.*?)</t', html) == [
        ("left", "bold", "model"),
        ("right", "bold", "score"),
        ("left", "normal", "a&lt;b"),
        ("right", "bold", "0.500"),
        ("left", "normal", "c"),
        ("right", "normal", "0.250"),
    ]


def test_jupyterlab_shows_no_raw_markdown_below_a_figure(monkeypatch):
    html = shown(
        monkeypatch, lambda: show_figure((line(), "Words"), "**Loss** at $t_1$", "loss")
    ).data["text/html"]
    math = r'<span class="math">\(t_1\)</span>'  # as MathJax reads it
    assert f"<figcaption><strong>Loss</strong> at {math}</figcaption>" in html


def test_a_notice_is_seen_in_jupyterlab_too(monkeypatch):
    output = shown(monkeypatch, lambda: show_notice("Only <few> images"))
    assert output.data["text/plain"] == "Only <few> images"
    assert (
        "border" in output.data["text/html"]
        and "Only &lt;few&gt; images" in output.data["text/html"]
    )
    assert output.metadata["fmreport"] == {"kind": "notice"}


def test_importing_show_is_quick():
    heavy = (
        "import sys, fmreport.show; print({'pandas', 'matplotlib', 'nbconvert'} & {*sys.modules})"
    )
    assert (
        subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True).stdout.strip()
        == "set()"
    )
