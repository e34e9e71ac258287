"""Models in a user's own file: fitted like ours, and told in words where they cannot be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fmlib.fitting import FitError, Job, fit_or_load, job_of, stale, users_files
from fmlib.models.registry import MODELS
from fmlib.profiles import Profile, ProfileError, load_profile
from fmlib.project import Project

HEAD = """
import torch
from sklearn.neighbors import NearestCentroid
from torch import nn
from fmlib.models import Estimator, Network, register
"""
CENTROIDS = """
from {helper} import Centroids

@register("{name}", title="Centroids")
class Own(Estimator):
    "The class whose mean image is nearest."
    shrink: float = 0.0

    def make(self, seed):
        return Centroids(self.shrink)
"""
HELPER = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Centroids(ClassifierMixin, BaseEstimator):
    def __init__(self, shrink=0.0):
        self.shrink = shrink

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == c].mean(0) for c in self.classes_])
        return self

    def decision_function(self, X):
        return -np.linalg.norm(X[:, None] - self.means_, axis=2)
"""
NETWORK = """
@register("{name}")
class Own(Network):
    "A network."
    def build(self, spec, examples):
        {body}
"""
DENSE = "nn.Linear(spec.pixels, spec.num_classes)"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Profile]]:
    """A profile with one model of a file, whose name and the model's are the test's own."""
    before = dict(MODELS)
    name = tmp_path.name.replace("[", "_").replace("]", "")

    def profile(code: str, parameters: str = "{}", **files: str) -> Profile:
        (tmp_path / f"{name}.py").write_text(HEAD + code.replace("{name}", name))
        settings = f"code: [{name}.py]\nmodels: {{{name}: {parameters}}}"
        text = f"description: own\ndataset: sample\n{settings}\n"
        (tmp_path / "own.yaml").write_text(text)
        return load_profile(str(tmp_path / "own.yaml"), Project(tmp_path))

    yield profile
    MODELS.clear()
    MODELS.update(before)


def job(profile: Profile) -> Job:
    return job_of(profile, *profile.models)


def with_helper(own: Callable[..., Profile], folder: Path) -> Profile:
    """The estimator whose class lies in a file beside the model's."""
    helper = f"{folder.name}_helper".replace("[", "_").replace("]", "")
    (folder / f"{helper}.py").write_text(HELPER)
    return own(CENTROIDS.replace("{helper}", helper))


def test_an_estimator_with_a_helper_beside_it_is_fitted_kept_and_loaded(own, tmp_path, sample):
    profile = with_helper(own, tmp_path)
    result, model = fit_or_load(job(profile))
    assert result.accuracy > 0.5 and result.title == "Centroids" and result.family == "own"
    assert result.parameter_count is None and result.flops_per_image is None
    again = fit_or_load(job(profile))[1]
    assert (again.predict(sample.test_images) == result.proba.argmax(1)).all()
    assert model.temperature_ != 1.0, "scores became probabilities, calibrated"


def test_a_users_file_and_what_lies_beside_it_are_in_the_key(own, tmp_path):
    profile = with_helper(own, tmp_path)
    one = job(profile)
    fit_or_load(one)
    assert stale(one) == ""
    helper = next(tmp_path.glob("*_helper.py"))
    for path in (helper, next(tmp_path.glob(f"{one.model}.py"))):
        text = path.read_text()
        path.write_text(text + "\n# a comment\n")
        assert stale(job(profile)) == ""
        path.write_text(text + "\nCHANGED = 1\n")
        assert "changed" in stale(job(profile))
        path.write_text(text)


@pytest.mark.parametrize("imported", ["from .layers import WIDTH", "from . import layers"])
def test_what_a_users_package_imports_of_itself_is_in_the_key(own, tmp_path, imported):
    package = tmp_path / f"{tmp_path.name}_nets".replace("[", "_").replace("]", "")
    package.mkdir()
    (package / "__init__.py").write_text("from .made import made\n")
    (package / "made.py").write_text(f"{imported}\n\n\ndef made(): ...\n")
    (package / "layers.py").write_text("WIDTH = 1\n")
    body = f"return nn.Sequential(nn.Flatten(), {DENSE})"
    code = f"from {package.name} import made\n{NETWORK.replace('{body}', body)}"
    keys = [job(own(code)).key]
    for name in ("made", "layers"):
        path = package / f"{name}.py"
        path.write_text(f"{path.read_text()}CHANGED = 1\n")
        keys.append(job(own(code)).key)
    assert len({*keys}) == 3
    assert {path.name for path in users_files(job(own(code)))} >= {"made.py", "layers.py"}


def test_a_network_of_ones_own_learns(own):
    body = f"return nn.Sequential(nn.Flatten(), {DENSE})"
    recipe = "{recipe: {epochs: 3, batch_size: 32, lr: 0.003}}"
    result, _ = fit_or_load(job(own(NETWORK.replace("{body}", body), recipe)))
    assert result.accuracy > 0.6
    assert (
        result.parameter_count == 28 * 28 * 10 + 10 and result.flops_per_image == 2 * 28 * 28 * 10
    )


NORMALISED = f"return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(spec.pixels), {DENSE})"


@pytest.mark.parametrize(
    ("body", "parameters", "says"),
    [
        ("return nn.Linear(spec.pixels, spec.num_classes)", "{}", "RuntimeError|ValueError"),
        (
            "return nn.Sequential(nn.Flatten(), nn.Linear(spec.pixels, 3))",
            "{}",
            r"wanted.*\(3, 10\)",
        ),
        ("return nn.Sequential(nn.Flatten(), nn.Softmax(1))", "{}", r"shape \(3, 784\)"),
        ("return nn.Sequential(nn.Flatten(), Frozen(spec))", "{}", "no gradient reaches"),
        ("return nn.Sequential(nn.Flatten(), Nan(spec))", "{}", "not finite"),
        ("return Pair(spec)", "{}", "returns tuple"),
        ("return spec.colour", "{}", r"line \d+: AttributeError.*colour"),
        (NORMALISED, "{recipe: {batch_size: 1}}", r"recipe\.batch_size.*2 images or more"),
    ],
)
def test_a_wrong_network_says_so_before_anything_trains(own, body, parameters, says):
    odd = f"""
class Frozen(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.dense = {DENSE}
    def forward(self, x):
        return self.dense(x).detach()

class Nan(Frozen):
    def forward(self, x):
        return self.dense(x) * float("nan")

class Pair(Frozen):
    def forward(self, x):
        return x, x
"""
    profile = own(odd + NETWORK.replace("{body}", body), parameters)
    with pytest.raises(FitError, match=says):
        fit_or_load(job(profile), here=True)
    assert not job(profile).folder.exists()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("return 3", r"make\(\) returns int, wanted an estimator with fit"),
        ("return NearestCentroid().fit", "wanted an estimator with fit"),
        ("raise RuntimeError('no')", r"line \d+: RuntimeError: no"),
    ],
)
def test_a_wrong_estimator_says_so_before_anything_trains(own, code, says):
    text = (
        f'@register("{{name}}")\nclass Own(Estimator):\n    def make(self, seed):\n        {code}\n'
    )
    with pytest.raises(FitError, match=says):
        fit_or_load(job(own(text)), here=True)


def test_a_model_without_its_method_is_told_which(own):
    text = '@register("{name}")\nclass Own(Estimator):\n    "Nothing."\n'
    with pytest.raises(FitError, match=r"wants a method make\(self, seed\)"):
        fit_or_load(job(own(text)), here=True)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            '@register("mlp")\nclass Own(Network):\n    pass\n',
            r"line \d+: ValueError: the name 'mlp'",
        ),
        ("import nowhere_at_all\n", r"line \d+: ModuleNotFoundError"),
        ("def x(:\n", r"line \d+: SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_its_line(own, code, says):
    with pytest.raises(ProfileError, match=says):
        own(code)


def test_parameters_of_a_users_model_are_checked_like_ours(own):
    with pytest.raises(ProfileError, match="did you mean 'shrink'"):
        own(CENTROIDS.replace("from {helper} import Centroids", ""), "{shrnk: 0.1}")


def test_a_model_in_no_file_is_told_what_to_do(own, monkeypatch):
    profile = own(NETWORK.replace("{body}", "return nn.Linear(1, 1)"))
    monkeypatch.setattr(MODELS[job(profile).model], "__module__", "__main__")
    monkeypatch.delattr(
        sys.modules["__main__"], "__file__", raising=False
    )  # as in a notebook's kernel
    with pytest.raises(FitError, match="put it into one that the profile's `code` names"):
        job(profile).key  # noqa: B018


def test_a_profile_at_a_path_builds_under_its_files_name(own, tmp_path):
    profile = own(NETWORK.replace("{body}", f"return nn.Sequential(nn.Flatten(), {DENSE})"))
    assert profile.folder == tmp_path / "build" / "own"
    assert profile.command == "make report PROFILE=own.yaml"
    assert np.isin(["own.yaml"], [path.name for path in tmp_path.iterdir()]).all()
