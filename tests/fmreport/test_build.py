"""From a run's outcome to files: what stands in place of what failed, and when the report is made again."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pypdf
import pytest
from synthetic_report import code, notebook, text

from fmlib import __main__ as command
from fmlib import profiles, runner
from fmreport.build import is_current, write_report

SMOKE = profiles.load_profile("smoke")


def outcome(folder: Path, *failed: str) -> runner.Outcome:
    """What a run leaves: a small notebook for each task but the failed ones."""
    found = runner.Outcome(SMOKE, folder)
    models = [runner.Task(job.name, job.notebook, {}, {}, job) for job in profiles.jobs(SMOKE)]
    chapters = [runner.Task(name, name, {}, {}) for name in (runner.DATASET_NOTEBOOK, runner.COMPARISON_NOTEBOOK)]
    for task in (chapters[0], *models, chapters[1]):
        if task.name in failed:
            found.failures.append(runner.Failure(task, f"{task.name} broke\nat a line"))
        else:
            path = folder / f"{task.name}.ipynb"
            nbformat.write(executed(task), path)
            found.executed.append((task, path))
    return found


def executed(task: runner.Task) -> nbformat.NotebookNode:
    job = task.job
    cells = [text(f"# Chapter {task.notebook}", "once"), text(f"About {task.name}."), code("x = 1")]
    if task.notebook == runner.COMPARISON_NOTEBOOK:
        cells.append(text("The verdict.", "summary"))
    names = {"model": job.model, "display_name": job.display_name, "family": job.notebook} if job else {}
    return notebook(cells, **names)


def told(folder: Path, *failed: str) -> str:
    """The words of the report's page, once its PDF was seen to have the same notices."""
    page, pdf = write_report(outcome(folder, *failed), say=lambda line: None)
    words = re.sub(r"<(style|script|nav|head).*?</\1>|<[^>]+>", " ", page.read_text(), flags=re.DOTALL)
    printed = " ".join(" ".join(sheet.extract_text() for sheet in pypdf.PdfReader(pdf).pages).split())
    words = " ".join(words.split())
    assert all(printed.count(f"{name} broke") == words.count(f"{name} broke") for name in failed)
    return words


def in_order(words: str, *parts: str) -> bool:
    places = [words.find(part) for part in parts]
    return -1 not in places and places == sorted(places)


def test_the_notice_of_a_failed_model_stands_in_the_place_of_the_model(tmp_path):
    words = told(tmp_path, "decision_tree-seed-9", "svm-seed-9")
    tree, svm = (f"{name} is missing from this report" for name in ("Decision Tree", "SVM"))
    assert in_order(words, "The verdict.", "Chapter 01_classical", tree, "About random_forest", svm, "About xgboost")
    assert words.count("Chapter 01_classical") == 1 and "at a line" not in words


def test_a_family_that_failed_has_its_chapter_in_its_place(tmp_path):
    words = told(tmp_path, "mlp-seed-9")
    notice = "MLP is missing from this report: mlp-seed-9 broke"
    assert in_order(words, "About xgboost", "A multilayer perceptron #", notice, "Chapter 03_cnn")


def test_a_failed_comparison_is_told_in_its_place_and_in_that_of_the_summary(tmp_path):
    words = told(tmp_path, "05_comparison")
    notice = "The chapter “The comparison” is missing from this report: 05_comparison broke"
    assert in_order(words, "Summary #", notice, "About 00_dataset") and words.count(notice) == 2
    assert in_order(words[words.index("About cnn") :], "The comparison #", notice)


def test_a_failed_chapter_on_the_data_is_told_in_its_place(tmp_path):
    words = told(tmp_path, "00_dataset")
    assert in_order(words, "The verdict.", "The data #", "The chapter “The data” is missing", "Chapter 01_classical")


def test_a_run_in_which_all_failed_still_has_a_report(tmp_path):
    names = [job.name for job in profiles.jobs(SMOKE)]
    words = told(tmp_path, "00_dataset", *names, "05_comparison")
    assert in_order(words, "Summary #", *(f"{name} broke" for name in ("05_comparison", "00_dataset", *names)))


def test_a_report_is_made_again_for_another_paper_only(tmp_path):
    run, said = outcome(tmp_path), []
    write_report(run, said.append)
    assert re.fullmatch(r"report: rendered in \d+\.\d s", said[-1])
    write_report(run, said.append)
    assert said.pop().startswith("report: up to date")
    _, pdf = write_report(run, said.append, paper="us-letter")
    assert said[-1].startswith("report: rendered in")
    assert [round(float(side)) for side in pypdf.PdfReader(pdf).pages[0].mediabox[2:]] == [612, 792]
    assert is_current(run, "us-letter") and is_current(run) and not is_current(run, "a4")


def test_a_report_of_other_notebooks_is_made_again(tmp_path):
    run = outcome(tmp_path)
    write_report(run, say=lambda line: None)
    path = run.executed[1][1]
    path.write_bytes(path.read_bytes().replace(b"About", b"All about"))
    assert not is_current(run)


@pytest.mark.parametrize(("options", "paper"), [((), "a4"), (("--paper", "us-letter"), "us-letter")])
def test_the_command_passes_the_paper_on(options, paper, monkeypatch):
    asked = []
    monkeypatch.setattr("fmreport.runner.run_profile", lambda profile, build_dir: runner.Outcome(profile, build_dir))
    monkeypatch.setattr("fmreport.build.write_report", lambda outcome, paper: asked.append(paper))
    monkeypatch.setattr("sys.argv", ["fmlib", "report", "--profile", "smoke", *options])
    assert command.main() == 0 and asked == [paper]
