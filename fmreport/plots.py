"""Figures: each function returns a figure about 7 inches wide, as an A4 page takes it, and a text that states its finding.

One style, white background, colours of Okabe and Ito (https://jfly.uni-koeln.de/color/) that colour-blind readers can tell
apart. No function touches pyplot's state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import wraps
from textwrap import fill
from typing import Any, Concatenate, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike, NDArray

from fmlib.results import Epoch

Plot = tuple[Figure, str]
INK, GREY, PALE = "#222222", "#767676", "#D9D9D9"
BLUE, ORANGE, GREEN, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
BLUES = LinearSegmentedColormap.from_list("blues", ["#FFFFFF", SKY, BLUE])
STYLE = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "axes.axisbelow": True,
    "axes.grid": False, "grid.color": "#E6E6E6", "grid.linewidth": 0.6, "lines.linewidth": 1.4, "xtick.minor.visible": False,
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white", "image.cmap": "gray_r",
    "text.hinting": "none",  # hinted letters are wider or narrower with the resolution, and labels placed by their size
}
COSTS = {"train_seconds": "training time (s)", "latency_ms": "time to classify one image (ms)",
         "memory_mb": "memory for training (MiB)", "parameters": "parameters", "flops": "operations an image"}
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
            figure = Figure(figsize=(7, 0.6))
            figure.text(0, 0.5, NOTHING, va="center", color=GREY)
            return figure, NOTHING
    return styled


def _axes(
    height: float, rows: int = 1, columns: int = 1, width: float = 7, **options: Any
) -> tuple[Figure, NDArray[Any]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).ravel()


def _number(value: float) -> str:
    """Three digits, with M, G and T for large numbers."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _range(values: pd.Series, unit: str) -> str:
    """The least and the greatest value, and whose they are."""
    ends = (f"{_number(values[name])} {unit} ({name})" for name in dict.fromkeys((values.idxmin(), values.idxmax())))
    return " to ".join(ends)


def _cost_axis(ax: Axes, values: pd.Series, room: float = 0.1) -> None:
    """A log scale on x where values span more than a factor of 20; ``room`` is the share left free on the right."""
    ax.margins(x=room)
    if values.min() > 0 and (span := values.max() / values.min()) > 20:
        ax.set_xscale("log")
        ax.set_xlim(values.min() / span**0.08, values.max() * span**room)
        ax.xaxis.get_major_locator().set_params(numticks=5)
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: _number(value))
    ax.grid(axis="x")


# --- Images ----------------------------------------------------------------------------------------------------------------


def _images(images: Sequence[NDArray[Any]], titles: Sequence[str], columns: int) -> Figure:
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    lines = max(title.count("\n") + 1 for title in titles)
    side = min(7 / columns, 1.3)
    figure, axes = _axes(rows * (side + 0.14 * lines), rows, columns)
    for ax in axes:
        ax.set_axis_off()
    top = 255 if np.max(images) > 1 else 1
    for ax, image, title in zip(axes, images, titles, strict=False):
        ax.imshow(image, vmin=0, vmax=top, interpolation="nearest")
        ax.set_title(title, loc="center", fontsize=7.5)
    return figure


@_plot
def sample_grid(images: Sequence[NDArray[Any]], titles: Sequence[str], columns: int = 5) -> Plot:
    """Images (n, h, w), or (n, h, w, 3) in colour, uint8 or float in [0, 1], each under its title."""
    return _images(images, titles, columns), f"{len(images)} images: {', '.join(titles)}.".replace("\n", " ")


@_plot
def before_after_grid(before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]], titles: Sequence[str]) -> Plot:
    """Two rows of grey images (n, h, w): as they are, and below after a transform. Each row has its own grey scale."""
    figure, axes = _axes(0.3 + 2 * min(7 / len(before), 1.3), 2, len(before))
    for ax, image, title in zip(axes, [*before, *after], [*titles, *[""] * len(after)], strict=True):
        ax.imshow(image, interpolation="nearest", vmin=min(0, np.min(image)))
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(title, loc="center", fontsize=7.5)
    axes[0].set_ylabel("before")
    axes[len(before)].set_ylabel("after")
    changed = sum(a.shape != b.shape or not np.allclose(a, b) for a, b in zip(before, after, strict=True))
    return figure, f"The transform changes {changed} of {len(before)} images: {', '.join(titles)}."


@_plot
def mean_images(images: NDArray[Any], labels: NDArray[np.int64], class_names: Sequence[str]) -> Plot:
    """The mean image of each class, from images (n, h, w) and labels (n,)."""
    means = np.array([images[labels == i].mean(0) if (labels == i).any() else images[0] * 0.0 for i in range(len(class_names))])
    gaps = np.linalg.norm((means[:, None] - means).reshape(len(means), len(means), -1), axis=2)
    first, second = np.unravel_index(np.where(gaps == 0, np.inf, gaps).argmin(), gaps.shape)
    alike = f"{class_names[first]} and {class_names[second]} are most alike"
    return _images(means, class_names, 5), f"Mean image of each class; {alike}."


@_plot
def case_gallery(cases: pd.DataFrame, images: NDArray[Any], class_names: Sequence[str], finding: str, columns: int = 5) -> Plot:
    """The images (n, h, w) that ``cases`` picks, with number, label and prediction; ``finding`` opens the alternative text.

    ``cases`` has columns image, label, prediction (numbers), and either votes (models) or confidence.
    """
    titles, kinds = [], Counter()
    for case in cases.itertuples():
        label, guess = class_names[case.label], class_names[case.prediction]
        why = f"{case.confidence:.0%}" if "confidence" in cases else f"{case.votes} model{'s' * (case.votes > 1)}"
        titles.append(f"#{case.image} {label}\n→ {guess}, {why}")
        kinds[f"labelled {label}, taken for {guess}"] += 1
    alt = "; ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return _images(images[cases["image"].to_numpy(int)], titles, columns), f"{finding} {alt}."


# --- Data and training -----------------------------------------------------------------------------------------------------


@_plot
def class_balance(counts_by_split: Mapping[str, ArrayLike], class_names: Sequence[str]) -> Plot:
    """Images of each class in each split, from counts (classes,)."""
    figure, axes = _axes(0.5 + 0.19 * len(class_names), 1, len(counts_by_split), sharey=True)
    spreads = []
    for ax, (split, counts), colour in zip(axes, counts_by_split.items(), [BLUE, GREEN, ORANGE] * len(axes), strict=False):
        counts = np.asarray(counts)
        bars = ax.barh(class_names, counts, color=colour)
        ax.bar_label(bars, [f"{count:,}" for count in counts], padding=2, fontsize=7.5)
        ax.set_title(f"{split}: {counts.sum():,}")
        ax.set_xlim(0, counts.max() * 1.25)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        least, most = counts.min(), counts.max()
        spreads.append(f"{split} {least:,} each" if least == most else f"{split} {least:,} to {most:,}")
    axes[0].invert_yaxis()
    return figure, f"Images a class: {'; '.join(spreads)}."


@_plot
def learning_curves(history: Sequence[Epoch]) -> Plot:
    """Losses and validation accuracy by epoch; stages are told apart, and the epoch of least validation loss is marked."""
    figure, (left, right) = _axes(2.5, 1, 2)
    epochs = np.arange(1, len(history) + 1)
    train, loss, accuracy = (np.array([getattr(epoch, name) for epoch in history])
                             for name in ("train_loss", "validation_loss", "validation_accuracy"))
    best = int(loss.argmin())
    stages = [i for i in range(len(history)) if not i or history[i].stage != history[i - 1].stage]
    for ax, values, colour in ((left, train, GREY), (left, loss, BLUE), (right, 100 * accuracy, BLUE)):
        ax.plot(epochs, values, color=colour, marker="o", markersize=2.5)
    higher, lower = ("bottom", "top") if train[-1] > loss[-1] else ("top", "bottom")  # so that lines may end in one point
    for values, colour, words, side in ((train, GREY, "training", higher), (loss, BLUE, "validation", lower)):
        left.annotate(words, (epochs[-1], values[-1]), (4, 0), textcoords="offset points", color=colour, va=side)
    for ax, value, title in ((left, loss[best], "Loss"), (right, 100 * accuracy[best], "Validation accuracy (%)")):
        ax.plot(best + 1, value, "o", color=VERMILION, markersize=6, zorder=4, label="lowest validation loss")
        ax.set_xlabel("epoch")
        ax.set_title(title, pad=16 if len(stages) > 1 else 6)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y")
        for i in stages if len(stages) > 1 else []:
            ax.axvline(i + 0.5, color=GREY, linewidth=0.8, linestyle=":")
            ax.text(i + 0.5, 1.01, history[i].stage, transform=ax.get_xaxis_transform(), va="bottom", color=GREY, fontsize=7.5)
    right.legend(labelcolor=VERMILION, handletextpad=0, frameon=False)
    return figure, (f"Validation loss is lowest, {loss[best]:.3f}, in epoch {best + 1} of {len(history)}, with an accuracy of "
                    f"{accuracy[best]:.1%}; the last epoch's is {loss[-1]:.3f}, with a training loss of {train[-1]:.3f}.")


@_plot
def ablation_bars(table: pd.DataFrame) -> Plot:
    """Change of validation accuracy, in points, against the first row, the full recipe.

    Columns variant, accuracy (fraction), train_seconds.
    """
    rest, full = table.iloc[1:], table.iloc[0]
    change = 100 * (rest["accuracy"] - full["accuracy"])
    figure, (ax,) = _axes(0.7 + 0.24 * max(len(rest), 1))
    bars = ax.barh(rest["variant"], change, color=np.where(change < 0, VERMILION, BLUE))
    ax.bar_label(bars, [f"{c:+.1f}, {_number(s)} s" for c, s in zip(change, rest["train_seconds"], strict=True)], padding=3)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.margins(x=0.25)
    ax.invert_yaxis()
    score = f"{full['variant']}: {full['accuracy']:.1%}, {_number(full['train_seconds'])} s"
    ax.set_xlabel(f"change in points of validation accuracy; {score}")
    costs = rest["variant"][change < 0].tolist()
    alt = f"{score}. Accuracy falls in {len(costs)} of {len(rest)} variants"
    worst = f", most in {rest['variant'][change.idxmin()]}, by {-change.min():.1f} points" if costs else ""
    return figure, alt + worst + "."


# --- Matrices --------------------------------------------------------------------------------------------------------------


def _heat(ax: Axes, values: NDArray[Any], texts: NDArray[Any], rows: Sequence[str], columns: Sequence[str],
          limits: tuple[float, float] = (0, 1), cmap: Any = BLUES) -> None:
    """A matrix of coloured cells with text in each, dark on light and light on dark."""
    size = 7.5 if len(columns) <= 12 else 6.5
    sns.heatmap(values, vmin=limits[0], vmax=limits[1], cmap=cmap, annot=texts, fmt="", annot_kws={"fontsize": size},
                cbar=False, linewidths=0.6, linecolor="white", ax=ax)
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0)
    ax.tick_params(length=0)


@_plot
def confusion_matrix(matrix: ArrayLike, class_names: Sequence[str]) -> Plot:
    """Counts (c, c) with the true class in rows; colour is the share of the row."""
    counts = np.asarray(matrix)
    figure, (ax,) = _axes(0.9 + 0.28 * len(counts), width=5.6)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    _heat(ax, shares, np.where(counts, counts.astype(str), "·"), class_names, class_names)
    ax.set(xlabel="predicted class", ylabel="true class")
    errors = counts - np.diag(counts.diagonal())
    true, guess = np.unravel_index(errors.argmax(), errors.shape)
    return figure, (f"{counts.trace():,} of {counts.sum():,} images are right. The most frequent error: {errors.max()} of "
                    f"{counts[true].sum()} {class_names[true]} images are taken for {class_names[guess]}.")


@_plot
def class_heatmap(scores: pd.DataFrame, name: str = "F1") -> Plot:
    """A score of each class (row) by each model (column)."""
    values = scores.to_numpy(float)
    figure, (ax,) = _axes(1.2 + 0.25 * len(scores))
    _heat(ax, values, np.vectorize("{:.2f}".format)(values), scores.index, scores.columns, (min(values.min(), 0.5), 1))
    mean = scores.mean(axis=1)
    return figure, (f"{name} of each class by each model: hardest on average is {mean.idxmin()} ({mean.min():.2f}), "
                    f"easiest {mean.idxmax()} ({mean.max():.2f}).")


@_plot
def mcnemar_matrix(p_values: pd.DataFrame, accuracy: pd.Series, alpha: float = 0.05) -> Plot:
    """Whether the row's model is better or worse than the column's, or tied, with the corrected p-value."""
    gap = np.sign(np.subtract.outer(accuracy[p_values.index].to_numpy(), accuracy[p_values.columns].to_numpy()))
    values = np.where(p_values < alpha, gap, 0)
    p_words = np.vectorize(lambda p: "p<.001" if p < 0.001 else f"p={p:.2f}" if p >= 0.01 else f"p={p:.3f}")(p_values)
    words = np.select([values > 0, values < 0], ["better", "worse"], "tied")
    texts = np.where(np.eye(len(words)), "", np.strings.add(np.strings.add(words, "\n"), p_words))
    figure, (ax,) = _axes(1.2 + 0.36 * len(p_values))
    cmap = LinearSegmentedColormap.from_list("verdict", ["#F3C9A5", "#F4F4F4", "#A9D3EC"])
    _heat(ax, values, texts, p_values.index, p_values.columns, (-1, 1), cmap)
    ax.set_title("The row's model against the column's")
    tied = [f"{a} and {b}" for i, a in enumerate(p_values) for j, b in enumerate(p_values) if i < j and values[i, j] == 0]
    some = [*tied[:6], *([f"and {len(tied) - 6} more"] if len(tied) > 6 else [])]
    pairs = len(values) * (len(values) - 1) // 2
    return figure, f"{len(tied)} of {pairs} pairs of models are tied{': ' if tied else ''}{'; '.join(some)}."


@_plot
def agreement_matrix(overlap: pd.DataFrame) -> Plot:
    """Which share of the images that two models get wrong they get wrong together."""
    values = np.where(np.eye(len(overlap)), np.nan, overlap)
    figure, (ax,) = _axes(1.2 + 0.3 * len(overlap))
    texts = np.vectorize(lambda share: "" if np.isnan(share) else f"{share:.2f}")(values)
    _heat(ax, values, texts, overlap.index, overlap.columns, (0, max(np.nanmax(values, initial=0), 0.01)))
    (a, b), (c, d) = (overlap.index[list(np.unravel_index(f(values), values.shape))] for f in (np.nanargmax, np.nanargmin))
    least = f"; {c} and {d} least, {overlap.loc[c, d]:.0%}" if len(overlap) > 2 else ""
    return figure, f"{a} and {b} err most alike: {overlap.loc[a, b]:.0%} of the images that either gets wrong both do{least}."


# --- Models beside each other ----------------------------------------------------------------------------------------------


@_plot
def accuracy_bars(table: pd.DataFrame) -> Plot:
    """Accuracy of each model from zero, and beside it close up with its interval. Columns accuracy, low, high (fractions)."""
    figure, (left, right) = _axes(0.7 + 0.22 * len(table), 1, 2, sharey=True)
    scaled = 100 * table[["accuracy", "low", "high"]]
    left.barh(table.index, scaled["accuracy"], color=BLUE)
    left.set(xlim=(0, 100), title="Test accuracy (%)")
    gaps = [scaled["accuracy"] - scaled["low"], scaled["high"] - scaled["accuracy"]]
    right.errorbar(scaled["accuracy"], table.index, xerr=np.maximum(gaps, 0), fmt="o", color=BLUE, markersize=4, capsize=2)
    for name, row in scaled.iterrows():
        right.annotate(f"{row['accuracy']:.1f}", (row["high"], name), (4, 0), textcoords="offset points", va="center")
    right.margins(x=0.15)
    right.grid(axis="x")
    right.set_title("Close up, with 95% interval")
    left.invert_yaxis()
    best, last = table["accuracy"].idxmax(), table["accuracy"].idxmin()
    score, low, high = table.loc[best, ["accuracy", "low", "high"]]
    alt = f"{best} is right on {score:.1%} (95% interval {low:.1%} to {high:.1%})"
    return figure, alt + (f"; {last}, the lowest, on {table.loc[last, 'accuracy']:.1%}." if last != best else ".")


@_plot
def time_dots(table: pd.DataFrame) -> Plot:
    """Seconds of training, within the whole fit, and of classifying the test images, on one machine."""
    figure, (left, right) = _axes(0.7 + 0.22 * len(table), 1, 2, sharey=True)
    train, fit, test = table["train_seconds"], table["fit_wall_seconds"], table["predict_seconds"]
    for ax, span, title in ((left, pd.concat([train, fit]), "Training, of the whole fit (line), s"),
                            (right, test, "Classifying the test images, s")):
        _cost_axis(ax, span, 0.45)
        ax.set_title(title)
    left.hlines(table.index, train, fit, color=PALE, linewidth=4)
    left.plot(train, table.index, "o", color=BLUE, markersize=4)
    right.plot(test, table.index, "o", color=BLUE, markersize=4)
    for name in table.index:
        for ax, end, words in ((left, fit[name], f"{_number(train[name])} of {_number(fit[name])}"),
                               (right, test[name], _number(test[name]))):
            ax.annotate(words, (end, name), (5, 0), textcoords="offset points", va="center")
    left.grid(axis="y")
    right.grid(axis="y")
    left.invert_yaxis()
    return figure, f"Training takes {_range(train, 's')}; classifying the test images takes {_range(test, 's')}."


@_plot
def memory_bars(table: pd.DataFrame) -> Plot:
    """Peak memory of each fit above the process's baseline, in MiB: RAM, and video memory stacked on it."""
    figure, (ax,) = _axes(0.7 + 0.22 * len(table))
    ax.barh(table.index, table["ram_mb"], color=BLUE)
    video = ax.barh(table.index, table["vram_mb"], left=table["ram_mb"], color=ORANGE)
    ax.bar_label(video, [_number(value) for value in table["memory_mb"]], padding=3)
    ax.set_title("Memory for training (MiB): RAM (blue) and video memory (orange)" if table["vram_mb"].any() else
                 "Memory for training (MiB): RAM, no model used video memory")
    ax.margins(x=0.1)
    ax.grid(axis="x")
    ax.invert_yaxis()
    return figure, f"Training needs {_range(table['memory_mb'], 'MiB')} of memory."


@_plot
def tradeoffs(table: pd.DataFrame, fronts: pd.DataFrame, study: pd.DataFrame | None = None, study_machine: str = "") -> Plot:
    """Accuracy against each cost that is a column of ``fronts``, which tells the models on its Pareto front; a panel each.

    ``table`` is an overview of one machine. ``study`` (columns accuracy and the costs) adds grey points.
    """
    costs = list(fronts)
    wide = min(len(costs), 2)
    figure, axes = _axes((5.2 - wide) * -(-len(costs) // wide), -(-len(costs) // wide), wide)
    key = f"Blue: on the Pareto front. Orange: another model is as good for less. Ours: {table['machine'].iloc[0]}."
    lines = [key] if study is None else [key, f"Grey: the original study, on {study_machine}."]
    figure.suptitle("\n".join(fill(line, 125) for line in lines), x=0.01, ha="left", fontsize=7.5)
    for ax in axes[len(costs):]:
        ax.set_axis_off()
    names = [_cost_panel(ax, table, fronts[cost], study) for ax, cost in zip(axes, costs, strict=False)]
    figure.draw_without_rendering()  # lays the axes out, so that labels can be measured
    figure.set_layout_engine("none")
    for ax, labels in zip(axes, names, strict=False):
        _label_points(ax, labels)
    return figure, " ".join(_front_words(table.sort_values([cost, "accuracy"]), fronts[cost]) for cost in costs)


def _front_words(table: pd.DataFrame, on_front: pd.Series) -> str:
    front, beaten = ("; ".join(name for name in table.index if on_front[name] == wanted) for wanted in (True, False))
    return (f"Accuracy against {COSTS.get(on_front.name, on_front.name)}: on the Pareto front, the cheapest first: {front}. "
            f"Beaten: {beaten or 'none'}.")


def _cost_panel(ax: Axes, table: pd.DataFrame, on_front: pd.Series, study: pd.DataFrame | None) -> list[str]:
    """Scatter accuracy against the cost that names ``on_front``; returns the points' names in order."""
    cost = str(on_front.name)
    points = table[[cost, "accuracy"]]
    if study is not None:
        points = pd.concat([points, study[[cost, "accuracy"]].add_suffix(" (study)", axis=0)])
    front = table[on_front].sort_values([cost, "accuracy"])
    ax.step(front[cost], 100 * front["accuracy"], where="post", color=BLUE, linewidth=0.8, alpha=0.5)
    colours = [*np.where(on_front, BLUE, VERMILION), *[GREY] * (len(points) - len(table))]
    ax.scatter(points[cost], 100 * points["accuracy"], c=colours, s=18, zorder=3)
    ax.set(xlabel=COSTS.get(cost, cost), ylabel="test accuracy (%)")
    ax.margins(y=0.15)
    ax.grid(axis="y")
    _cost_axis(ax, points[cost])
    return list(points.index)


def _label_points(ax: Axes, names: Sequence[str]) -> None:
    """Write each name where it covers neither point nor name, as near its point as that goes; far ones get a line."""
    ax.autoscale(False)  # lines to far names must not move the axes' limits any more
    dots, scale = ax.collections[0], ax.figure.dpi / 72
    data = np.asarray(dots.get_offsets())
    pixels, colours = ax.transData.transform(data), dots.get_facecolors() * (0.8, 0.8, 0.8, 1)
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in pixels]
    for i in np.argsort(-pixels[:, 1], kind="stable"):
        text = ax.annotate(names[i], data[i], (0, 0), textcoords="offset points", ha="center", va="center", fontsize=7.5,
                           color=colours[i], bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8})
        offset = _free_place(text.get_window_extent(), taken, ax.get_window_extent(), scale)
        text.set_position(offset / scale)
        taken.append(text.get_window_extent())
        if not taken[-1].padded(8 * scale).contains(*pixels[i]):
            near = np.clip(pixels[i], taken[-1].min, taken[-1].max)
            ax.plot(*ax.transData.inverted().transform([pixels[i], near]).T, color=GREY, linewidth=0.5, zorder=1)


def _free_place(box: Bbox, taken: Sequence[Bbox], frame: Bbox, scale: float) -> NDArray[np.float64]:
    """The nearest offset, in pixels, at which ``box`` covers least of what is taken and stays in the frame."""
    def covered(offset: NDArray[np.float64]) -> float:
        moved = box.translated(*offset)
        shared = sum(common.width * common.height for other in taken if (common := Bbox.intersection(moved, other)))
        inside = Bbox.intersection(moved, frame)
        return shared + box.width * box.height - (inside.width * inside.height if inside else 0)

    angles = np.radians([180, 90, 0, 270, 135, 45, 225, 315, 160, 20, 200, 340])
    offsets = [np.array([np.cos(angle) * (box.width / 2 + reach * scale), np.sin(angle) * (box.height / 2 + reach * scale)])
               for reach in (4.5, 10, 18, 28, 40, 54) for angle in angles]
    return min(offsets, key=lambda offset: round(covered(offset), 3))


@_plot
def reliability_diagrams(curves: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Plot:
    """Accuracy against confidence of each model, before and after temperature scaling.

    ``curves`` holds two tables a model with columns confidence, accuracy, count, a row a bin; bins of fewer than ``FEWEST``
    images are not drawn.
    """
    rows = -(-len(curves) // 5)
    columns = -(-len(curves) // rows)
    figure, axes = _axes(0.4 + rows * min(0.2 + 7 / columns, 1.9), rows, columns, sharex=True, sharey=True)
    gaps = {}
    for ax in axes[len(curves):]:
        ax.set_axis_off()
    for ax, (name, tables) in zip(axes, curves.items(), strict=False):
        ax.plot([0, 1], [0, 1], color=PALE, linewidth=1)
        for bins, colour in zip(tables, (BLUE, VERMILION), strict=True):
            bins = bins[bins["count"] >= FEWEST]
            ax.plot(bins["confidence"], bins["accuracy"], color=colour, marker="o", markersize=2.2, linewidth=1)
        ax.set_title(name.replace(", ", ",\n"), fontsize=7.5)  # the longest would not fit beside each other
        ax.set_aspect("equal")
        if ax is axes[0]:
            for height, word, colour in ((0.9, "before", BLUE), (0.76, "after", VERMILION)):
                ax.text(0.04, height, word, color=colour, fontsize=7.5, transform=ax.transAxes)
        gaps[name] = np.average(tables[0]["confidence"] - tables[0]["accuracy"], weights=tables[0]["count"])
    figure.supxlabel("confidence", fontsize=8)
    figure.supylabel("accuracy", fontsize=8)
    most = max(gaps, key=lambda name: abs(gaps[name]))
    return figure, (f"{most} is the most {'over' if gaps[most] > 0 else 'under'}confident before scaling: its confidence is on "
                    f"average {100 * abs(gaps[most]):.1f} points {'above' if gaps[most] > 0 else 'below'} its accuracy.")
