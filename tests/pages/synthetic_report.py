"""A small report made by hand: executed notebooks without a kernel or a training run, with all that may go wrong in one."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import numpy as np
import pandas as pd
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fmreport.render import Missing, ReportMetadata, merge, show_figure, show_table

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
    """The output that a call of show_figure or show_table leaves in a notebook."""
    outputs = []
    with monkeypatch.context() as patch:
        patch.setattr("IPython.display.display", lambda data, metadata, raw: outputs.append((data, metadata)))
        call()
    [(data, metadata)] = outputs
    return new_output("display_data", data=data, metadata=metadata)


def code(source: str, *outputs: NotebookNode, tags: tuple[str, ...] = ()) -> NotebookNode:
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def text(source: str, *tags: str) -> NotebookNode:
    return new_markdown_cell(source, metadata={"tags": list(tags)})


def printed(words: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=words)


def curve(seed: int, caption: str, name: str = "learning-curve") -> None:
    figure, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    steps = np.arange(1, 16)
    ax.plot(steps, 0.5 / steps + 0.02 * seed, label="train")
    ax.plot(steps, 0.4 / steps + 0.1, label="validation", linestyle="--")
    ax.set(xlabel="epoch", ylabel="loss")
    ax.legend(frameon=False)
    show_figure((figure, "Two lines that fall: training and validation loss over 15 epochs."), caption, name)


def heat_map(seed: int, caption: str) -> None:
    figure, ax = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    values = np.random.default_rng(seed).integers(0, 1000, (10, 10))
    ax.pcolormesh(values, cmap="Blues")
    for (y, x), value in np.ndenumerate(values):
        ax.text(x + 0.5, y + 0.5, value, ha="center", va="center", fontsize=7)
    show_figure((figure, "A grid of ten true by ten predicted classes."), caption, "confusion")


def photos(seed: int, caption: str) -> None:
    figure, axes = plt.subplots(2, 5, figsize=(7, 3.2), layout="constrained")
    for ax in axes.flat:
        ax.imshow(np.random.default_rng(seed).random((28, 28)), cmap="gray")
        ax.axis("off")
    show_figure((figure, "Ten grey photos."), caption, "errors")


def scores() -> pd.DataFrame:
    names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
    rng = np.random.default_rng(9)
    columns = {"precision": rng.random(10), "recall": rng.random(10), "F1": rng.random(10), "images": [1000] * 10}
    frame = pd.DataFrame(columns, index=pd.Index(names, name="class"))
    frame.loc["Shirt", "precision"] = None
    return frame


def settings() -> pd.DataFrame:
    return pd.DataFrame({"setting": [f"setting {i}" for i in range(21)], "value": [f"value {i}" for i in range(21)]})


INTRODUCTION = """# {chapter}

A family's introduction, with *emphasis* and a source[^1]. Each model below is trained on the same images. A line of text that
says enough to be read as a paragraph, so that the page's typography can be judged, with naïve accents: São Paulo, Übermaß.

[^1]: Breiman, "Random Forests", *Machine Learning* 45 (2001), <https://doi.org/10.1023/A:1010933404324>.
"""
METHOD = """## How it works

The network maps $x \\in \\mathbb{R}^{784}$ to class scores and minimises the cross-entropy

$$\\mathcal{L}(\\theta) = -\\frac{1}{n} \\sum_{i=1}^{n} \\log \\frac{\\exp z_{i, y_i}}{\\sum_{k} \\exp z_{i, k}}$$

with `weight_decay` of 0.01[^1]. See [](#fig-learning-curve), [the matrix](#fig-confusion) and [](#table-scores); also
[what is nowhere](#fig-nowhere). An image ![a dot](attachment:dot.png) from an attachment.

1. One step
2. Another step

> A thought of someone else.

| setting | value |
|---|--:|
| epochs | 15 |

[^1]: Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (2019).
"""
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg=="


def model_notebook(monkeypatch: pytest.MonkeyPatch, family: str, model: str, name: str, seed: int) -> NotebookNode:
    method = text(METHOD)
    method.attachments = {"dot.png": {"image/png": DOT}}
    caption = f"Loss of {name} by epoch, *lower is better*; best at $t = {seed}$"
    cells = [
        text(INTRODUCTION.format(chapter=f"{family.capitalize()} models"), "once"),
        code("model = 'x'", tags=("parameters",)),
        code("model = 'y'", tags=("injected-parameters",)),
        code("import fmlib\n\nsecret = 'dropped'", tags=("remove-cell",)),
        method,
        text(f"Only for {name}.", f"model-{model}"),
        text("Only for another model.", "model-another"),
        text("## Training"),
        code(f"# The one loop\n{LONG_LINE}\n{LONG_WORD}\nfit(model)", tags=("key-code",)),
        code(
            "train()",
            printed("epoch 1 loss 0.5\n"),
            printed("epoch 2 loss 0.4\n"),
            printed("warn\x1b[31m!\n", "stderr"),
            tags=("training-log",),
        ),
        code("show()", shown(monkeypatch, lambda: curve(seed, caption)), tags=("remove-input",)),
        text("## Results"),
        code(
            "heat()", shown(monkeypatch, lambda: heat_map(seed, '<script>alert(1)</script> # odd [caption](#nowhere) & "so"'))
        ),
        code("photos()", shown(monkeypatch, lambda: photos(seed, "Images that it gets wrong with confidence"))),
        code(
            "t()", shown(monkeypatch, lambda: show_table(scores(), f"Scores of {name}", "scores", {"F1": "max"}, {"F1": ".2f"}))
        ),
        code("note()", new_output("display_data", data={"text/markdown": f"### Remark\n\n{name} errs **most** on shirts."})),
    ]
    return notebook(cells, notebook=f"0_{family}", model=model, display_name=name, family=family, seed=9)


def notebook(cells: list[NotebookNode], **meta: object) -> NotebookNode:
    names = {"model": None, "display_name": None, "family": None}
    return new_notebook(cells=cells, metadata={"fmlib": {**names, **meta}})


def comparison(monkeypatch: pytest.MonkeyPatch) -> NotebookNode:
    wide = (
        pd.DataFrame(np.random.default_rng(1).random((45, 14)) * 1e4, columns=[f"a long heading {i}" for i in range(14)])
        .assign(model=[f"Model {i}" for i in range(45)])
        .set_index("model")
    )
    verdict = "## Summary\n\nThe **MLP** is best here; see [](#fig-learning-curve) and [](#table-everything)."
    verdict += "\n\n### In short\n\nRead on."
    cells = [
        text("# Comparison\n\nAll models side by side."),
        code("v()", new_output("display_data", data={"text/markdown": verdict}), tags=("summary", "remove-input")),
        code("long()", shown(monkeypatch, lambda: show_table(settings(), "All settings", "settings"))),
        code("wide()", shown(monkeypatch, lambda: show_table(wide, "Everything", "everything", {"a long heading 3": "min"}))),
        code(
            "broken()", new_output("error", ename="ValueError", evalue="\x1b[31mno such column\nat line 3", traceback=["Trace"])
        ),
        text("```python\nunclosed = True"),
        text("<!-- an unclosed comment\n\nand a last word."),
        text("A remote ![picture](https://example.org/x.png) is a link. H<sub>2</sub>O <script>alert(2)</script>"),
        code("'plain'", new_output("execute_result", data={"text/plain": "'plain result'"})),
    ]
    return notebook(cells, notebook="05_comparison")


def merged_report() -> NotebookNode:
    """The merged report of all of the above, with two models missing."""
    with pytest.MonkeyPatch.context() as patch:
        data = notebook(
            [text("# The data\n\nFashionMNIST has 70,000 images."), text("## Classes\n\nTen.")], notebook="00_dataset"
        )
        models = [
            model_notebook(patch, "classical", "decision_tree", "Decision Tree", 1),
            model_notebook(patch, "classical", "random_forest", "Random Forest", 2),
            model_notebook(patch, "mlp", "mlp", "MLP", 3),
        ]
        missing = [
            Missing("svm", "SVM", "classical", "the kernel died (out of memory)\nTraceback ...", position=2),
            Missing("vgg16", "VGG16", "transfer", "weights can't be had", position=4),
        ]
        return merge([data, *models, comparison(patch)], missing)
