"""The comparison: statistics against references, and findings that follow the numbers."""

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

from fmlib.models.registry import model_class
from fmlib.results import ResultError, Weights
from fmreport.compare import audit, calibration, errors, significance, table, verdict

PROBA = arrays(np.float32, (30, 4), elements=st.floats(1 / 128, 1, width=32)).map(
    lambda x: x / x.sum(1, keepdims=True)
)
LABELS = arrays(np.int64, 30, elements=st.integers(0, 3))
CORRECT = arrays(bool, (40, 3)).map(lambda x: pd.DataFrame(x, columns=list("abc")))


# --- Statistics against published examples ---


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_newcombes_table(hits, n, low, high):
    """R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert significance.wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def kuncheva() -> pd.DataFrame:
    """Three classifiers on 100 images: L. Kuncheva, Combining Pattern Classifiers (2004), as in
    mlxtend's cochrans_q guide."""
    counts = {
        (1, 1, 1): 80,
        (1, 1, 0): 2,
        (1, 0, 0): 2,
        (0, 1, 1): 9,
        (0, 1, 0): 1,
        (0, 0, 1): 3,
        (0, 0, 0): 3,
    }
    rows = [row for row, count in counts.items() for _ in range(count)]
    return pd.DataFrame(rows, columns=["D1", "D2", "D3"]).astype(bool)


def test_cochran_gives_kunchevas_example():
    assert significance.cochran(kuncheva()) == pytest.approx((7.5294, 0.0232), abs=5e-5)


def test_cochran_gives_conovers_example():
    """W. J. Conover, Practical Nonparametric Statistics, p. 253 in the second edition:
    Q = 2.8, p = 0.2466."""
    rows = ["111", "111", "010", "110", "000", "111", "111", "110", "001", "010", "111", "111"]
    votes = pd.DataFrame([[c == "1" for c in row] for row in rows])
    assert significance.cochran(votes) == pytest.approx((2.8, 0.2466), abs=5e-5)


def pair(first_alone: int, second_alone: int) -> pd.DataFrame:
    """Two models of which each alone is right on so many images."""
    first = np.arange(first_alone + second_alone) < first_alone
    return pd.DataFrame({"a": first, "b": ~first})


@pytest.mark.parametrize(
    ("first", "second", "p"), [(70, 59, 0.378688), (80, 59, 0.089452), (10, 30, 0.002221)]
)
def test_mcnemar_gives_published_values(first, second, p):
    """From vassarstats.net, as in the tests of statsmodels' mcnemar."""
    votes = pair(first, second)
    assert significance.mcnemar_p(votes["a"], votes["b"]) == pytest.approx(p, abs=5e-7)


def test_mcnemar_is_a_binomial_test_of_the_images_that_differ():
    votes = kuncheva()
    assert significance.mcnemar_p(votes["D1"], votes["D2"]) == pytest.approx(
        binomtest(2, 12).pvalue
    )
    assert significance.mcnemar_p(votes["D1"], votes["D1"]) == 1.0


def test_holm_gives_the_textbook_adjustment():
    """Smallest p times 3, the middle one times 2, the largest as it is, never falling.

    S. Holm, 1979."""
    votes = kuncheva()
    raw = {
        pair: significance.mcnemar_p(votes[pair[0]], votes[pair[1]])
        for pair in [("D1", "D2"), ("D1", "D3"), ("D2", "D3")]
    }
    adjusted, highest = significance.pairwise_mcnemar(votes), 0.0
    for factor, pair in zip((3, 2, 1), sorted(raw, key=raw.get), strict=True):
        highest = max(highest, min(1.0, factor * raw[pair]))
        assert adjusted.loc[pair] == pytest.approx(highest)


def test_the_interval_of_a_paired_difference_is_agrestis():
    """Approval of the prime minister, 1,600 people asked twice: 944 and 880 approve, 150 and 86
    changed their minds.

    A. Agresti, Categorical Data Analysis, section 11.1: 0.04, with the 95 % interval 0.02 to 0.06.
    """
    same = pd.DataFrame({"a": [True] * 794 + [False] * 570, "b": [True] * 794 + [False] * 570})
    votes = pd.concat([same, pair(150, 86)])
    assert significance.paired_difference(votes["a"], votes["b"]) == pytest.approx(
        (0.04, 0.0213, 0.0587), abs=2e-4
    )


def test_no_pair_differs_where_cochran_finds_no_difference_at_all():
    votes = pd.DataFrame(np.tile(pair(6, 0).to_numpy(), (1, 5)), columns=list("abcdefghij")).astype(
        bool
    )
    votes[list("cdefghij")] = True
    alone = significance.pairwise_mcnemar(votes[["a", "b"]])
    assert (
        alone.loc["a", "b"] == pytest.approx(significance.mcnemar_p(votes["a"], votes["b"]))
        and alone.loc["a", "b"] < 0.05
    )
    quiet = pd.concat(
        [votes[["a", "b"]].iloc[:1], pd.DataFrame({"a": [True] * 50, "b": [True] * 50})]
    ).assign(c=True)
    assert significance.cochran(quiet)[1] > 0.05 and (
        significance.pairwise_mcnemar(quiet) == 1
    ).all(axis=None)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_estimate_and_stays_in_range(counts):
    low, high = significance.wilson(*counts)
    assert (
        0 <= low <= counts[0] / counts[1] + 1e-12
        and counts[0] / counts[1] <= high + 1e-12
        and high <= 1 + 1e-12
    )


@settings(
    max_examples=8
)  # statsmodels' multipletests collects garbage at every call, which takes half a second
@given(CORRECT)
def test_pairwise_tests_are_symmetric_and_no_smaller_than_uncorrected(votes):
    adjusted = significance.pairwise_mcnemar(votes)
    assert np.allclose(adjusted, adjusted.T)
    assert all(
        adjusted.loc[a, b] >= significance.mcnemar_p(votes[a], votes[b]) - 1e-12
        for a in votes
        for b in votes
    )
    assert significance.tied_with_best(votes, adjusted)[0] == votes.mean().idxmax()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_pareto_keeps_exactly_what_nothing_beats(points):
    cost, value = np.array(points).T
    beaten = [any(c <= x and v >= y and (c < x or v > y) for c, v in points) for x, y in points]
    assert list(table.pareto(cost, value)) == [not b for b in beaten]


# --- Calibration ---


@given(PROBA, LABELS)
def test_scaling_keeps_predictions(proba, labels):
    scaled = calibration.rescale(proba, 3.0)
    assert scaled[np.arange(len(proba)), proba.argmax(1)] == pytest.approx(scaled.max(1))


def test_a_temperature_above_one_makes_an_overconfident_model_less_sure():
    runs = {"Bold": synthetic.record("Bold", 0.7, confidence=0.99)}
    row = calibration.calibration_table(runs, calibration.temperatures(runs)).loc["Bold"]
    assert row["log_loss"] == pytest.approx(1.68, abs=0.2) and row["ece"] == pytest.approx(
        0.29, abs=0.01
    )
    assert (
        row["temperature"] > 1
        and row["ece_scaled"] < row["ece"]
        and row["log_loss_scaled"] < row["log_loss"]
    )


def test_a_temperature_is_that_of_the_validation_images():
    labels = synthetic.labels_of(200, 5)
    sure = synthetic.predict(
        labels, np.arange(200) % 2 == 0, 5, confidence=0.99
    )  # half of these are wrong
    good, bad = (synthetic.record("A", accuracy, validation=sure) for accuracy in (0.9, 0.3))
    found = calibration.temperatures({"good": good, "bad": bad})
    assert found["good"] > 3 and found["good"] == found["bad"]


def test_curves_hold_every_image_before_and_after_scaling():
    runs = {"A": synthetic.record("A", 0.7), "B": synthetic.record("B", 0.9)}
    curves = calibration.curves(runs, {"A": 1.0, "B": 2.0})
    assert (curves.groupby(["model", "scaled"])["count"].sum() == 2000).all()
    before, after = (
        curves[(curves["model"] == "B") & (curves["scaled"] == scaled)] for scaled in (False, True)
    )
    assert (
        before["confidence"].to_list() == pytest.approx([0.8], abs=1e-3)
        and after["confidence"].max() < 0.6
    )
    assert before["accuracy"].to_list() == after["accuracy"].to_list() == pytest.approx([0.9])


def ensemble_of(runs: dict) -> calibration.Ensemble | None:
    return calibration.average_ensemble(runs, calibration.temperatures(runs))


def test_a_bold_model_does_not_outvote_better_ones_in_the_ensemble():
    labels = synthetic.labels_of(2000, 5)
    good, bad = np.arange(2000) % 20 > 0, labels < 3
    timid = [synthetic.record(name, good, confidence=0.5) for name in "AB"]
    runs = table.representatives([*timid, synthetic.record("C", bad, confidence=0.99)])
    ensemble = ensemble_of(runs)
    assert set(ensemble.members) == {"A", "B", "C"} and ensemble.accuracy == pytest.approx(0.95)
    unscaled = (
        np.mean([run.proba.astype(float) for run in runs.values()], axis=0).argmax(1) == labels
    )
    assert unscaled.mean() < 0.95


def test_ensemble_members_are_chosen_on_validation_images():
    none = synthetic.predict(synthetic.labels_of(200, 5), np.zeros(200, bool), 5)
    others = [synthetic.record(name, 0.9) for name in "BCD"]
    runs = table.representatives([synthetic.record("A", 0.9, validation=none), *others])
    ensemble = ensemble_of(runs)
    assert "A" not in ensemble.members and len(ensemble.members) == 3
    gain, low, high = ensemble.gain
    assert low <= gain <= high and 0 <= ensemble.p_value <= 1
    assert ensemble_of(dict(list(runs.items())[:1])) is None


# --- Errors ---


def test_f1_is_sklearns():
    run = synthetic.record("A", 0.8)
    expected = f1_score(run.labels, run.proba.argmax(1), average=None)
    assert errors.f1_scores(run.confusion_matrix) == pytest.approx(expected)


def test_worst_class_has_an_interval_around_it_and_tells_ties():
    labels = synthetic.labels_of(1000, 5)
    one_bad, even = (labels != 2) | (np.arange(1000) % 2 == 0), np.arange(1000) % 11 > 0
    masks = {"bad": one_bad, "even": even}
    worst = errors.worst_classes(
        {name: synthetic.record(name, mask, size=1000) for name, mask in masks.items()}
    )
    assert worst.loc["bad", "class"] == "pullover" and worst.loc["bad", "tied"] == []
    assert worst.loc["even", "tied"] != []
    assert (worst["low"] <= worst["f1"]).all() and (worst["f1"] <= worst["high"]).all()
    rng, counts = (
        np.random.default_rng(1),
        np.array(synthetic.record("Bad", one_bad, size=1000).confusion_matrix),
    )
    again = [
        errors.f1_scores(
            np.bincount(rng.choice(25, 1000, p=counts.ravel() / 1000), minlength=25).reshape(5, 5)
        )[2]
        for _ in range(2000)
    ]
    assert worst.loc["bad", ["low", "high"]].to_list() == pytest.approx(
        np.percentile(again, [2.5, 97.5]), abs=0.01
    )


def test_confused_pairs_and_their_examples():
    labels = synthetic.labels_of(1000, 5)
    runs = {"a": synthetic.record("A", labels != 1, size=1000)}
    pairs = errors.confused_pairs(runs)
    assert list(pairs["pair"]) == ["trousers and pullover"] and pairs[
        "share"
    ].sum() == pytest.approx(1)
    assert set(labels[errors.pair_examples(runs, pairs, 3)["image"]]) == {1}
    assert pairs["errors"].to_list() == [200]
    half = {
        "a": runs["a"],
        "b": synthetic.record("B", labels >= 0, size=1000),
    }  # of which b never errs
    assert errors.confused_pairs(half)["errors"].to_list() == [100]


def test_images_missed_by_all_and_overlap_of_errors():
    right = np.ones(100, bool)
    a, b = right.copy(), right.copy()
    a[[3, 5]], b[[5, 7]] = False, False
    runs = {name: synthetic.record(name, mask, size=100) for name, mask in (("a", a), ("b", b))}
    assert list(errors.missed_by_all(runs)["image"]) == [5]
    assert errors.error_overlap(significance.correct_table(runs)).loc["a", "b"] == pytest.approx(
        1 / 3
    )


def doubtful(runs: dict, **options: float) -> pd.DataFrame:
    return errors.noise_candidates(runs, calibration.temperatures(runs), **options)


def test_confident_unanimous_contradiction_is_a_candidate_and_relabelling_moves_scores():
    mask = np.ones(200, bool)
    mask[:4] = False
    runs = {name: synthetic.record(name, mask, confidence=0.97) for name in "abc"}
    found = doubtful(runs)
    assert list(found["image"]) == [0, 1, 2, 3] and (found["prediction"] != found["label"]).all()
    assert errors.if_relabelled(runs, found)["change"].to_numpy() == pytest.approx([0.02] * 3)
    unsure = np.arange(200) % 5 < 3
    # doubts what the others are sure of
    fair = synthetic.record("d", unsure | (np.arange(200) < 4), confidence=0.6)
    one_of_two = {"a": runs["a"], "d": fair}
    assert doubtful(one_of_two, min_confidence=0.4).empty, "one of two is no majority"
    assert list(doubtful(runs | {"d": fair}, min_confidence=0.4)["image"])[:4] == [0, 1, 2, 3]
    # unsure models are correct, on validation images too, as often as their confidence says
    assert doubtful({name: synthetic.record(name, unsure, confidence=0.6) for name in "abc"}).empty


# --- Tables ---


def test_machines_are_never_mixed():
    delta = synthetic.record("Delta", 0.97, machine=synthetic.ELSEWHERE, train_seconds=1)
    runs = table.representatives([*synthetic.clear_winner(), delta])
    local, elsewhere = table.by_machine(table.overview(runs))
    assert list(local.index) == ["Alpha", "Beta", "Gamma"] and list(elsewhere.index) == ["Delta"]


def test_seeds_are_kept_apart_and_the_first_speaks_for_its_model():
    records = [
        synthetic.record("A", accuracy, seed=seed, rng=seed)
        for seed, accuracy in ((2, 0.92), (1, 0.90))
    ]
    seeds = table.by_seed([*records, synthetic.record("B", 0.8)])
    assert seeds.loc["A", "sd"] == pytest.approx(np.std([0.90, 0.92], ddof=1)) and np.isnan(
        seeds.loc["B", "sd"]
    )
    assert table.representatives(records)["A"].seed == 1


def test_the_overview_has_every_number_in_its_own_column():
    record = synthetic.record(
        "mlp",
        0.9,
        train_seconds=1,
        fit_wall_seconds=2,
        predict_seconds=3,
        latency_ms_p50=4,
        latency_ms_p95=5,
        peak_rss_mb=700,
        rss_baseline_mb=400,
        peak_vram_mb=900,
        parameter_count=6,
        flops_per_image=7,
        weights=Weights(source="package"),
    )
    row = table.overview({"A": record}).loc["A"]
    low, high = significance.wilson(1800, 2000)
    assert row.to_dict() == {
        "family": record.family,
        "accuracy": 0.9,
        "low": low,
        "high": high,
        "log_loss": record.log_loss,
        "ece": record.ece,
        "train_seconds": 1,
        "fit_wall_seconds": 2,
        "predict_seconds": 3,
        "latency_ms": 4,
        "ram_mb": 300,
        "vram_mb": 900,
        "memory_mb": 1200,
        "baseline_mb": 400,
        "parameters": 6,
        "flops": 7,
        "pretrained": True,
        "machine": "Test CPU, 2 cores",
    }


def test_a_cost_that_is_not_known_is_missing_and_on_no_front():
    unknown = synthetic.record("Own", 0.99, parameter_count=None, flops_per_image=None)
    overview = table.overview(table.representatives([unknown, *synthetic.clear_winner()]))
    assert overview.loc["Own", ["parameters", "flops"]].isna().all()
    fronts = table.pareto_fronts(overview, ["flops", "train_seconds"])
    assert list(fronts.loc["Own"]) == [False, True] and fronts.loc["Alpha", "flops"]


def test_images_that_are_not_the_results_are_refused():
    runs = table.representatives(synthetic.clear_winner())
    table.check_images(runs, synthetic.labels_of(2000, 5))
    with pytest.raises(ResultError, match=r"2000 images that are not the 100 .*`dataset`"):
        table.check_images(runs, synthetic.labels_of(100, 5))


# --- The audit ---


def test_the_study_stands_beside_the_network_that_ran():
    overview = table.overview(table.representatives(synthetic.ten_models(500)))
    beside = audit.beside_study(overview)
    rows = beside.set_index("study")
    assert (
        rows.loc["“MobileNetV3”", "ours"] == "ResNet34"
        and rows.loc["VGG16", "ours"] == "VGG16, from scratch"
    )
    assert beside["study"].notna().sum() == 8 and "XGBoost" in set(
        beside.loc[beside["study"].isna(), "ours"]
    )
    assert len(audit.beside_study(overview[:0])) == 8
    as_run = overview.iloc[[0]].rename(index={overview.index[0]: audit.FACTS["as_run"]})
    rows = audit.beside_study(pd.concat([overview, as_run])).set_index("study")
    assert (
        rows.loc["“MobileNetV3”", "ours"] == audit.FACTS["as_run"]
        and rows.loc["ResNet34", "ours"] == "ResNet34"
    )


def test_the_network_as_run_is_matched_by_the_name_that_the_registry_shows():
    assert audit.FACTS["as_run"] == model_class("mobilenet_v3_as_run").title


# --- The verdict ---


def test_a_budget_buys_the_best_within_it_or_nothing():
    found = verdict.compare(synthetic.clear_winner())
    train, latency = verdict.affordable(found, {"train_seconds": 60, "latency_ms": 0.5})
    assert train == verdict.Affordable("train_seconds", 60, "Beta", [], "Gamma")
    assert latency.best is None and latency.cheapest in found.runs and latency.tied == []


def test_who_is_tied_within_a_budget_is_told():
    found = verdict.compare(synthetic.all_tied())
    (train,) = verdict.affordable(found, {"train_seconds": 25})
    assert (train.best, train.tied) == ("Beta", ["Gamma"])


def test_findings_about_training_time():
    tied, clear = map(verdict.compare, (synthetic.all_tied(), synthetic.clear_winner()))
    assert verdict.fastest_tied(tied) == ("Beta", "Alpha")
    assert verdict.dominated(tied) == ["Gamma"] and verdict.dominated(clear) == []
    assert verdict.front_by_chance(tied) == [("Alpha", "Beta")]
    assert verdict.fastest_tied(clear) is None and verdict.front_by_chance(clear) == []


def test_leaders_and_those_near_them():
    even = np.arange(2000) % 10 > 0
    near = synthetic.record("C", 0.895)
    found = verdict.compare([synthetic.record("A", even), synthetic.record("B", even), near])
    assert verdict.leaders(found) == ["A", "B"] and verdict.twins(found) == [("A", "B")]
    assert verdict.near_best(found, 0.5) == ["A", "B", "C"]
    assert verdict.near_best(found, 0.4) == ["A", "B"]


def test_the_best_pre_trained_network_stands_beside_the_best_other_model():
    sources = {"A": "package", "B": "package", "C": None, "D": "none"}
    records = [
        synthetic.record(name, 0.9 - i / 10, weights=source and Weights(source=source))
        for i, (name, source) in enumerate(sources.items())
    ]
    assert verdict.transfer_pair(verdict.compare(records)) == ("A", "C")
    assert verdict.transfer_pair(verdict.compare(records[:2])) is None
    assert verdict.transfer_pair(verdict.compare(records[2:])) is None


@pytest.mark.parametrize(
    "records",
    [[], synthetic.clear_winner()[:1], synthetic.clear_winner(), synthetic.all_tied()],
    ids=["none", "one", "three", "tied"],
)
def test_everything_works_with_any_number_of_models(records):
    found = verdict.compare(records)
    runs, temperatures = found.runs, found.temperatures
    assert len(errors.worst_classes(runs)) == len(runs) == len(found.table)
    assert len(calibration.calibration_table(runs, temperatures)) == len(runs)
    assert len(errors.per_class(runs)) == (5 if runs else 0)
    pairs, doubtful = errors.confused_pairs(runs), errors.noise_candidates(runs, temperatures)
    assert len(errors.pair_examples(runs, pairs)) <= 5 * len(pairs)
    assert len(errors.if_relabelled(runs, doubtful)) == len(runs)
    assert calibration.curves(runs, temperatures)["model"].nunique() == len(runs)
    paired = len(runs) if len(runs) > 1 else 0
    assert len(errors.error_overlap(found.correct)) == len(found.p_values) == paired
    assert len(errors.missed_by_all(runs)) <= 2000
    assert table.pareto_fronts(found.local, ["flops"]).shape == (len(runs), 1)


@pytest.mark.parametrize("key", ["data_sha256", "split_sha256"])
def test_results_of_other_data_or_another_split_are_never_compared(key):
    own, other = synthetic.record("alpha", 0.9), synthetic.record("beta", 0.9)
    other = other.model_copy(update={key: "0123456789abcdef"})
    with pytest.raises(ResultError, match=rf"disagree on {key}.*beta seed 9: 0123456789ab\)"):
        verdict.compare([own, other])
