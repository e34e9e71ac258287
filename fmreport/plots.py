"""Figures: each function returns a ``Plot``, about 7 inches wide, as an A4 page takes it.

One style, white background, colours of Okabe and Ito (https://jfly.uni-koeln.de/color/) that
colour-blind readers can tell apart. No function touches pyplot's state. Each draws a table as
``fmreport.compare`` gives it, so that a figure's numbers can be had as that table.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import wraps
from itertools import combinations, cycle
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
import textalloc
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from fmlib.results import Epoch
from fmreport.compare.significance import ALPHA


class Plot(NamedTuple):
    """A figure, with the text that states its finding, its numbers, and its points.

    A point has axes, a place in the data's coordinates, and what a reader who points there is told.
    """

    figure: Figure
    alt: str
    numbers: pd.DataFrame | None = None
    points: Sequence[tuple[Axes, float, float, str]] = ()


INK, GREY, PALE = "#222222", "#767676", "#D9D9D9"
BLUE, ORANGE, GREEN, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
BLUES = LinearSegmentedColormap.from_list("blues", ["#FFFFFF", SKY, BLUE])
BETTER = LinearSegmentedColormap.from_list("better", ["#F3C9A5", "#F4F4F4", "#A9D3EC"])
SMALL = 7.5  # points; nothing in a figure is smaller
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "image.cmap": "gray_r",
    "text.parse_math": False,  # a name with two dollars is no formula
    "text.hinting": "none",  # hinted letters' width varies with the resolution
}
COSTS = {
    "train_seconds": "training time (s)",
    "latency_ms_p95": "time for one image, 95th percentile (ms)",
    "memory_mb": "memory for training (MiB)",
    "parameters": "parameters",
    "flops": "operations per image",
}
KINDS = {  # of points: mark, colour, and what they are
    "front": ("o", BLUE, "on the Pareto front"),
    "behind": ("^", VERMILION, "another model is at least as accurate for less"),
    "study": ("s", GREY, "the original study"),
}
FEW_CLASSES = 12  # that a small matrix has room for
ORDERS = 10  # in which to place labels, at most
CURVES = 5  # lines in one figure
LINES = list(
    zip(
        (BLUE, VERMILION, GREEN, ORANGE, INK),
        ((1, 0), (6, 1.5), (2, 1), (6, 1, 1, 1), (1, 1.5)),
        strict=True,
    )
)  # colours, and dashes that tell them apart in grey
IN_A_ROW = 5  # images of samples, of classes, of cases
MOST = 40  # classes that one figure shows
FEWEST = 20  # images of which a share says something
NOTHING = "Nothing to show: there is no such case, or there are too few results."
P = ParamSpec("P")
Data = TypeVar("Data", bound=Sized)


def _plot(draw: Callable[Concatenate[Data, P], Plot]) -> Callable[Concatenate[Data, P], Plot]:
    """Draw in the one style; of no data at all, draw a notice."""

    @wraps(draw)
    def styled(data: Data, *args: P.args, **kwargs: P.kwargs) -> Plot:
        with mpl.rc_context(STYLE):
            if len(data):
                return draw(data, *args, **kwargs)
            return _nothing()

    return styled


def _nothing() -> Plot:
    figure = Figure(figsize=(7, 0.6))
    figure.text(0, 0.5, NOTHING, va="center", color=GREY)
    return Plot(figure, NOTHING)


def _axes(
    height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, NDArray[Any]]:
    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).ravel()


def _panels(count: int, columns: int, height: float, **options: Any) -> tuple[Figure, NDArray[Any]]:
    """So many axes in rows of ``columns``, a row ``height`` inches high."""
    rows = -(-count // columns)
    figure, axes = _axes(rows * height, rows, columns, **options)
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes[:count]


def short_number(value: float) -> str:
    """A cost with the three digits that matter, and M, G or T for large ones."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# --- Images ---


def _images(images: Sequence[NDArray[Any]], titles: Sequence[str], columns: int) -> Figure:
    """Images, all on one scale of grey, in rows, each under its title."""
    columns = min(columns, len(images))
    lines = max(title.count("\n") + 1 for title in titles)
    figure, axes = _panels(len(images), columns, min(7 / columns, 1.3) + 0.14 * lines)
    top = 255 if max(image.max() for image in images) > 1 else 1
    for ax, image, title in zip(axes, images, titles, strict=True):
        ax.imshow(image, vmin=0, vmax=top, interpolation="nearest")
        ax.set_title(title, loc="center", fontsize=SMALL)
        ax.set_axis_off()
    return figure


@_plot
def sample_grid(images: Sequence[NDArray[Any]], titles: Sequence[str]) -> Plot:
    """Images (n, h, w), or (n, h, w, 3) in colour, uint8 or float in [0, 1], each under its
    title."""
    return Plot(_images(images, titles, IN_A_ROW), _alt_titles(titles))


def _alt_titles(titles: Sequence[str]) -> str:
    count = f"{len(titles)} images" if len(titles) > 1 else "1 image"
    return f"{count}: {', '.join(titles)}.".replace("\n", " ")


@_plot
def heat_over_images(
    images: NDArray[np.uint8], heat: NDArray[np.floating], titles: Sequence[str]
) -> Plot:
    """Heat (n, h, w), from 0 to 1, laid over images (n, h, w) or (n, h, w, 3)."""
    pictures = images if images.ndim == 4 else images[..., None]
    mixed = 0.45 * pictures / 255 + 0.55 * mpl.colormaps["inferno"](heat)[..., :3]
    return Plot(_images(mixed, titles, 6), f"Heat over {_alt_titles(titles)}")


@_plot
def before_after_grid(
    before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]], titles: Sequence[str]
) -> Plot:
    """Two rows of grey images (n, h, w): as they are, and below after a transform.

    Each image has its own scale of grey, from black at 0 or less to white at its brightest.
    """
    shown = []
    for image in (*before, *after):
        low = min(0, image.min())
        shown.append((image - low) / max(image.max() - low, 1e-9))
    figure = _images(shown, [*titles, *["after"] * len(after)], len(before))
    same = sum(map(np.array_equal, before, after))
    return Plot(figure, f"The transform changes {len(before) - same} of {_alt_titles(titles)}")


@_plot
def importance_map(weights: NDArray[np.floating]) -> Plot:
    """Weights (h, w) of pixels, the heavier the darker."""
    figure, (ax,) = _axes(1.9)
    ax.imshow(weights, cmap=BLUES)
    ax.set_axis_off()
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    share = np.sort(weights, axis=None)[::-1].cumsum() / max(weights.sum(), 1e-12)
    half = int((share < 0.5).sum()) + 1
    return Plot(
        figure,
        f"The most important pixel is in row {row} and column {column}, counted from 0; {half} of "
        f"{weights.size} pixels hold half of the importance.",
    )


@_plot
def mean_images(
    images: NDArray[Any], labels: NDArray[np.int64], class_names: Sequence[str]
) -> Plot:
    """The mean image of each class, from images (n, h, w) and labels (n,)."""
    class_names = class_names[:MOST]
    means = np.zeros((len(class_names), *images.shape[1:]))
    known = [c for c in np.unique(labels) if c < MOST]
    for i in known:
        means[i] = images[labels == i].mean(0)
    pairs = combinations(known, 2)
    first, second = min(pairs, key=lambda pair: np.linalg.norm(np.subtract(*means[[*pair]])))
    alike = f"{class_names[first]} and {class_names[second]} are most alike"
    figure = _images(means / 255, class_names, IN_A_ROW)
    return Plot(figure, f"Mean image of each class; {alike}.")


@_plot
def case_gallery(cases: pd.DataFrame, images: NDArray[Any], class_names: Sequence[str]) -> Plot:
    """The images (n, h, w) that ``cases`` picks, a row a group, with number, label and prediction.

    ``cases`` has columns group (words), image, label, prediction (numbers), votes (models).
    """
    groups = {name: rows.head(IN_A_ROW) for name, rows in cases.groupby("group", sort=False)}
    side = min(7 / IN_A_ROW, 1.3)
    figure = Figure(figsize=(7, (side + 0.65) * len(groups)), layout="constrained")
    parts, words = figure.subfigures(len(groups), 1, squeeze=False).ravel(), []
    for part, (group, rows) in zip(parts, groups.items(), strict=True):
        part.suptitle(group, x=0.01, ha="left", fontsize=STYLE["axes.titlesize"])
        axes = part.subplots(1, IN_A_ROW, squeeze=False).ravel()
        for ax in axes:
            ax.set_axis_off()
        titles = []
        for ax, row in zip(axes, rows.itertuples(), strict=False):
            ax.imshow(images[row.image], interpolation="nearest")
            by = "1 model" if row.votes == 1 else f"{row.votes} models"
            names = class_names[row.label], class_names[row.prediction]
            titles.append(f"#{row.image} {names[0]}\n→ {names[1]}, {by}")
            ax.set_title(titles[-1], loc="center", fontsize=SMALL)
        words.append(f"{group}: {_alt_titles(titles)}")
    return Plot(figure, " ".join(words))


# --- Rows: a bar or a dot for each name, the first on top ---


def _bars(ax: Axes, values: pd.Series, texts: Sequence[str], colour: Any = BLUE) -> None:
    """A horizontal bar a row of ``values``, each with its text at its end."""
    bars = ax.barh(values.index, values, color=colour)
    ax.bar_label(bars, texts, padding=3, fontsize=SMALL)
    ax.margins(x=0.2)
    ax.yaxis.set_inverted(True)


def _cost_axis(ax: Axes, values: pd.Series, room: float = 0.1) -> None:
    """A log scale on x where values span more than a factor of 20; ``room`` is the share left free
    on the right."""
    ax.margins(x=room)
    low, high = values.min(), values.max()
    if low > 0 and high > 20 * low:
        ax.set_xscale("log")
        ax.set_xlim(low / (high / low) ** 0.08, high * (high / low) ** room)
        few = high < 1000 * low  # decades, so that their thirds are marked too
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3) if few else (1,), numticks=5))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: short_number(value))
    ax.grid(axis="x")


@_plot
def class_balance(counts_by_split: Mapping[str, ArrayLike], class_names: Sequence[str]) -> Plot:
    """Images of each class in each split, from counts (classes,)."""
    table = pd.DataFrame(counts_by_split, class_names)[:MOST]
    figure, axes = _axes(0.5 + 0.19 * len(table), 1, table.shape[1], sharey=True)
    spreads = []
    for ax, split, colour in zip(axes, table, cycle([BLUE, GREEN, ORANGE]), strict=False):
        _bars(ax, table[split], table[split].map("{:,}".format), colour)
        ax.set_title(f"{split}: {table[split].sum():,}")
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        ends = dict.fromkeys((table[split].min(), table[split].max()))
        spreads.append(f"{split} {' to '.join(f'{count:,}' for count in ends)}")
    return Plot(figure, f"Images per class: {'; '.join(spreads)}.", table)


@_plot
def ablation_bars(table: pd.DataFrame) -> Plot:
    """Change of validation accuracy, in points, against the first row, the full recipe.

    Columns variant, accuracy (fraction), train_seconds.
    """
    table = table.set_index("variant")
    change = 100 * (table["accuracy"] - table["accuracy"].iloc[0])
    cost = table["train_seconds"].map(short_number) + " s"
    figure, (ax,) = _axes(0.7 + 0.24 * max(len(table) - 1, 1))
    texts = change.map("{:+.1f}, ".format) + cost
    _bars(ax, change[1:], texts[1:], np.where(change[1:] < 0, VERMILION, BLUE))
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.margins(x=0.25)
    score = f"{table.index[0]}: {table['accuracy'].iloc[0]:.1%}, {cost.iloc[0]}"
    ax.set_xlabel(f"change in points of validation accuracy; {score}")
    falls = int((change < 0).sum())
    alt = f"{score}. Accuracy falls in {falls} of {len(table) - 1} variants"
    if falls:
        alt += f", most in {change.idxmin()}, by {-change.min():.1f} points"
    return Plot(figure, f"{alt}.", table)


@_plot
def accuracy_bars(table: pd.DataFrame) -> Plot:
    """Accuracy of each model from zero, and beside it close up with its interval.

    Columns accuracy, low, high (fractions), the best model first.
    """
    figure, (left, right) = _axes(0.7 + 0.22 * len(table), 1, 2, sharey=True)
    accuracy, low, high = (100 * table[name] for name in ("accuracy", "low", "high"))
    left.barh(table.index, accuracy, color=BLUE)
    left.set(xlim=(0, 100), title="Test accuracy (%)")
    right.hlines(table.index, low, high, color=BLUE)
    right.plot(accuracy, table.index, "o", color=BLUE, markersize=4)
    for name, end in high.items():
        place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        right.annotate(f"{accuracy[name]:.1f}", (end, name), fontsize=SMALL, **place)
    right.yaxis.set_inverted(True)
    right.margins(x=0.15)
    right.grid(axis="x")
    right.set_title("Close up, with 95% interval")
    alt = (
        f"{table.index[0]} classifies {accuracy.iloc[0]:.1f}% of the images correctly (95% "
        f"interval {low.iloc[0]:.1f}% to {high.iloc[0]:.1f}%)"
    )
    if len(table) > 1:
        alt += f"; {table.index[-1]}, the lowest, {accuracy.iloc[-1]:.1f}%"
    return Plot(figure, f"{alt}.", table[["accuracy", "low", "high"]])


# --- Training ---


@_plot
def learning_curves(history: Sequence[Epoch]) -> Plot:
    """Losses and validation accuracy by epoch; stages are told apart, and the epoch of least
    validation loss is marked."""
    frame = pd.DataFrame([epoch.model_dump() for epoch in history])
    frame.index += 1
    accuracy, loss, train = (
        100 * frame["validation_accuracy"],
        frame["validation_loss"],
        frame["train_loss"],
    )
    best, last = loss.idxmin(), frame.index[-1]
    figure, (left, right) = _axes(2, 1, 2)
    dots = {"marker": "o", "markersize": 2.5}
    left.plot(train, color=GREY, label="training", linestyle="--", **dots)
    for ax, values, title in ((left, loss, "Loss"), (right, accuracy, "Validation accuracy (%)")):
        ax.plot(values, color=BLUE, label="validation", **dots)
        mark = {"color": VERMILION, "label": "lowest validation loss", "zorder": 4}
        ax.plot(best, values[best], "D", **mark)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y")
        _mark_stages(ax, frame["stage"], title)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    alt = (
        f"Validation loss is lowest, {loss[best]:.3f}, in epoch {best} of {last}, with an accuracy "
        f"of {accuracy[best]:.1f}%; the last epoch's is {loss[last]:.3f}, with a training loss of "
        f"{train[last]:.3f}."
    )
    columns = ["stage", "train_loss", "validation_loss", "validation_accuracy"]
    return Plot(figure, alt, frame[columns].rename_axis("epoch"))


def _mark_stages(ax: Axes, stages: pd.Series, title: str) -> None:
    """A dotted line with its name where each of several stages begins; ``stages`` by epoch."""
    ax.set_title(title, pad=16 if stages.nunique() > 1 else 6)
    if stages.nunique() == 1:
        return
    for epoch, stage in stages[stages != stages.shift()].items():
        ax.axvline(epoch - 0.5, color=GREY, linewidth=0.8, linestyle=":")
        place = {"transform": ax.get_xaxis_transform(), "va": "bottom"}
        ax.text(epoch - 0.5, 1.01, stage, color=GREY, fontsize=SMALL, **place)


# --- Matrices ---


def _heat(
    values: pd.DataFrame,
    texts: ArrayLike,
    height: float,
    limits: tuple[float, float],
    cmap: Any = BLUES,
) -> tuple[Figure, Axes]:
    """A matrix of coloured cells, each with its text, dark on light and light on dark; a row is
    ``height`` inches high."""
    figure, (ax,) = _axes(1.2 + height * len(values))
    heat = {"vmin": limits[0], "vmax": limits[1], "cmap": cmap, "cbar": False}
    lines = {"linewidths": 0.6, "linecolor": "white"}
    sns.heatmap(
        values,
        annot=np.asarray(texts),
        fmt="",
        annot_kws={"fontsize": SMALL},
        ax=ax,
        **heat,
        **lines,
    )
    ticks = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, values.columns, **ticks)
    ax.set_yticks(np.arange(len(values)) + 0.5, values.index, rotation=0)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0)
    figure.draw_without_rendering()  # which colours the cells
    colours = ax.collections[0].get_facecolors()
    for text in ax.texts:  # in the middle of its cell; an empty cell has none
        column, row = map(int, text.get_position())
        text.set_color(_ink_on(colours[row * values.shape[1] + column]))
    return figure, ax


def _ink_on(colour: NDArray[np.floating]) -> str:
    """Black or white, whichever stands out more on a colour: contrast as WCAG 2 defines it."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    luminance = linear[:3] @ (0.2126, 0.7152, 0.0722)
    return "black" if luminance > 0.179 else "white"  # 4.6 to 1 at the least


@_plot
def confusion_matrices(
    matrices: Mapping[str, NDArray[np.floating]], class_names: Sequence[str]
) -> Plot:
    """What each model takes for what: of the images of a class (row), which share goes to another.

    ``matrices`` are counts (c, c) with the true class in rows. Of many classes, those with most
    errors.
    """
    errors, shares = {}, {}
    for name, counts in matrices.items():
        errors[name] = counts * (1 - np.eye(len(counts)))
        shares[name] = errors[name] / np.maximum(counts.sum(1, keepdims=True), 1)
    total = np.sum(list(shares.values()), axis=0)
    chosen = np.sort(np.argsort(-total.sum(0) - total.sum(1), kind="stable")[:FEW_CLASSES])
    labels, columns = [class_names[c] for c in chosen], min(4, len(shares))
    size = {"height": 7.4 / columns if columns > 1 else 3.5, "sharex": True, "sharey": True}
    figure, axes = _panels(len(shares), columns, **size)
    top = max(max(one.max() for one in shares.values()), 0.01)
    for ax, (name, one) in zip(axes, shares.items(), strict=True):
        ax.pcolormesh(one[np.ix_(chosen, chosen)], cmap=BLUES, vmin=0, vmax=top)
        ax.set_aspect("equal")
        ax.yaxis.set_inverted(True)
        ax.set_title(name, fontsize=SMALL)
        ax.set_yticks(np.arange(len(labels)) + 0.5, labels)
        ax.set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=90)
        ax.tick_params(length=0)
    for ax in axes[-columns:]:
        ax.tick_params(labelbottom=True)
    figure.supxlabel("predicted class", fontsize=8)
    figure.supylabel("true class", fontsize=8)
    true, guess = np.unravel_index(total.argmax(), total.shape)
    share = total[true, guess] / len(shares)
    alt = (
        f"The most frequent error: {share:.0%} of the {class_names[true]} images are taken for "
        f"{class_names[guess]}, on average over the models."
    )
    return Plot(figure, alt, _errors_listed(errors, class_names))


def _errors_listed(
    errors: Mapping[str, NDArray[np.floating]], class_names: Sequence[str]
) -> pd.DataFrame:
    """The five most frequent errors of each model: true and predicted class, images."""
    rows = []
    for name, counts in errors.items():
        for place in np.argsort(-counts, axis=None, kind="stable")[:5]:
            true, guess = np.unravel_index(place, counts.shape)
            rows.append((name, class_names[true], class_names[guess], counts[true, guess]))
    return pd.DataFrame(rows, columns=["model", "class", "taken for", "images"])


@_plot
def class_heatmap(scores: pd.DataFrame, name: str = "F1") -> Plot:
    """A score of each class (row) by each model (column)."""
    scores = scores.loc[scores.index.isin(scores.mean(axis=1).nsmallest(MOST).index)]
    limits = min(scores.min(axis=None), 0.5), 1
    figure, _ = _heat(scores, scores.map("{:.2f}".format), 0.25, limits)
    mean = scores.mean(axis=1)
    alt = (
        f"{name} of each class by each model: hardest on average is {mean.idxmin()} "
        f"({mean.min():.2f}), easiest {mean.idxmax()} ({mean.max():.2f})."
    )
    return Plot(figure, alt, scores.rename_axis("class"))


@_plot
def pairs_matrix(p_values: pd.DataFrame, accuracy: pd.Series) -> Plot:
    """Whether the row's model is better or worse than the column's, or tied, with the corrected
    p-value."""
    score = accuracy[p_values.index].to_numpy()
    sign = pd.DataFrame(np.sign(score[:, None] - score), p_values.index, p_values.columns)
    sign = sign.where(p_values < ALPHA, 0)
    p_texts = p_values.map(lambda p: "p<.001" if p < 0.001 else f"p={p:.2g}")
    texts = sign.replace({1: "better\n", -1: "worse\n", 0: "tied\n"}) + p_texts
    figure, ax = _heat(sign, texts.mask(np.eye(len(sign)) > 0, ""), 0.36, (-1, 1), BETTER)
    ax.set_title("The row's model against the column's")
    models = len(sign)
    tied = (int((sign == 0).to_numpy().sum()) - models) // 2
    with_best = sign.columns[1:][sign.iloc[0, 1:] == 0]
    alt = (
        f"{tied} of {models * (models - 1) // 2} pairs of models are tied; tied with "
        f"{sign.index[0]}: {'; '.join(with_best) or 'none'}."
    )
    return Plot(figure, alt, p_values)


@_plot
def agreement_matrix(overlap: pd.DataFrame) -> Plot:
    """Which share of the images that two models get wrong they get wrong together."""
    shares = overlap.mask(np.eye(len(overlap)) > 0)
    texts = overlap.map("{:.2f}".format).where(shares.notna(), "")
    figure, _ = _heat(shares, texts, 0.3, (0, max(shares.max(axis=None), 0.01)))
    ranked = shares.stack().dropna().sort_values(kind="stable")
    (a, b), share = ranked.index[-1], ranked.iloc[-1]
    alt = f"{a} and {b} err most alike: {share:.0%} of the images that either gets wrong both do."
    return Plot(figure, alt, overlap)


# --- Accuracy against cost ---


@_plot
def tradeoffs(table: pd.DataFrame, fronts: pd.DataFrame, study: pd.DataFrame | None = None) -> Plot:
    """Accuracy against each cost that is a column of ``fronts``, a panel each.

    ``table`` is an overview of one machine, ``fronts`` tells which models are on each cost's Pareto
    front. ``study`` (columns accuracy and the costs) adds grey points. A model without a figure for
    a cost, such as an unknown parameter count, is not in its panel. One panel has names beside the
    points; several have numbers, as there is less room, and a key.
    """
    costs = [cost for cost in fronts if table[cost].notna().any()]
    if not costs:
        return _nothing()
    wide = min(len(costs), 2)
    figure, axes = _panels(len(costs), wide, 2.5 if wide == 1 else 2.9)
    panels = [_points(table, fronts[cost], study) for cost in costs]
    for ax, points, cost in zip(axes, panels, costs, strict=True):
        _cost_panel(ax, points, cost)
    _legend_of_kinds(figure, axes)
    labels = dict(zip(table.index, table.index, strict=True))
    if len(costs) > 1:
        labels = {name: str(number) for number, name in enumerate(table.index, 1)}
        key = ", ".join(f"{number} {name}" for name, number in labels.items())
        figure.supxlabel(textwrap.fill(key, 125), x=0.01, ha="left", fontsize=SMALL)
    figure.draw_without_rendering()  # lays the axes out, so that labels can be measured
    figure.set_layout_engine("none")
    for ax, points in zip(axes, panels, strict=True):
        _label_points(ax, points, [labels.get(name, name) for name in points.index])
    shown = [
        (ax, row.cost, row.accuracy, _point_words(row, cost))
        for ax, points, cost in zip(axes, panels, costs, strict=True)
        for row in points.itertuples()
    ]
    alt = " ".join(map(_front_words, costs, panels))
    numbers = table[["accuracy", *costs]]
    if study is not None:
        theirs = study[["accuracy", *costs]].add_suffix(" (study)", axis=0)
        numbers = pd.concat([numbers, theirs]).rename_axis("model")
    return Plot(figure, alt, numbers, shown)


def _legend_of_kinds(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for all panels: what each mark means, of those that a panel has."""
    marks = {}
    for ax in axes:
        handles, names = ax.get_legend_handles_labels()
        marks |= dict(zip(names, handles, strict=True))
    figure.legend(marks.values(), marks, loc="outside upper left", ncols=len(marks))


def _points(table: pd.DataFrame, front: pd.Series, study: pd.DataFrame | None) -> pd.DataFrame:
    """What a panel shows, the cheapest first: cost, accuracy (%), kind of point."""
    ours = table[[front.name, "accuracy"]].assign(kind=np.where(front, "front", "behind"))
    if study is not None:
        theirs = study[[front.name, "accuracy"]].assign(kind="study")
        ours = pd.concat([ours, theirs.add_suffix(" (study)", axis=0)])
    points = ours.set_axis(["cost", "accuracy", "kind"], axis=1).dropna()
    return points.assign(accuracy=100 * points["accuracy"]).sort_values(["cost", "accuracy"])


def _point_words(point: Any, cost: str) -> str:
    what = COSTS.get(cost, cost)
    return f"{point.Index}: {point.accuracy:.1f}%, {what} {short_number(point.cost)}"


def _cost_panel(ax: Axes, points: pd.DataFrame, cost: str) -> None:
    front = points[points["kind"] == "front"]
    ax.step(front["cost"], front["accuracy"], where="post", color=BLUE, linewidth=0.8, alpha=0.5)
    for kind, (mark, colour, label) in KINDS.items():
        some = points[points["kind"] == kind]
        if len(some):
            looks = {"marker": mark, "color": colour, "label": label, "s": 18, "zorder": 3}
            ax.scatter(some["cost"], some["accuracy"], **looks)
    ax.set(xlabel=COSTS.get(cost, cost), ylabel="test accuracy (%)")
    ax.margins(y=0.15)
    ax.grid(axis="y")
    _cost_axis(ax, points["cost"])


def _label_points(ax: Axes, points: pd.DataFrame, labels: Sequence[str]) -> None:
    """Write each label where it covers neither point nor label; a line leads from it to its point.

    Labels are placed one by one, the rightmost first, as the frame leaves them the least room.
    Where that finds no room for one of them, other orders are tried.
    """
    points = points[::-1]
    for order in range(ORDERS):
        *_, texts, lines = textalloc.allocate(
            ax,
            points["cost"],
            points["accuracy"],
            labels[::-1],
            x_scatter=points["cost"].to_numpy(),
            y_scatter=points["accuracy"].to_numpy(),
            scatter_sizes=[18] * len(points),
            textsize=SMALL,
            textcolor=[KINDS[kind][1] for kind in points["kind"]],
            linecolor=GREY,
            linewidth=0.5,
            va="bottom",
            min_distance=0.01,  # shares of the panel, as are the next two
            margin=0.004,
            max_distance=0.3,
            nbr_candidates=1000,
            avoid_label_lines_overlap=True,
            priority_strategy=order or None,
            draw_all=order == ORDERS - 1,
        )
        if all(texts):
            return
        for drawn in filter(None, texts + lines):
            drawn.remove()


def _front_words(cost: str, points: pd.DataFrame) -> str:
    names = points.index.to_series().groupby(points["kind"]).agg("; ".join)
    study = f" The original study's: {names['study']}." if "study" in names else ""
    return (
        f"Accuracy against {COSTS.get(cost, cost)}: on the Pareto front, the cheapest first: "
        f"{names['front']}. Behind it: {names.get('behind', 'none')}.{study}"
    )


# --- Probabilities ---


@_plot
def answered_curves(curve: pd.DataFrame) -> Plot:
    """Accuracy of the answers against the share of images answered, a line a model.

    ``curve`` is of ``calibration.answered``; of its models the first ``CURVES``.
    """
    models = list(curve["model"].unique()[:CURVES])
    figure, (ax,) = _axes(3.2)
    for model, (colour, dash) in zip(models, LINES, strict=False):
        one = curve[curve["model"] == model]
        ax.plot(100 * one["share"], 100 * one["accuracy"], color=colour, dashes=dash, label=model)
    ax.set(xlabel="share of images, the most confident (%)", title="Accuracy on them (%)")
    ax.grid()
    ax.legend(handlelength=3.5)
    half = curve[(curve["model"] == models[0]) & np.isclose(curve["share"], 0.5)]
    alt = (
        f"{models[0]} is correct on {half['accuracy'].iloc[0]:.1%} of the half that it is most "
        "confident of; of all images, on "
        f"{curve[curve['model'] == models[0]]['accuracy'].iloc[-1]:.1%}."
    )
    twentieths = np.isclose(20 * curve["share"], np.round(20 * curve["share"]))
    table = curve[twentieths & curve["model"].isin(models)]
    return Plot(figure, alt, table.pivot_table("accuracy", "share", "model")[models])


@_plot
def reliability_diagrams(curves: pd.DataFrame) -> Plot:
    """Accuracy against confidence of each model, before and after temperature scaling.

    ``curves`` is of ``calibration.curves``; bins of fewer than ``FEWEST`` images are not drawn.
    """
    models = curves["model"].unique()
    columns = -(-len(models) // -(-len(models) // 5))  # rows of equal length, of five at most
    height = min(0.4 + 7 / columns, 2.1)
    figure, axes = _panels(len(models), columns, height, sharex=True, sharey=True)
    drawn = curves[curves["count"] >= FEWEST]
    for ax, model in zip(axes, models, strict=True):
        ax.plot([0, 1], [0, 1], color=PALE, linewidth=1)
        looks = ((False, BLUE, "--", "before"), (True, VERMILION, "-", "after"))
        for scaled, colour, dash, label in looks:
            bins = drawn[(drawn["model"] == model) & (drawn["scaled"] == scaled)]
            line = {"marker": "o", "markersize": 2.2, "linewidth": 1, "linestyle": dash}
            ax.plot(bins["confidence"], bins["accuracy"], color=colour, label=label, **line)
        ax.set_title(model.replace(" (", "\n("), fontsize=SMALL)  # the longest need two lines
        ax.set_aspect("equal")
    axes[0].legend(handlelength=1, borderpad=0, borderaxespad=0.2)
    figure.supxlabel("confidence", fontsize=8)
    figure.supylabel("accuracy", fontsize=8)
    return Plot(figure, _confidence_words(curves[~curves["scaled"]]), drawn.set_index("model"))


def _confidence_words(curves: pd.DataFrame) -> str:
    excess = 100 * (curves["confidence"] - curves["accuracy"]) * curves["count"]
    sums = curves.assign(excess=excess).groupby("model")[["excess", "count"]].sum()
    gaps = sums["excess"] / sums["count"]
    most = gaps.abs().idxmax()
    kind, side = ("over", "above") if gaps[most] > 0 else ("under", "below")
    return (
        f"{most} is the most {kind}confident before scaling: its confidence is on average "
        f"{abs(gaps[most]):.1f} points {side} its accuracy."
    )
