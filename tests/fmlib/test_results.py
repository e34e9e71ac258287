"""Records: saved whole or not at all, loaded only where they can be trusted, running no code."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

import fmlib.models  # noqa: F401 - which makes the models known
from fmlib import results
from fmlib.data import Dataset
from fmlib.models.base import Model
from fmlib.models.registry import build
from fmlib.results import Result, ResultError, Weights, load, load_model, record_folder
from fmlib.scores import scores


def record(model: str = "alpha", accuracy: float = 0.9, **fields: Any) -> Result:
    return synthetic.record(model, accuracy, **({"size": 200} | fields))


def save(result: Result, root: Path) -> Path:
    folder = record_folder(root, result.model, result.seed)
    results.save(result, None, folder)
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


FILES = ("manifest.json", "predictions.npz", "result.json")
WHOLE = [f"alpha/seed-9/{name}" for name in FILES]


def assert_same(one: Result, other: Result) -> None:
    assert one.model_dump() == other.model_dump()
    for name in results.ARRAYS:
        mine, others = getattr(one, name), getattr(other, name)
        assert mine.dtype == others.dtype and np.array_equal(mine, others)


# --- Saving -----------------------------------------------------------------------------------


def test_a_record_lies_in_plain_files_under_model_and_seed(tmp_path):
    assert save(record(), tmp_path) == tmp_path / "alpha" / "seed-9"
    assert files_in(tmp_path) == WHOLE


@given(
    accuracy=st.floats(0, 1),
    seed=st.integers(0, 99),
    history=st.integers(0, 3),
    confidence=st.floats(0.5, 1),
)
def test_a_record_comes_back_as_it_was_saved(tmp_path_factory, accuracy, seed, history, confidence):
    parameters = {"a": [1, {"b": None}]}
    made = record(
        accuracy=accuracy,
        seed=seed,
        history=history,
        confidence=confidence,
        parameters=parameters,
    )
    assert_same(load(save(made, tmp_path_factory.mktemp("results"))), made)


@given(arrays(np.float32, (20, 5), elements=st.floats(0.0625, 1, width=32)))
def test_half_precision_predicts_the_same_classes(raw):
    proba = (raw / raw.sum(1, keepdims=True)).astype(np.float32)
    half = results.half(proba)
    assert half.dtype == np.float16 and np.array_equal(half.argmax(1), proba.argmax(1))
    assert half.astype(np.float32) == pytest.approx(proba, abs=0.001)


def test_two_classes_that_rounding_makes_equal_keep_their_order():
    proba = np.array([[0.3, 0.35, 0.35 + 2e-5], [0.3, 0.35 + 2e-5, 0.35]], np.float32)
    assert proba.astype(np.float16).argmax(1).tolist() == [1, 1]
    assert results.half(proba).argmax(1).tolist() == [2, 1]


def test_saving_again_replaces_the_whole_record(tmp_path):
    folder = save(record(accuracy=0.5), tmp_path)
    (folder / "leftover").touch()
    save(record(accuracy=0.9), tmp_path)
    assert load(folder).accuracy == 0.9
    assert files_in(tmp_path) == WHOLE


@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("earlier", [False, True], ids=["first save", "second save"])
def test_a_save_that_is_cut_short_leaves_the_old_record_or_nothing(
    tmp_path, monkeypatch, interruption, earlier
):
    if earlier:
        save(record(accuracy=0.5), tmp_path)

    def half(path: Path, **_arrays: Any) -> None:
        path.write_bytes(b"half")
        raise interruption("disk full")

    with monkeypatch.context() as patch, pytest.raises(interruption):
        patch.setattr(np, "savez_compressed", half)
        save(record(accuracy=0.9), tmp_path)
    assert files_in(tmp_path) == (WHOLE if earlier else [])
    assert not earlier or load(next(tmp_path.glob("*/*"))).accuracy == 0.5


def test_a_result_that_contradicts_its_predictions_cannot_be_made():
    good, other = record(accuracy=0.9), record(accuracy=0.5)
    arrays = {name: getattr(other, name) for name in results.ARRAYS}
    with pytest.raises(ValidationError, match=r"accuracy does not follow from the predictions"):
        Result(**good.model_dump() | arrays)


# --- Loading ----------------------------------------------------------------------------------

Damage = Callable[[Path], None]


def edit(**changes: Any) -> Damage:
    """Change keys of result.json: to a value, or by a function of it; ... takes it out."""

    def damage(folder: Path) -> None:
        path = folder / "result.json"
        content = json.loads(path.read_text())
        for key, value in changes.items():
            content[key] = value(content[key]) if callable(value) else value
        kept = {key: value for key, value in content.items() if value is not ...}
        path.write_text(json.dumps(kept))
        results.write_manifest(folder)  # or that alone would be told

    return damage


def rewrite(**changes: Callable[[np.ndarray], np.ndarray | None]) -> Damage:
    """Change arrays of predictions.npz by functions of what they were."""

    def damage(folder: Path) -> None:
        path = folder / "predictions.npz"
        with np.load(path) as stored:
            content = {name: stored[name] for name in stored}
        for name, change in changes.items():
            content[name] = change(content.get(name))
        kept = {name: array for name, array in content.items() if array is not None}
        np.savez_compressed(path, **kept)
        results.write_manifest(folder)

    return damage


def cut(name: str, keep: float) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return damage


def gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def spoil(proba: np.ndarray, value: float) -> np.ndarray:
    return np.where(np.arange(len(proba))[:, None] == 3, np.float16(value), proba)


def of_class(key: str, change: Callable[[Any], Any]) -> Callable[[list[dict[str, Any]]], Any]:
    """Change one score of the second class."""
    return lambda classes: [classes[0], classes[1] | {key: change(classes[1][key])}, *classes[2:]]


def other_errors(matrix: list[list[int]]) -> list[list[int]]:
    """A confusion matrix of the same trace and row sums."""
    changed = np.array(matrix)
    row = next(i for i in range(len(changed)) if changed[i].sum() > changed[i, i])
    wrong = [i for i in range(len(changed)) if i != row]
    source = next(i for i in wrong if changed[row, i] > 0)
    target = next(i for i in wrong if i != source)
    changed[row, source] -= 1
    changed[row, target] += 1
    return changed.tolist()


PROBABILITIES = "wanted probabilities that sum to 1"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "unknown key": (edit(loss=0.1), "loss"),
    "schema of another version": (edit(schema_version=1), "schema_version"),
    "key left out": (edit(train_seconds=...), "train_seconds"),
    "text for a number": (edit(train_seconds="long"), "train_seconds"),
    "negative time": (edit(train_seconds=-1), "train_seconds"),
    "NaN": (edit(log_loss=float("nan")), "log_loss"),
    "infinity": (edit(latency_ms_p50=float("inf")), "latency_ms_p50"),
    "accuracy above 1": (edit(accuracy=1.1), "accuracy"),
    "unknown device": (edit(environment={"device": "abacus"}), "environment"),
    "bad history": (edit(history=[{"epoch": 0}]), "history"),
    "another test size": (edit(test_size=100), "test predictions: wanted 100 rows"),
    "another validation size": (
        edit(validation_size=100),
        "validation predictions: wanted 100 rows",
    ),
    # scores that do not follow
    "a better accuracy": (edit(accuracy=0.95), "accuracy does not follow .* 0.95, they give 0.9"),
    "a slightly better accuracy": (edit(accuracy=0.9001), "accuracy does not follow"),
    "a better log loss": (edit(log_loss=lambda x: x * 0.99), "log_loss does not follow"),
    "a better calibration": (edit(ece=lambda x: x / 2), "ece does not follow"),
    "a class's better F1": (
        edit(classes=of_class("f1", lambda x: x * 1.001)),
        "classes does not follow",
    ),
    "a class's better precision": (
        edit(classes=of_class("precision", lambda x: x * 0.999)),
        "classes does not follow",
    ),
    "a class's better recall": (
        edit(classes=of_class("recall", lambda x: x * 0.999)),
        "classes does not follow",
    ),
    "a class's other support": (
        edit(classes=of_class("support", lambda x: x + 1)),
        "classes does not follow",
    ),
    "a confusion matrix of the same trace": (
        edit(confusion_matrix=other_errors),
        "confusion_matrix does not follow",
    ),
    "counts that do not sum": (edit(confusion_matrix=[[40] * 5] * 5), "confusion_matrix"),
    "matrix of another shape": (edit(confusion_matrix=[[100, 0], [0, 100]]), "confusion_matrix"),
    "ragged matrix": (edit(confusion_matrix=[[200], []]), "confusion_matrix"),
    "a class left out": (edit(classes=lambda classes: classes[:4]), "wanted 200 rows of 4 classes"),
    # files
    "half a result.json": (cut("result.json", 0.5), ""),
    "empty result.json": (cut("result.json", 0), ""),
    "half a predictions.npz": (cut("predictions.npz", 0.7), ""),
    "empty predictions.npz": (cut("predictions.npz", 0), ""),
    "no result.json": (gone("result.json"), "No such file"),
    "no predictions.npz": (gone("predictions.npz"), "No such file"),
    # predictions
    "an array left out": (rewrite(labels=lambda _: None), "labels"),
    "rows left out": (rewrite(proba=lambda proba: proba[:-1]), "wanted 200 rows of 5 classes"),
    "classes left out": (rewrite(proba=lambda proba: proba[:, :4]), "wanted 200 rows of 5 classes"),
    "labels left out": (
        rewrite(validation_labels=lambda labels: labels[:-1]),
        "validation predictions: wanted 200 rows",
    ),
    "labels of no class": (rewrite(labels=lambda labels: labels + 1), "wanted 0 to 4"),
    "NaN in proba": (rewrite(proba=lambda proba: spoil(proba, np.nan)), PROBABILITIES),
    "logits for proba": (rewrite(validation_proba=lambda proba: proba * 7), PROBABILITIES),
    "negative proba": (rewrite(proba=lambda proba: spoil(proba, -0.2)), PROBABILITIES),
    "shuffled labels": (rewrite(labels=lambda labels: np.roll(labels, 1)), "does not follow"),
    "shuffled predictions": (
        rewrite(proba=lambda proba: np.roll(proba, 1, axis=0)),
        "does not follow",
    ),
    "pickled objects": (
        rewrite(labels=lambda labels: labels.astype(object)),
        "allow_pickle|Object arrays",
    ),
}


@pytest.mark.parametrize("name", list(DAMAGES))
def test_a_record_that_cannot_be_trusted_is_refused_in_a_line(tmp_path, name):
    damage, says = DAMAGES[name]
    folder = save(record(), tmp_path)
    load(folder)
    damage(folder)
    with pytest.raises(ResultError, match=f"{folder}: .*{says}") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def by_hand(**changes: Any) -> Damage:
    """Like ``edit`` or ``rewrite``, without a manifest that agrees."""

    def damage(folder: Path) -> None:
        manifest = (folder / "manifest.json").read_bytes()
        if "train_seconds" in changes:
            edit(**changes)(folder)
        else:
            rewrite(**changes)(folder)
        (folder / "manifest.json").write_bytes(manifest)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        by_hand(train_seconds=lambda seconds: seconds / 2),
        by_hand(proba=lambda proba: np.where(proba == proba.max(1, keepdims=True), proba, 0)),
        by_hand(**dict.fromkeys(("proba", "labels"), lambda array: np.roll(array, 1, axis=0))),
        gone("manifest.json"),
    ],
    ids=["seconds", "the same guesses", "rolled together", "no manifest"],
)
def test_what_was_edited_by_hand_is_refused_though_it_agrees_with_itself(tmp_path, damage):
    folder = save(record(), tmp_path)
    damage(folder)
    with pytest.raises(ResultError):
        load(folder)


def test_another_machines_rounding_is_no_contradiction(tmp_path):
    folder = save(record(), tmp_path)
    edit(log_loss=lambda x: x * (1 + 1e-9), ece=lambda x: x * (1 - 1e-9))(folder)
    load(folder)


# --- The fitted model -------------------------------------------------------------------------


QUICK: dict[str, dict[str, Any]] = {
    "decision_tree": {},
    "random_forest": {"n_estimators": 2},
    "svm": {"components": 10},
    "xgboost": {"n_estimators": 2},
    "mlp": {"hidden_sizes": [4], "recipe": {"epochs": 1}},
}


def kept(model: str, few: Dataset, folder: Path) -> Model:
    """A fitted model, and its record in ``folder``."""
    fitted = build(model, QUICK[model]).fit(few)
    names = few.class_names
    proba = results.half(fitted.predict_proba(few.test_images))
    held_out = results.half(fitted.predict_proba(few.validation_images))
    made = record().model_dump() | {
        "model": model,
        "parameters": fitted.parameters(),
        "test_size": 20,
        "validation_size": 20,
        "proba": proba,
        "labels": few.test_labels,
        "validation_proba": held_out,
        "validation_labels": few.validation_labels,
    }
    results.save(Result(**made | scores(proba, few.test_labels, names)), fitted, folder)
    return fitted


def test_a_record_gives_back_its_fitted_model(few, tmp_path):
    fitted = kept("random_forest", few, tmp_path / "one")
    model = load_model(tmp_path / "one")
    images = few.test_images
    assert np.array_equal(model.predict_proba(images), fitted.predict_proba(images))


def test_a_record_without_a_model_says_so(tmp_path):
    with pytest.raises(ResultError, match="its model: "):
        load_model(save(record("decision_tree", parameters={}), tmp_path))


@pytest.mark.parametrize("model", list(QUICK))
def test_no_file_of_a_record_is_a_pickle(few, tmp_path, model):
    kept(model, few, tmp_path / "one")
    for path in (tmp_path / "one").iterdir():
        content = path.read_bytes()
        assert path.suffix in (".json", ".npz", ".skops", ".safetensors")
        assert content[:1] != b"\x80"  # a pickle's first byte
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:
                assert {Path(name).suffix for name in parts.namelist()} <= {".npy", ".json"}


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_place_of_a_model_is_not_run(few, tmp_path):
    files = {"svm": "model.skops", "mlp": "model.safetensors", "xgboost": "model.json"}
    for model, name in files.items():
        folder = tmp_path / model
        kept(model, few, folder)
        trap = tmp_path / f"{model} was here"
        (folder / name).write_bytes(pickle.dumps(Evil(trap)))
        with pytest.raises(ResultError, match="its model: "):
            load_model(folder)
        assert not trap.exists()


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as stored:
        return {name: stored.read(name) for name in stored.namelist()}


def rezip(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as stored:
        for name, data in content.items():
            stored.writestr(name, data)
    results.write_manifest(path.parent)


def test_a_skops_file_that_names_other_code_is_refused(few, tmp_path):
    kept("decision_tree", few, tmp_path / "one")
    path = tmp_path / "one" / "model.skops"
    content = members(path)
    schema = content["schema.json"].decode()
    renamed = schema.replace("DecisionTreeClassifier", "Popen", 1).replace(
        "sklearn.tree._classes", "subprocess", 1
    )
    rezip(path, content | {"schema.json": renamed.encode()})
    with pytest.raises(ResultError, match=r"its model: .*subprocess\.Popen"):
        load_model(tmp_path / "one")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("trees", 0, "left_children", 0), 0),
        (("trees", 0, "right_children", 0), 10_000),
        (("trees", 0, "split_indices", 0), 784),
        (("trees", 0, "parents", 1), -1),
        (("trees", 0, "categories_nodes"), [1]),
        (("trees", 0, "tree_param", "size_leaf_vector"), "1000000"),
        (("trees", 1, "id"), 7),
        (("tree_info", 0), -1),
        (("tree_info", 0), 10),
        (("iteration_indptr", 0), -1),
        (("iteration_indptr", 1), 10_000),
    ],
    ids=lambda one: ".".join(map(str, one)) if isinstance(one, tuple) else str(one),
)
def test_a_model_of_xgboosts_whose_numbers_lead_outside_is_refused(few, tmp_path, where, value):
    kept("xgboost", few, tmp_path / "one")
    path = tmp_path / "one" / "model.json"
    content = json.loads(path.read_text("utf-8"))
    inner = content["learner"]["gradient_booster"]["model"]
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path.write_text(json.dumps(content), "utf-8")
    results.write_manifest(path.parent)
    with pytest.raises(ResultError, match=r"its model: (its|a) tree"):
        load_model(tmp_path / "one")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left_child", 10_000),
        ("left_child", -5),
        ("right_child", 10_000),
        ("right_child", -1),
        ("left_child", 0),
        ("feature", 784),
        ("feature", -2),
    ],
)
@pytest.mark.parametrize("model", ["decision_tree", "random_forest"])
def test_a_tree_whose_nodes_lead_outside_or_in_circles_is_refused(
    few, tmp_path, model, field, value
):
    kept(model, few, tmp_path / "one")
    path = tmp_path / "one" / "model.skops"
    content, changed = members(path), 0
    for name, data in content.items():
        if name.endswith(".npy"):
            array = np.load(io.BytesIO(data))
            if array.dtype.names and not changed:
                array[field][0] = value
                stream = io.BytesIO()
                np.save(stream, array)
                content[name], changed = stream.getvalue(), 1
    assert changed
    rezip(path, content)
    with pytest.raises(ResultError, match="nodes lead outside"):
        load_model(tmp_path / "one")


# --- The schema -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "weights", "title"),
    [
        ("vgg16", Weights(), "VGG16 (scratch)"),
        ("vgg16", Weights(source="vgg16.pth", sha256="ab"), "VGG16"),
        ("mlp", None, "MLP"),
        ("somebodys_net", None, "somebodys net"),
    ],
)
def test_a_name_says_whether_a_model_was_trained_from_scratch(tmp_path, model, weights, title):
    assert load(save(record(model, weights=weights), tmp_path)).title == title


def test_the_family_of_a_model_that_is_not_ours_is_own():
    assert (record("mlp").family, record("somebodys_net").family) == ("mlp", "own")


def test_memory_is_the_peak_over_the_baseline_and_never_negative():
    assert record().memory_mb == 300
    assert record(peak_rss_mb=100.0).memory_mb == 0


def test_a_machine_is_named_by_its_device_processor_and_cores():
    assert synthetic.HERE.machine_id == "Test CPU, 2 cores"
    assert synthetic.HERE.model_copy(update={"cores": 1}).machine_id == "Test CPU, 1 core"
    assert synthetic.ELSEWHERE.machine_id == "Test GPU (Test CPU, 16 cores)"


def test_a_result_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        record().accuracy = 0.99


def test_units_stand_in_the_names():
    starts = ("peak", "rss", "fit_", "predict", "latency_ms", "train_seconds")
    measured = [name for name in Result.model_fields if name.startswith(starts)]
    assert len(measured) == 8
    assert all(name.endswith(("_seconds", "_mb")) or "_ms_" in name for name in measured)
