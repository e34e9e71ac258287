"""Figures: each says what it found, and its labels can be read."""

from __future__ import annotations

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import synthetic
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from fmreport import plots
from fmreport.compare import audit, calibration, errors, significance, table

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 12, 12), dtype=np.uint8)
WINNER, TIED = (table.representatives(records) for records in (synthetic.clear_winner(), synthetic.all_tied()))


def comparisons(runs) -> dict[str, plots.Plot]:
    """Every figure of the comparison."""
    overview, correct = table.overview(runs), significance.correct_table(runs)
    pairs = errors.pair_examples(runs, errors.confused_pairs(runs)).assign(image=lambda frame: frame["image"] % 20)
    return {
        "accuracy": plots.accuracy_bars(overview), "time": plots.time_dots(overview), "memory": plots.memory_bars(overview),
        "tradeoffs": plots.tradeoffs(overview, table.pareto_fronts(overview, ["train_seconds"]), audit.STUDY, "a GPU"),
        "classes": plots.class_heatmap(errors.per_class(runs)),
        "mcnemar": plots.mcnemar_matrix(significance.pairwise_mcnemar(correct), overview["accuracy"]),
        "overlap": plots.agreement_matrix(errors.error_overlap(correct)),
        "reliability": plots.reliability_diagrams(calibration.curves(runs)),
        "cases": plots.case_gallery(pairs, IMAGES, [f"class {i}" for i in range(10)], "Confused:"),
    }


def single() -> dict[str, plots.Plot]:
    """Every figure of the models' own chapters."""
    labels, record = np.arange(20) % 5, synthetic.record("a", 0.9, history=6)
    history = [epoch.model_copy(update={"stage": "frozen" if epoch.epoch < 3 else "all"}) for epoch in record.result.history]
    ablation = pd.DataFrame({"variant": ["full", "no flip"], "accuracy": [0.9, 0.88], "train_seconds": [10, 9]})
    return {
        "samples": plots.sample_grid(IMAGES[:7], list("abcdefg")),
        "before": plots.before_after_grid(IMAGES[:3], IMAGES[:3] / 255 - 0.3, list("abc")),
        "balance": plots.class_balance({"train": np.arange(5) + 1, "test": np.ones(5, int)}, synthetic.NAMES),
        "means": plots.mean_images(IMAGES, labels, synthetic.NAMES),
        "curves": plots.learning_curves(history), "one epoch": plots.learning_curves(history[:1]),
        "confusion": plots.confusion_matrix(record.result.confusion_matrix, synthetic.NAMES),
        "ablation": plots.ablation_bars(ablation), "no variant": plots.ablation_bars(ablation[:1]),
    }


def sizes(figure: Figure) -> set[float]:
    return {text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()}


@pytest.mark.parametrize("draw", [single, lambda: comparisons(WINNER), lambda: comparisons(table.representatives(
    synthetic.ten_models(500)))], ids=["chapters", "comparison", "ten models"])
def test_every_figure_fits_a_page_is_legible_and_says_something(draw):
    for name, (figure, alt) in draw().items():
        figure.draw_without_rendering()
        assert figure.get_figwidth() == (5.6 if name == "confusion" else 7) and figure.get_figheight() < 10, name
        assert alt.endswith(".") and 20 < len(alt) < 1000 and "nan" not in alt, (name, alt)
        assert min(sizes(figure)) >= 7.5, name
    assert not plt.get_fignums()


def test_the_text_follows_the_finding():
    first, second = comparisons(WINNER), comparisons(TIED)
    assert all(first[name][1] != second[name][1] for name in first)
    assert "0 of 3 pairs" in first["mcnemar"][1] and "3 of 3 pairs" in second["mcnemar"][1]
    assert first["accuracy"][1].startswith("Alpha is right on 95.0%")
    assert "Beaten: none" in first["tradeoffs"][1] and "Beaten: Gamma" in second["tradeoffs"][1]


def test_nothing_to_show_is_a_notice():
    for name, (_, alt) in comparisons({}).items():
        assert alt.startswith("Nothing to show"), name


def test_learning_curves_mark_the_lowest_validation_loss():
    history = synthetic.record("a", 0.9, history=7).result.history
    assert "in epoch 4 of 7" in plots.learning_curves(history)[1]


def test_the_matrix_of_tests_says_who_is_better():
    overview, correct = table.overview(WINNER), significance.correct_table(WINNER)
    figure, _ = plots.mcnemar_matrix(significance.pairwise_mcnemar(correct), overview["accuracy"])
    words = [text.get_text().split("\n")[0] for text in figure.axes[0].texts]
    assert words == ["", "better", "better", "worse", "", "better", "worse", "worse", ""]  # Alpha, Beta, Gamma


def test_the_confusion_matrix_says_what_is_taken_for_what():
    figure, alt = plots.confusion_matrix([[5, 3], [0, 8]], ["coat", "shirt"])
    assert "3 of 8 coat images are taken for shirt." in alt
    assert (figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()) == ("true class", "predicted class")


@pytest.mark.parametrize(("confidence", "kind", "gap"),
                         [(0.99, "over", "29.0 points above"), (0.4, "under", "30.0 points below")])
def test_over_and_underconfidence_are_told_apart(confidence, kind, gap):
    _, alt = plots.reliability_diagrams(calibration.curves({"A": synthetic.record("a", 0.7, confidence=confidence)}))
    assert f"most {kind}confident before scaling: its confidence is on average {gap}" in alt


def test_titles_of_reliability_diagrams_do_not_run_into_each_other():
    names = [f"MobileNetV3-small {i}, from scratch" for i in range(11)]
    record = synthetic.record("a", 0.7)
    figure, _ = plots.reliability_diagrams(calibration.curves(dict.fromkeys(names, record)))
    figure.set_dpi(300)  # as in print
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(title) for title in figure.findobj(Text) if "MobileNet" in title.get_text()]
    assert len(boxes) == 11 and not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]


def test_a_gallery_says_label_and_prediction():
    cases = pd.DataFrame({"image": [4], "label": [1], "prediction": [2], "votes": [3]})
    figure, alt = plots.case_gallery(cases, IMAGES, ["a", "bag", "coat"], "Wrong:")
    assert figure.axes[0].get_title() == "#4 bag\n→ coat, 3 models" and alt == "Wrong: 1 labelled bag, taken for coat."


def labels(figure: Figure) -> list[Annotation]:
    return [child for ax in figure.axes for child in ax.texts if isinstance(child, Annotation)]


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("study", [None, audit.STUDY])
def test_labels_of_a_scatter_cover_neither_each_other_nor_points(crowded, study):
    overview = table.overview(table.representatives(synthetic.ten_models(500)))
    if crowded:
        overview["accuracy"] = 0.9 + 0.004 * np.sin(np.arange(10))
        overview["train_seconds"] = 100 + 40 * np.cos(np.arange(10))
    fronts = table.pareto_fronts(overview, ["train_seconds"])
    figure, _ = plots.tradeoffs(overview, fronts, study, "a GPU")
    figure.set_dpi(300)  # as in print
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(label) for label in labels(figure)]
    assert len(boxes) == 10 + (0 if study is None else len(study))
    assert not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]
    points = figure.axes[0].transData.transform(figure.axes[0].collections[0].get_offsets())
    assert not [1 for box in boxes for point in points if box.contains(*point)]
    frame = figure.axes[0].get_window_extent().padded(1)
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


@pytest.mark.parametrize("name", ["Test CPU", "An Accelerator 80GB HBM3 (Processor with AVX512 and bfloat16 (AMX), 16 cores)"])
def test_the_title_of_the_tradeoffs_fits_the_figure_whatever_the_machine_is_called(name):
    overview = table.overview(WINNER).assign(machine=name)
    figure, _ = plots.tradeoffs(overview, table.pareto_fronts(overview, ["train_seconds"]), audit.STUDY, "a GPU")
    figure.draw_without_rendering()
    assert figure.texts[0].get_window_extent().x1 <= figure.bbox.x1


def test_scatter_has_a_log_axis_only_where_the_span_asks_for_it():
    overview = table.overview(WINNER)
    figure, _ = plots.tradeoffs(overview, table.pareto_fronts(overview, ["train_seconds", "memory_mb"]))
    assert [ax.get_xscale() for ax in figure.axes] == ["log", "linear"]
