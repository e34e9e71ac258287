"""What `python -m fmreport doctor` finds, and how commands tell of themselves and of errors."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import psutil
import pytest

from fmlib import fetch
from fmlib.project import HERE, Project
from fmreport import __main__ as command_line
from fmreport import doctor
from fmreport.doctor import FINE, NOTE, PROBLEM, Finding, examine


@pytest.fixture
def found(monkeypatch, tmp_path):
    """Examines a project that holds nothing but a lock, on a machine that has nothing to offer."""
    monkeypatch.delenv("FMLIB_DATA", raising=False)
    monkeypatch.setattr(fetch, "DEBIAN_FOLDER", tmp_path / "nowhere")
    (tmp_path / "requirements.lock").write_text("# pinned\nnumpy==0.0.1\nno-such-package==1\n")
    return lambda: {one.subject: one for one in examine(Project(tmp_path))}


def test_here_nothing_stands_in_the_way():
    findings = list(examine(HERE))
    assert not [one for one in findings if one.state == PROBLEM]
    assert {one.subject for one in findings} >= {"Python", "packages", "FashionMNIST", "cores"}
    assert all(one.follows for one in findings if one.state == NOTE), "what follows is said"


def test_what_differs_from_the_lock_or_is_not_there_is_named(found):
    packages = found()["packages"]
    assert packages.state == NOTE and "make setup" in packages.follows
    assert "locked 0.0.1" in packages.found and "no-such-package missing" in packages.found
    assert found()["FashionMNIST"].found == "not on this machine"


def test_a_full_disk_and_little_memory_are_problems(found, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    little = SimpleNamespace(available=2**30, total=2**31)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    problems = {name for name, one in found().items() if one.state == PROBLEM}
    assert problems == {"disk", "memory"}
    assert "1.0 of 2.0 GiB free" in found()["memory"].found


def test_without_bfloat16_and_chromium_it_says_what_follows(found, monkeypatch):
    monkeypatch.setattr(doctor, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "twice as long" in found()["cores"].follows
    assert "only the tests" in found()["Chromium"].follows


@pytest.mark.parametrize(("state", "status"), [(FINE, 0), (NOTE, 0), (PROBLEM, 2)])
def test_the_exit_status_tells_whether_a_report_can_be_made(monkeypatch, capsys, state, status):
    finding = Finding(state, "disk", "something", "something follows")
    monkeypatch.setattr(doctor, "examine", lambda project: [finding])
    monkeypatch.setattr("sys.argv", ["fmreport", "doctor"])
    assert command_line.main() == status
    assert capsys.readouterr().out == f"{state:8} disk: something; something follows\n"


def test_every_command_has_an_example_that_it_understands(capsys):
    names = next(one for one in command_line.parser()._actions if one.choices).choices
    assert len(names) > 8
    for name in names:
        with pytest.raises(SystemExit, match="0"):
            command_line.parser().parse_args([name, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        example = said.partition("example: python -m fmreport ")[2]
        assert command_line.parser().parse_args(example.split()).run


def test_help_lists_the_exit_statuses_and_there_is_a_version(capsys):
    for option, words in (("--help", "exit status: 0"), ("--version", "fmreport 0.")):
        with pytest.raises(SystemExit, match="0"):
            command_line.parser().parse_args([option])
        assert words in capsys.readouterr().out


def test_debugging_shows_an_error_with_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fmreport", "check", "nothing"])
    assert command_line.main() == 2
    assert capsys.readouterr().err.startswith("error: no profile 'nothing'")
    monkeypatch.setattr("sys.argv", ["fmreport", "check", "nothing", "--debug"])
    with pytest.raises(command_line.ProfileError):
        command_line.main()
