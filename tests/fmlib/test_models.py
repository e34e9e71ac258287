"""Every model keeps one contract, whatever it is made of."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from fmlib.data import Dataset, Spec, split
from fmlib.models import Estimator, Network, register
from fmlib.models.base import Dropout, hog
from fmlib.models.classical import PairwiseSVC
from fmlib.models.cnn import CNN, DiracConv, Residual, whitening_filters
from fmlib.models.registry import MODELS, ParameterError, build, validate
from fmlib.profiles import load_profile
from fmlib.results import Epoch

OURS = list(MODELS)

# --- A user's own models ----------------------------------------------------------------------


@register("tiny_net", title="Tiny net")
class TinyNet(Network):
    """Two dense layers."""

    width: int = 32

    def build(self, spec, examples):
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(spec.pixels, self.width),
            nn.ReLU(),
            nn.Linear(self.width, spec.num_classes),
        )


@register("knn", title="k nearest neighbours")
class KNN(Estimator):
    n_neighbors: int = 5

    def make(self, seed):
        return KNeighborsClassifier(self.n_neighbors)


@register("ridge")
class Ridge(Estimator):
    """An estimator that has scores, but no probabilities."""

    def make(self, seed):
        return RidgeClassifier()


class Shares:
    """Predicts the classes' shares of the training images: the least that an estimator can be."""

    def fit(self, features, labels):
        self.shares_ = np.bincount(labels) / len(labels)

    def predict_proba(self, features):
        return np.tile(self.shares_, (len(features), 1))


@register("shares")
class SharesModel(Estimator):
    def make(self, seed):
        return Shares()


OWN = {name: MODELS.pop(name) for name in ("tiny_net", "knn", "ridge", "shares")}


@pytest.fixture(scope="module", autouse=True)
def _own_models() -> Iterator[None]:
    """A user's own models are known for as long as these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, model in OWN.items():
            patch.setitem(MODELS, name, model)
        yield


# One line a model makes its tests quick; a model without a line is tested with its defaults, and
# its networks for one epoch.
QUICK = {"epochs": 1, "batch_size": 64}
SMALL = QUICK | {"optimizer": "sgd", "momentum": 0.0, "image_size": 32}
FROM_SCRATCH = {"weights": "none", "recipe": SMALL}
TINY: dict[str, dict[str, Any]] = {
    "decision_tree": {"max_depth": 4},
    "random_forest": {"n_estimators": 4},
    "svm": {"components": 10},
    "svm_hog": {"components": 10},
    "xgboost": {"n_estimators": 2, "max_depth": 2, "max_bin": 8},
    "mlp": {"hidden_sizes": [8], "dropout": 0.2, "recipe": QUICK},
    "cnn": {"widths": [4, 8], "recipe": QUICK | {"flip_averaging": True}},
    "vgg16": FROM_SCRATCH,
    "resnet34": FROM_SCRATCH,
    "mobilenet_v3_small": FROM_SCRATCH,
    "efficientnet_lite0": FROM_SCRATCH,
    "mobilenet_v3_as_run": FROM_SCRATCH,
}
CHANCE = {"shares"}  # what sees no images, and cannot tell them apart


def parameters_of(model: str) -> dict[str, Any]:
    is_network = issubclass(MODELS.get(model) or OWN[model], Network)
    return TINY.get(model, {"recipe": QUICK} if is_network else {})


def tiny(model: str) -> Any:
    return build(model, parameters_of(model))


every_model = pytest.mark.parametrize("model", [*OURS, *OWN])
SEED = 4


@pytest.fixture(scope="module")
def fitted(few) -> Mapping[str, Any]:
    """Each model, fitted once, when first asked for."""

    class Fitted(dict):
        def __missing__(self, model: str) -> Any:
            self[model] = tiny(model).fit(few, SEED)
            return self[model]

    return Fitted()


def stored(model: Any) -> dict[str, Any]:
    """What a model holds that is not found by fitting."""
    return {name: value for name, value in vars(model).items() if not name.endswith("_")}


# --- The contract -----------------------------------------------------------------------------


@every_model
def test_a_constructor_only_stores(model):
    made = tiny(model)
    names = {field.name for field in dataclasses.fields(made)}
    assert set(stored(made)) == names
    assert {name for name in vars(made) if not name.startswith("__")} == names
    assert made == tiny(model)


@every_model
def test_fit_leaves_the_parameters_alone_and_ends_what_it_finds_in_an_underscore(model, fitted):
    assert stored(fitted[model]) == stored(tiny(model))
    assert fitted[model].parameters() == tiny(model).parameters()
    assert any(name.endswith("_") and not name.startswith("__") for name in vars(fitted[model]))


@every_model
def test_parameters_are_plain_and_make_the_same_model_again(model):
    made = tiny(model)
    again = build(model, made.parameters())
    assert again == made and again.parameters() == made.parameters()
    assert set(made.parameters()) == {field.name for field in dataclasses.fields(made)}


@every_model
def test_probabilities_are_float32_rows_that_sum_to_one(model, fitted, few):
    proba = fitted[model].predict_proba(few.test_images)
    assert isinstance(proba, np.ndarray)
    assert proba.dtype == np.float32 and proba.shape == (20, 10)
    assert proba.min() >= 0 and proba.max() <= 1 and np.allclose(proba.sum(1), 1, atol=1e-5)


@every_model
def test_predictions_are_the_most_probable_classes(model, fitted, few):
    predicted = fitted[model].predict(few.test_images)
    assert predicted.dtype == np.int64
    assert np.array_equal(predicted, fitted[model].predict_proba(few.test_images).argmax(1))


@every_model
def test_predicting_twice_gives_the_same_and_spares_the_images(model, fitted, few):
    images = few.test_images.copy()
    first, second = (fitted[model].predict_proba(images) for _ in range(2))
    assert np.array_equal(first, second) and np.array_equal(images, few.test_images)


@every_model
def test_one_image_at_a_time_gives_what_a_batch_gives(model, fitted, few):
    images = few.test_images[:5]
    one_by_one = np.concatenate([fitted[model].predict_proba(image[None]) for image in images])
    assert np.allclose(one_by_one, fitted[model].predict_proba(images), atol=1e-5)


@every_model
def test_images_may_lie_in_memory_in_any_way(model, fitted, few):
    strided = few.test_images[::-3]
    assert not strided.flags.c_contiguous
    got, wanted = (fitted[model].predict_proba(one) for one in (strided, strided.copy()))
    assert np.allclose(got, wanted, atol=1e-5)


@every_model
def test_fitting_again_forgets_the_first_fit_and_validation_images_teach_nothing(
    model, fitted, few
):
    """But for the temperature of probabilities, which changes no prediction."""
    fresh, other = fitted[model], tiny(model)
    before = fresh.predict_proba(few.test_images)
    changed = few.train_labels[:60] * 0 + few.train_labels[:60][::-1] // 2
    misled = replace(few, train_images=few.train_images[:60], train_labels=changed)
    assert other.fit(misled, SEED) is other
    assert not np.array_equal(other.predict_proba(few.test_images), before)
    held_out = {"validation_images": 255 - few.validation_images}
    held_out |= {"validation_labels": few.validation_labels[::-1].copy()}
    assert other.fit(replace(few, **held_out), SEED) is other
    again = other.predict_proba(few.test_images)
    assert np.array_equal(again.argmax(1), before.argmax(1))
    if getattr(other, "temperature_", 1.0) == 1.0:
        assert np.array_equal(again, before)
    assert len(other.history_) == len(fresh.history_)
    assert np.array_equal(fresh.predict_proba(few.test_images), before)  # they share nothing


@every_model
def test_what_is_saved_and_loaded_predicts_exactly_the_same(model, fitted, few, tmp_path):
    kept = fitted[model].save(tmp_path)
    loaded = tiny(model).load(tmp_path, kept)
    for images in (few.test_images, few.test_images[:1], few.train_images):
        wanted, got = (one.predict_proba(images) for one in (fitted[model], loaded))
        assert np.array_equal(got, wanted)
    assert loaded.parameter_count() == fitted[model].parameter_count()
    assert loaded.flops_per_image() == fitted[model].flops_per_image()
    assert len(list(tmp_path.iterdir())) == 1


@every_model
def test_a_class_without_training_images_is_no_obstacle(model, few):
    if model in ("vgg16", "mobilenet_v3_as_run", "efficientnet_lite0"):
        pytest.skip("no other code than ResNet34's")
    seen = few.train_labels != 3
    part = {"train_images": few.train_images[seen], "train_labels": few.train_labels[seen]}
    proba = tiny(model).fit(replace(few, **part), SEED).predict_proba(few.test_images)
    assert proba.shape == (20, 10) and np.allclose(proba.sum(1), 1, atol=1e-5)


@every_model
def test_size_and_cost_are_positive_where_they_are_known(model, fitted):
    one = fitted[model]
    assert one.train_seconds_ > 0
    for known, kind in ((one.parameter_count(), int), (one.flops_per_image(), float)):
        assert known is None or (isinstance(known, kind) and known > 0)
        assert known is not None or model in OWN


@every_model
def test_the_history_has_a_row_an_epoch(model, fitted):
    rows = [Epoch(**row) for row in fitted[model].history_]
    for _, stage in groupby(rows, lambda row: row.stage):
        epochs = [row.epoch for row in stage]
        assert epochs == list(range(1, len(epochs) + 1))
    assert bool(rows) == isinstance(fitted[model], Network)


BAD_IMAGES = {
    "dtype": (lambda images: images.astype(np.float32) / 255, "float32"),
    "NaN": (lambda images: np.where(images > 9, np.nan, images), "float64"),
    "flat": (lambda images: images.reshape(len(images), -1), "784"),
    "size": (lambda images: images[:, 1:], "27, 28"),
    "one image": (lambda images: images[0], r"\(28, 28\)"),
    "empty": (lambda images: images[:0], r"\(0, 28, 28\)"),
    "channel": (lambda images: images[..., None], "28, 28, 1"),
}


@every_model
def test_what_are_no_images_is_refused(model, fitted, few):
    for spoil, got in BAD_IMAGES.values():
        with pytest.raises(ValueError, match=rf"wanted uint8 of shape \(n, 28, 28\).*got .*{got}"):
            fitted[model].predict_proba(spoil(few.test_images))


@pytest.fixture(scope="module")
def colour() -> Dataset:
    """Two classes of colour images that are higher than wide: reddish and bluish."""
    rng = np.random.default_rng(0)

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n) % 2
        images = rng.integers(0, 120, (n, 30, 24, 3), dtype=np.uint8)
        images[np.arange(n), :, :, 2 * labels] += 100
        return images, labels

    return split("colour", part(120), part(40), ("red", "blue"), 0.2)


@pytest.mark.parametrize(
    "model", [one for one in (*OURS, *OWN) if one not in ("vgg16", "mobilenet_v3_as_run")]
)
def test_colour_images_of_any_shape_and_two_classes_work(model, colour, tmp_path):
    one = tiny(model).fit(colour, SEED)
    proba = one.predict_proba(colour.test_images)
    assert proba.shape == (40, 2) and np.allclose(proba.sum(1), 1, atol=1e-5)
    loaded = tiny(model).load(tmp_path, one.save(tmp_path))
    assert np.array_equal(loaded.predict_proba(colour.test_images), proba)
    if model in ("decision_tree", "random_forest", "svm", "xgboost", "knn", "ridge"):
        assert (proba.argmax(1) == colour.test_labels).mean() > 0.8


@pytest.mark.parametrize("model", ["decision_tree", "random_forest", "mlp", "cnn", "tiny_net"])
def test_the_same_seed_gives_the_same_and_another_seed_another_model(model, fitted, few):
    proba = [tiny(model).fit(few, seed).predict_proba(few.test_images) for seed in (SEED, 5)]
    assert np.array_equal(proba[0], fitted[model].predict_proba(few.test_images))
    assert model == "decision_tree" or not np.array_equal(*proba)


RANDOM = QUICK | {
    "epochs": 2,
    "mixup": 0.2,
    "cutmix": 0.5,
    "augmentation": {"flip": True, "crop_padding": 2, "erase_size": 4, "jitter": 0.1},
}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("mlp", {"hidden_sizes": [16], "dropout": 0.3}), ("cnn", {"widths": [4]}), ("study_cnn", {})],
)
def test_a_fit_depends_on_its_seed_and_on_no_other_state(few, model, parameters):
    def predictions(seed: int, noise: int) -> np.ndarray:
        for disturb in (torch.manual_seed, np.random.seed, random.seed):
            disturb(noise)
        made = build(model, parameters | {"recipe": RANDOM}).fit(few, seed)
        return made.predict_proba(few.test_images)

    first = predictions(1, noise=1)
    assert np.array_equal(first, predictions(1, noise=2))
    assert not np.array_equal(first, predictions(2, noise=1))


def test_charts_can_tell_all_models_apart():
    assert len({one.title for one in MODELS.values()}) == len(MODELS)


def test_every_line_of_the_tiny_table_is_of_a_model():
    assert set(TINY) <= set(OURS)


# --- Adding a model ---------------------------------------------------------------------------


def test_a_users_own_models_are_known_by_name_with_their_parameters(few):
    net, knn = build("tiny_net", {"width": 3, "recipe": QUICK}), build("knn", {"n_neighbors": 1})
    assert (net.width, net.recipe.epochs, knn.n_neighbors) == (3, 1, 1)
    assert (type(net).title, type(knn).title) == ("Tiny net", "k nearest neighbours")
    assert (type(net).family, build("ridge").title) == ("own", "ridge")
    net.fit(few)
    assert net.parameter_count() == 784 * 3 + 3 + 3 * 10 + 10
    assert net.flops_per_image() == 2 * (784 * 3 + 3 * 10)
    assert np.array_equal(knn.fit(few).predict(few.train_images), few.train_labels)
    assert (knn.parameter_count(), knn.flops_per_image()) == (None, None)
    assert knn.parameters() == {"features": "pixels", "n_neighbors": 1}
    with pytest.raises(ParameterError, match="did you mean 'n_neighbors'"):
        build("knn", {"neighbors": 2})


def test_scores_become_probabilities_by_a_temperature_found_on_validation_images(small):
    one = build("ridge").fit(small)
    other = build("ridge").fit(
        replace(
            small, validation_labels=np.random.default_rng(0).permutation(small.validation_labels)
        )
    )
    proba, doubtful = (model.predict_proba(small.test_images) for model in (one, other))
    assert one.temperature_ != 1 and np.array_equal(proba.argmax(1), doubtful.argmax(1))
    assert doubtful.max() < proba.max()


def test_a_name_that_is_taken_is_refused_and_the_same_class_may_come_again():
    with pytest.raises(ValueError, match=r"'mlp' is taken by fmlib\.models\.mlp\.MLP"):

        @register("mlp")
        class Other(Network):
            pass

    again = register("knn", title="Again")(KNN)
    assert MODELS["knn"] is again and again.title == "Again"


# --- Parameters -------------------------------------------------------------------------------


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
        (
            "mlp",
            {"hidden_sizes": [64, 32], "dropout": [0.1]},
            "",
            None,
            "dropout: wanted one probability below 1, or 2",
        ),
        ("mlp", {"dropout": 1.5}, "", None, "dropout: wanted one probability below 1"),
        ("mlp", {"dropout": "much"}, "dropout", "much", ""),
        ("mlp", {"recipe": {"learning_rat": 0.1}}, "recipe.learning_rat", 0.1, "unknown key; "),
        ("mlp", {"recipe": {"epoch": 3}}, "recipe.epoch", 3, "did you mean 'epochs'"),
        ("mlp", {"recipe": {"lr": "1e-3"}}, "recipe.lr", "1e-3", "YAML reads 1e-3 as text"),
        (
            "mlp",
            {"recipe": {"augmentation": {"flips": True}}},
            "recipe.augmentation.flips",
            True,
            "did you mean 'flip'",
        ),
        (
            "mlp",
            {"recipe": {"augmentation": {"flip": "often"}}},
            "recipe.augmentation.flip",
            "often",
            "",
        ),
        ("mlp", {"recipe": {"augmentation": None}}, "recipe.augmentation", None, ""),
        ("mlp", {"recipe": []}, "recipe", [], ""),
        ("decision_tree", {"seed": 3}, "seed", 3, "unknown key"),
        (
            "resnet34",
            {"probe": {"flip_averaging": True, "scaling": "roots", "augmentation": {"flip": True}}},
            "",
            None,
            "probe: augmentation, flip_averaging, scaling: what it trains on are features",
        ),
        ("cnn", {"widths": [8, "wide"]}, "widths.1", "wide", "integer"),
        ("cnn", {"activation": "sigmoid"}, "activation", "sigmoid", "'gelu', 'relu' or 'silu'"),
        ("study_cnn", {"widths": [4]}, "widths", [4], "unknown key; known are recipe"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named_with_its_value(
    model, parameters, key, value, says
):
    with pytest.raises(ParameterError) as caught:
        build(model, parameters)
    assert caught.value.key == key and says in str(caught.value)
    if key:
        assert (
            caught.value.value == value
            and f"{key}: " in str(caught.value)
            and f"got {value!r}" in str(caught.value)
        )


def test_whole_numbers_do_for_fractions_and_lists_for_tuples():
    classifier = build("mlp", {"hidden_sizes": [8, 4], "dropout": [0, 0.5], "recipe": {"lr": 1}})
    assert classifier.hidden_sizes == (8, 4) and classifier.rates == (0.0, 0.5)
    assert classifier.recipe.lr == 1.0


# --- Classical models -------------------------------------------------------------------------

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
    models = [
        build("decision_tree", {"features": features, "max_depth": 6})
        for features in ("pixels", "hog")
    ]
    proba = [model.fit(small).predict_proba(small.test_images) for model in models]
    assert not np.array_equal(*proba)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (
            "decision_tree",
            {"criterion": "entropy", "max_depth": 3, "min_samples_leaf": 2, "max_features": 0.5},
        ),
        (
            "random_forest",
            {
                "n_estimators": 3,
                "criterion": "entropy",
                "max_depth": 3,
                "min_samples_leaf": 2,
                "max_features": 0.5,
                "bootstrap": False,
            },
        ),
        (
            "xgboost",
            {
                "n_estimators": 2,
                "learning_rate": 0.2,
                "max_depth": 2,
                "max_bin": 8,
                "min_child_weight": 2.0,
                "subsample": 0.9,
                "colsample_bytree": 0.8,
                "colsample_bynode": 0.7,
                "reg_lambda": 3.0,
            },
        ),
    ],
)
def test_every_setting_and_the_seed_reach_the_estimator(model, parameters, few):
    known = build(model, parameters).fit(few, 4).estimator_.get_params()
    assert {name: known[name] for name in parameters} == parameters and known["random_state"] == 4
    assert set(parameters) == set(build(model).parameters()) - {"features"}, (
        "a setting is not tested"
    )


def test_every_setting_reaches_the_svm(few):
    fitted = [
        build("svm", {"C": 3.0, "gamma": gamma, "components": 7}).fit(few) for gamma in (1.0, 2.0)
    ]
    machines = [one.estimator_[-1] for one in fitted]
    assert fitted[0].estimator_[0].n_components == 7 and machines[0].C == 3
    assert machines[1].gamma == pytest.approx(2 * machines[0].gamma)


def test_operations_of_trees_are_the_comparisons_on_the_way_to_a_leaf(few):
    costs = {
        model: build(model, {"max_depth": 1} | more).fit(few).flops_per_image()
        for model, more in (
            ("decision_tree", {}),
            ("random_forest", {"n_estimators": 6}),
            ("xgboost", {"n_estimators": 3}),
        )
    }
    assert costs == {"decision_tree": 1.0, "random_forest": 6.0, "xgboost": 30.0}


def test_a_kernel_sees_roots_of_squares_as_it_sees_the_shades_themselves(small):
    proba = []
    for features, power in (("pixels", 1), ("roots", 2)):
        names = ("train_images", "validation_images", "test_images")
        shades = {name: (getattr(small, name) // 16) ** power for name in names}  # from 0 to 15
        data = replace(small, **shades)
        model = build("svm", {"features": features, "components": None})  # gamma undoes the scale
        proba.append(model.fit(data).predict_proba(data.test_images))
    assert np.allclose(*proba, atol=1e-3)


def test_the_svms_scores_tell_doubtful_points_from_clear_ones():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    labels = np.repeat(np.arange(3), 200)
    machine = PairwiseSVC()
    machine.fit(centres[labels] + rng.normal(size=(600, 2)), labels)
    scores = softmax(machine.decision_function(np.array([*centres, [3.0, 0.0]])), axis=1)
    assert np.array_equal(scores[:3].argmax(1), [0, 1, 2]) and scores[:3].max(1).min() > 0.9
    assert scores[3].max() < 0.9 and scores[3, 2] < 0.1
    two = machine.fit(centres[labels[:400]], labels[:400])
    assert two.decision_function(centres).shape == (3,)


# --- Networks ---------------------------------------------------------------------------------


GREY = Spec(num_classes=10, height=28, width=28)


def layers(classifier: Network, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in classifier.network_.modules() if isinstance(layer, kinds)]


def built(model: str, parameters: dict[str, Any]) -> Network:
    """A classifier with its network, untrained."""
    classifier = build(model, parameters)
    classifier.network_ = classifier.build(GREY, torch.rand(50, 1, 28, 28))
    return classifier


def test_the_whitening_stem_whitens_patches(small):
    images = torch.from_numpy(small.train_images).unsqueeze(1) / 255
    filters = whitening_filters(images, 2)
    assert filters.shape == (8, 1, 2, 2) and torch.equal(filters[4:], -filters[:4])
    responses = nn.functional.conv2d(images, filters[:4]).transpose(0, 1).flatten(1)
    covariance = torch.cov(responses)
    assert torch.allclose(
        covariance, torch.eye(4), atol=0.15
    )  # uncorrelated, and of nearly equal strength
    assert (
        torch.cov(nn.functional.unfold(images, 2).transpose(0, 1).flatten(1))[0, 1] > 0.05
    )  # as the pixels are not


def test_the_stem_is_not_trained(small):
    classifier = tiny("cnn").fit(small)
    stem = layers(classifier, nn.Conv2d)[0]
    examples = (
        torch.from_numpy(small.train_images).unsqueeze(1).float() - classifier.mean_
    ) / classifier.std_
    assert torch.allclose(stem.weight.cpu(), whitening_filters(examples, 2), atol=1e-5)


def test_residual_blocks_have_a_third_convolution_and_add_the_last_two_to_what_comes_in():
    network = CNN(widths=(4, 4), residual=True).build(GREY, torch.rand(8, 1, 28, 28)).eval()
    residuals = [layer for layer in network.modules() if isinstance(layer, Residual)]
    assert [
        sum(isinstance(layer, DiracConv) for layer in one.modules())
        for one in (network, *residuals)
    ] == [6, 2, 2]
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
    assert [type(layer) for layer in plain.network_] == [
        nn.Flatten,
        nn.Linear,
        nn.ReLU,
        nn.Linear,
        nn.ReLU,
        nn.Linear,
    ]
    rich = built("mlp", {"hidden_sizes": [20, 10], "dropout": [0.5, 0.0]})
    assert [layer.p for layer in layers(rich, nn.Dropout)] == [0.5]
    assert [layer.num_features for layer in layers(rich, nn.BatchNorm1d)] == [20, 10]


def test_the_studys_cnn_has_the_studys_layers():
    classifier = built("study_cnn", {})
    assert [layer.out_channels for layer in layers(classifier, nn.Conv2d)] == [4, 8]
    dense = layers(classifier, nn.Linear)
    assert [(layer.in_features, layer.out_features) for layer in dense] == [
        (392, 128),
        (128, 64),
        (64, 32),
        (32, 10),
    ]
    assert [layer.p for layer in layers(classifier, nn.Dropout) if layer.p] == [0.5, 0.25]
    assert classifier.parameter_count() == pytest.approx(62_000, abs=1000)


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
    classifier = built("mlp", load_profile("original").models["mlp"])
    shapes = [(layer.in_features, layer.out_features) for layer in layers(classifier, nn.Linear)]
    assert shapes == [(784, 256), (256, 128), (128, 64), (64, 32), (32, 10)]
    assert [layer.p for layer in layers(classifier, nn.Dropout)] == [0.5, 0.25]
    assert not layers(classifier, nn.BatchNorm1d)


def test_unit_scaling_needs_no_statistics_of_the_training_images(small):
    classifier = build("mlp", {"hidden_sizes": [4], "recipe": QUICK | {"scaling": "unit"}}).fit(
        small
    )
    assert (classifier.mean_, classifier.std_) == (0.0, 255.0)


@pytest.mark.parametrize("scaling", ["standard", "roots"])
def test_a_network_sees_images_of_mean_zero_and_deviation_one(scaling, small):
    classifier = build("mlp", {"hidden_sizes": [4], "recipe": QUICK | {"scaling": scaling}}).fit(
        small
    )
    seen = classifier.inputs(small.train_images)
    assert abs(seen.mean().item()) < 1e-4 and abs(seen.std(correction=0).item() - 1) < 1e-4
    assert len(seen.unique()) == len(np.unique(small.train_images))


def test_flip_averaging_makes_predictions_symmetric(fitted, small):
    images = small.test_images
    proba = [fitted["cnn"].predict_proba(one) for one in (images, images[:, :, ::-1])]
    assert np.allclose(*proba, atol=1e-5)


def test_operations_double_with_flip_averaging(small):
    costs = [build("cnn", {"widths": [4], "recipe": QUICK | {"flip_averaging": flips}}).fit(small)
             .flops_per_image() for flips in (False, True)]  # fmt: skip
    assert costs[1] == 2 * costs[0]


def test_every_fault_of_settings_is_known_and_the_first_is_told():
    given = {"n_estimators": 0, "max_dept": 3, "max_features": "all"}
    with pytest.raises(ParameterError, match="n_estimators") as refused:
        validate(MODELS["random_forest"], given)
    others = {one.key: str(one) for one in refused.value.others}
    assert "did you mean 'max_depth'?" in others["max_dept"]
    moved = {one.key for one in refused.value.below("models", "a").others}
    assert moved == {f"models.a.{key}" for key in others}
