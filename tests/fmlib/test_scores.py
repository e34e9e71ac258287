"""Scores, against scikit-learn's, and calibration, against what is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax as scipys_log_softmax
from sklearn import metrics

from fmlib.results import ClassScore
from fmlib.scores import (
    calibration_bins,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    log_proba,
    log_softmax,
    scores,
)

NAMES = list("abcd")
raw_scores = arrays(np.float32, (30, 4), elements=st.floats(0.015625, 1, width=32))
four_classes = arrays(np.int64, 30, elements=st.integers(0, 3))


def normalised(raw: np.ndarray) -> np.ndarray:
    return raw / raw.sum(1, keepdims=True)


@given(raw_scores, four_classes)
def test_scores_are_those_of_scikit_learn(raw, labels):
    proba, every = normalised(raw), range(4)
    got, predicted = scores(proba, labels, NAMES), normalised(raw).argmax(1)
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    exact = normalised(proba.astype(np.float64))
    wanted = metrics.log_loss(labels, exact, labels=every)
    assert got["log_loss"] == pytest.approx(wanted, rel=1e-4)
    matrix = metrics.confusion_matrix(labels, predicted, labels=every)
    assert got["confusion_matrix"] == matrix.tolist()
    classes = [ClassScore(**score) for score in got["classes"]]
    columns = metrics.precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=0
    )
    for score, name, *numbers in zip(classes, NAMES, *columns, strict=True):
        found = [score.precision, score.recall, score.f1, score.support]
        assert score.name == name and found == pytest.approx(numbers)


@given(four_classes)
def test_scores_of_sure_and_correct_predictions_are_perfect(labels):
    got = scores(np.eye(4, dtype=np.float32)[labels], labels, NAMES)
    assert (got["accuracy"], got["ece"]) == (1, 0)
    assert got["log_loss"] == pytest.approx(0, abs=1e-6)


def test_sure_and_wrong_predictions_have_a_finite_log_loss():
    got = scores(np.eye(4, dtype=np.float16), np.array([1, 2, 3, 0]), NAMES)
    assert 10 < got["log_loss"] < 20


@given(arrays(np.float64, (5, 3), elements=st.floats(-500, 500)))
def test_the_log_softmax_is_scipys(logits):
    assert np.allclose(log_softmax(logits), scipys_log_softmax(logits, axis=1))


@given(raw_scores)
def test_logarithms_of_probabilities_stand_for_these(raw):
    assert np.allclose(np.exp(log_softmax(log_proba(normalised(raw)))), normalised(raw), atol=1e-6)


def test_the_log_loss_of_no_images_is_not_a_number():
    assert np.isnan(log_loss(np.zeros((0, 3)), np.zeros(0, np.int64)))


# --- Calibration ------------------------------------------------------------------------------


def drawn(temperature: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn by the probabilities for which they stand at that temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (n, 4))
    noise = rng.gumbel(size=logits.shape)
    return logits, (logits / temperature + noise).argmax(1)


@pytest.mark.parametrize("known", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found_again(known):
    assert fit_temperature(*drawn(known)) == pytest.approx(known, rel=0.05)


def test_the_temperature_found_does_no_harm_and_beats_its_neighbours():
    logits, labels = drawn(2.5, 500)
    found = fit_temperature(logits, labels)
    best = log_loss(logits, labels, found)
    others = (1.0, 0.9 * found, 1.1 * found)
    assert all(best <= log_loss(logits, labels, other) for other in others)


def test_without_images_the_temperature_is_one():
    assert fit_temperature(np.zeros((0, 4)), np.zeros(0, np.int64)) == 1


def test_the_calibration_error_of_a_small_example_by_hand():
    # two images of confidence 0.9, one of them correct; two of 0.6, both correct
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], np.float32)
    labels = np.array([0, 1, 0, 1])
    assert expected_calibration_error(proba, labels) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)
    confidence, accuracy, count = calibration_bins(proba, labels)
    assert confidence == pytest.approx([0.6, 0.9])
    assert accuracy.tolist() == [1, 0.5] and count.tolist() == [2, 2]


def test_over_and_under_confidence_within_a_bin_cancel_and_across_bins_do_not():
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.7, 0.3]])
    labels = np.array([0, 1, 0, 0])
    assert expected_calibration_error(proba, labels) == pytest.approx(0.35)
    assert expected_calibration_error(proba, labels, bins=1) == pytest.approx(0.05)


@given(raw_scores, four_classes)
def test_the_calibration_error_is_a_fraction_of_bins_that_hold_every_image(raw, labels):
    proba = normalised(raw)
    assert 0 <= expected_calibration_error(proba, labels) <= 1
    confidence, accuracy, count = calibration_bins(proba, labels)
    assert count.sum() == 30
    assert (confidence * count).sum() == pytest.approx(proba.max(1).sum(), rel=1e-5)
    assert (accuracy * count).sum() == pytest.approx((proba.argmax(1) == labels).sum())


def test_perfect_confidence_falls_into_the_last_bin():
    proba = np.zeros((40, 4), np.float32)
    proba[:, 0] = 1
    assert calibration_bins(proba, np.zeros(40, np.int64))[2].tolist() == [40]


def test_calibrated_probabilities_have_a_small_error():
    logits, labels = drawn(1.0)
    assert expected_calibration_error(np.exp(log_softmax(logits)), labels) < 0.015
    assert expected_calibration_error(np.exp(log_softmax(3 * logits)), labels) > 0.05
