"""A small report made by hand: notebooks as if executed, with all that may go wrong in one."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import numpy as np
import pandas as pd
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fmreport.merge import Chapter, ReportMetadata
from fmreport.show import show_figure, show_notice, show_table

matplotlib.use("agg")
import matplotlib.pyplot as plt

LONG_LINE = f"settings = {{{', '.join(f'parameter_{i:02}: {i}' for i in range(24))}}}"
LONG_WORD = f'digest = "{"0123456789abcdef" * 12}"'
METADATA = ReportMetadata(
    title="Ten classifiers on FashionMNIST",
    subtitle="What each one costs, what it gets wrong, and which to choose",
    date="2026-01-31",
    profile="synthetic",
    machine="2 cores, 7.8 GB, no GPU",
    commit="0123abc",
    keywords=("FashionMNIST", "image classification"),
)


def shown(monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]) -> NotebookNode:
    """The output that a call of show_figure, show_table or show_notice leaves in a notebook."""
    outputs = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "IPython.display.display", lambda data, metadata, raw: outputs.append((data, metadata))
        )
        call()
    [(data, metadata)] = outputs
    return new_output("display_data", data=data, metadata=metadata)


def code(source: str, *outputs: NotebookNode, tags: tuple[str, ...] = ()) -> NotebookNode:
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def text(source: str) -> NotebookNode:
    return new_markdown_cell(source)


def printed(words: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=words)


def curve(seed: int, caption: str, name: str) -> None:
    figure, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    steps = np.arange(1, 16)
    ax.plot(steps, 0.5 / steps + 0.02 * seed, label="train")
    ax.plot(steps, 0.4 / steps + 0.1, label="validation", linestyle="--")
    ax.set(xlabel="epoch", ylabel="loss")
    ax.legend(frameon=False)
    show_figure(
        (figure, "Two lines that fall: training and validation loss over 15 epochs."), caption, name
    )


def heat_map(seed: int, caption: str, name: str) -> None:
    figure, ax = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    values = np.random.default_rng(seed).integers(0, 1000, (10, 10))
    ax.pcolormesh(values, cmap="Blues")
    for (y, x), value in np.ndenumerate(values):
        ax.text(x + 0.5, y + 0.5, value, ha="center", va="center", fontsize=7)
    show_figure((figure, "A grid of ten true by ten predicted classes."), caption, name)


def photos(seed: int, caption: str, name: str) -> None:
    figure, axes = plt.subplots(2, 5, figsize=(7, 3.2), layout="constrained")
    for ax in axes.flat:
        ax.imshow(np.random.default_rng(seed).random((28, 28)), cmap="gray")
        ax.axis("off")
    show_figure((figure, "Ten grey photos."), caption, name)


def scores() -> pd.DataFrame:
    names = [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ]
    rng = np.random.default_rng(9)
    columns = {
        "precision": rng.random(10),
        "recall": rng.random(10),
        "F1": rng.random(10),
        "images": [1000] * 10,
    }
    frame = pd.DataFrame(columns, index=pd.Index(names, name="class"))
    frame.loc["Shirt", "precision"] = None
    return frame


def settings() -> pd.DataFrame:
    return pd.DataFrame(
        {"setting": [f"setting {i}" for i in range(21)], "value": [f"value {i}" for i in range(21)]}
    )


INTRODUCTION = """# {chapter}

A family's introduction, with *emphasis* and a source[^1]. Each model below is trained on the same
images. A line of text that says enough to be read as a paragraph, so that the page's typography can
be judged, with naïve accents: São Paulo, Übermaß.

[^1]: Breiman, "Random Forests", *Machine Learning* 45 (2001),
    <https://doi.org/10.1023/A:1010933404324>.
"""
METHOD = """### How it works

The network maps $x \\in \\mathbb{R}^{784}$ to class scores and minimises the cross-entropy

$$\\mathcal{L}(\\theta) = -\\frac{1}{n} \\sum_{i=1}^{n}
\\log \\frac{\\exp z_{i, y_i}}{\\sum_{k} \\exp z_{i, k}}$$

with `weight_decay` of 0.01[^1]. See [](#fig-MODEL-learning-curve),
[the matrix](#fig-MODEL-confusion) and [](#table-MODEL-scores); also
[what is nowhere](#fig-nowhere). An image ![a dot](attachment:dot.png) from an attachment.

1. One step
2. Another step

> A thought of someone else.

| setting | value |
|---|--:|
| epochs | 15 |

[^1]: Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (2019).
"""
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4"
    "//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg=="
)
ODD_CAPTION = '<script>alert(1)</script> # odd [caption](#nowhere) & "so"'
LOG = (
    printed("epoch 1 loss 0.5\n"),
    printed("epoch 2 loss 0.4\n"),
    printed("warn\x1b[31m!\n", "stderr"),
)


def model_section(
    patch: pytest.MonkeyPatch, model: str, name: str, seed: int
) -> list[NotebookNode]:
    """A model's section of a chapter: method, training and results."""
    method = text(METHOD.replace("MODEL", model))
    method.attachments = {"dot.png": {"image/png": DOT}}
    loss = f"Loss of {name} by epoch, *lower is better*; best at $t = {seed}$"
    wrong = "Images that it gets wrong with confidence"
    about = f"Scores of {name}"
    remark = {"text/markdown": f"#### Remark\n\n{name} errs **most** on shirts."}

    def table() -> None:
        show_table(scores(), about, f"{model}-scores", {"F1": "max"}, {"F1": ".2f"})

    return [
        text(f"## {name}"),
        method,
        text("### Training"),
        code(f"# The one loop\n{LONG_LINE}\n{LONG_WORD}\nfit(model)", tags=("key-code",)),
        code("train()", *LOG, tags=("training-log",)),
        code(
            "show()",
            shown(patch, lambda: curve(seed, loss, f"{model}-learning-curve")),
            tags=("hide-input",),
        ),
        text("### Results"),
        code("heat()", shown(patch, lambda: heat_map(seed, ODD_CAPTION, f"{model}-confusion"))),
        code("photos()", shown(patch, lambda: photos(seed, wrong, f"{model}-errors"))),
        code("t()", shown(patch, table)),
        code("note()", new_output("display_data", data=remark)),
    ]


def family(chapter: str, *sections: list[NotebookNode]) -> NotebookNode:
    """A chapter of one or more models."""
    cells = [
        text(INTRODUCTION.format(chapter=chapter)),
        code("model = 'x'", tags=("parameters",)),
        code("model = 'y'", tags=("injected-parameters",)),
        code("import fmlib\n\nsecret = 'dropped'", tags=("remove-cell",)),
    ]
    return notebook([*cells, *(cell for section in sections for cell in section)])


def notebook(cells: list[NotebookNode]) -> NotebookNode:
    return new_notebook(cells=cells)


def comparison(patch: pytest.MonkeyPatch) -> NotebookNode:
    """The chapter that opens the report, with all that may go wrong in one."""
    numbers = np.random.default_rng(1).random((45, 14)) * 1e4
    wide = pd.DataFrame(numbers, columns=[f"a long heading {i}" for i in range(14)])
    wide.index = pd.Index([f"Model {i}" for i in range(45)], name="model")
    verdict = "## The answer\n\nThe **MLP** is best here; see [](#fig-mlp-learning-curve) and "
    verdict += "[](#table-everything).\n\n#### In short\n\nRead on."
    foreign = "A remote ![picture](https://example.org/x.png) is a link. H<sub>2</sub>O "
    foreign += "<script>alert(2)</script>"
    trace = ["Traceback (most recent call last)"]
    failure = new_output(
        "error", ename="ValueError", evalue="\x1b[31mno such column\nat line 3", traceback=trace
    )

    def everything() -> None:
        show_table(wide, "Everything", "everything", {"a long heading 3": "min"})

    return notebook(
        [
            text("# Comparison\n\nAll models side by side."),
            code(
                "v()",
                new_output("display_data", data={"text/markdown": verdict}),
                tags=("hide-input",),
            ),
            code("n()", shown(patch, lambda: show_notice("Only 500 images: <no more>"))),
            code(
                "long()", shown(patch, lambda: show_table(settings(), "All settings", "settings"))
            ),
            code("wide()", shown(patch, everything)),
            code("broken()", failure),
            text("```python\nunclosed = True"),
            text("<!-- an unclosed comment\n\nand a last word."),
            text(foreign),
            code("'plain'", new_output("execute_result", data={"text/plain": "'plain result'"})),
        ]
    )


def chapters() -> list[Chapter]:
    """The chapters of a report, one of them missing."""
    with pytest.MonkeyPatch.context() as patch:
        data = notebook(
            [text("# The data\n\nFashionMNIST has 70,000 images."), text("## Classes\n\nTen.")]
        )
        tree = model_section(patch, "decision_tree", "Decision Tree", 1)
        forest = model_section(patch, "random_forest", "Random Forest", 2)
        mlp = model_section(patch, "mlp", "MLP", 3)
        return [
            Chapter("Comparison", comparison(patch)),
            Chapter("The data", data),
            Chapter("Classical models", family("Classical models", tree, forest)),
            Chapter("A multilayer perceptron", family("A multilayer perceptron", mlp)),
            Chapter("Transfer learning", None, "the kernel died (out of memory)\nTraceback ..."),
        ]
