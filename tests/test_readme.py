"""What the README shows works: its commands, its models, its files."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from fmlib.models import registry
from fmlib.project import HERE
from fmreport.__main__ import parser

TEXT = (HERE.root / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (HERE.root / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = [
    textwrap.dedent(block)
    for block in re.findall(r"^ *```python\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL)
]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The README's models, in a module of their own, known during one test."""
    (code,) = (block for block in CODE if "@register" in block)
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    path = tmp_path / "my_models.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("tiny_net", {"width": 64, "recipe": {"epochs": 3}}), ("knn", {"n_neighbors": 3})],
)
def test_the_models_of_the_readme_learn_and_are_kept(models, small, tmp_path, name, parameters):
    model = registry.build(name, parameters).fit(small)
    proba = model.predict_proba(small.test_images)
    assert proba.shape == (100, 10)
    assert (proba.argmax(1) == small.test_labels).mean() > 0.3
    loaded = registry.build(name, parameters).load(tmp_path, model.save(tmp_path))
    np.testing.assert_array_equal(loaded.predict_proba(small.test_images), proba)


def test_the_block_that_is_added_to_a_profile_fits_the_model(models):
    (block,) = re.findall(r"`(two_layers: \{.*?\}\})`", " ".join(CONTRIBUTING.split()))
    (parameters,) = yaml.safe_load(block).values()  # of a model like the README's
    assert registry.build("tiny_net", parameters).parameters()["width"] == parameters["width"]


def test_every_command_that_the_readme_names_is_understood():
    commands = re.findall(r"python -m fmreport ([^`\n]+)", TEXT)
    assert "predict" in {command.split()[0] for command in commands}
    for command in commands:
        assert parser().parse_args(shlex.split(command, comments=True)).run


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "docs/design.md"])
def test_no_link_of_the_other_pages_is_dead(name):
    page = HERE.root / name
    linked = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    files = re.findall(
        r"`((?:fmlib|fmreport|params|docs|tests|notebooks)/[\w./-]*)`", page.read_text("utf-8")
    )
    for path in [(page.parent / one) for one in linked if "://" not in one] + [
        HERE.root / one for one in files
    ]:
        assert path.exists(), path


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((HERE.root / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == version("fmlib") and cited["license"] == "MIT"
    assert f"## {cited['version']}" in (HERE.root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_file_that_the_readme_links_to_or_lists_exists():
    linked = [path for path in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in path]
    assert "LICENSE" in linked
    notebooks = set(re.findall(r"`(\d\d_\w+)`", TEXT))
    assert notebooks == {path.stem for path in HERE.notebooks.glob("*.py")}
    sources = re.findall(r"`((?:fmlib|fmreport|params|docs|benchmarks|notebooks)/[\w./]*)`", TEXT)
    derived = ("docs/gpu/", "docs/index.html", "docs/report.pdf", "docs/results/")
    for path in {*linked, *sources} - {*derived}:
        assert (HERE.root / path).exists(), path
