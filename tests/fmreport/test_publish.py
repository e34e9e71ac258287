"""Publishing: what is refused, and what stands in docs/ and in the README afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic

from fmlib import __main__ as command
from fmlib import results
from fmlib.profiles import load_profile
from fmreport import runner
from fmreport.publish import NotPublishable, publish, refresh_readme, results_table
from fmreport.render import publish as module

CPU = load_profile("cpu")
README = "# Title\n\n<!-- picture -->\n<!-- /picture -->\n\n<!-- results -->\nold\n<!-- /results -->\n\n"
README += "<!-- gpu results -->\n<!-- /gpu results -->\n\nThe end.\n"


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A build folder whose report is finished and current, made from a clean commit; and where it would be published."""
    build = tmp_path / "build"
    for record in synthetic.clear_winner(git_commit="c0ffee", git_dirty=False):
        results.save(record, build / "cpu" / "results")
    for name in ("report.html", "report.pdf"):
        (build / "cpu" / name).write_text(f"this is {name}")
    (tmp_path / "README.md").write_text(README)
    monkeypatch.setattr(module, "current_outcome", lambda profile, folder: runner.Outcome(profile, folder / profile.name))
    monkeypatch.setattr(module, "is_current", lambda outcome: True)
    monkeypatch.setattr(module, "_picture", lambda page, target: target.write_bytes(b"picture"))
    return {"build_dir": build, "docs": tmp_path / "docs", "readme": tmp_path / "README.md"}


def test_a_finished_report_is_copied_with_its_results(finished):
    docs = publish(CPU, **finished)
    assert (docs / "index.html").read_text() == "this is report.html" and (docs / "report.pdf").is_file()
    assert len(results.load_all(docs / "results")) == 3
    readme = finished["readme"].read_text()
    assert readme.startswith("# Title") and readme.endswith("The end.\n") and "old" not in readme
    assert readme.index("Alpha") < readme.index("Beta") < readme.index("Gamma"), "best first"
    assert "| Alpha | 0.9500 (0.93" in readme and "docs/report.png" in readme


def test_the_readme_has_a_row_a_model_whatever_the_seeds(finished):
    for seed in (1, 2):
        record = synthetic.record("beta", 0.7, seed=seed, git_commit="c0ffee", git_dirty=False)
        results.save(record, finished["build_dir"] / "cpu" / "results")
    publish(CPU, **finished)
    rows = [line for line in finished["readme"].read_text().splitlines() if line.startswith("| Beta")]
    assert len(rows) == 1 and "0.7000" in rows[0]  # of its first seed, as in the report


def test_the_readmes_columns_hold_what_they_say_and_costs_of_one_machine_only():
    here = [synthetic.record(name, 0.9, train_seconds=11, fit_wall_seconds=22, predict_seconds=3.3) for name in ("a", "b")]
    elsewhere = synthetic.record("c", 0.95, machine=synthetic.ELSEWHERE)
    found = results_table([*here, elsewhere]).set_index("model")
    assert found.columns[1:].to_list() == ["training (s)", "whole fit (s)", "predicting 2,000 (s)", "memory (MiB)"]
    assert found.loc["A"].to_list()[1:] == ["11", "22", "3.30", "300"]
    assert found.loc["C"].to_list()[1:] == [""] * 4 and found.loc["C", "accuracy"].startswith("0.9500")


def test_the_readme_says_what_was_measured_elsewhere(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(README)
    refresh_readme(readme, [*synthetic.clear_winner(), synthetic.record("delta", 0.97, machine=synthetic.ELSEWHERE)], "results")
    assert "on Test CPU, 2 cores. Times and memory are compared only among the 3 models" in readme.read_text()
    assert "left out: Delta (Test GPU" in readme.read_text()


def test_publishing_again_replaces_what_was_there(finished):
    docs = publish(CPU, **finished)
    (docs / "results" / "alpha" / "left-over").mkdir()
    first = finished["readme"].read_text()
    publish(CPU, **finished)
    assert not (docs / "results" / "alpha" / "left-over").exists() and finished["readme"].read_text() == first


def test_the_gpu_profile_has_a_folder_and_a_table_of_its_own(finished):
    (finished["build_dir"] / "cpu").rename(finished["build_dir"] / "gpu")
    assert publish(load_profile("gpu"), **finished) == finished["docs"] / "gpu"
    before, after = (text.split("<!-- gpu results -->\n") for text in (README, finished["readme"].read_text()))
    assert after[0] == before[0], "the other table and the picture are the cpu profile's"
    assert after[1].startswith("| model |") and after[1].endswith(before[1])


def test_the_readme_says_whose_memory_is_meant_where_some_is_a_gpus(tmp_path):
    readme = tmp_path / "README.md"
    for vram, says in ((None, False), (512.0, True)):
        readme.write_text(README)
        refresh_readme(readme, [synthetic.record("alpha", 0.9, peak_vram_mb=vram)], "gpu results")
        assert ("Memory, of processor and GPU together, is what training needs." in readme.read_text()) is says


def test_the_sample_is_not_published(finished):
    with pytest.raises(NotPublishable, match="sample"):
        publish(load_profile("smoke"), **finished)


def test_an_unfinished_report_is_not_published(finished, monkeypatch):
    task = runner.Task("cnn-seed-9", "03_cnn", {}, {})
    stale = lambda profile, folder: runner.Outcome(profile, folder, failures=[runner.Failure(task, "stale")])  # noqa: E731
    monkeypatch.setattr(module, "current_outcome", stale)
    with pytest.raises(NotPublishable, match=r"cnn-seed-9.*make report PROFILE=cpu"):
        publish(CPU, **finished)
    assert not finished["docs"].exists()


def test_a_report_older_than_its_notebooks_is_not_published(finished, monkeypatch):
    monkeypatch.setattr(module, "is_current", lambda outcome: False)
    with pytest.raises(NotPublishable, match="the report"):
        publish(CPU, **finished)


def test_a_page_that_is_too_large_is_not_published(finished):
    with (finished["build_dir"] / "cpu" / "report.html").open("r+b") as page:
        page.truncate(8_100_000)
    with pytest.raises(NotPublishable, match=r"8\.1 MB; wanted at most 8 MB"):
        publish(CPU, **finished)
    assert not finished["docs"].exists()


@pytest.mark.parametrize("dirty", [True, None])
def test_results_of_uncommitted_code_are_not_published(finished, dirty):
    path = finished["build_dir"] / "cpu" / "results" / "beta" / "seed-9" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"git_dirty": dirty}))
    with pytest.raises(NotPublishable, match="beta"):
        publish(CPU, **finished)


def test_nothing_that_was_never_run_counts_as_finished(tmp_path):
    outcome = runner.current_outcome(CPU, tmp_path)
    assert len(outcome.failures) == len(CPU.models) + 2 and not outcome.executed


def test_the_command_says_why_not_and_fails(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fmlib", "publish", "--profile", "smoke"])
    assert command.main() == 1
    assert "sample" in capsys.readouterr().err


def test_a_readme_without_markers_is_left_alone(tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("# no markers")
    with pytest.raises(NotPublishable, match="markers"):
        refresh_readme(readme, synthetic.clear_winner(), "results")
    assert readme.read_text() == "# no markers"
