"""Words for numbers: sentences that follow the numbers, and say when they decide nothing."""

from __future__ import annotations

import dataclasses
import html
import re

import numpy as np
import pandas as pd
import pypandoc
import pytest
import synthetic

from fmlib.results import Weights
from fmreport import text
from fmreport.compare import calibration, significance, table, verdict
from fmreport.merge import MARKDOWN
from fmreport.text import summarise as summary

# --- Numbers and names ---


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a, x", "b"], "a, x; and b"),
    ],
)
def test_names_are_listed_and_told_apart(names, words):
    assert text.listed(names) == words


def test_numbers_have_a_wide_minus_and_few_digits():
    assert text.number(-0.5, "+.1f") == "\N{MINUS SIGN}0.5" and text.number(0.5, "+.1f") == "+0.5"
    assert text.spread([0.2, 0.1], ".1f") == "0.1 to 0.2"
    assert text.spread([0.11, 0.12], ".1f") == "0.1"
    assert text.interval(pd.DataFrame({"low": [], "high": []}), ".1f").empty
    low_and_high = pd.DataFrame({"low": [90.12], "high": [91.0]})
    assert text.interval(low_and_high, ".1f").to_list() == ["90.1\N{EN DASH}91.0"]


def test_only_some_of_many_names_are_given():
    assert text.some([]) == "none" and text.some(list("abc")) == "a, b, c"
    assert text.some(list("abcde")) == "a, b, c, and 2 more"


# --- The summary ---


def test_clear_winner_is_named_with_its_distance():
    found = summary(synthetic.clear_winner())
    headline = found.partition("\n")[0]
    assert headline.startswith("**Alpha** is the most accurate of these fitted models: 95.0%")
    assert "The next, Beta, is told apart from it: 7.0 points (95% interval 5." in headline
    assert "Best under 500 MiB of memory for training: **Beta**" in found
    assert "No other model comes within 1 point of **Alpha**" in found


def test_budgets_change_the_answer_and_may_be_too_tight():
    records = synthetic.clear_winner()
    assert dict(answer(records, train_seconds=1000))["Trained within 1,000 s"].startswith("Alpha")
    tight = dict(answer(records, train_seconds=1))["Trained within 1 s"]
    assert tight == "none: the nearest, Gamma, needs 2 s"
    assert "Within 10 points of the best, **Alpha** is" not in summary(records, near_points=10)


def answer(records, **budgets):
    """Each need and what is taken for it."""
    for need in verdict.needs(verdict.compare(records), verdict.BUDGETS | budgets):
        label, why = text.need_words(need)
        yield label, f"{text.some(need.models)}: {why}"


def test_advice_names_each_limit_that_asks_for_another_model():
    needs = list(verdict.needs(verdict.compare(synthetic.clear_winner())))
    told = text.advice(needs)
    assert told.startswith("Use **Alpha**, the most accurate model: it classifies 95.0% of 2,000")
    assert told.endswith("If training must finish within 60 s, use **Beta** (88.0%).")
    generous = verdict.needs(verdict.compare(synthetic.clear_winner()), {"train_seconds": 9999})
    assert "It also keeps within the limits of time below." in text.advice(list(generous))


def test_no_model_no_advice_and_few_images_are_a_rehearsal():
    assert text.advice([]) == "**There are no results, so there is no advice.**"
    few = [synthetic.record("One", 0.9, size=100), synthetic.record("Two", 0.5, size=100)]
    assert text.advice(list(verdict.needs(verdict.compare(few)))).endswith(text.FEW)


def test_a_readable_model_and_one_on_a_gpu_are_offered():
    records = [synthetic.record("cnn", 0.9), synthetic.record("decision_tree", 0.8)]
    found = verdict.compare(records)
    on_card = [synthetic.record("mlp", 0.95, machine=synthetic.ELSEWHERE)]
    *_, readable, gpu = verdict.needs(found, gpu=verdict.compare(on_card))
    assert readable.models == ("Decision Tree",)
    assert gpu.models == ("MLP",) and text.need_words(gpu) == ("With a GPU", "on Test GPU")
    assert "Without a GPU, if" not in text.advice([*verdict.needs(found)])


def test_the_best_under_a_budget_is_named_with_those_tied_with_it_and_the_machine():
    slow, one, other, poor = (
        synthetic.record(name, accuracy, train_seconds=seconds)
        for name, accuracy, seconds in (
            ("Slow", 0.95, 900),
            ("One", 0.901, 20),
            ("Other", 0.9, 30),
            ("Poor", 0.7, 2),
        )
    )
    found = summary([slow, one, other, poor])
    quick = dict(answer([slow, one, other, poor]))["Trained within 60 s"]
    assert quick == "One: not told apart: Other"
    assert "Times and memory are those of Test CPU, 2 cores." in found
    assert "memory: **Slow**" not in found and "tied with Poor" not in found


def test_tied_models_have_no_winner_and_the_fastest_is_named():
    found = summary(synthetic.all_tied())
    assert (
        "there is no winner" in found
        and "Among the tied, **Beta** is the fastest to train: it takes 10 s" in found
    )


def test_no_model_is_said_to_be_quicker_than_itself():
    free = [
        synthetic.record("Free", 0.901, train_seconds=0),
        synthetic.record("Dear", 0.9, train_seconds=5),
    ]
    assert "the fastest to train: it" not in summary(free)


def test_winner_beaten_on_time_by_a_tied_model():
    labels = synthetic.labels_of(2000, 5)
    good = np.arange(2000) % 10 > 0
    nearly = good.copy()
    nearly[1] = False
    records = [
        synthetic.record("Slow", good, train_seconds=900),
        synthetic.record("Fast", nearly, train_seconds=3),
        synthetic.record("Poor", labels < 3, train_seconds=50),
    ]
    found = summary(records)
    assert found.startswith("**Slow** scored highest of these fitted models: 90.0%")
    assert "Not told apart from it, after correction for 2 comparisons: Fast" in found
    assert "Fast is 0.1 points (95% interval " in found
    assert " behind, which is equivalent within 0.5 points." in found
    assert "**Fast** is the fastest to train: it takes 3 s, Slow 900 s." in found
    told = text.not_considered(verdict.compare(records))
    assert told.endswith("at least as accurate and trains faster: Poor.")
    assert "Every time is that of one run." in found


def test_two_equal_models_share_the_lead_and_are_pointed_out():
    mask = np.arange(2000) % 10 > 0
    found = summary([synthetic.record("One", mask), synthetic.record("Two", mask)])
    assert (
        "**One** and **Two** share the highest accuracy" in found
        and "are they two models?" in found
    )


def test_a_single_model_gets_no_verdict_and_no_model_a_notice():
    assert "there is no verdict" in summary(synthetic.clear_winner()[:1]) and "Alpha" in summary(
        synthetic.clear_winner()[:1]
    )
    assert "There are no results" in summary([])


def test_missing_models_are_named_and_the_lead_is_qualified():
    found = summary(synthetic.clear_winner(), missing=["VGG16"])
    assert "Without a result: VGG16" in found and "of the fitted models that ran" in found


def test_a_model_of_which_one_seed_failed_is_not_missing():
    found = summary(synthetic.clear_winner(), missing=["Alpha", "VGG16", "VGG16"])
    assert (
        "Without a result: VGG16. Every" in found
        and "Of Alpha not every seed has a result" in found
    )
    from_scratch = synthetic.record("vgg16", 0.9, weights=Weights())
    found = summary([*synthetic.clear_winner(), from_scratch], missing=["VGG16"])
    assert "Missing" not in found and "Of VGG16 not every seed has a result" in found


def test_worst_classes_that_differ_and_that_are_tied_are_told():
    labels = synthetic.labels_of(2000, 5)
    third = np.arange(2000) % 3 == 0
    found = summary(
        [synthetic.record(name, (labels != worst) | third) for name, worst in (("A", 1), ("B", 3))]
    )
    assert (
        "worst classes differ" in found
        and "for trousers by A" in found
        and "for dress by B" in found
    )
    even = np.arange(2000) % 11 > 0
    assert "Other classes are tied with it." in summary([synthetic.record("A", even)])


def test_two_models_are_judged_by_mcnemar_alone():
    sentence = text.evidence(verdict.compare(synthetic.clear_winner()[:2]))
    assert "Cochran" not in sentence and sentence.startswith("Of the two most accurate, Alpha")


def test_the_best_two_are_compared_before_and_after_correction():
    found = verdict.compare(synthetic.clear_winner())
    before = significance.mcnemar_p(found.correct["Alpha"][0], found.correct["Beta"][0])
    after = found.behind.loc["Beta", "p_holm"]
    sentence = text.evidence(found)
    assert before <= after and f"gives p = {before:.2g}, and" in sentence
    assert sentence.endswith(f"p = {after:.2g} after correction for 2 comparisons.")
    assert sentence.startswith("Cochran's Q over the 3 models")


def test_a_model_on_the_front_that_chance_may_have_put_there_is_named():
    tied = summary(
        [
            synthetic.record("Dear", 0.901, train_seconds=30),
            synthetic.record("Cheap", 0.9, train_seconds=3),
        ]
    )
    assert (
        "On the Pareto front, but statistically tied with the next that trains faster: "
        "Dear (with Cheap)." in tied
    )
    assert "On the Pareto front, but" not in summary(synthetic.clear_winner())


def test_the_best_models_probabilities_are_to_be_scaled_where_that_helps():
    found = summary([synthetic.record("Timid", 0.95, confidence=0.6)])
    assert "If you need the probabilities of **Timid**, scale them: a temperature of 0." in found
    assert "calibration error from 0.350 to 0.0" in found
    assert "scale them" not in summary([synthetic.record("Honest", 0.95, confidence=0.95)])


def test_memory_is_told_with_what_was_there_before():
    assert "Memory is what training needs on top of up to 400 MiB that Python" in summary(
        synthetic.clear_winner()
    )
    on_gpu = summary(synthetic.clear_winner(peak_vram_mb=900, machine=synthetic.ELSEWHERE))
    assert "Memory, of processor and GPU together, is what training needs" in on_gpu
    assert (
        "Best under 500 MiB of memory for training: none; the nearest is Beta with 1,200 MiB"
        in on_gpu
    )


def test_several_leaders_are_spoken_of_as_several():
    even = np.arange(2000) % 10 > 0
    found = summary(
        [
            synthetic.record("A", even),
            synthetic.record("B", even),
            synthetic.record("C", 0.899),
            synthetic.record("D", 0.5),
        ]
    )
    assert "**A** and **B** share the highest accuracy" in found
    assert "Not told apart from them, after correction for 3 comparisons: C (89.9%)." in found


def test_how_well_accuracies_are_known_is_told_from_the_best_known_to_the_least():
    found = summary([synthetic.record("Good", 0.95), synthetic.record("Bad", 0.5)])
    assert "With 2,000 test images an accuracy is known to about ±1.0 to ±2.2 points." in found


def test_transfer_learning_counts_only_with_weights():
    loaded = synthetic.record("Net", 0.95, weights=Weights(source="package"))
    scratch = synthetic.record("vgg16", 0.95, weights=Weights(source="none"))
    other = synthetic.record("Tree", 0.8)
    assert "the only pre-trained network, Net (95.0%), is 15.0 points (95% interval 13" in summary(
        [loaded, other]
    )
    tied = summary([loaded, synthetic.record("Tree", 0.949), synthetic.record("Stump", 0.7)])
    assert "(95% interval \N{MINUS SIGN}" in tied
    assert "That is no significant difference, after correction for 2 comparisons." in tied
    second = synthetic.record("Lite", 0.9, weights=Weights(source="package"))
    assert "the best pre-trained network, Net" in summary([loaded, second, other])
    assert "points" in (
        less := summary([synthetic.record("Net", 0.7, weights=Weights(source="package")), other])
    )
    assert "behind the best model that is not pre-trained, Tree (80.0%)" in less
    assert "Transfer learning" not in summary([scratch, other])
    assert "no evidence on transfer learning: VGG16 (scratch)" in summary([scratch, other])


def test_what_was_measured_elsewhere_is_left_out():
    records = [
        *synthetic.clear_winner(),
        synthetic.record("Delta", 0.97, machine=synthetic.ELSEWHERE, train_seconds=1),
    ]
    found = summary(records)
    assert "only among the 3 models measured on Test CPU, 2 cores. Measured elsewhere" in found
    assert "and so left out: Delta (Test GPU" in found
    assert found.startswith("**Delta**") and "trains fastest" not in found
    near = [
        *synthetic.clear_winner(),
        synthetic.record("Delta", 0.951, machine=synthetic.ELSEWHERE),
    ]
    assert "trains fastest" not in summary(near), (
        "of the two near the best, one was measured here: nothing to compare"
    )


def test_the_cheapest_near_the_best_are_named_for_each_cost():
    cheap = synthetic.record("Cheap", 0.945, train_seconds=5)
    small = synthetic.record("Small", 0.945, peak_rss_mb=420, rng=1)
    found = summary([*synthetic.clear_winner(), cheap, small])
    assert (
        "Within 1 point of the best, **Cheap** trains fastest" in found
        and "**Small** needs least memory" in found
    )


def test_means_over_seeds_decide_and_are_told_as_recipes():
    records = synthetic.of_seeds("A", 0.90, 0.92)
    found = summary(records)
    assert "**A** 90.0% to 92.0% (standard deviation 1.41 points, 2 seeds)" in found
    assert "was trained once" not in found
    other = synthetic.of_seeds("B", 0.95, 0.6)  # its first seed is ahead, its mean is not
    found = summary([*other, *records])
    assert found.startswith("**A** scored highest of these recipes: 91.0%")
    assert "the mean over 2 seeds (95% interval" in found
    assert "Of 4 pairs of a training of A and one of B, A is the more accurate" in found
    assert "on these images in 2." in found
    once = summary([*records, synthetic.record("C", 0.5)])
    assert "of these fitted models" in once and "C was trained once" in once


def test_a_deterministic_model_is_said_to_need_one_fit():
    found = summary([*synthetic.of_seeds("A", 0.90, 0.92), synthetic.record("svm", 0.8)])
    assert "SVM draws nothing at random in training: one fit is made" in found
    assert "of these recipes" in found and "trained once" not in found


def test_with_seeds_the_evidence_is_about_images_and_seeds_together():
    records = [*synthetic.of_seeds("A", 0.90, 0.92), *synthetic.of_seeds("B", 0.70, 0.72)]
    sentence = text.evidence(verdict.compare(records))
    assert "images and seeds together" in sentence and "McNemar" not in sentence
    assert "Cochran" not in sentence


def test_what_the_lead_owes_to_averaged_views_stands_beside_it():
    one_view = synthetic.record("A", 0.88).proba
    best = synthetic.record("A", 0.9, history=3, views=6, one_view_proba=one_view)
    found = summary([best, synthetic.record("B", 0.7)])
    words = "A predicts from the mean over 6 views of an image; from one view it scores 88.0%"
    assert words in found
    assert "views" not in summary([synthetic.record("A", 0.9, history=3)])


def test_no_temperature_is_advised_where_none_was_found():
    constant = synthetic.predict(synthetic.labels_of(200, 5), np.arange(200) % 5 == 0, 5)
    run = synthetic.record("Constant", synthetic.labels_of(2000, 5) == 0, validation=constant)
    found = verdict.compare([run])
    assert calibration.at_bound(20.0) and calibration.at_bound(0.05)
    stuck = dataclasses.replace(found, temperatures={"Constant": [20.0]})
    assert "scaling" not in {one.kind for one in verdict.findings(stuck)}


def test_scaling_that_makes_calibration_worse_is_said():
    labels = synthetic.labels_of(200, 5)
    timid = synthetic.predict(labels, np.ones(200, bool), 5, confidence=0.6)
    bold = synthetic.record("Bold", 0.8, confidence=0.8, validation=timid)
    assert "raises the calibration error of Bold (0.000 to 0." in summary([bold])


def test_a_p_value_of_nothing_is_a_bound():
    assert text.p_words(0.0) == "p below 1e-16" and text.p_words(0.02) == "p = 0.02"


def test_equal_accuracies_are_no_lead():
    even = np.arange(2000) % 10 > 0
    odd = np.roll(even, 1)  # errs as often, on other images
    found = summary([synthetic.record("A", even), synthetic.record("B", odd)])
    assert "share the highest accuracy" in found and "0.0 points ahead" not in found
    assert "All score the same, so there is no winner" in found


def test_what_an_average_gives_is_told_with_its_interval():
    runs = table.by_model([synthetic.record(name, 0.9) for name in "ABCD"])
    ensemble = calibration.average_ensemble(runs, calibration.temperatures(runs))
    parts = (ensemble.gain.value, ensemble.gain.low, ensemble.gain.high)
    gain, low, high = (f"{100 * one:+.1f}".replace("-", "\N{MINUS SIGN}") for one in parts)
    sentence = text.ensemble_sentence(ensemble)
    assert (
        "the 3 best models on validation images" in sentence
        and f"{gain} points ({low} to {high})" in sentence
    )
    assert "nothing to average" in text.ensemble_sentence(None)


@pytest.mark.parametrize(
    "records",
    [
        [],
        synthetic.clear_winner()[:1],
        synthetic.clear_winner(),
        synthetic.all_tied(),
        synthetic.ten_models(500),
    ],
    ids=["none", "one", "three", "tied", "ten"],
)
def test_there_are_words_for_any_number_of_models(records):
    found = summary(records) + text.evidence(verdict.compare(records))
    assert "nan" not in found and "None " not in found.replace("None of the others", "")


@pytest.mark.parametrize(
    "name",
    [
        "Net_v2 *tuned* <b> $a$ [x](y)",
        "1. first",
        "- dashed -- twice...",
        "(a) lettered",
        "iv) Roman",
        ": defined",
        "# heading",
        'he said "so", it\'s',
        "a | b ~c~ ^d^ `e` \\f &amp; @g",
    ],
)
def test_any_name_is_shown_just_as_it_is_in_a_paragraph_and_a_list(name):
    for source in (text.literal(name), f"- {text.literal(name)}"):
        shown = pypandoc.convert_text(source, "html", MARKDOWN)
        tags = re.findall(r"</?(\w+)", shown)
        assert set(tags) <= {"p", "ul", "li"}, shown
        assert html.unescape(re.sub(r"<[^>]+>", "", shown)).strip() == name
