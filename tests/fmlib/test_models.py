"""Every model of the registry keeps one contract, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from scipy.special import softmax
from torch import nn

from fmlib import results
from fmlib.data import check_images, check_labelled
from fmlib.measure import measure
from fmlib.models import registry
from fmlib.models.base import Predictor
from fmlib.models.classical import PairwiseSVC, hog
from fmlib.models.cnn import CNN, DiracConv, MaxPool, Residual, whitening_filters
from fmlib.models.neural import Dropout, NetworkSpec, TorchClassifier
from fmlib.models.registry import REGISTRY, ParameterError, build, classical, explain
from fmlib.training import Stopwatch
from fmreport import runner

# One line a model makes its tests quick; a model without a line is tested with its defaults, and its networks for one epoch.
QUICK = {"epochs": 1, "batch_size": 64}
FROM_SCRATCH = {"weights": "none", "recipe": QUICK | {"optimizer": "sgd", "momentum": 0.0, "image_size": 32}}
TINY: dict[str, dict[str, Any]] = {
    "decision_tree": {"max_depth": 4},
    "random_forest": {"n_estimators": 4},
    "svm": {"components": 10},
    "svm_hog": {"components": 10},
    "xgboost": {"n_estimators": 2, "max_depth": 2, "max_bin": 8},
    "mlp": {"hidden_sizes": [8], "dropout": 0.2, "recipe": QUICK},
    "cnn": {"widths": [4, 8], "recipe": QUICK | {"flip_averaging": True}},
    "study_cnn": {"recipe": QUICK},
    "vgg16": FROM_SCRATCH,
    "resnet34": FROM_SCRATCH,
    "mobilenet_v3_small": FROM_SCRATCH,
    "efficientnet_lite0": FROM_SCRATCH,
    "mobilenet_v3_as_run": FROM_SCRATCH,
}


def tiny(model: str) -> Any:
    fields = getattr(REGISTRY[model].schema, "__pydantic_fields__", {})
    return build(model, TINY.get(model, {"recipe": QUICK} if "recipe" in fields else {}))


every_model = pytest.mark.parametrize("model", [*REGISTRY, "prior"])


@pytest.fixture(scope="module", autouse=True)
def _with_the_least_model_there_can_be():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY, "prior", classical("Prior", Prior))
        yield


@pytest.fixture(scope="module")
def fitted(few) -> Mapping[str, Any]:
    """Each model, fitted once, when first asked for."""

    class Fitted(dict):
        def __missing__(self, model: str) -> Any:
            self[model] = tiny(model).fit(*few.train, few.validation)
            return self[model]

    return Fitted()


def stored(classifier: Any) -> dict[str, Any]:
    """What a classifier holds that is not found by fitting."""
    return {name: value for name, value in vars(classifier).items() if not name.endswith("_")}


# --- The contract ---------------------------------------------------------------------------------------------------------


@every_model
def test_a_constructor_only_stores(model):
    classifier = tiny(model)
    assert stored(classifier) == {name: value for name, value in vars(classifier).items() if not name.startswith("__")}
    assert stored(classifier) == stored(tiny(model))


@every_model
def test_fit_leaves_the_parameters_alone_and_puts_what_it_finds_under_names_with_an_underscore(model, fitted):
    assert stored(fitted[model]) == stored(tiny(model))
    assert any(name.endswith("_") and not name.startswith("__") for name in vars(fitted[model]))


@every_model
def test_probabilities_are_float32_rows_that_sum_to_one(model, fitted, few):
    proba = fitted[model].predict_proba(few.test_images)
    assert isinstance(proba, np.ndarray) and proba.dtype == np.float32 and proba.shape == (20, 10)
    assert proba.min() >= 0 and proba.max() <= 1 and np.allclose(proba.sum(1), 1, atol=1e-5)


@every_model
def test_predictions_are_the_most_probable_classes(model, fitted, few):
    predicted = fitted[model].predict(few.test_images)
    assert predicted.dtype == np.int64
    assert np.array_equal(predicted, fitted[model].predict_proba(few.test_images).argmax(1))


@every_model
def test_predicting_twice_gives_the_same(model, fitted, few):
    images = few.test_images.copy()
    assert np.array_equal(fitted[model].predict_proba(images), fitted[model].predict_proba(images))
    assert np.array_equal(images, few.test_images)


@every_model
def test_one_image_at_a_time_gives_what_a_batch_gives(model, fitted, few):
    images = few.test_images[:7]
    one_by_one = np.concatenate([fitted[model].predict_proba(image[None]) for image in images])
    assert np.allclose(one_by_one, fitted[model].predict_proba(images), atol=1e-5)


@every_model
def test_images_may_lie_in_memory_in_any_way(model, fitted, few):
    strided = few.test_images[::-3]
    assert not strided.flags.c_contiguous
    assert np.allclose(fitted[model].predict_proba(strided), fitted[model].predict_proba(strided.copy()), atol=1e-5)


@every_model
def test_fitting_again_forgets_the_first_fit(model, fitted, few):
    fresh, other = fitted[model], tiny(model)
    before = fresh.predict_proba(few.test_images)
    assert other.fit(few.train_images[:60], (few.train_labels[:60] + 1) % 10, few.validation) is other
    assert not np.array_equal(other.predict_proba(few.test_images), before)
    assert other.fit(*few.train, few.validation) is other
    assert np.array_equal(other.predict_proba(few.test_images), before)
    assert len(other.history_) == len(fresh.history_)
    assert np.array_equal(fresh.predict_proba(few.test_images), before)  # two models share nothing


@every_model
def test_validation_images_are_never_trained_on(model, fitted, few):
    """But for the temperature of probabilities, which changes no prediction, and the epoch at which patience ends."""
    other = tiny(model).fit(*few.train, (255 - few.validation_images, few.validation_labels[::-1].copy()))
    assert np.array_equal(other.predict(few.test_images), fitted[model].predict(few.test_images))


@every_model
def test_a_class_without_training_images_is_no_obstacle(model, few):
    seen = few.train_labels != 3
    classifier = tiny(model).fit(few.train_images[seen], few.train_labels[seen], few.validation)
    proba = classifier.predict_proba(few.test_images)
    assert proba.shape == (20, 10) and np.allclose(proba.sum(1), 1, atol=1e-5)


@every_model
def test_size_and_cost_are_positive(model, fitted):
    classifier = fitted[model]
    assert isinstance(classifier.parameter_count(), int) and classifier.parameter_count() > 0
    assert isinstance(classifier.flops_per_image(), float) and classifier.flops_per_image() > 0
    assert classifier.train_seconds_ > 0


@every_model
def test_the_history_is_valid(model, fitted):
    rows = [results.Epoch(**row) for row in fitted[model].history_]
    for _, stage in groupby(rows, lambda row: row.stage):
        epochs = [row.epoch for row in stage]
        assert epochs == list(range(1, len(epochs) + 1))


BAD_IMAGES = {
    "dtype": (lambda images: images.astype(np.float32) / 255, "float32"),
    "NaN": (lambda images: np.where(images > 9, np.nan, images), "NaN"),
    "flat": (lambda images: images.reshape(len(images), -1), "784"),
    "size": (lambda images: images[:, 1:], "27, 28"),
    "one image": (lambda images: images[0], r"\(28, 28\)"),
    "empty": (lambda images: images[:0], r"\(0, 28, 28\)"),
    "channel": (lambda images: images[..., None], "28, 28, 1"),
}
BAD_LABELS = {
    "too high": (lambda labels: labels + 1, "1 to 10"),
    "negative": (lambda labels: labels - 1, "-1 to 8"),
    "float": (lambda labels: labels.astype(float), "float64"),
    "NaN": (lambda labels: np.where(labels > 8, np.nan, labels), "float64"),
    "length": (lambda labels: labels[:-1], r"\(99,\)|\(19,\)"),
    "one-hot": (lambda labels: np.eye(10, dtype=int)[labels], ", 10"),
}


@every_model
@pytest.mark.parametrize("fault", list(BAD_IMAGES))
def test_what_are_no_images_is_refused_in_fit_validation_and_prediction(model, fault, fitted, few):
    spoil, got = BAD_IMAGES[fault]
    refusal = rf"wanted uint8 of shape \(n, 28, 28\).*got .*({got})"
    with pytest.raises(ValueError, match=f"training images: {refusal}"):
        tiny(model).fit(spoil(few.train_images), few.train_labels, few.validation)
    with pytest.raises(ValueError, match=f"validation images: {refusal}"):
        tiny(model).fit(*few.train, (spoil(few.validation_images), few.validation_labels))
    with pytest.raises(ValueError, match=refusal):
        fitted[model].predict_proba(spoil(few.test_images))


@every_model
@pytest.mark.parametrize("fault", list(BAD_LABELS))
def test_labels_that_do_not_fit_are_refused(model, fault, few):
    spoil, got = BAD_LABELS[fault]
    with pytest.raises(ValueError, match=f"training labels: wanted 100 integers from 0 to 9.*got .*({got})"):
        tiny(model).fit(few.train_images, spoil(few.train_labels), few.validation)
    with pytest.raises(ValueError, match=f"validation labels: wanted 20 integers from 0 to 9.*got .*({got})"):
        tiny(model).fit(*few.train, (few.validation_images, spoil(few.validation_labels)))


@every_model
def test_every_model_has_a_notebook(model):
    assert (runner.NOTEBOOKS_DIR / f"{REGISTRY[model].family}.py").is_file()


def test_charts_can_tell_all_models_apart():
    assert len({one.display_name for one in REGISTRY.values()}) == len(REGISTRY)


def test_every_line_of_the_tiny_table_is_of_a_model():
    assert set(TINY) <= set(REGISTRY)


# --- Adding a model -------------------------------------------------------------------------------------------------------


@dataclass(config=ConfigDict(extra="forbid"))
class Prior(Predictor):
    """Predicts the classes' shares of the training images: the least a new model can be."""

    smoothing: float = 1.0
    seed: int = 9

    def fit(self, images: Any, labels: Any, validation: Any) -> Prior:
        images, labels = check_labelled(images, labels)
        check_labelled(*validation, name="validation")
        self.history_, watch = [], Stopwatch()
        with watch:
            counts = np.bincount(labels, minlength=10) + self.smoothing
            self.prior_ = (counts / counts.sum()).astype(np.float32)
        self.train_seconds_ = watch.seconds
        return self

    def predict_proba(self, images: Any) -> Any:
        return np.tile(self.prior_, (len(check_images(images)), 1))

    def parameter_count(self) -> int:
        return 10

    def flops_per_image(self) -> float:
        return 1.0


def test_a_model_without_a_seed_is_refused_by_name():
    @dataclass
    class Plain(Predictor):
        neighbours: int = 5

    with pytest.raises(TypeError, match="Plain: wanted a pydantic dataclass with a field `seed: int`"):
        classical("Plain", Plain)


def test_a_model_is_added_by_one_class_and_one_line(small, tmp_path):
    classifier = build("prior", {"smoothing": 2.0}, seed=4)
    assert (classifier.smoothing, classifier.seed) == (2.0, 4)
    made = results.make_record(
        "prior", classifier, small, measure(classifier, small), profile="test", seed=4, parameters={"smoothing": 2.0}
    )
    loaded = results.load(results.save(made, tmp_path))
    assert loaded.result == made.result
    assert (loaded.result.display_name, loaded.result.family, loaded.result.accuracy) == ("Prior", "01_classical", 0.1)
    with pytest.raises(ParameterError, match="did you mean 'smoothing'"):
        build("prior", {"smothing": 2.0})


def test_a_network_is_added_by_its_layers_alone(small, monkeypatch):
    class Flat(NetworkSpec):
        width: int = 4

        def build(self, examples: torch.Tensor) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(examples[0].numel(), self.width), nn.Linear(self.width, 10))

    monkeypatch.setitem(registry.REGISTRY, "flat", registry.neural("Flat", "02_mlp", Flat))
    classifier = build("flat", {"width": 3, "recipe": QUICK}).fit(*small.train, small.validation)
    assert classifier.parameter_count() == 784 * 3 + 3 + 3 * 10 + 10
    assert classifier.flops_per_image() == 2 * (784 * 3 + 3 * 10)
    assert classifier.predict_proba(small.test_images).shape == (100, 10)


# --- Parameters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "parameters", "key", "value", "says"),
    [
        ("desicion_tree", {}, "model", "desicion_tree", "did you mean 'decision_tree'"),
        ("zzz", {}, "model", "zzz", "known are cnn, decision_tree"),
        ("decision_tree", {"max_dept": 3}, "max_dept", 3, "unknown key; did you mean 'max_depth'"),
        ("decision_tree", {"max_depth": "3"}, "max_depth", "3", "valid integer"),
        ("decision_tree", {"max_depth": 3.5}, "max_depth", 3.5, "integer"),
        ("decision_tree", {"max_depth": 0}, "max_depth", 0, "greater than 0"),
        ("decision_tree", {"max_depth": True}, "max_depth", True, "integer"),
        ("decision_tree", {"criterion": "ginny"}, "criterion", "ginny", "'gini' or 'entropy'"),
        ("decision_tree", {"max_features": "all"}, "max_features", "all", ""),
        ("random_forest", {"n_estimators": None}, "n_estimators", None, "integer"),
        ("svm", {"C": -1.0}, "C", -1.0, "greater than 0"),
        ("svm", {"C": "1e-3"}, "C", "1e-3", "YAML reads 1e-3 as text: write 0.001"),
        ("xgboost", {"subsample": 1.5}, "subsample", 1.5, "less than or equal to 1"),
        ("mlp", {"hidden_sizes": [64, 0]}, "hidden_sizes.1", 0, "greater than 0"),
        ("mlp", {"hidden_sizes": 64}, "hidden_sizes", 64, ""),
        ("mlp", {"hidden_sizes": [64, 32], "dropout": [0.1]}, "", None, "dropout: wanted one probability below 1, or 2"),
        ("mlp", {"dropout": 1.5}, "", None, "dropout: wanted one probability below 1"),
        ("mlp", {"dropout": "much"}, "dropout", "much", ""),
        ("mlp", {"recipe": {"learning_rat": 0.1}}, "recipe.learning_rat", 0.1, "unknown key; "),
        ("mlp", {"recipe": {"epoch": 3}}, "recipe.epoch", 3, "did you mean 'epochs'"),
        ("mlp", {"recipe": {"lr": "1e-3"}}, "recipe.lr", "1e-3", "YAML reads 1e-3 as text"),
        ("mlp", {"recipe": {"augmentation": {"flips": True}}}, "recipe.augmentation.flips", True, "did you mean 'flip'"),
        ("mlp", {"recipe": {"augmentation": {"flip": "often"}}}, "recipe.augmentation.flip", "often", ""),
        ("mlp", {"recipe": {"augmentation": None}}, "recipe.augmentation", None, ""),
        ("mlp", {"recipe": []}, "recipe", [], ""),
        ("decision_tree", {"seed": 3}, "seed", 3, "a profile lists its `seeds`"),
        ("mlp", {"seed": 3}, "seed", 3, "a profile lists its `seeds`"),
        ("resnet34", {"probe": {"flip_averaging": True, "scaling": "roots", "augmentation": {"flip": True}}}, "", None,
         "probe: augmentation, flip_averaging, scaling: what it trains on are features"),
        ("cnn", {"widths": [8, "wide"]}, "widths.1", "wide", "integer"),
        ("cnn", {"activation": "sigmoid"}, "activation", "sigmoid", "'gelu', 'relu' or 'silu'"),
        ("study_cnn", {"widths": [4]}, "widths", [4], "unknown key; known are recipe"),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_used_is_named_with_its_value(model, parameters, key, value, says):
    with pytest.raises(ParameterError) as caught:
        build(model, parameters)
    assert caught.value.key == key and says in str(caught.value)
    if key:
        assert caught.value.value == value and f"{key}: " in str(caught.value) and f"got {value!r}" in str(caught.value)


def test_whole_numbers_do_for_fractions_and_lists_for_tuples():
    classifier = build("mlp", {"hidden_sizes": [8, 4], "dropout": [0, 0.5], "recipe": {"lr": 1}})
    assert classifier.network.hidden_sizes == (8, 4) and classifier.network.dropouts == (0.0, 0.5)
    assert classifier.recipe.lr == 1.0


@every_model
def test_a_seed_reaches_the_model(model):
    assert build(model, seed=123).seed == 123


# --- Classical models -----------------------------------------------------------------------------------------------------

pictures = arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(28), st.just(28)))


def test_hog_has_36_numbers_a_block(small):
    features = hog(small.test_images)
    assert features.dtype == np.float32 and features.shape == (100, 6 * 6 * 36)
    assert np.isfinite(features).all() and features.min() >= 0


@given(st.integers(0, 255))
def test_hog_of_a_plain_image_is_zero(level):
    assert not hog(np.full((2, 28, 28), level, np.uint8)).any()


@given(arrays(np.uint8, (2, 28, 28), elements=st.integers(0, 60)), st.integers(2, 4))
def test_hog_does_not_depend_on_brightness(images, factor):
    assert np.allclose(hog(images), hog(images * np.uint8(factor)), atol=1e-3)


@given(pictures, st.integers(1, 3))
def test_hog_does_not_depend_on_the_batch(images, batch_size):
    assert np.allclose(hog(images), hog(images, batch_size=batch_size), atol=1e-6)


def test_hog_votes_for_the_direction_of_an_edge():
    upright = np.zeros((1, 28, 28), np.uint8)
    upright[:, :, 14:] = 255
    lying = upright.transpose(0, 2, 1)
    cells = [hog(image).reshape(-1, 9, 4).sum((0, 2)) for image in (upright, lying)]
    assert cells[0].argmax() == 0 and cells[1].argmax() in (4, 5)
    assert cells[0][1:].sum() == pytest.approx(0, abs=1e-4)


def test_features_by_hog_change_what_a_classical_model_sees(small):
    models = [build("decision_tree", {"features": features, "max_depth": 6}) for features in ("pixels", "hog")]
    proba = [model.fit(*small.train, small.validation).predict_proba(small.test_images) for model in models]
    assert not np.array_equal(*proba)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("decision_tree", {"criterion": "entropy", "max_depth": 3, "min_samples_leaf": 2, "max_features": 0.5}),
     ("random_forest", {"n_estimators": 3, "criterion": "entropy", "max_depth": 3, "min_samples_leaf": 2, "max_features": 0.5,
                        "bootstrap": False}),
     ("xgboost", {"n_estimators": 2, "learning_rate": 0.2, "max_depth": 2, "max_bin": 8, "min_child_weight": 2.0,
                  "subsample": 0.9, "colsample_bytree": 0.8, "colsample_bynode": 0.7, "reg_lambda": 3.0})],
)  # fmt: skip
def test_every_setting_and_the_seed_reach_the_estimator(model, parameters, few):
    known = build(model, parameters, seed=4).fit(*few.train, few.validation).estimator_.get_params()
    assert {name: known[name] for name in parameters} == parameters and known["random_state"] == 4
    assert set(parameters) == set(REGISTRY[model].schema.__pydantic_fields__) - {"features", "seed"}, "a setting is not tested"


def test_every_setting_reaches_the_svm(few):
    fitted = [build("svm", {"C": 3.0, "gamma": gamma, "components": 7}).fit(*few.train, few.validation) for gamma in (1.0, 2.0)]
    machines = [one.pipeline_[-1] for one in fitted]
    assert fitted[0].pipeline_[0].n_components == 7 and machines[0].C == 3
    assert machines[1].gamma == pytest.approx(2 * machines[0].gamma)


def test_operations_of_trees_are_the_comparisons_on_the_way_to_a_leaf(few):
    costs = {model: build(model, {"max_depth": 1} | more).fit(*few.train, few.validation).flops_per_image() for model, more in
             (("decision_tree", {}), ("random_forest", {"n_estimators": 6}), ("xgboost", {"n_estimators": 3}))}
    assert costs == {"decision_tree": 1.0, "random_forest": 6.0, "xgboost": 30.0}


def test_a_kernel_sees_roots_of_squares_as_it_sees_the_shades_themselves(small):
    shades = [images // 16 for images in (small.train_images, small.validation_images, small.test_images)]  # 0 to 15
    proba = []
    for features, power in (("pixels", 1), ("roots", 2)):
        train, validation, test = (images**power for images in shades)
        model = build("svm", {"features": features, "components": None})  # whose gamma undoes the scale
        proba.append(model.fit(train, small.train_labels, (validation, small.validation_labels)).predict_proba(test))
    assert np.allclose(*proba, atol=1e-3)


def test_the_svms_temperature_is_fitted_on_validation_images_and_keeps_the_predictions(small):
    one, other = (build("svm", {"components": 20}) for _ in range(2))
    one.fit(*small.train, small.validation)
    other.fit(*small.train, (small.validation_images, np.random.default_rng(0).permutation(small.validation_labels)))
    assert np.array_equal(one.predict(small.test_images), other.predict(small.test_images))
    assert other.predict_proba(small.test_images).max() < one.predict_proba(small.test_images).max()


def test_the_svms_scores_tell_doubtful_points_from_clear_ones():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    labels = np.repeat(np.arange(3), 200)
    machine = PairwiseSVC(gamma=0.1, decision_function_shape="ovo")
    machine.fit(centres[labels] + rng.normal(size=(600, 2)), labels)
    scores = softmax(machine.decision_function(np.array([*centres, [3.0, 0.0]])), axis=1)
    assert np.array_equal(scores[:3].argmax(1), [0, 1, 2]) and scores[:3].max(1).min() > 0.9
    assert scores[3].max() < 0.9 and scores[3, 2] < 0.1
    two = machine.fit(centres[labels[:400]], labels[:400])
    assert two.decision_function(centres).shape == (3,)


def test_the_svm_says_so_when_it_cannot_be_calibrated(few):
    there = few.validation_labels != 3
    with pytest.raises(ValueError, match=r"validation labels: wanted every class.*got none of \[3\]"):
        tiny("svm").fit(*few.train, (few.validation_images[there], few.validation_labels[there]))


# --- Networks -------------------------------------------------------------------------------------------------------------


def layers(classifier: TorchClassifier, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in classifier.network_.modules() if isinstance(layer, kinds)]


def built(model: str, parameters: dict[str, Any]) -> TorchClassifier:
    """A classifier with its network, untrained."""
    classifier = build(model, parameters)
    classifier.network_ = classifier.network.build(torch.rand(50, 1, 28, 28))
    return classifier


def test_the_whitening_stem_whitens_patches(small):
    images = torch.from_numpy(small.train_images).unsqueeze(1) / 255
    filters = whitening_filters(images, 2)
    assert filters.shape == (8, 1, 2, 2) and torch.equal(filters[4:], -filters[:4])
    responses = nn.functional.conv2d(images, filters[:4]).transpose(0, 1).flatten(1)
    covariance = torch.cov(responses)
    assert torch.allclose(covariance, torch.eye(4), atol=0.15)  # uncorrelated, and of nearly equal strength
    assert torch.cov(nn.functional.unfold(images, 2).transpose(0, 1).flatten(1))[0, 1] > 0.05  # as the pixels are not


def test_the_stem_is_not_trained(small):
    classifier = tiny("cnn").fit(*small.train, small.validation)
    stem = layers(classifier, nn.Conv2d)[0]
    examples = (torch.from_numpy(small.train_images).unsqueeze(1).float() - classifier.mean_) / classifier.std_
    assert torch.allclose(stem.weight.cpu(), whitening_filters(examples, 2), atol=1e-5)


def test_residual_blocks_have_a_third_convolution_and_add_the_last_two_to_what_comes_in():
    network = CNN(widths=(4, 4), residual=True).build(torch.rand(8, 1, 28, 28)).eval()
    residuals = [layer for layer in network.modules() if isinstance(layer, Residual)]
    assert [sum(isinstance(layer, DiracConv) for layer in one.modules()) for one in (network, *residuals)] == [6, 2, 2]
    batch = torch.randn(3, 4, 5, 5)
    for convolution in residuals[0][::3]:
        nn.init.zeros_(convolution.weight)
    assert torch.equal(residuals[0](batch), batch)


def test_a_new_dirac_convolution_passes_its_input_on():
    batch = torch.rand(2, 3, 8, 8)
    assert torch.equal(DiracConv(3, 5, dirac=True)(batch)[:, :3], batch)
    assert not torch.equal(DiracConv(3, 5, dirac=False)(batch)[:, :3], batch)


def test_the_cnn_is_built_as_its_parameters_say():
    classifier = built("cnn", {"widths": [4, 8], "activation": "relu", "logit_scale": 0.5})
    assert [layer.out_channels for layer in layers(classifier, nn.Conv2d)] == [8, 4, 4, 8, 8]
    assert len(layers(classifier, nn.ReLU)) == 5 and not layers(classifier, nn.GELU)
    assert all(not norm.weight.requires_grad for norm in layers(classifier, nn.BatchNorm2d))
    head = layers(classifier, nn.Linear)[0]
    assert head.weight.std().item() == pytest.approx(1, abs=1e-4)
    assert torch.allclose(head(torch.ones(1, 8)), 0.5 * head.weight.sum(1))


def test_the_mlp_is_built_as_its_parameters_say():
    plain = built("mlp", {"hidden_sizes": [20, 10], "batch_norm": False})
    assert [type(layer) for layer in plain.network_] == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    rich = built("mlp", {"hidden_sizes": [20, 10], "dropout": [0.5, 0.0]})
    assert [layer.p for layer in layers(rich, nn.Dropout)] == [0.5]
    assert [layer.num_features for layer in layers(rich, nn.BatchNorm1d)] == [20, 10]


def test_the_studys_cnn_has_the_studys_layers():
    classifier = built("study_cnn", {})
    assert [layer.out_channels for layer in layers(classifier, nn.Conv2d)] == [4, 8]
    dense = layers(classifier, nn.Linear)
    assert [(layer.in_features, layer.out_features) for layer in dense] == [(392, 128), (128, 64), (64, 32), (32, 10)]
    assert [layer.p for layer in layers(classifier, nn.Dropout) if layer.p] == [0.5, 0.25]
    assert classifier.parameter_count() == pytest.approx(62_000, abs=1000)


@given(arrays(np.int8, st.tuples(st.just(2), st.just(3), st.integers(2, 9), st.integers(2, 9)), elements=st.integers(-3, 3)))
def test_max_pooling_is_torchs_and_sends_a_gradient_to_one_largest_pixel(levels):
    batch = torch.from_numpy(levels).float().requires_grad_()
    output = MaxPool()(batch)
    assert torch.equal(output, nn.functional.max_pool2d(batch, 2))
    weights = torch.arange(output.numel()).view_as(output) + 1.0
    (gradient,) = torch.autograd.grad(output, batch, weights)
    for of_pixels, wanted in ((gradient, weights), (gradient * batch, weights * output), (gradient**2, weights**2)):
        assert torch.equal(nn.functional.avg_pool2d(of_pixels, 2, divisor_override=1), wanted)  # sums of windows
        assert of_pixels.sum() == wanted.sum()  # and nothing outside them


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_of_values_anew_every_time_and_scales_up_the_others(rate, dtype):
    layer, batch = Dropout(rate), torch.ones(150, 333, dtype=dtype, requires_grad=True)
    first, second = layer(batch), layer(batch)
    assert first.dtype == dtype and not torch.equal(first, second)
    assert first.unique().tolist() == pytest.approx([0, 1 / (1 - rate)], rel=0.01)
    for part in (first, first[:, ::4], first[:, 3::4], first[:75]):
        assert (part == 0).float().mean().item() == pytest.approx(rate, abs=0.02)
    (gradient,) = torch.autograd.grad(first.sum(), batch)
    assert torch.equal(gradient, first)
    assert torch.equal(layer.eval()(batch), batch)


def test_the_original_profile_has_the_studys_mlp():
    from fmlib.profiles import load_profile

    classifier = built("mlp", load_profile("original").models["mlp"])
    shapes = [(layer.in_features, layer.out_features) for layer in layers(classifier, nn.Linear)]
    assert shapes == [(784, 256), (256, 128), (128, 64), (64, 32), (32, 10)]
    assert [layer.p for layer in layers(classifier, nn.Dropout)] == [0.5, 0.25]
    assert not layers(classifier, nn.BatchNorm1d)


def test_unit_scaling_needs_no_statistics_of_the_training_images(small):
    classifier = build("mlp", {"hidden_sizes": [4], "recipe": QUICK | {"scaling": "unit"}}).fit(*small.train, small.validation)
    assert (classifier.mean_, classifier.std_) == (0.0, 255.0)


@pytest.mark.parametrize("scaling", ["standard", "roots"])
def test_a_network_sees_images_of_mean_zero_and_deviation_one(scaling, small):
    classifier = build("mlp", {"hidden_sizes": [4], "recipe": QUICK | {"scaling": scaling}}).fit(*small.train, small.validation)
    seen = classifier.inputs(small.train_images)
    assert abs(seen.mean().item()) < 1e-4 and abs(seen.std(correction=0).item() - 1) < 1e-4
    assert len(seen.unique()) == len(np.unique(small.train_images))


def test_flip_averaging_makes_predictions_symmetric(fitted, small):
    images = small.test_images
    proba = [fitted["cnn"].predict_proba(one) for one in (images, images[:, :, ::-1])]
    assert np.allclose(*proba, atol=1e-5)


def test_operations_double_with_flip_averaging(small):
    costs = [build("cnn", {"widths": [4], "recipe": QUICK | {"flip_averaging": flips}}).fit(*small.train, small.validation)
             .flops_per_image() for flips in (False, True)]  # fmt: skip
    assert costs[1] == 2 * costs[0]


def test_an_explanation_survives_a_fault_that_it_does_not_know():
    fault = {"loc": ("a", "b"), "msg": "Strange", "type": "new", "input": 3}
    assert str(explain(SimpleNamespace(errors=lambda: [fault]), SimpleNamespace, {})) == "a.b: strange, got 3"
