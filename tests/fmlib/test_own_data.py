"""Built-in models on data of one's own: each is fitted, and beats guessing by a wide margin."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import stripes

from fmlib.models.registry import MODELS, build
from fmlib.profiles import Profile, load_profile
from fmlib.project import Project

pytestmark = pytest.mark.slow

SCRATCH = {"epochs": 8, "batch_size": 16, "lr": 0.001}
# MobileNetV3's running means need hundreds of steps, half a minute, before a prediction can use
# them: it learns one of the data sets, and sees the others once.
MOBILE = {"epochs": 30, "batch_size": 8, "optimizer": "sgd", "lr": 0.05, "schedule": "linear"}
ONCE = {**MOBILE, "epochs": 1, "image_size": 32}
SLOW = "mobilenet_v3_small"
SMALL = {
    "decision_tree": {},
    "random_forest": {"n_estimators": 10},
    "svm": {"components": 10},
    "svm_hog": {"components": 10},
    "xgboost": {"n_estimators": 5},
    "mlp": {"hidden_sizes": [32], "recipe": {"epochs": 5, "batch_size": 16, "lr": 0.01}},
    "cnn": {"widths": [8, 16], "recipe": {"epochs": 4, "batch_size": 16, "lr": 0.01}},
    "study_cnn": {"recipe": {"epochs": 20, "batch_size": 8, "lr": 0.003}},
    "vgg16": {
        "weights": "none",
        "recipe": {"epochs": 3, "batch_size": 16, "lr": 0.0001, "image_size": 32},
    },
    "resnet34": {"weights": "none", "recipe": SCRATCH},
    "mobilenet_v3_small": {"weights": "none", "recipe": {**MOBILE, "image_size": 32}},
    "mobilenet_v3_as_run": {"weights": "none", "recipe": SCRATCH},
    "efficientnet_lite0": {"recipe": {"epochs": 8, "batch_size": 32, "image_size": 32}},
}


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
    learns = model != SLOW or data.spec.channels == 3
    parameters = SMALL[model] if learns else {"weights": "none", "recipe": ONCE}
    fitted = build(model, parameters).fit(data)
    proba = fitted.predict_proba(data.test_images)
    assert proba.shape == (160, len(data.class_names)) and np.isfinite(proba).all()
    guessing = 1 / len(data.class_names)
    assert not learns or (proba.argmax(1) == data.test_labels).mean() > (1 + guessing) / 2


def test_vgg16_says_what_to_set_where_images_are_too_small_for_it(own_data):
    data = own_data.data()
    if data.spec.height >= 32:
        pytest.skip("large enough")
    with pytest.raises(ValueError, match=r"image_size.*at least 32 pixels"):
        build("vgg16", {"weights": "none"}).fit(data)
