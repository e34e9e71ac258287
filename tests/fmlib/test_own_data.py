"""Built-in models on data of one's own: each is fitted, and those that can learn from little do."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import stripes

from fmlib.models.registry import MODELS, build
from fmlib.profiles import Profile, load_profile
from fmlib.project import Project

pytestmark = pytest.mark.slow

QUICK = {"epochs": 2, "batch_size": 32}
SMALL = {
    "decision_tree": {},
    "random_forest": {"n_estimators": 10},
    "svm": {"components": 10},
    "svm_hog": {"components": 10},
    "xgboost": {"n_estimators": 5},
    "mlp": {"hidden_sizes": [32], "recipe": {"epochs": 5, "batch_size": 16, "lr": 0.01}},
    "cnn": {"widths": [8, 16], "recipe": {"epochs": 4, "batch_size": 16, "lr": 0.01}},
    "study_cnn": {"recipe": {"epochs": 6, "batch_size": 16, "lr": 0.01}},
    "vgg16": {"weights": "none", "recipe": {**QUICK, "epochs": 1, "image_size": 32}},
    "resnet34": {"weights": "none", "recipe": {**QUICK, "lr": 0.002}},
    "mobilenet_v3_small": {"weights": "none", "recipe": {**QUICK, "image_size": 32}},
    "mobilenet_v3_as_run": {"weights": "none", "recipe": {**QUICK, "lr": 0.002}},
    "efficientnet_lite0": {"recipe": {**QUICK, "epochs": 8, "image_size": 32}},
}
LEARNT = {"vgg16", "resnet34", "mobilenet_v3_small", "mobilenet_v3_as_run", "study_cnn"}


@pytest.fixture(scope="module", params=[((8, 8), 2), ((32, 32, 3), 3), ((12, 20), 4)], ids=str)
def own_data(request, tmp_path_factory) -> Profile:
    """A profile of grey 8 x 8, coloured, or oblong images, of few classes."""
    shape, classes = request.param
    folder = tmp_path_factory.mktemp("own")
    np.savez(folder / "stripes.npz", **stripes(shape, classes))
    text = "description: stripes\ndataset: {npz: stripes.npz}\nmodels: {decision_tree: {}}\n"
    (folder / "stripes.yaml").write_text(text)
    return load_profile(str(folder / "stripes.yaml"), Project(folder))


@pytest.mark.parametrize("model", SMALL)
def test_every_built_in_model_is_fitted_to_own_data(own_data, model):
    assert set(SMALL) == {name for name, one in MODELS.items() if one.family != "own"}
    data = own_data.data()
    fitted = build(model, SMALL[model]).fit(data)
    proba = fitted.predict_proba(data.test_images)
    assert proba.shape == (160, len(data.class_names)) and np.isfinite(proba).all()
    if model not in LEARNT:  # large networks from scratch learn nothing from so few images
        guessing = 1 / len(data.class_names)
        assert (proba.argmax(1) == data.test_labels).mean() > (1 + guessing) / 2


def test_vgg16_says_what_to_set_where_images_are_too_small_for_it(own_data):
    data = own_data.data()
    if data.spec.height >= 32:
        pytest.skip("large enough")
    with pytest.raises(ValueError, match=r"image_size.*at least 32 pixels"):
        build("vgg16", {"weights": "none"}).fit(data)
