"""The comparison: statistics against references, and sentences that follow the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from fmlib.models.registry import entry
from fmlib.results import ResultError, Weights
from fmreport.compare import audit, calibration, errors, significance, table, verdict

PROBA = arrays(np.float32, (30, 4), elements=st.floats(1 / 128, 1, width=32)).map(lambda x: x / x.sum(1, keepdims=True))
LABELS = arrays(np.int64, 30, elements=st.integers(0, 3))
CORRECT = arrays(bool, (40, 3)).map(lambda x: pd.DataFrame(x, columns=list("abc")))


def text(records: list, **options: object) -> str:
    return verdict.summarise(records, **options).markdown()


# --- Statistics against published examples ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)])
def test_wilson_gives_newcombes_table(hits, n, low, high):
    """R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert significance.wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def kuncheva() -> pd.DataFrame:
    """Three classifiers on 100 images: L. Kuncheva, Combining Pattern Classifiers (2004), as in mlxtend's cochrans_q guide."""
    counts = {(1, 1, 1): 80, (1, 1, 0): 2, (1, 0, 0): 2, (0, 1, 1): 9, (0, 1, 0): 1, (0, 0, 1): 3, (0, 0, 0): 3}
    rows = [row for row, count in counts.items() for _ in range(count)]
    return pd.DataFrame(rows, columns=["D1", "D2", "D3"]).astype(bool)


def test_cochran_gives_kunchevas_example():
    assert significance.cochran(kuncheva()) == pytest.approx((7.5294, 0.0232), abs=5e-5)


def test_cochran_gives_conovers_example():
    """W. J. Conover, Practical Nonparametric Statistics, p. 253 in the second edition: Q = 2.8, p = 0.2466."""
    rows = ["111", "111", "010", "110", "000", "111", "111", "110", "001", "010", "111", "111"]
    votes = pd.DataFrame([[c == "1" for c in row] for row in rows])
    assert significance.cochran(votes) == pytest.approx((2.8, 0.2466), abs=5e-5)


def pair(first_alone: int, second_alone: int) -> pd.DataFrame:
    """Two models of which each alone is right on so many images."""
    first = np.arange(first_alone + second_alone) < first_alone
    return pd.DataFrame({"a": first, "b": ~first})


@pytest.mark.parametrize(("first", "second", "p"), [(70, 59, 0.378688), (80, 59, 0.089452), (10, 30, 0.002221)])
def test_mcnemar_gives_published_values(first, second, p):
    """From vassarstats.net, as in the tests of statsmodels' mcnemar."""
    votes = pair(first, second)
    assert significance.mcnemar_p(votes["a"], votes["b"]) == pytest.approx(p, abs=5e-7)


def test_mcnemar_is_a_binomial_test_of_the_images_that_differ():
    votes = kuncheva()
    assert significance.mcnemar_p(votes["D1"], votes["D2"]) == pytest.approx(binomtest(2, 12).pvalue)
    assert significance.mcnemar_p(votes["D1"], votes["D1"]) == 1.0


def test_holm_gives_the_textbook_adjustment():
    """Smallest p times 3, the middle one times 2, the largest as it is, never falling: S. Holm, 1979."""
    votes = kuncheva()
    raw = {pair: significance.mcnemar_p(votes[pair[0]], votes[pair[1]]) for pair in [("D1", "D2"), ("D1", "D3"), ("D2", "D3")]}
    adjusted, highest = significance.pairwise_mcnemar(votes), 0.0
    for factor, pair in zip((3, 2, 1), sorted(raw, key=raw.get), strict=True):
        highest = max(highest, min(1.0, factor * raw[pair]))
        assert adjusted.loc[pair] == pytest.approx(highest)


def test_the_interval_of_a_paired_difference_is_agrestis():
    """Approval of the prime minister, 1,600 people asked twice: 944 and 880 approve, 150 and 86 changed their minds.

    A. Agresti, Categorical Data Analysis, section 11.1: 0.04, with the 95 % interval 0.02 to 0.06.
    """
    same = pd.DataFrame({"a": [True] * 794 + [False] * 570, "b": [True] * 794 + [False] * 570})
    votes = pd.concat([same, pair(150, 86)])
    assert significance.paired_difference(votes["a"], votes["b"]) == pytest.approx((0.04, 0.0213, 0.0587), abs=2e-4)


def test_no_pair_differs_where_cochran_finds_no_difference_at_all():
    votes = pd.DataFrame(np.tile(pair(6, 0).to_numpy(), (1, 5)), columns=list("abcdefghij")).astype(bool)
    votes[list("cdefghij")] = True
    alone = significance.pairwise_mcnemar(votes[["a", "b"]])
    assert alone.loc["a", "b"] == pytest.approx(significance.mcnemar_p(votes["a"], votes["b"])) and alone.loc["a", "b"] < 0.05
    quiet = pd.concat([votes[["a", "b"]].iloc[:1], pd.DataFrame({"a": [True] * 50, "b": [True] * 50})]).assign(c=True)
    assert significance.cochran(quiet)[1] > 0.05 and (significance.pairwise_mcnemar(quiet) == 1).all(axis=None)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_estimate_and_stays_in_range(counts):
    low, high = significance.wilson(*counts)
    assert 0 <= low <= counts[0] / counts[1] + 1e-12 and counts[0] / counts[1] <= high + 1e-12 and high <= 1 + 1e-12


@settings(max_examples=8)  # statsmodels' multipletests collects garbage at every call, which takes half a second
@given(CORRECT)
def test_pairwise_tests_are_symmetric_and_no_smaller_than_uncorrected(votes):
    adjusted = significance.pairwise_mcnemar(votes)
    assert np.allclose(adjusted, adjusted.T)
    assert all(adjusted.loc[a, b] >= significance.mcnemar_p(votes[a], votes[b]) - 1e-12 for a in votes for b in votes)
    assert significance.tied_with_best(votes, adjusted)[0] == votes.mean().idxmax()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_pareto_keeps_exactly_what_nothing_beats(points):
    cost, value = np.array(points).T
    beaten = [any(c <= x and v >= y and (c < x or v > y) for c, v in points) for x, y in points]
    assert list(table.pareto(cost, value)) == [not b for b in beaten]


# --- Calibration -----------------------------------------------------------------------------------------------------------


@given(PROBA, LABELS)
def test_temperature_keeps_predictions_and_never_worsens_the_loss_it_was_fitted_on(proba, labels):
    temperature = calibration.fit_temperature(proba, labels)
    scaled = calibration.rescale(proba, temperature)
    assert scaled[np.arange(len(proba)), proba.argmax(1)] == pytest.approx(scaled.max(1))
    assert calibration.log_loss(scaled, labels) <= calibration.log_loss(proba, labels) + 1e-6


@given(PROBA, LABELS)
def test_log_loss_is_sklearns_and_calibration_error_is_a_fraction(proba, labels):
    rows = proba.astype(np.float64) / proba.astype(np.float64).sum(1, keepdims=True)
    assert calibration.log_loss(rows, labels) == pytest.approx(sklearn_log_loss(labels, rows, labels=range(4)), rel=1e-4)
    assert 0 <= calibration.calibration_error(proba, labels) <= 1


def test_calibration_error_of_a_known_case():
    proba = np.array([[0.8, 0.2]] * 10)
    labels = np.array([0] * 6 + [1] * 4)
    assert calibration.calibration_error(proba, labels) == pytest.approx(0.2)
    assert calibration.reliability(proba, labels)["count"].sum() == 10


def test_temperature_above_one_humbles_an_overconfident_model():
    run = synthetic.record("bold", 0.7, confidence=0.99, log_loss=1.68, ece=0.29)
    assert calibration.log_loss(run.predictions.proba, run.predictions.labels) == pytest.approx(1.68, abs=0.2)
    row = calibration.calibration_table({"bold": run}).loc["bold"]
    assert row["temperature"] > 1 and row["ece_scaled"] < row["ece"] and row["log_loss_scaled"] < row["log_loss"]


def test_a_temperature_is_that_of_the_validation_images():
    run = synthetic.record("a", 0.8, confidence=0.8)
    p = run.predictions
    p.validation_proba[:] = synthetic.predict(p.validation_labels, np.arange(200) % 2 == 0, 5, confidence=0.99)
    temperature = calibration.temperature_of(run)
    assert temperature > 3  # half of these are wrong, and all of them sure
    p.labels[:] = p.labels[::-1].copy()
    assert calibration.temperature_of(run) == temperature


def test_a_bold_model_does_not_outvote_better_ones_in_the_ensemble():
    labels = synthetic.labels_of(2000, 5)
    good, bad = np.arange(2000) % 20 > 0, labels < 3
    timid = [synthetic.record(name, good, confidence=0.5) for name in "ab"]
    runs = table.representatives([*timid, synthetic.record("c", bad, confidence=0.99)])
    ensemble = calibration.average_ensemble(runs)
    assert set(ensemble.members) == {"A", "B", "C"} and ensemble.accuracy == pytest.approx(0.95)
    unscaled = np.mean([run.predictions.proba.astype(float) for run in runs.values()], axis=0).argmax(1) == labels
    assert unscaled.mean() < 0.95


def test_ensemble_members_are_chosen_on_validation_images():
    runs = table.representatives([synthetic.record(name, 0.9) for name in "abcd"])
    shamed = runs["A"].predictions
    shamed.validation_proba[:] = synthetic.predict(shamed.validation_labels, np.zeros(200, bool), 5)
    ensemble = calibration.average_ensemble(runs)
    assert "A" not in ensemble.members and len(ensemble.members) == 3 and "validation" in ensemble.sentence()
    gain, low, high = ensemble.gain
    assert low <= gain <= high and f"{100 * gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})" in ensemble.sentence()
    assert calibration.average_ensemble(dict(list(runs.items())[:1])) is None


# --- Errors ----------------------------------------------------------------------------------------------------------------


def test_f1_is_sklearns():
    run = synthetic.record("a", 0.8)
    p = run.predictions
    assert errors.f1_scores(run.result.confusion_matrix) == pytest.approx(f1_score(p.labels, p.proba.argmax(1), average=None))


def test_worst_class_has_an_interval_around_it_and_tells_ties():
    labels = synthetic.labels_of(1000, 5)
    one_bad, even = (labels != 2) | (np.arange(1000) % 2 == 0), np.arange(1000) % 11 > 0
    masks = {"bad": one_bad, "even": even}
    worst = errors.worst_classes({name: synthetic.record(name, mask, size=1000) for name, mask in masks.items()})
    assert worst.loc["bad", "class"] == "pullover" and worst.loc["bad", "tied"] == ""
    assert worst.loc["even", "tied"] != ""
    assert (worst["low"] <= worst["f1"]).all() and (worst["f1"] <= worst["high"]).all()
    rng, counts = np.random.default_rng(1), np.array(synthetic.record("bad", one_bad, size=1000).result.confusion_matrix)
    again = [errors.f1_scores(np.bincount(rng.choice(25, 1000, p=counts.ravel() / 1000), minlength=25).reshape(5, 5))[2]
             for _ in range(2000)]
    assert worst.loc["bad", ["low", "high"]].to_list() == pytest.approx(np.percentile(again, [2.5, 97.5]), abs=0.01)


def test_confused_pairs_and_their_examples():
    labels = synthetic.labels_of(1000, 5)
    runs = {"a": synthetic.record("a", labels != 1, size=1000)}
    pairs = errors.confused_pairs(runs)
    assert list(pairs["pair"]) == ["trousers and pullover"] and pairs["share"].sum() == pytest.approx(1)
    assert set(labels[errors.pair_examples(runs, pairs, 3)["image"]]) == {1}
    assert pairs["errors"].to_list() == [200]
    half = {"a": runs["a"], "b": synthetic.record("b", labels >= 0, size=1000)}  # of which b never errs
    assert errors.confused_pairs(half)["errors"].to_list() == [100]


def test_images_missed_by_all_and_overlap_of_errors():
    right = np.ones(100, bool)
    a, b = right.copy(), right.copy()
    a[[3, 5]], b[[5, 7]] = False, False
    runs = {name: synthetic.record(name, mask, size=100) for name, mask in (("a", a), ("b", b))}
    assert list(errors.missed_by_all(runs)["image"]) == [5]
    assert errors.error_overlap(significance.correct_table(runs)).loc["a", "b"] == pytest.approx(1 / 3)


def test_confident_unanimous_contradiction_is_a_candidate_and_relabelling_moves_scores():
    mask = np.ones(200, bool)
    mask[:4] = False
    runs = {name: synthetic.record(name, mask, size=200, confidence=0.97) for name in "abc"}
    found = errors.noise_candidates(runs)
    assert list(found["image"]) == [0, 1, 2, 3] and (found["prediction"] != found["label"]).all()
    assert errors.if_relabelled(runs, found)["change"].to_numpy() == pytest.approx([0.02] * 3)
    unsure = np.arange(200) % 5 < 3
    fair = synthetic.record("d", unsure | (np.arange(200) < 4), size=200, confidence=0.6)  # doubts what the others are sure of
    assert errors.noise_candidates({"a": runs["a"], "d": fair}, min_confidence=0.4).empty, "one of two is no majority"
    assert list(errors.noise_candidates(runs | {"d": fair}, min_confidence=0.4)["image"])[:4] == [0, 1, 2, 3]
    # unsure models are right, on validation images too, as often as their confidence says
    assert errors.noise_candidates({name: synthetic.record(name, unsure, size=200, confidence=0.6) for name in "abc"}).empty


# --- The verdict -----------------------------------------------------------------------------------------------------------


def test_clear_winner_is_named_with_its_distance():
    summary = verdict.summarise(synthetic.clear_winner())
    assert summary.headline.startswith("**Alpha** is the most accurate model: 95.0%")
    assert "No other model is statistically tied" in summary.headline
    assert "Beta, is 7.0 points (95% interval 5." in summary.headline
    assert "Best under 60 s of training time: **Beta**" in summary.markdown()
    assert "No other model comes within 1 point of **Alpha**" in summary.markdown()


def test_budgets_change_the_answer_and_may_be_too_tight():
    records = synthetic.clear_winner()
    assert "training time: **Alpha**" in text(records, budgets=verdict.Budgets(train_seconds=1000))
    assert "training time: none; the nearest is Gamma with 2 s" in text(records, budgets=verdict.Budgets(train_seconds=1))
    assert "Within 10 points of the best, **Alpha** is" not in text(records, budgets=verdict.Budgets(distance_points=10))


def test_the_best_under_a_budget_is_named_with_those_tied_with_it_and_the_machine():
    slow, one, other, poor = (synthetic.record(name, accuracy, train_seconds=seconds) for name, accuracy, seconds in
                              (("slow", 0.95, 900), ("one", 0.901, 20), ("other", 0.9, 30), ("poor", 0.7, 2)))
    found = text([slow, one, other, poor])
    assert "training time: **One** (90.1%) with 20 s, statistically tied with Other (90.0%)." in found
    assert "Times and memory are those of Test CPU, 2 cores." in found
    assert "memory: **Slow**" not in found and "tied with Poor" not in found


def test_tied_models_have_no_winner_and_the_quickest_is_named():
    found = text(synthetic.all_tied())
    assert "there is no winner" in found and "Among the tied, **Beta** is the quickest to train: it takes 10 s" in found


def test_no_model_is_said_to_be_quicker_than_itself():
    free = [synthetic.record("free", 0.901, train_seconds=0), synthetic.record("dear", 0.9, train_seconds=5)]
    assert "the quickest to train: it" not in text(free)


def test_winner_beaten_on_time_by_a_tied_model():
    labels = synthetic.labels_of(2000, 5)
    good = np.arange(2000) % 10 > 0
    nearly = good.copy()
    nearly[1] = False
    records = [synthetic.record("slow", good, train_seconds=900), synthetic.record("fast", nearly, train_seconds=3),
               synthetic.record("poor", labels < 3, train_seconds=50)]
    found = text(records)
    assert "Statistically tied with it, after correction for 3 comparisons: Fast" in found
    assert "**Fast** is the quickest to train: it takes 3 s, Slow 900 s." in found
    assert "On training time alone these are beaten" in found and "for no more: Poor." in found
    assert "Every time is that of one run." in found


def test_two_equal_models_share_the_lead_and_are_pointed_out():
    mask = np.arange(2000) % 10 > 0
    found = text([synthetic.record("one", mask), synthetic.record("two", mask)])
    assert "**One** and **Two** share the highest accuracy" in found and "are they two models?" in found


def test_a_single_model_gets_no_verdict_and_no_model_a_notice():
    assert "there is no verdict" in text(synthetic.clear_winner()[:1]) and "Alpha" in text(synthetic.clear_winner()[:1])
    assert "There are no results" in text([])


def test_missing_models_are_named_and_the_lead_is_qualified():
    found = text(synthetic.clear_winner(), missing=["VGG16"])
    assert "Missing, because the run failed: VGG16" in found and "of those that ran" in found


def test_a_model_of_which_one_seed_failed_is_not_missing():
    found = text(synthetic.clear_winner(), missing=["Alpha", "VGG16", "VGG16"])
    assert "Missing, because the run failed: VGG16. Every" in found and "Of Alpha not every seed has a result" in found
    from_scratch = synthetic.record("vgg16", 0.9, display_name="VGG16, from scratch")
    found = text([*synthetic.clear_winner(), from_scratch], missing=["VGG16"])
    assert "Missing" not in found and "Of VGG16 not every seed has a result" in found


def test_worst_classes_that_differ_and_that_are_tied_are_told():
    labels = synthetic.labels_of(2000, 5)
    third = np.arange(2000) % 3 == 0
    found = text([synthetic.record(name, (labels != worst) | third) for name, worst in (("a", 1), ("b", 3))])
    assert "worst classes differ" in found and "for trousers by A" in found and "for dress by B" in found
    even = np.arange(2000) % 11 > 0
    assert "Other classes are tied with the worst of 1 of 1 models" in text([synthetic.record("a", even)])


def test_two_models_are_judged_by_mcnemar_alone():
    correct = significance.correct_table(table.representatives(synthetic.clear_winner()[:2]))
    sentence = verdict.evidence(correct, significance.pairwise_mcnemar(correct))
    assert "Cochran" not in sentence and sentence.startswith("Of the two most accurate, Alpha")


def test_the_best_two_are_compared_before_and_after_correction():
    correct = significance.correct_table(table.representatives(synthetic.clear_winner()))
    first, second = correct.mean().sort_values(ascending=False).index[:2]
    before = significance.mcnemar_p(correct[first], correct[second])
    p_values = significance.pairwise_mcnemar(correct)
    after = p_values.loc[first, second]
    assert before < after and verdict.evidence(correct, p_values).endswith(f"gives p = {before:.2g}, after it {after:.2g}.")


def test_a_model_on_the_front_that_chance_may_have_put_there_is_named():
    tied = text([synthetic.record("dear", 0.901, train_seconds=30), synthetic.record("cheap", 0.9, train_seconds=3)])
    assert "Not beaten, but statistically tied with a model that trains quicker: Dear (with Cheap)." in tied
    assert "Not beaten" not in text(synthetic.clear_winner())


def test_the_best_models_probabilities_are_to_be_scaled_where_that_helps():
    found = text([synthetic.record("timid", 0.95, confidence=0.6)])
    assert "Whoever needs the probabilities of **Timid** should scale them: a temperature of 0." in found
    assert "calibration error from 0.100 to 0.0" in found
    assert "should scale" not in text([synthetic.record("honest", 0.95, confidence=0.95, ece=0.0)])


def test_memory_is_told_with_what_was_there_before():
    assert "Memory is what training needs on top of the 400 MiB that Python" in text(synthetic.clear_winner())
    on_gpu = text(synthetic.clear_winner(peak_vram_mb=900, machine=synthetic.ELSEWHERE))
    assert "Memory, of processor and GPU together, is what training needs" in on_gpu
    assert "Best under 500 MiB of memory for training: none; the nearest is Beta with 1,200 MiB" in on_gpu


def test_several_leaders_are_spoken_of_as_several():
    even = np.arange(2000) % 10 > 0
    found = text([synthetic.record("a", even), synthetic.record("b", even), synthetic.record("c", 0.899),
                  synthetic.record("d", 0.5)])
    assert "**A** and **B** share the highest accuracy" in found
    assert "Statistically tied with them, after correction for 6 comparisons: C (89.9%)." in found


def test_how_well_accuracies_are_known_is_told_from_the_best_known_to_the_least():
    found = text([synthetic.record("good", 0.95), synthetic.record("bad", 0.5)])
    assert "With 2,000 test images an accuracy is known to about ±1.0 to ±2.2 points." in found


def test_transfer_learning_counts_only_with_weights():
    loaded = synthetic.record("net", 0.95, weights=Weights(source="package"))
    scratch = synthetic.record("net", 0.95, display_name="VGG16, from scratch")
    other = synthetic.record("tree", 0.8)
    assert "the only pre-trained network, Net (95.0%), is 15.0 points (95% interval 13" in text([loaded, other])
    tied = text([loaded, synthetic.record("tree", 0.949), synthetic.record("stump", 0.7)])
    assert "(95% interval \N{MINUS SIGN}" in tied
    assert "That is no significant difference, after correction for 3 comparisons." in tied
    second = synthetic.record("lite", 0.9, weights=Weights(source="package"))
    assert "the best pre-trained network, Net" in text([loaded, second, other])
    assert "points" in (less := text([synthetic.record("net", 0.7, weights=Weights(source="package")), other]))
    assert "behind the best model that is not pre-trained, Tree (80.0%)" in less
    assert "Transfer learning" not in text([scratch, other])
    assert "no evidence on transfer learning: VGG16, from scratch" in text([scratch, other])


def test_machines_are_never_mixed():
    records = [*synthetic.clear_winner(), synthetic.record("delta", 0.97, machine=synthetic.ELSEWHERE, train_seconds=1)]
    local, sentence = table.by_machine(table.overview(table.representatives(records)))
    assert "Delta" not in local.index and "Delta (Test GPU" in sentence
    found = text(records)
    assert found.startswith("**Delta**") and sentence in found and "quickest to train" not in found
    near = [*synthetic.clear_winner(), synthetic.record("delta", 0.951, machine=synthetic.ELSEWHERE)]
    assert "the quickest to train" not in text(near), "of the two near the best, one was measured here: nothing to compare"


def test_seeds_are_kept_apart_from_the_interval():
    records = [synthetic.record("a", accuracy, seed=seed, rng=seed) for seed, accuracy in ((1, 0.90), (2, 0.92))]
    seeds = table.by_seed([*records, synthetic.record("b", 0.8)])
    assert seeds.loc["A", "sd"] == pytest.approx(np.std([0.90, 0.92], ddof=1)) and np.isnan(seeds.loc["B", "sd"])
    assert table.representatives(records)["A"].result.seed == 1
    assert "**A** 91.0%, with a standard deviation of 1.41 points over 2 seeds" in text(records)
    assert "was trained once" not in text(records)
    assert "Everything else here is about each model's first seed." in text(records)
    other = [synthetic.record("b", accuracy, seed=seed, rng=seed) for seed, accuracy in ((1, 0.95), (2, 0.6))]
    found = text([*records, *other])
    assert found.startswith("**B** is the most accurate") and "**A** 91.0%" in found
    assert "about each model's first seed, by which B is ahead." in found


def test_the_overview_has_every_number_in_its_own_column():
    record = synthetic.record("a", 0.9, train_seconds=1, fit_wall_seconds=2, predict_seconds=3, latency_ms_p50=4,
                              latency_ms_p95=5, peak_rss_mb=700, rss_baseline_mb=400, peak_vram_mb=900, parameter_count=6,
                              flops_per_image=7, log_loss=0.8, ece=0.09, weights=Weights(source="package"))
    row = table.overview({"A": record}).loc["A"]
    low, high = significance.wilson(1800, 2000)
    assert row.to_dict() == {
        "family": "mlp", "accuracy": 0.9, "low": low, "high": high, "log_loss": 0.8, "ece": 0.09, "train_seconds": 1,
        "fit_wall_seconds": 2, "predict_seconds": 3, "latency_ms": 4, "ram_mb": 300, "vram_mb": 900, "memory_mb": 1200,
        "baseline_mb": 400, "parameters": 6, "flops": 7, "pretrained": True, "machine": "Test CPU, 2 cores"}


def test_models_of_one_name_are_told_apart():
    records = [synthetic.record(model, 0.9, display_name="Net") for model in ("x", "y")]
    assert set(table.representatives(records)) == {"Net (x)", "Net (y)"}


def test_images_that_are_not_the_results_are_refused():
    runs = table.representatives(synthetic.clear_winner())
    table.check_images(runs, synthetic.labels_of(2000, 5))
    with pytest.raises(ResultError, match=r"2000 images that are not the 100.*dataset"):
        table.check_images(runs, synthetic.labels_of(100, 5))


# --- The audit -------------------------------------------------------------------------------------------------------------


def test_the_study_stands_beside_the_network_that_ran():
    overview = table.overview(table.representatives(synthetic.ten_models(500)))
    beside = audit.beside_study(overview)
    rows = beside.set_index("study")
    assert rows.loc["“MobileNetV3”", "ours"] == "ResNet34" and rows.loc["VGG16", "ours"] == "VGG16, from scratch"
    assert beside["study"].notna().sum() == 8 and "XGBoost" in set(beside.loc[beside["study"].isna(), "ours"])
    assert len(audit.beside_study(overview[:0])) == 8
    as_run = overview.iloc[[0]].rename(index={overview.index[0]: audit.FACTS["as_run"]})
    rows = audit.beside_study(pd.concat([overview, as_run])).set_index("study")
    assert rows.loc["“MobileNetV3”", "ours"] == audit.FACTS["as_run"] and rows.loc["ResNet34", "ours"] == "ResNet34"


def test_the_network_as_run_is_matched_by_the_name_that_the_registry_shows():
    assert audit.FACTS["as_run"] == entry("mobilenet_v3_as_run").display_name


def test_every_mistake_is_listed_and_what_can_be_shown_is():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 12, 12), dtype=np.uint8)
    runs = {"MLP": synthetic.record("mlp", 0.9, display_name="MLP", history=5)}
    shown = audit.Demonstrations(images, np.arange(200) % 5, runs)
    found = shown.markdown()
    assert len(audit.FACTS["mistakes"]) == 13 and "13. **" in found
    assert "standard error of 0.24 points" in found and "“MobileNetV3” on the test's, by 0.94 to 0.93" in found
    assert "at most 0 grey levels" in found
    assert "MLP was tested with the weights of its last epoch, of validation loss 0.600 and accuracy 80.00%" in found
    assert "its lowest loss was 0.500, in epoch 3, at an accuracy of 80.00%." in found
    assert "Ours takes 2 s of training on Test CPU, 2 cores" in found
    assert "A ResNet34 has 21.8 million weights, a MobileNetV3-small 2.5." in found
    patient = {"MLP": synthetic.record("mlp", 0.9, history=5, parameters={"recipe": {"patience": 3}})}
    assert "MLP would have been tested" in audit.Demonstrations(images, np.arange(200) % 5, patient).markdown()
    steady = {"MLP": synthetic.record("mlp", 0.9, history=1)}
    assert "every network was at its best" in audit.Demonstrations(images, np.arange(200) % 5, steady).markdown()
    assert "No network has a result" in audit.Demonstrations(images, np.arange(200) % 5, {}).markdown()


@pytest.mark.parametrize("records", [[], synthetic.clear_winner()[:1], synthetic.clear_winner(), synthetic.all_tied()],
                         ids=["none", "one", "three", "tied"])
def test_everything_works_with_any_number_of_models(records):
    runs = table.representatives(records)
    correct, overview = significance.correct_table(runs), table.overview(runs)
    for function in (errors.per_class, errors.worst_classes, calibration.calibration_table):
        assert isinstance(function(runs), pd.DataFrame)
    pairs, doubtful = errors.confused_pairs(runs), errors.noise_candidates(runs)
    assert len(errors.pair_examples(runs, pairs)) <= 5 * len(pairs)
    assert len(errors.if_relabelled(runs, doubtful)) == len(runs) == len(overview) == len(calibration.curves(runs))
    paired = len(runs) if len(runs) > 1 else 0
    assert len(errors.error_overlap(correct)) == len(significance.pairwise_mcnemar(correct)) == paired
    assert verdict.evidence(correct, significance.pairwise_mcnemar(correct)) and len(errors.missed_by_all(runs)) <= 2000
    assert table.pareto_fronts(overview, ["flops"]).shape == (len(runs), 1)
