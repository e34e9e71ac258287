"""What makes a fit stale, and what does not: one change at a time, in a copy of the library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROFILE = """
description: one model of every kind
dataset: sample
models:
  decision_tree: {max_depth: 4}
  svm: {components: 20}
  mlp: {hidden_sizes: [16], recipe: {epochs: 2}}
  cnn: {widths: [8]}
  resnet34: {weights: none}
  vgg16: {weights: none, recipe: {image_size: 32}}
  own_net: {}
"""
OWN = """
from torch import nn
from fmlib.models import Network, register
from own_layers import layers


@register("own_net", title="My own")
class OwnNet(Network):
    width: int = 8

    def build(self, spec, examples):
        return layers(spec.pixels, self.width, spec.num_classes)
"""
OWN_LAYERS = """
from torch import nn


def layers(*sizes):
    return nn.Sequential(nn.Flatten(), nn.Linear(sizes[0], sizes[1]), nn.Linear(*sizes[1:]))
"""
CLASSICAL = {"decision_tree", "svm"}
TRANSFER = {"resnet34", "vgg16"}
NETWORKS = {"mlp", "cnn", "own_net"} | TRANSFER
ALL = CLASSICAL | NETWORKS
SPLIT = "images, labels = train\n"

# what is changed: file, old text, new text; and whose fits become stale
EDITS: dict[str, tuple[str, str, str, set[str]]] = {
    "a comment": (
        "fmlib/models/mlp.py",
        "width = examples",
        "# wide\n        width = examples",
        set(),
    ),
    "a docstring": ("fmlib/models/mlp.py", "Dense layers over", "Layers, dense, over", set()),
    "line ends": ("fmlib/models/mlp.py", "\n", "\r\n", set()),
    "formatting": ("fmlib/models/mlp.py", "width = size", "width   =   (size)", set()),
    "a model's title": ("fmlib/models/mlp.py", 'title="MLP"', 'title="Perceptron"', set()),
    "a model's chapter": ("fmlib/models/mlp.py", 'family="mlp"', 'family="own"', set()),
    "a model's code": ("fmlib/models/mlp.py", "nn.ReLU()", "nn.GELU()", {"mlp"}),
    "a model's default": (
        "fmlib/models/mlp.py",
        "batch_norm: bool = True",
        "batch_norm: bool = False",
        {"mlp"},
    ),
    "a model beside others": (
        "fmlib/models/classical.py",
        "return DecisionTreeClassifier(",
        "return DecisionTreeClassifier(splitter='random', ",
        {"decision_tree"},
    ),
    "what a module's models share": (
        "fmlib/models/classical.py",
        "SLOPE = 4.0",
        "SLOPE = 5.0",
        CLASSICAL,
    ),
    "a network beside others": (
        "fmlib/models/cnn.py",
        "nn.AdaptiveMaxPool2d(1)",
        "nn.AdaptiveAvgPool2d(1)",
        {"cnn"},
    ),
    "a network that no profile has": ("fmlib/models/cnn.py", "(64, 0.5)", "(64, 0.4)", set()),
    "one backbone": ("fmlib/models/transfer.py", "image_size < 32", "image_size < 33", {"vgg16"}),
    "all backbones": ("fmlib/models/transfer.py", "batch.split(16)", "batch.split(8)", TRANSFER),
    "training": ("fmlib/training.py", "EVAL_BATCH_SIZE = 500", "EVAL_BATCH_SIZE = 400", ALL),
    "transforms": ("fmlib/transforms.py", "max=255", "max=254", ALL),
    "measuring": ("fmlib/measure.py", "repeats: int = 100", "repeats: int = 50", ALL),
    "scoring": ("fmlib/scores.py", "SMALLEST = 1e-7", "SMALLEST = 1e-6", ALL),
    "the device": ("fmlib/device.py", "benchmark = True, False", "benchmark = True, True", ALL),
    "splitting": ("fmlib/data.py", "SPLIT_SEED = 9", "SPLIT_SEED = 8", ALL),
    "the sample's images": ("fmlib/sample.npz", "", "more bytes", ALL),
    "faster layers": ("fmlib/fast/layers.py", "len(batch) < 32", "len(batch) < 16", NETWORKS),
    "a recorded step": ("fmlib/fast/steps.py", "WARM_UP_STEPS = 3", "WARM_UP_STEPS = 4", NETWORKS),
    "the registry": ("fmlib/models/registry.py", "did you mean", "perhaps", set()),
    "where files come from": (
        "fmlib/fetch.py",
        "TIMEOUT_SECONDS = 20",
        "TIMEOUT_SECONDS = 30",
        set(),
    ),
    "where files lie": ("fmlib/project.py", '"params"', '"profiles"', set()),
    "reading profiles": ("fmlib/profiles.py", "stands twice", "is there twice", set()),
    "saving records": ("fmlib/results.py", '".incoming-"', '".coming-"', set()),
    "the process of a fit": ("fmlib/fitting.py", "never fitted", "not fitted", set()),
    "a user's own model": ("own/own_models.py", "width: int = 8", "width: int = 9", {"own_net"}),
    "what it imports": ("own/own_layers.py", "nn.Flatten()", "nn.Flatten(1)", {"own_net"}),
    "a parameter": ("params/every.yaml", "max_depth: 4", "max_depth: 5", {"decision_tree"}),
    "a recipe": ("params/every.yaml", "epochs: 2", "epochs: 3", {"mlp"}),
    "a default, written out": (
        "params/every.yaml",
        "{max_depth: 4}",
        "{max_depth: 4, criterion: gini}",
        set(),
    ),
    "the seed": ("params/every.yaml", "dataset: sample", "dataset: sample\nseeds: [8]", ALL),
    "the split": (
        "params/every.yaml",
        "dataset: sample",
        "dataset: sample\nvalidation_fraction: 0.2",
        ALL,
    ),
    "the data set": ("params/every.yaml", "dataset: sample", "dataset: fashion_mnist", ALL),
    "a profile's words": ("params/every.yaml", "of every kind", "of each kind", set()),
    "another model": ("params/every.yaml", "models:", "models:\n  xgboost: {}", set()),
    "the order of models": ("params/every.yaml", "  own_net: {}\n", "", set()),
}
SETTINGS = {
    "torch's version": ("torch", ALL),
    "scikit-learn's version": ("scikit-learn", ALL),
    "XGBoost's version": ("xgboost", CLASSICAL),
    "timm's version": ("timm", NETWORKS),
    "the command line's version": ("fmlib", set()),
    "the kind of device": ("device", ALL),
    "the profile's name": ("name", set()),
}
SCRIPT = """
import json, sys
from pathlib import Path
root = Path.cwd()
sys.path[:0] = [str(root), str(root / "own")]
import own_models
from fmlib import fitting
from fmlib.profiles import load_profile
from fmlib.project import Project

def keys(name="every"):
    return {job.model: job.key for job in fitting.jobs(load_profile(name, Project(root)))}

def differing(after):
    return sorted(model for model in before if model in after and before[model] != after[model])

before, found = keys(), {}
assert keys() == before
for name, (file, old, new, _) in json.load(open("edits.json")).items():
    path, kept = root / file, (root / file).read_bytes()
    if old:
        text = kept.decode()
        assert old in text, (name, old)
        path.write_bytes(text.replace(old, new).encode())
    else:
        path.write_bytes(kept + new.encode())
    found[name] = differing(keys())
    path.write_bytes(kept)
    assert keys() == before, name
version, device = fitting.version, fitting.default_device
for name, (what, _) in json.load(open("settings.json")).items():
    if what == "name":
        (root / "params" / "same.yaml").write_bytes((root / "params" / "every.yaml").read_bytes())
        found[name] = differing(keys("same"))
        continue
    if what == "device":
        fitting.default_device = lambda: type("Device", (), {"type": "cuda"})
    else:
        fitting.version = lambda one: "99" if one == what else version(one)
    found[name] = differing(keys())
    fitting.version, fitting.default_device = version, device
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Whose fits each change makes stale, found by changing a copy of the library."""
    root = tmp_path_factory.mktemp("a copy")
    shutil.copytree(ROOT / "fmlib", root / "fmlib", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("params", "own"):
        (root / folder).mkdir()
    (root / "params" / "every.yaml").write_text(PROFILE)
    (root / "own" / "own_models.py").write_text(OWN)
    (root / "own" / "own_layers.py").write_text(OWN_LAYERS)
    for name, table in (("edits", EDITS), ("settings", SETTINGS)):
        plain = {what: [*row[:-1], sorted(row[-1])] for what, row in table.items()}
        (root / f"{name}.json").write_text(json.dumps(plain))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {name: set(models) for name, models in json.loads(done.stdout).items()}


@pytest.mark.parametrize("change", [*EDITS, *SETTINGS])
def test_a_change_makes_stale_just_what_depends_on_it(stale, change):
    expected = (EDITS | SETTINGS)[change][-1]
    assert stale[change] == expected
