"""The Makefile: it explains itself, and copes with a path that contains spaces.

The README names nothing that it lacks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fmlib.profiles import available_profiles
from fmlib.project import HERE

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")

OWN = ("MAKE", "MFLAGS", "PROFILE", "PAPER")  # of a make that runs these tests


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
    """A copy of what make needs in a folder whose name has spaces, as if just cloned."""
    folder = tmp_path / "a clone with spaces"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
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
    for program in ('ruff" check', 'ruff" format --check', 'mypy" fmlib', 'lint-imports"'):
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


def test_a_users_settings_of_pip_reach_no_environment(spaced, monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    shown = make("--eval", "show: ; @echo user=$$PIP_USER", "show", folder=spaced)
    assert shown.strip() == "user=0"


def test_a_fresh_clone_is_set_up_first_and_only_once(spaced):
    fresh = make("-n", "report", folder=spaced)
    assert "-m venv" in fresh
    assert "requirements.lock" in fresh
    (spaced / ".venv").mkdir()
    (spaced / ".venv" / ".installed").touch()
    assert len(make("-n", "report", folder=spaced).splitlines()) == 1


def test_a_changed_lock_file_is_installed_again(spaced):
    (spaced / ".venv").mkdir()
    (spaced / ".venv" / ".installed").touch()
    newer = (spaced / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(spaced / "requirements.lock", (newer, newer))
    assert "pip install" in make("-n", "test", folder=spaced)


def test_a_copied_or_renamed_clone_is_set_up_anew(spaced):
    (spaced / ".venv").mkdir()
    (spaced / ".venv" / ".installed").write_text(f"{spaced}\n")
    assert "-m venv" not in make("-n", "report", folder=spaced)
    moved = spaced.rename(spaced.parent / "renamed")
    anew = make("-n", "report", folder=moved)
    assert 'false >/dev/null 2>&1 || python3 -m venv --clear ".venv"' in anew


def test_set_up_runs_in_a_path_with_spaces(spaced):
    programs = spaced / "stand ins"
    programs.mkdir()
    log = spaced / "log"
    # makes a .venv whose python is itself, and writes down what it is asked for
    python = programs / "python"
    python.write_text(f"""#!/bin/sh
echo "$@" >> "{log}"
case "$1 $2" in "-m venv") mkdir -p "$4/bin"; cp "$0" "$4/bin/python";; esac
""")
    python.chmod(0o755)
    make("setup", f"PYTHON='{python}'", folder=spaced)
    asked = log.read_text()
    for part in ("-m venv --clear .venv", "--requirement requirements.lock", "--editable ."):
        assert part in asked
    log.unlink()
    make("setup", f"PYTHON='{python}'", folder=spaced)
    assert not log.exists()


def test_a_half_made_environment_is_made_again(spaced):
    log, broken = spaced / "log", spaced / ".venv" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    make_one = 'case "$2" in venv) cp python .venv/bin/python;; esac'
    for path, code in ((broken, 1), (spaced / "python", 0)):
        path.write_text(f'#!/bin/sh\necho "$@" >> log\n{make_one}\nexit {code}\n')
        path.chmod(0o755)
    make("setup", "PYTHON=./python", folder=spaced)
    asked = log.read_text()
    assert "-m venv --clear .venv" in asked
    assert "--requirement requirements.lock" in asked


@pytest.mark.parametrize(("target", "kind"), [("search", "search"), ("ablation", "ablation")])
def test_studies_are_run_by_the_names_of_their_files(target, kind):
    command = make("-n", target).splitlines()[-1].split()
    assert command[:4] == ['".venv/bin/python"', "-m", "fmreport", "study"]
    assert sorted(command[4:]) == sorted(path.stem for path in HERE.studies.glob(f"*-{kind}.yaml"))


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("bench",), "-u -m benchmarks.bench"),
        (("speedrun",), "-u -m benchmarks.speedrun"),
        (("publish",), "-m fmreport publish "),
        (("publish", "PROFILE=gpu"), '-m fmreport publish --profile "gpu"'),
        (("lab",), "-m fmreport lab"),
        (("lab", "LAB=--no-browser --port=8890"), "-m fmreport lab -- --no-browser --port=8890"),
    ],
)
def test_what_a_target_runs(arguments, command):
    assert make("-n", *arguments).splitlines()[-1] == f'".venv/bin/python" {command}'


def test_clean_removes_what_is_derived_and_keeps_data_and_installation(spaced):
    kept = {"data/FashionMNIST/raw/x", ".venv/bin/python", "fmlib/a.py", "tests/a.py"}
    kept |= {"build/lab/04_mlp.ipynb", "build/lab/.jupyter/x"}  # what a user ran by hand
    caches = {".hypothesis/x", ".mypy_cache/x", ".ruff_cache/x", ".import_linter_cache/x"}
    folders = ("fmlib", "fmreport", "benchmarks", "tests", "notebooks")
    compiled = {f"{folder}/__pycache__/a.pyc" for folder in folders}
    for name in {"build/smoke/report.html"} | caches | compiled | kept:
        (spaced / name).parent.mkdir(parents=True, exist_ok=True)
        (spaced / name).touch()
    said = make("clean", folder=spaced)
    assert "kept: build/lab" in said
    left = {str(path.relative_to(spaced)) for path in spaced.rglob("*") if path.is_file()}
    assert left == kept | {"Makefile", "pyproject.toml", "requirements.lock"}


@pytest.mark.parametrize(("given", "seen"), [({}, "true"), ({"CI": "false"}, "false")])
def test_continuous_integration_says_that_it_is_one(tmp_path, given, seen):
    for name, body in {"chromium": "", "make": 'echo "$1 with CI=$CI"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    environment = inherited | {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | given
    command = [HERE.root / ".ci" / "run"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == f"test with CI={seen}\n"
