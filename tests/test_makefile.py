"""The Makefile: it explains itself, and copes with a path that contains spaces.

The README names nothing that it lacks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from commands import OWN
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from fmlib.profiles import available_profiles
from fmlib.project import HERE

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


def make(*arguments: str, folder: Path = HERE.root, **variables: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    command = ["make", "--no-print-directory", *arguments]
    environment = inherited | variables
    done = subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout


def targets() -> list[str]:
    phony = re.search(r"^\.PHONY: (.*)$", (HERE.root / "Makefile").read_text(), re.MULTILINE)
    return phony[1].split()


@pytest.fixture
def spaced(tmp_path: Path) -> Path:
    """A copy of what make needs in a folder whose name has odd marks, as if just cloned."""
    folder = tmp_path / 'a "clone" & an ü\'s #1'
    folder.mkdir()
    for name in ("Makefile", "bootstrap.py", "pyproject.toml", "requirements.lock"):
        shutil.copyfile(HERE.root / name, folder / name)
    for name in ("fmlib", "fmreport", "benchmarks", "tests", "notebooks"):
        (folder / name).mkdir()
    return folder


def test_help_is_the_default_and_tells_every_target():
    told = make("help")
    assert make() == told
    known = {"help", "setup", "report", "check", "test", "lab", "bench", "speedrun", "clean"}
    assert known <= set(targets())
    for target in targets():
        assert re.search(rf"^ +make {target} +\w", told, re.MULTILINE), target
    assert "PROFILE=" in told
    assert "PAPER=" in told


@pytest.mark.parametrize("target", ["search", "ablation"])
def test_studies_are_sent_to_a_scheduler(target):
    command = make("-n", target, "SCHEDULER=local:2").splitlines()[-1]
    assert command.endswith(' --scheduler "local:2"')


def test_every_target_and_profile_that_the_readme_names_exists():
    text = (HERE.root / "README.md").read_text()
    named = re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)
    assert {"report", "check", "test", "lab"} <= set(named)
    assert set(named) <= set(targets())
    profiles = re.findall(r"(?:PROFILE=|--profile )([a-z|]+)(?![a-z|/.])", text)
    named_profiles = {name for group in profiles for name in group.split("|")}
    assert named_profiles <= set(available_profiles(HERE.params))


def test_the_quick_check_is_a_part_of_all_tests(spaced):
    checks = make("-n", "check", folder=spaced).splitlines()[-5:]
    tests = make("-n", "test", folder=spaced).splitlines()[-5:]
    for program in ("ruff check", "ruff format --check", "mypy fmlib", "importlinter"):
        assert any(program in line for line in checks), program
    assert checks[:-1] == tests[:-1]
    assert checks[-1].endswith('-m pytest -m "not slow" --numprocesses auto')
    assert "-m pytest" in tests[-1]
    assert "not slow" not in tests[-1]


OPTIONS = [
    ({}, ""),
    ({"PROFILE": "smoke"}, ' --profile "smoke"'),
    ({"PAPER": "us-letter"}, ' --paper "us-letter"'),
    ({"PROFILE": "smoke", "PAPER": "a4"}, ' --profile "smoke" --paper "a4"'),
    ({"SEEDS": "5", "MODELS": "mlp cnn"}, ' --seeds "5" --models mlp cnn'),
    ({"RETIME": "1", "WAIT": "1"}, " --retime --wait"),
    ({"SCHEDULER": "tcp://host:8786"}, ' --scheduler "tcp://host:8786"'),
]


@pytest.mark.parametrize(("variables", "option"), OPTIONS)
def test_report_passes_the_profile_and_the_paper_on(spaced, variables, option):
    given = [f"{name}={value}" for name, value in variables.items()]
    recipe = make("-n", "report", *given, folder=spaced)
    assert recipe.splitlines()[-1] == f'".venv/bin/python" -m fmreport report{option}'


@pytest.mark.parametrize(("target", "kind"), [("search", "search"), ("ablation", "ablation")])
def test_studies_are_run_by_the_names_of_their_files(target, kind):
    command = make("-n", target).splitlines()[-1].split()
    assert command[:4] == ['".venv/bin/python"', "-m", "fmreport", "study"]
    assert sorted(command[4:]) == sorted(path.stem for path in HERE.studies.glob(f"*-{kind}.yaml"))


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("walks",), "-m pytest -m walks -rP"),
        (("bench",), "-u -m benchmarks.bench"),
        (("steps", "STEPS=--avx2"), "-u -m benchmarks.steps --avx2"),
        (("speedrun",), "-u -m benchmarks.speedrun"),
        (("publish",), "-m fmreport publish "),
        (("publish", "PROFILE=gpu"), '-m fmreport publish --profile "gpu"'),
        (("lab",), "-m fmreport lab"),
        (("lab", "LAB=--no-browser --port=8890"), "-m fmreport lab -- --no-browser --port=8890"),
    ],
)
def test_what_a_target_runs(arguments, command):
    assert make("-n", *arguments).splitlines()[-1] == f'".venv/bin/python" {command}'


def test_other_versions_have_an_environment_of_their_own():
    lowest = make("-n", "test", "LOWEST=1", "COVERAGE=1").splitlines()
    assert lowest[0].startswith('python3 bootstrap.py ".venv-lowest" --lock "requirements-lowest.')
    assert lowest[-1].startswith('".venv-lowest/bin/python" -m pytest ')
    assert " --cov " in lowest[-1]
    other = make("-n", "check", "PYTHON=python3.12", "VENV=.venv-3.12").splitlines()
    assert (
        other[0] == 'python3.12 bootstrap.py ".venv-3.12" --lock "requirements.lock" --this-python'
    )
    assert make("-n", "check").splitlines()[0].rstrip().endswith('--lock "requirements.lock"')


def test_the_lowest_versions_are_those_that_the_project_allows():
    """Every direct dependency stands in the lock of lowest versions with its lower bound."""
    project = tomllib.loads((HERE.root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    lines = (HERE.root / "requirements-lowest.lock").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines if "==" in line)
    for text in wanted:
        needed = Requirement(text)
        version = Version(locked[canonicalize_name(needed.name)])
        bound = min(Version(one.version) for one in needed.specifier)
        assert version.release[:2] == (*bound.release, 0)[:2], text


def test_clean_removes_what_is_derived_and_keeps_data_and_installation(spaced):
    kept = {"data/FashionMNIST/raw/x", ".venv/bin/python", "fmlib/a.py", "tests/a.py"}
    kept |= {"build/lab/04_mlp.ipynb", "build/lab/.jupyter/x"}  # what a user ran by hand
    caches = {
        ".hypothesis/x",
        ".mypy_cache/x",
        ".ruff_cache/x",
        ".import_linter_cache/x",
        ".coverage",
    }
    folders = ("fmlib", "fmreport", "benchmarks", "tests", "notebooks")
    compiled = {f"{folder}/__pycache__/a.pyc" for folder in folders}
    for name in {"build/smoke/report.html"} | caches | compiled | kept:
        (spaced / name).parent.mkdir(parents=True, exist_ok=True)
        (spaced / name).touch()
    said = make("clean", folder=spaced)
    assert "kept: build/lab" in said
    left = {str(path.relative_to(spaced)) for path in spaced.rglob("*") if path.is_file()}
    assert left == kept | {"Makefile", "bootstrap.py", "pyproject.toml", "requirements.lock"}


@pytest.mark.parametrize(("given", "seen"), [({}, "true"), ({"CI": "false"}, "false")])
def test_continuous_integration_says_that_it_is_one(tmp_path, given, seen):
    for name, body in {"chromium": "", "make": 'echo "$1 with CI=$CI"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    environment = inherited | {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | given
    command = [HERE.root / ".ci" / "run"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == f"test with CI={seen}\nwalks with CI={seen}\n"
