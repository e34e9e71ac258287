"""Figures: each says what it found, and its labels can be read."""

from __future__ import annotations

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import synthetic
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from fmreport import plots
from fmreport.compare import audit, calibration, errors, table, verdict

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 12, 12), dtype=np.uint8)
WINNER, TIED = map(verdict.compare, (synthetic.clear_winner(), synthetic.all_tied()))


TEN = verdict.compare(synthetic.ten_models(500))


def comparisons(found: verdict.Comparison) -> dict[str, plots.Plot]:
    """Every figure of the comparison."""
    runs, fronts = found.runs, table.pareto_fronts(found.table, ["train_seconds"])
    pairs = errors.pair_examples(runs, errors.confused_pairs(runs))
    pairs = pairs.assign(image=lambda frame: frame["image"] % 20, group="Confused")
    names = [f"class {i}" for i in range(10)]
    return {
        "accuracy": plots.accuracy_bars(found.table),
        "tradeoffs": plots.tradeoffs(found.table, fronts, audit.STUDY),
        "classes": plots.class_heatmap(errors.per_class(runs)),
        "mcnemar": plots.pairs_matrix(found.p_values, found.table["accuracy"]),
        "overlap": plots.agreement_matrix(errors.error_overlap(found.correct)),
        "reliability": plots.reliability_diagrams(calibration.curves(runs, found.temperatures)),
        "answered": plots.answered_curves(calibration.answered(runs, found.temperatures)),
        "cases": plots.case_gallery(pairs, IMAGES, names),
        "confusion": plots.confusion_matrices(
            {name: errors.confusion(fits) for name, fits in runs.items()}, names
        ),
    }


def single() -> dict[str, plots.Plot]:
    """Every figure of the models' own chapters."""
    labels, record = np.arange(20) % 5, synthetic.record("A", 0.9, history=6)
    history = [
        epoch.model_copy(update={"stage": "frozen" if epoch.epoch < 3 else "all"})
        for epoch in record.history
    ]
    ablation = pd.DataFrame(
        {"variant": ["full", "no flip"], "accuracy": [0.9, 0.88], "train_seconds": [10, 9]}
    )
    return {
        "samples": plots.sample_grid(IMAGES[:7], list("abcdefg")),
        "before": plots.before_after_grid(IMAGES[:3], IMAGES[:3] / 255 - 0.3, list("abc")),
        "heat": plots.heat_over_images(IMAGES[:2], np.zeros((2, 12, 12)), ["coat\n(bag)", "bag"]),
        "balance": plots.class_balance(
            {"train": np.arange(5) + 1, "test": np.ones(5, int)}, synthetic.NAMES
        ),
        "means": plots.mean_images(IMAGES, labels, synthetic.NAMES),
        "curves": plots.learning_curves(history),
        "one epoch": plots.learning_curves(history[:1]),
        "importances": plots.importance_map(np.eye(12)),
        "ablation": plots.ablation_bars(ablation),
        "no variant": plots.ablation_bars(ablation[:1]),
    }


def test_numbers_have_three_digits_that_matter():
    values = [0.01234, 1.5, 99.94, 1234.5, 21_300_000, 6e8, 1.2e12]
    shown = ["0.0123", "1.5", "99.9", "1,234", "21.3M", "600M", "1.2T"]
    assert [plots.short_number(value) for value in values] == shown


def sizes(figure: Figure) -> set[float]:
    return {
        text.get_fontsize()
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible()
    }


@pytest.mark.parametrize(
    "draw",
    [single, lambda: comparisons(WINNER), lambda: comparisons(TEN)],
    ids=["chapters", "comparison", "ten models"],
)
def test_every_figure_fits_a_page_is_legible_and_says_something(draw):
    for name, (figure, alt, *_) in draw().items():
        figure.draw_without_rendering()
        assert figure.get_figwidth() == 7 and figure.get_figheight() < 10, name
        assert alt.endswith(".") and 20 < len(alt) < 1000 and "nan" not in alt, (name, alt)
        assert min(sizes(figure), default=8) >= 7.5, name
    assert not plt.get_fignums()


def test_the_text_follows_the_finding():
    first, second = comparisons(WINNER), comparisons(TIED)
    assert all(first[name][1] != second[name][1] for name in first)
    assert "0 of 3 pairs" in first["mcnemar"][1] and "3 of 3 pairs" in second["mcnemar"][1]
    assert first["accuracy"][1].startswith("Alpha classifies 95.0%")
    assert (
        "Behind it: none" in first["tradeoffs"][1] and "Behind it: Gamma" in second["tradeoffs"][1]
    )


def test_nothing_to_show_is_a_notice():
    for name, (_, alt, *_) in comparisons(verdict.compare([])).items():
        assert alt.startswith("Nothing to show"), name


def test_learning_curves_mark_the_lowest_validation_loss():
    history = synthetic.record("a", 0.9, history=7).history
    assert "in epoch 4 of 7" in plots.learning_curves(history)[1]


def test_the_matrix_of_tests_says_who_is_better():
    figure, *_ = plots.pairs_matrix(WINNER.p_values, WINNER.table["accuracy"])
    words = [text.get_text().split("\n")[0] for text in figure.axes[0].texts]
    assert words == [
        "",
        "better",
        "better",
        "worse",
        "",
        "better",
        "worse",
        "worse",
        "",
    ]  # Alpha, Beta, Gamma


def test_the_confusion_matrices_show_errors_alone_and_say_what_is_taken_for_what():
    matrices = {"One": np.array([[5.0, 3], [0, 8]]), "Two": np.array([[7.0, 1], [1, 7]])}
    figure, alt, numbers, _ = plots.confusion_matrices(matrices, ["coat", "shirt"])
    assert "25% of the coat images are taken for shirt" in alt
    shares = figure.axes[0].collections[0].get_array()
    assert shares.tolist() == [[0, 3 / 8], [0, 0]], "what is correct would drown the errors"
    assert numbers.iloc[0].tolist() == ["One", "coat", "shirt", 3]


def test_of_many_classes_the_matrices_show_those_with_most_errors():
    counts = np.eye(50) * 20
    counts[7, 31] = 9
    figure, *_ = plots.confusion_matrices({"One": counts}, [f"class {i}" for i in range(50)])
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(shown) == plots.FEW_CLASSES and {"class 7", "class 31"} <= {*shown}


def contrast(one, other) -> float:
    """As WCAG 2 defines it, of two colours of matplotlib."""
    lights = []
    for colour in map(to_rgb, (one, other)):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        lights.append(np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05)
    return max(lights) / min(lights)


@pytest.mark.parametrize("value", np.linspace(0, 1, 21))
def test_numbers_stand_out_from_every_cell_colour(value):
    scores = pd.DataFrame([[value, 0.0, 1.0]], ["coat"], ["a", "b", "c"])
    ax = plots.class_heatmap(scores).figure.axes[0]
    cells = ax.collections[0].get_facecolors()
    seen = [
        contrast(text.get_color(), cell[:3]) for text, cell in zip(ax.texts, cells, strict=True)
    ]
    assert min(seen) >= 4.5


def test_points_that_mean_something_else_have_another_mark():
    fronts = table.pareto_fronts(TIED.table, ["train_seconds"])
    handles = plots.tradeoffs(TIED.table, fronts, audit.STUDY).figure.axes[0].collections
    marks = {
        tuple(map(tuple, one.get_paths()[0].vertices)) for one in handles if len(one.get_offsets())
    }
    assert len(marks) == 3, "in grey print colours are alike"


def looks(ax) -> list[tuple[float, str]]:
    """Of each line and each kind of point: how light it is, and its dash or mark."""
    lines = [
        (to_rgb(line.get_color()), f"{line._dash_pattern} {line.get_marker()}")
        for line in ax.lines
        if line.get_label()[0] != "_"
    ]
    points = [
        (to_rgb(one.get_facecolor()[0]), str(one.get_paths()[0].vertices.tolist()))
        for one in ax.collections
        if one.get_label()[0] != "_"
    ]
    return [(np.dot(colour, (0.299, 0.587, 0.114)), look) for colour, look in lines + points]


def test_series_are_told_apart_in_grey_print():
    shown = [single()["curves"], *(comparisons(TEN)[name] for name in ("answered", "reliability"))]
    fronts = table.pareto_fronts(TIED.table, ["train_seconds"])
    shown.append(plots.tradeoffs(TIED.table, fronts, audit.STUDY))
    for figure, *_ in shown:
        series = max(map(looks, figure.axes), key=len)
        assert len(series) > 1
        for (light, look), (other, other_look) in combinations(series, 2):
            assert look != other_look or abs(light - other) > 0.15


def test_whoever_points_at_a_point_is_told_its_values():
    fronts = table.pareto_fronts(WINNER.table, ["train_seconds"])
    words = [words for *_, words in plots.tradeoffs(WINNER.table, fronts).points]
    assert len(words) == 3 and any("Alpha: 95.0%, training time (s) " in one for one in words)


@pytest.mark.parametrize(
    ("confidence", "kind", "gap"),
    [(0.99, "over", "29.0 points above"), (0.4, "under", "30.0 points below")],
)
def test_over_and_underconfidence_are_told_apart(confidence, kind, gap):
    runs = {"A": [synthetic.record("A", 0.7, confidence=confidence)]}
    _, alt, *_ = plots.reliability_diagrams(calibration.curves(runs, {"A": [1.0]}))
    assert f"most {kind}confident before scaling: its confidence is on average {gap}" in alt


def test_titles_of_reliability_diagrams_do_not_run_into_each_other():
    names = [f"MobileNetV3-small {i} (scratch)" for i in range(11)]
    runs = {key: [synthetic.record("A", 0.7)] for key in names}
    figure, *_ = plots.reliability_diagrams(calibration.curves(runs, {key: [1.0] for key in names}))
    figure.set_dpi(300)  # as in print
    figure.draw_without_rendering()
    boxes = [
        Text.get_window_extent(title)
        for title in figure.findobj(Text)
        if "MobileNet" in title.get_text()
    ]
    assert len(boxes) == 11 and not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]


def test_a_gallery_says_label_and_prediction():
    cases = {"group": ["Wrong"], "image": [4], "label": [1], "prediction": [2], "votes": [3]}
    figure, alt, *_ = plots.case_gallery(pd.DataFrame(cases), IMAGES, ["a", "bag", "coat"])
    assert figure.axes[0].get_title() == "#4 bag\n→ coat, 3 models"
    assert alt == "Wrong: 1 image: #4 bag → coat, 3 models."


def eleven_models() -> pd.DataFrame:
    """An overview of eleven models with the names, accuracies and costs of a published report."""
    rows = {
        "Custom CNN": (0.9489, 242, 0.9, 169, 1e5, 3e7),
        "EfficientNet-Lite0": (0.9478, 405, 9.4, 642, 3e6, 1.2e8),
        "ResNet34 (scratch)": (0.9283, 405, 6.3, 363, 2e7, 1.5e8),
        "MobileNetV3-small (scratch)": (0.9208, 169, 5.1, 400, 1.5e6, 8e6),
        "VGG16 (scratch)": (0.9180, 456, 16, 976, 1.3e8, 6e8),
        "SVM on HOG": (0.9179, 17, 1.6, 857, 9e6, 1.8e7),
        "MLP": (0.9121, 36, 0.11, 49, 5.8e5, 1.1e6),
        "SVM": (0.9046, 31, 1.2, 477, 1.4e7, 2.8e7),
        "XGBoost": (0.9005, 81, 0.5, 351, 3.4e5, 9000),
        "Random Forest": (0.8836, 38, 11.5, 362, 1.5e6, 3100),
        "Decision Tree": (0.8124, 15, 0.1, 325, 8000, 13),
    }
    columns = ["accuracy", *plots.COSTS]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.assign(machine="AMD EPYC with AVX512 and bfloat16, 2 cores")


def crowded() -> pd.DataFrame:
    """Ten models of nearly the same accuracy and cost."""
    angle = np.arange(len(TEN.table))
    scores = {"accuracy": 0.9 + 0.004 * np.sin(angle), "train_seconds": 100 + 40 * np.cos(angle)}
    return TEN.table.assign(**scores)


@pytest.mark.parametrize(
    ("overview", "costs", "study"),
    [
        (eleven_models(), ["train_seconds"], None),
        (eleven_models(), ["train_seconds"], audit.STUDY),
        (eleven_models(), ["latency_ms_p95", "memory_mb", "parameters", "flops"], None),
        (TEN.table, ["train_seconds"], None),
        (TEN.table, ["train_seconds"], audit.STUDY),
        (crowded(), ["train_seconds"], None),
        (crowded(), ["train_seconds"], audit.STUDY),
    ],
    ids=["published", "with study", "four costs", "ten", "ten, study", "crowded", "crowded, study"],
)
def test_labels_of_a_scatter_cover_neither_each_other_nor_points(overview, costs, study):
    figure, *_ = plots.tradeoffs(overview, table.pareto_fronts(overview, costs), study)
    figure.set_dpi(300)  # as in print
    figure.draw_without_rendering()
    assert len(figure.axes) == len(costs)
    for ax in figure.axes:
        boxes = [Text.get_window_extent(label) for label in ax.texts]
        assert len(boxes) == len(overview) + (0 if study is None else len(study))
        assert not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]
        offsets = [one.get_offsets() for one in ax.collections]
        points = ax.transData.transform(np.concatenate(offsets))
        assert not [1 for box in boxes for point in points if box.contains(*point)]
        frame = ax.get_window_extent().padded(1)
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
        assert all(frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


def test_a_model_of_unknown_cost_is_in_no_panel_of_it():
    overview = WINNER.table.assign(parameters=[np.nan, 10, 20], flops=np.nan)
    fronts = table.pareto_fronts(overview, ["parameters", "flops"])
    figure, alt, *_ = plots.tradeoffs(overview, fronts)
    assert "Alpha" not in alt and "operations" not in alt
    assert len(figure.axes) == 1 and len(figure.axes[0].texts) == 2


def test_scatter_has_a_log_axis_only_where_the_span_asks_for_it():
    overview = WINNER.table
    figure, *_ = plots.tradeoffs(
        overview, table.pareto_fronts(overview, ["train_seconds", "memory_mb"])
    )
    assert [ax.get_xscale() for ax in figure.axes] == ["log", "linear"]
