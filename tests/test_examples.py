"""The examples: someone's own models and own data, from files to a whole report."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import numpy as np
import pypdf
import pytest
from commands import records, run

from fmlib.models.registry import MODELS, build
from fmlib.profiles import Profile, load_profile
from fmlib.project import HERE, Project

EXAMPLES = HERE.root / "examples"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, as a clone has it."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("fmlib", "fmreport", "notebooks", "params", "docs/studies", "examples"):
        ignored = shutil.ignore_patterns("__pycache__", "pictures")
        shutil.copytree(HERE.root / name, folder / name, ignore=ignored)
    return folder


def report(copy: Path, profile: str) -> tuple[str, str]:
    """The page of a profile's report, and what was said."""
    said = run(copy, "-m", "fmreport", "report", "--profile", profile)
    return (copy / "build" / Path(profile).stem / "report.html").read_text("utf-8"), said


def plain(page: str) -> str:
    """What a reader sees of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"(?s)<(script|style).*?</\1>", "", page)))


def test_the_digits_make_a_report_that_is_about_nothing_else(copy):
    page, said = report(copy, "examples/own_data/digits.yaml")
    assert "Which image classifier for Handwritten digits?" in page
    for name in ("FashionMNIST", "fashion", "original study", "Shirt", " 784 "):
        assert name not in plain(page), name
    found = records(copy / "build" / "digits" / "results")
    assert {one.model for one in found} >= {"knn", "tiny_net", "svm", "mlp"}
    assert all(one.accuracy > 0.75 for one in found), "guessing scores a tenth"
    for title in ("k nearest neighbours", "Tiny net", "Decision Tree", "SVM", "MLP"):
        assert title in page, title
    assert "The commonest class among the training images" in page, "a docstring is told as prose"
    assert "0 failed" not in said and "6 fitted" in said
    again = report(copy, "examples/own_data/digits.yaml")[1]
    assert "0 fitted, 6 kept, 0 told" in again


def test_the_digits_as_coloured_pictures_do_too(copy):
    run(copy / "examples" / "own_data", "export.py")
    exported = copy / "examples" / "own_data" / "digits.npz"
    with np.load(exported) as made, np.load(EXAMPLES / "own_data" / "digits.npz") as kept:
        assert all((made[name] == kept[name]).all() for name in kept.files)
    page, _ = report(copy, "examples/own_data/pictures.yaml")
    assert "Coloured digits" in page and "in colour" in page and "FashionMNIST" not in page
    assert all(one.accuracy > 0.75 for one in records(copy / "build" / "pictures" / "results"))


def test_ones_own_models_stand_beside_the_librarys(copy):
    page, _ = report(copy, "examples/own_model/models.yaml")
    for title in ("k nearest neighbours", "Tiny net", "Decision Tree", "MLP"):
        assert page.count(title) > 5, title


# --- Kinds of data and built-in models --------------------------------------------------------


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


def stripes(shape: tuple[int, ...], classes: int, count: int = 160) -> dict[str, np.ndarray]:
    """Images whose class is the side on which they are bright, or how many stripes they have."""
    rng, made = np.random.default_rng(9), {}
    for part in ("train", "test"):
        labels = np.arange(count) % classes
        images = rng.integers(0, 60, (count, *shape), np.uint8)
        for image, label in zip(images, labels, strict=True):
            width = shape[1] // classes
            image[:, label * width : (label + 1) * width] += 150
        made |= {f"{part}_images": images, f"{part}_labels": labels}
    return made


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


# --- Names are literal text -------------------------------------------------------------------


ODD = "Net_v2 *tuned* <b> $a$ [x](y)"


def test_a_name_of_marks_is_shown_as_it_is_everywhere(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    code = (EXAMPLES / "own_model" / "my_models.py").read_text()
    code = code.replace("k nearest neighbours", ODD).replace('"knn"', '"odd"')
    (folder / "odd_models.py").write_text(code.replace('"tiny_net"', '"odd_net"'))
    arrays = stripes((8, 8), 2)
    np.savez(folder / "odd.npz", **arrays, class_names=np.array([ODD, "plain"]))
    title = f"'{ODD}'"
    text = f"description: odd\ndataset: {{npz: odd.npz, title: {title}}}\ncode: [odd_models.py]\n"
    (folder / "odd.yaml").write_text(text + "models: {odd: {}, odd_net: {}}\n")
    for name in ("fmlib", "fmreport", "notebooks", "params", "docs/studies"):
        shutil.copytree(HERE.root / name, folder / name)
    page, _ = report(folder, str(folder / "odd.yaml"))
    assert plain(page).count(ODD) > 20
    assert "<em>tuned</em>" not in page and 'href="y"' not in page and "<b>" not in page
    pdf = pypdf.PdfReader(folder / "build" / "odd" / "report.pdf")
    words = " ".join(" ".join(one.extract_text() for one in pdf.pages).split())
    assert words.count("*tuned* <b> $a$ [x](y)") > 10
