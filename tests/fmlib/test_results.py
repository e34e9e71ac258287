"""Records: they come back as they were saved, whole or not at all, and are refused when they cannot be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from fmlib import results
from fmlib.measure import Measurement, MemoryUse, measure
from fmlib.models.registry import build
from fmlib.results import Predictions, Record, Result, ResultError, load, load_all, save, scores


def record(model: str = "alpha", accuracy: float = 0.9, **fields: Any) -> Record:
    return synthetic.record(model, accuracy, size=200, **fields)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


WHOLE = ["alpha/seed-9/predictions.npz", "alpha/seed-9/result.json"]


def same(one: Predictions, other: Predictions) -> bool:
    return all(np.array_equal(mine, vars(other)[name]) and mine.dtype == vars(other)[name].dtype
               for name, mine in vars(one).items())  # fmt: skip


# --- Saving ---------------------------------------------------------------------------------------------------------------


def test_a_record_lies_in_two_plain_files_under_model_and_seed(tmp_path):
    assert save(record(), tmp_path) == tmp_path / "alpha" / "seed-9"
    assert files_in(tmp_path) == WHOLE


@given(accuracy=st.floats(0, 1), seed=st.integers(0, 99), history=st.integers(0, 3), confidence=st.floats(0.5, 1))
def test_a_record_comes_back_as_it_was_saved(tmp_path_factory, accuracy, seed, history, confidence):
    made = record(accuracy=accuracy, seed=seed, history=history, confidence=confidence, parameters={"a": [1, {"b": None}]})
    loaded = load(save(made, tmp_path_factory.mktemp("results")))
    assert loaded.result == made.result and same(loaded.predictions, made.predictions)


@given(arrays(np.float32, (20, 5), elements=st.floats(0.0625, 1, width=32)))
def test_half_precision_predicts_the_same_classes(scores):
    proba = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    half = results._half(proba)
    assert half.dtype == np.float16 and np.array_equal(half.argmax(1), proba.argmax(1))
    assert half.astype(np.float32) == pytest.approx(proba, abs=0.001)


def test_two_classes_that_rounding_makes_equal_keep_their_order():
    proba = np.array([[0.3, 0.35, 0.35 + 2e-5], [0.3, 0.35 + 2e-5, 0.35]], np.float32)
    assert proba.astype(np.float16).argmax(1).tolist() == [1, 1]
    assert results._half(proba).argmax(1).tolist() == [2, 1]


def test_a_measured_model_makes_a_whole_record(few, tmp_path):
    tree = build("decision_tree", {"max_depth": 3})
    made = results.make_record(
        "decision_tree", tree, few, measure(tree, few), profile="test", seed=9, parameters={"max_depth": 3}, job_sha256="abc"
    )
    loaded = load(save(made, tmp_path))
    result, predictions = loaded.result, loaded.predictions
    assert result == made.result and result.job_sha256 == "abc" and result.weights.source == "none"
    assert (result.train_size, result.validation_size, result.test_size) == (100, 20, 20)
    assert (result.data_sha256, result.split_sha256) == (few.data_sha256, few.split_sha256)
    assert result.class_names == list(few.class_names)
    assert predictions.proba.dtype == np.float16 and np.array_equal(predictions.labels, few.test_labels)
    assert np.array_equal(predictions.validation_labels, few.validation_labels)
    assert result.fit_wall_seconds >= result.train_seconds > 0 and result.peak_rss_mb >= result.rss_baseline_mb > 0


@pytest.mark.parametrize(
    ("weights", "name", "source"),
    [({"weights_": {"source": "none"}}, "VGG16, from scratch", "none"),
     ({"weights_": {"source": "vgg16.pth", "sha256": "ab"}}, "VGG16", "vgg16.pth"), ({}, "VGG16", "none")],
)  # fmt: skip
def test_every_measured_number_and_the_weights_come_into_their_own_place(few, weights, name, source):
    proba, validation_proba = (np.eye(10, dtype=np.float32)[labels] for labels in (few.test_labels, few.validation_labels))
    measured = Measurement(proba, validation_proba, 1.5, 2.5, 3.5, 4.5, 5.5, MemoryUse(100.0, 200.0, 300.0))
    classifier = SimpleNamespace(parameter_count=lambda: 6, flops_per_image=lambda: 7.0, history_=[], **weights)
    made = results.make_record("vgg16", classifier, few, measured, profile="test", seed=3, parameters={"a": 1}).result
    assert (made.train_seconds, made.fit_wall_seconds, made.predict_seconds) == (1.5, 2.5, 3.5)
    assert (made.latency_ms_p50, made.latency_ms_p95) == (4.5, 5.5)
    assert (made.rss_baseline_mb, made.peak_rss_mb, made.peak_vram_mb) == (100, 200, 300)
    assert (made.parameter_count, made.flops_per_image, made.accuracy, made.seed) == (6, 7, 1, 3)
    assert (made.display_name, made.weights.source) == (name, source)
    assert made.weights.sha256 == weights.get("weights_", {}).get("sha256")


def test_saving_again_replaces_the_whole_record(tmp_path):
    folder = save(record(accuracy=0.5), tmp_path)
    (folder / "leftover").touch()
    save(record(accuracy=0.9), tmp_path)
    assert load(folder).result.accuracy == 0.9
    assert files_in(tmp_path) == WHOLE


@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("earlier", [False, True], ids=["first save", "second save"])
def test_a_save_that_is_cut_short_leaves_the_old_record_or_nothing(tmp_path, monkeypatch, interruption, earlier):
    if earlier:
        save(record(accuracy=0.5), tmp_path)

    def half(path: Path, **_arrays: Any) -> None:
        path.write_bytes(b"half")
        raise interruption("disk full")

    with monkeypatch.context() as patch, pytest.raises(interruption):
        patch.setattr(np, "savez_compressed", half)
        save(record(accuracy=0.9), tmp_path)
    assert files_in(tmp_path) == (WHOLE if earlier else [])
    assert [loaded.result.accuracy for loaded in load_all(tmp_path)] == ([0.5] if earlier else [])


def test_predictions_that_contradict_their_result_are_not_saved(tmp_path):
    good, other = record(accuracy=0.9), record(accuracy=0.5)
    with pytest.raises(ResultError, match=r"predictions give accuracy 0\.5000, result\.json says 0\.9000"):
        save(Record(good.result, other.predictions), tmp_path)
    assert files_in(tmp_path) == []


# --- Loading --------------------------------------------------------------------------------------------------------------


def edit(**changes: Any) -> Callable[[Path], None]:
    """Change keys of result.json; what is set to ... is taken out."""
    def damage(folder: Path) -> None:
        path = folder / "result.json"
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    return damage


def rewrite(**changes: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Change arrays of predictions.npz by functions of what they were."""
    def damage(folder: Path) -> None:
        path = folder / "predictions.npz"
        with np.load(path) as stored:
            content = {name: stored[name] for name in stored}
        for name, change in changes.items():
            content[name] = change(content.get(name))
        np.savez_compressed(path, **{name: array for name, array in content.items() if array is not None})
    return damage


def cut(name: str, keep: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])
    return damage


def spoil(proba: np.ndarray, value: float) -> np.ndarray:
    return np.where(np.arange(len(proba))[:, None] == 3, np.float16(value), proba)


DAMAGES = {
    "unknown key": (edit(loss=0.1), "loss"),
    "schema of another version": (edit(schema_version=2), "schema_version"),
    "key left out": (edit(train_seconds=...), "train_seconds"),
    "text for a number": (edit(train_seconds="long"), "train_seconds"),
    "negative time": (edit(train_seconds=-1), "train_seconds"),
    "NaN": (edit(log_loss=float("nan")), "log_loss"),
    "infinity": (edit(latency_ms_p50=float("inf")), "latency_ms_p50"),
    "accuracy above 1": (edit(accuracy=1.1), "accuracy"),
    "accuracy that does not follow": (edit(accuracy=0.95), "accuracy 0.95 does not follow from the confusion_matrix"),
    "counts that do not sum": (edit(confusion_matrix=[[40] * 5] * 5), "confusion_matrix: wanted 5 rows and columns"),
    "matrix of another shape": (edit(confusion_matrix=[[100, 0], [0, 100]]), "confusion_matrix: wanted 5 rows and columns"),
    "ragged matrix": (edit(confusion_matrix=[[200], []]), ""),
    "another test size": (edit(test_size=100), "100 test images"),
    "another validation size": (edit(validation_size=100), "validation predictions: wanted 100 rows"),
    "unknown device": (edit(environment={"device": "abacus"}), "environment"),
    "bad history": (edit(history=[{"epoch": 0}]), "history"),
    "half a result.json": (cut("result.json", 0.5), "JSON"),
    "empty result.json": (cut("result.json", 0), "JSON"),
    "half a predictions.npz": (cut("predictions.npz", 0.7), ""),
    "empty predictions.npz": (cut("predictions.npz", 0), ""),
    "no result.json": (lambda folder: (folder / "result.json").unlink(), "No such file"),
    "no predictions.npz": (lambda folder: (folder / "predictions.npz").unlink(), "No such file"),
    "an array left out": (rewrite(labels=lambda _: None), "labels"),
    "an array too many": (rewrite(logits=lambda _: np.zeros(3)), "logits"),
    "rows left out": (rewrite(proba=lambda proba: proba[:-1]), r"test predictions: wanted 200 rows of 5 classes, got .*199"),
    "classes left out": (rewrite(proba=lambda proba: proba[:, :4]), r"wanted 200 rows of 5 classes"),
    "labels left out": (rewrite(validation_labels=lambda labels: labels[:-1]), "validation predictions: wanted 200 rows"),
    "NaN in proba": (rewrite(proba=lambda proba: spoil(proba, np.nan)), "must be probabilities"),
    "logits for proba": (rewrite(validation_proba=lambda proba: proba * 7), "must be probabilities"),
    "negative proba": (rewrite(proba=lambda proba: spoil(proba, -0.2)), "must be probabilities"),
    "shuffled labels": (rewrite(labels=lambda labels: np.roll(labels, 1)), "predictions give accuracy"),
    "pickled objects": (rewrite(labels=lambda labels: labels.astype(object)), "allow_pickle"),
}


@pytest.mark.parametrize("name", list(DAMAGES))
def test_a_record_that_cannot_be_trusted_is_refused_by_name(tmp_path, name):
    damage, says = DAMAGES[name]
    folder = save(record(), tmp_path)
    damage(folder)
    with pytest.raises(ResultError, match=f"{folder}: (.|\n)*{says}"):
        load(folder)


def test_all_records_are_loaded_in_order_and_nothing_else(tmp_path):
    for model, seed in (("beta", 2), ("beta", 1), ("alpha", 5)):
        save(record(model, seed=seed), tmp_path)
    (tmp_path / "alpha" / ".incoming-x").mkdir()
    (tmp_path / "notes").mkdir()
    assert [(one.result.model, one.result.seed) for one in load_all(tmp_path)] == [("alpha", 5), ("beta", 1), ("beta", 2)]


def test_no_results_are_no_error(tmp_path):
    assert load_all(tmp_path) == load_all(tmp_path / "nowhere") == []


@pytest.mark.parametrize("key", ["data_sha256", "split_sha256"])
def test_results_of_other_data_or_another_split_are_refused_by_name(tmp_path, key):
    save(record("alpha"), tmp_path)
    save(record("beta", **{key: "0123456789abcdef"}), tmp_path)
    with pytest.raises(ResultError, match=rf"disagree on {key}.*beta seed 9: 0123456789ab\)"):
        load_all(tmp_path)


def test_results_with_other_test_labels_are_refused(tmp_path):
    save(record("alpha"), tmp_path)
    save(record("beta", labels=np.sort(synthetic.labels_of(200, 5))), tmp_path)
    with pytest.raises(ResultError, match="disagree on the test labels"):
        load_all(tmp_path)


# --- Scores ---------------------------------------------------------------------------------------------------------------

raw_scores = arrays(np.float32, (30, 4), elements=st.floats(0.015625, 1, width=32))
four_classes = arrays(np.int64, 30, elements=st.integers(0, 3))


@given(raw_scores, four_classes)
def test_scores_agree_with_the_confusion_matrix_and_fit_the_schema(raw, labels):
    proba = raw / raw.sum(1, keepdims=True)
    got = scores(proba, labels, list("abcd"))
    matrix = np.array(got["confusion_matrix"])
    classes = [results.ClassScore(**score) for score in got["classes"]]
    assert matrix.sum() == 30 and matrix.trace() / 30 == pytest.approx(got["accuracy"])
    assert matrix.sum(1).tolist() == [score.support for score in classes] == np.bincount(labels, minlength=4).tolist()
    assert matrix.sum(0).tolist() == np.bincount(proba.argmax(1), minlength=4).tolist()
    for hits, predicted, true, score in zip(matrix.diagonal(), matrix.sum(0), matrix.sum(1), classes, strict=True):
        assert score.recall == pytest.approx(hits / true if true else 0)
        assert score.precision == pytest.approx(hits / predicted if predicted else 0)
        assert score.f1 == pytest.approx(2 * hits / (predicted + true) if predicted + true else 0)
    assert got["log_loss"] == pytest.approx(-np.log(proba[np.arange(30), labels]).mean(), rel=1e-4)
    assert 0 <= got["ece"] <= 1


@given(four_classes)
def test_scores_of_sure_and_right_predictions_are_perfect(labels):
    got = scores(np.eye(4, dtype=np.float32)[labels], labels, list("abcd"))
    assert (got["accuracy"], got["ece"]) == (1, 0) and got["log_loss"] == pytest.approx(0, abs=1e-6)


def test_sure_and_wrong_predictions_have_a_finite_log_loss():
    assert np.isfinite(scores(np.eye(4, dtype=np.float32), np.array([1, 2, 3, 0]), list("abcd"))["log_loss"])


# --- The schema -----------------------------------------------------------------------------------------------------------


def test_memory_is_the_peak_over_the_baseline_and_never_negative():
    result = record().result
    assert result.memory_mb == 300
    assert result.model_copy(update={"peak_rss_mb": 100.0}).memory_mb == 0


def test_a_machine_is_named_by_its_device_processor_and_cores():
    assert synthetic.HERE.machine_id == "Test CPU, 2 cores"
    assert synthetic.HERE.model_copy(update={"cores": 1}).machine_id == "Test CPU, 1 core"
    assert synthetic.ELSEWHERE.machine_id == "Test GPU (Test CPU, 16 cores)"


def test_a_result_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        record().result.accuracy = 0.99


def test_units_stand_in_the_names():
    measured = [name for name in Result.model_fields if name.startswith(("peak", "rss", "fit", "predict", "latency"))]
    assert len(measured) == 7
    assert all(name.endswith(("_seconds", "_mb")) or "_ms_" in name for name in measured)
