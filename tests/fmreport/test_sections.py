"""What a notebook says about its model."""

from __future__ import annotations

import pytest
import synthetic

from fmlib import describe
from fmlib.models.registry import REGISTRY, build
from fmlib.results import ClassScore
from fmlib.training import Recipe

QUICK = {"epochs": 1, "batch_size": 50}


def settings_of(classifier) -> dict[str, str]:
    return dict(describe.parameter_table(classifier).itertuples(index=False))


@pytest.mark.parametrize("model", list(REGISTRY))
def test_every_models_settings_are_shown_as_text_without_a_fit(model):
    table = describe.parameter_table(build(model))
    assert table.columns.tolist() == ["setting", "value"] and len(table) > 2
    assert all(isinstance(value, str) and value for value in table["value"])
    assert table["setting"].is_unique


def test_settings_include_defaults_and_read_like_words():
    given = settings_of(build("mlp", {"hidden_sizes": [8, 4], "recipe": {"lr": 0.00012345, "augmentation": {"flip": True}}}))
    assert given["hidden sizes"] == "8, 4" and given["lr"] == "0.0001234" and given["flip"] == "yes"
    assert given["patience"] == "none" and given["batch norm"] == "yes" and given["optimizer"] == "adam"
    assert settings_of(build("decision_tree", {"max_depth": 3}))["max depth"] == "3"


@pytest.mark.parametrize(("capable", "shown"), [(True, "bfloat16"), (False, "float32, as there is no bfloat16 here")])
def test_the_precision_shown_is_the_one_computed_in(monkeypatch, capable, shown):
    monkeypatch.setattr(describe, "has_bfloat16", lambda _device: capable)
    assert settings_of(build("mlp", {"recipe": {"precision": "bfloat16"}}))["precision"] == shown
    assert settings_of(build("mlp"))["precision"] == "float32"


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("mlp", {"hidden_sizes": [6]}), ("cnn", {"widths": [4]}), ("study_cnn", {}),
     ("cnn", {"widths": [4], "recipe": QUICK | {"flip_averaging": True}})],
)  # fmt: skip
def test_a_networks_layers_are_listed_once_in_order_with_all_their_weights(few, model, parameters):
    classifier = build(model, {"recipe": QUICK} | parameters).fit(*few.train, few.validation)
    before = classifier.predict_proba(few.test_images)
    table = describe.network_table(classifier)
    assert table.columns.tolist() == ["layer", "output", "weights"]
    assert table["weights"].sum() == classifier.parameter_count()
    assert table["output"].iloc[-1] == "10"
    assert (classifier.predict_proba(few.test_images) == before).all()


def test_the_layers_of_a_network_have_names_in_words(few):
    classifier = build("cnn", {"widths": [4], "recipe": QUICK}).fit(*few.train, few.validation)
    rows = describe.network_table(classifier)[["layer", "output"]].values.tolist()
    assert rows[0] == ["convolution", "8 × 27 × 27"]  # noqa: RUF001
    assert ["batch normalisation", "4 × 13 × 13"] in rows  # noqa: RUF001
    assert rows[-1] == ["ScaledLinear", "10"] or rows[-1] == ["dense", "10"]


def test_the_class_report_has_a_row_a_class_and_their_mean():
    result = synthetic.record("alpha", 0.8, size=100).result
    table = describe.class_report(result)
    assert table["class"].tolist() == [*synthetic.NAMES, "mean"]
    assert table["images"].tolist() == [20] * 5 + [100]
    assert table["F1"].iloc[-1] == pytest.approx(sum(score.f1 for score in result.classes) / 5)


@pytest.fixture
def from_scratch(few):
    """A transfer model without weights, whose recipe for that differs from the one of fine-tuning."""
    parameters = {"weights": "none", "layer_decay": 0.5, "frozen_stages": 1, "recipe": QUICK | {"lr": 0.02, "image_size": 32},
                  "scratch": QUICK | {"lr": 0.03, "image_size": 28}}
    return build("mobilenet_v3_small", parameters).fit(*few.train, few.validation)


def test_the_settings_of_a_network_from_scratch_are_those_it_was_trained_by(from_scratch):
    given = settings_of(from_scratch)
    assert (given["lr"], given["image size"]) == ("0.03", "28")
    assert not {"layer decay", "frozen stages", "new stem"} & set(given) and not [name for name in given if "probe" in name]


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """Captions of figures, and what else is shown, as text."""
    texts: list[str] = []
    monkeypatch.setattr(describe, "show_figure", lambda _plot, caption, _name: texts.append(caption))
    monkeypatch.setattr("IPython.display.display", lambda thing, **_: texts.append(str(thing.data)))
    return texts


def history(*losses: float, stage: str = "train") -> list[dict[str, object]]:
    return [{"stage": stage, "epoch": i, "validation_loss": loss, "validation_accuracy": 1 - loss, "train_seconds": 2.0}
            for i, loss in enumerate(losses, 1)]  # fmt: skip


def test_a_stage_ends_with_the_weights_that_it_leaves():
    classifier = build("mlp")
    classifier.history_ = history(0.5, 0.25, 0.75, stage="probe") + history(0.5, 0.125, 0.25)
    classifier.recipes_ = {"probe": Recipe(), "train": Recipe(patience=1, flip_averaging=True)}
    table = describe.stage_table(classifier).values.tolist()
    assert table == [["probe", 3, "no", 0.25, 6.0], ["train", 3, "yes", 0.875, 6.0]]


@pytest.mark.parametrize(
    ("probe", "fine_tuning", "says"),
    [({}, {"label_smoothing": 0.1}, "The training loss of fine-tuning includes label smoothing."), ({}, {}, None),
     ({"label_smoothing": 0.1}, {"label_smoothing": 0.1, "mixup": 0.2},
      "The training loss includes label smoothing. The training loss of fine-tuning includes mixup."),
     ({}, {"shift_averaging": 1}, "by epoch. Validation looks at the images as they are, a prediction also at")],
)  # fmt: skip
def test_a_learning_curve_says_what_its_numbers_include(told, probe, fine_tuning, says):
    classifier, result = build("mlp"), synthetic.record("alpha", 0.9, history=3).result
    classifier.recipes_ = {"probe": Recipe(**probe), "fine-tuning": Recipe(**fine_tuning)}
    describe.show_training(classifier, result)
    assert (says in told[0]) if says else ("includes" not in told[0])
    assert told[1] == describe.training_sentence(result)


@pytest.mark.parametrize(
    ("fields", "says", "does_not_say"),
    [
        ({"train_seconds": 10.0, "fit_wall_seconds": 12.0}, ["10.0 s", "Test CPU, 2 cores", "whole fit took 12.0 s", "300 MiB"],
         "GPU"),
        ({"train_seconds": 10.0, "fit_wall_seconds": 10.1}, ["10.0 s"], "whole fit"),
        ({"peak_vram_mb": 2048.0, "machine": synthetic.ELSEWHERE}, ["2,048 MiB of GPU memory", "Test GPU"], "None"),
    ],
)  # fmt: skip
def test_the_cost_of_training_is_told_in_words(fields, says, does_not_say):
    sentence = describe.training_sentence(synthetic.record("alpha", 0.9, **fields).result)
    assert all(part in sentence for part in says) and does_not_say not in sentence


def test_the_outcome_is_told_with_the_worst_class_by_f1():
    result = synthetic.record("alpha", 0.9, size=2000).result
    classes = [ClassScore(name=name, precision=1, recall=1, f1=f1, support=400)
               for name, f1 in zip(synthetic.NAMES, (0.9, 0.95, 0.412, 0.8, 0.7), strict=True)]  # fmt: skip
    sentence = describe.test_sentence(result.model_copy(update={"classes": classes}))
    assert "2,000 test images 90.00%" in sentence and "hardest class is pullover (0.412)" in sentence
