"""The whole pipeline as a user runs it, and every notebook as a reader opens it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest
import synthetic
from commands import NO_REPORT, REPORT, run
from pypdf import PdfReader

from fmlib import results
from fmlib.data import PROJECT_ROOT, load_data
from fmlib.models.registry import REGISTRY
from fmlib.profiles import jobs, load_profile
from fmreport import runner
from fmreport.merge import NO_ALT

SMOKE = load_profile("smoke")
SOURCES = sorted(runner.NOTEBOOKS_DIR.glob("*.py"))
every_notebook = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


# --- What a run leaves ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_model_of_the_profile_leaves_a_valid_record(smoke):
    folder, _ = smoke
    records = results.load_all(folder / "results")
    assert {(one.result.model, one.result.seed) for one in records} == {(job.model, job.seed) for job in jobs(SMOKE)}
    data = load_data(SMOKE.dataset, SMOKE.validation_fraction)
    for one in (record.result for record in records):
        assert (one.data_sha256, one.split_sha256) == (data.data_sha256, data.split_sha256)
        assert one.parameters == SMOKE.models[one.model] and one.profile == "smoke"
        assert (one.train_size, one.validation_size, one.test_size) == (1800, 200, 500)
        assert one.accuracy > 0.5, f"{one.model} has learnt nothing"
        assert one.train_seconds > 0 and one.fit_wall_seconds >= one.train_seconds and one.parameter_count > 0
        assert 0 < one.latency_ms_p50 <= one.latency_ms_p95
        epochs = SMOKE.models[one.model].get("recipe", {}).get("epochs", 0)
        assert len(one.history) >= epochs and bool(one.history) == bool(epochs)


@pytest.mark.slow
def test_every_executed_notebook_is_there_and_none_holds_an_error(smoke):
    folder, _ = smoke
    paths = sorted((folder / "notebooks").glob("*.ipynb"))
    assert [path.stem for path in paths] == sorted(["00_dataset", "05_comparison", *(job.name for job in jobs(SMOKE))])
    for path in paths:
        outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
        assert not [output for output in outputs if output.output_type == "error"]
        warned = [output.text for output in outputs if output.get("name") == "stderr" and "Warning" in output.text]
        assert not warned, f"{path.stem}: {warned}"
    assert not (folder / "failed").exists() and not list(folder.glob(".running*"))


@pytest.mark.slow
def test_every_figure_of_a_notebook_has_a_caption_and_says_what_it_shows(smoke):
    folder, _ = smoke
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
        pictures = [one for one in outputs if any(mime.startswith("image/") for mime in one.get("data", {}))]
        assert pictures, f"{path.stem} shows nothing"
        for told in (picture.metadata.get("fmlib", {}) for picture in pictures):
            assert all(str(told.get(what, "")).strip() for what in ("alt", "caption")), f"{path.stem}: use show_figure"


@pytest.mark.slow
def test_a_run_tells_which_model_of_how_many_and_how_long_the_report_took(smoke):
    _, said = smoke
    assert float(re.search(r"^report: rendered in ([\d.]+) s$", said, re.MULTILINE)[1]) < 60
    count = len(jobs(SMOKE)) + 2
    started = re.findall(rf"^\[(\d+)/{count} \d+:\d\d\] \S+: running", said, re.MULTILINE)
    assert started == [str(number) for number in range(1, count + 1)]
    assert all(f"{job.name}: done in" in said for job in jobs(SMOKE))


class Page(HTMLParser):
    """Collects the addresses that a page loads by itself, and the alternative texts of its images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        if tag != "a":
            names = ("src", "srcset", "href", "xlink:href", "data", "poster", "action")
            self.loads += [value or "" for name, value in attributes if name in names]
        if tag == "img":
            self.alts.append(dict(attributes).get("alt") or "")


@pytest.mark.slow
def test_the_page_names_every_model_and_loads_nothing_from_elsewhere(smoke):
    folder, _ = smoke
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert all(record.result.display_name in text for record in results.load_all(folder / "results"))
    loads = Page(text).loads
    assert loads and [address[:80] for address in loads if not address.startswith(("data:", "#"))] == []
    assert re.findall(r"url\(\s*['\"]?(?!data:|#)[^)]{1,80}", text) == [] and "@import" not in text
    assert str(folder.parent.parent) not in text, "the page tells where it was made"


@pytest.mark.slow
def test_every_image_of_the_page_says_what_it_shows(smoke):
    alts = Page((smoke[0] / "report.html").read_text(encoding="utf-8")).alts
    assert len(alts) > 20
    assert [alt for alt in alts if not alt.strip() or alt == NO_ALT] == []


@pytest.mark.slow
def test_the_pdf_names_every_model(smoke):
    folder, _ = smoke
    text = "\n".join(page.extract_text() for page in PdfReader(folder / "report.pdf").pages)
    plain = re.sub(r"\s+", " ", text)
    names = [record.result.display_name for record in results.load_all(folder / "results")]
    assert [name for name in names if name not in plain] == []


@pytest.mark.slow
def test_a_second_run_does_no_work_and_a_deleted_result_is_made_again_alone(smoke):
    folder, _ = smoke
    clone = folder.parent.parent
    again = run(clone, *REPORT)
    assert "running" not in again
    assert again.count("up to date") == len(jobs(SMOKE)) + 3  # the two other notebooks, and the report
    before = json.loads((folder / "results/decision_tree/seed-9/result.json").read_text())

    shutil.rmtree(folder / "results" / "decision_tree")
    ran = re.findall(r"^\[\S+ \S+\] (\S+): running", run(clone, *NO_REPORT), re.MULTILINE)
    assert ran == ["decision_tree-seed-9", "05_comparison"]
    after = json.loads((folder / "results/decision_tree/seed-9/result.json").read_text())
    same = ("accuracy", "log_loss", "confusion_matrix", "job_sha256", "parameter_count")
    assert [after[name] for name in same] == [before[name] for name in same]


# --- Notebooks as they are opened -----------------------------------------------------------------------------------------


def parameters_cell(path: Path) -> str:
    cells = [cell.source for cell in jupytext.read(path).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1, f"{path.name} has {len(cells)} parameters cells"
    return cells[0]


def run_all(path: Path, tmp_path: Path, **parameters: object) -> nbformat.NotebookNode:
    """Run a notebook with its defaults, in its own folder as JupyterLab does; ``parameters`` says where results go."""
    return papermill.execute_notebook(
        jupytext.read(path), str(tmp_path / "executed.ipynb"), parameters, kernel_name="python3", progress_bar=False,
        cwd=str(runner.NOTEBOOKS_DIR),
    )  # fmt: skip


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_as_it_is_opened(path, tmp_path):
    takes = "results_dir" in path.read_text()
    executed = run_all(path, tmp_path, **({"results_dir": str(tmp_path / "results")} if takes else {}))
    comparison = path.stem == runner.COMPARISON_NOTEBOOK  # the one that only reads, here of a folder that is not there yet
    assert len(results.load_all(tmp_path / "results")) == (takes and not comparison)
    shown = json.dumps([cell.outputs for cell in executed.cells if cell.cell_type == "code"])
    assert ("There are no results in" in shown) == comparison


@pytest.mark.slow
def test_the_comparison_tells_of_seeds_other_machines_and_what_failed(sample, tmp_path):
    images = {"labels": sample.test_labels, "names": tuple(sample.class_names)}
    for record in (*synthetic.ten_models(**images), synthetic.record("mlp", 0.7, seed=10, display_name="MLP", **images)):
        results.save(record, tmp_path / "results")
    source = runner.NOTEBOOKS_DIR / f"{runner.COMPARISON_NOTEBOOK}.py"
    executed = run_all(source, tmp_path, results_dir=str(tmp_path / "results"), missing=["Forgotten"])
    told = json.dumps([cell.outputs for cell in executed.cells if cell.cell_type == "code"], ensure_ascii=False)
    for words in ("Test accuracy (%) over the seeds of each model", "Measured elsewhere, and so left out: MobileNetV3 (Test",
                  "no evidence on transfer learning: VGG16, from scratch", "the only pre-trained network, EfficientNet-Lite0",
                  "Missing, because the run failed: Forgotten", "over 2 seeds"):
        assert words in told, words


@every_notebook
def test_the_parameters_are_literals_with_a_type_and_a_comment(path):
    cell = parameters_cell(path)
    lines = cell.splitlines()
    for statement in ast.parse(cell).body:
        assert isinstance(statement, ast.AnnAssign), ast.unparse(statement)
        value = ast.literal_eval(statement.value)
        assert type(value).__name__ == ast.unparse(statement.annotation)
        written = lines[statement.lineno - 1 : statement.end_lineno]
        assert any(re.search(r"  # [\w\"]", line) for line in written), f"no comment: {ast.unparse(statement)}"


@every_notebook
def test_a_notebook_calls_and_does_not_define_or_loop(path):
    code = "\n".join(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code")
    wrong = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While, ast.Lambda)
    assert [ast.unparse(node).splitlines()[0] for node in ast.walk(ast.parse(code)) if isinstance(node, wrong)] == []


MEASURING = """\
data = load_data(dataset, validation_fraction)
classifier = build(model, parameters, seed)
measured = measure(classifier, data)"""
RECORDING = """\
record = results.make_record(
    model, classifier, data, measured, profile=profile, seed=seed, parameters=parameters, job_sha256=job_sha256 or None
)
results.save(record, results_dir)
result = record.result"""


@pytest.mark.parametrize("family", sorted({one.family for one in REGISTRY.values()}))
def test_every_model_is_built_measured_and_recorded_in_the_same_words(family):
    """A seed, parameter or fraction that a notebook dropped would still be in its record."""
    cells = [cell.source for cell in jupytext.read(runner.NOTEBOOKS_DIR / f"{family}.py").cells]
    assert MEASURING in cells and RECORDING in cells


@every_notebook
def test_a_notebook_is_kept_as_text_for_the_python3_kernel(path):
    notebook = jupytext.read(path)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert notebook.metadata["jupytext"]["text_representation"]["format_name"] == "percent"
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")


def test_texts_about_a_model_are_about_models_that_exist():
    tags = {tag for path in SOURCES for cell in jupytext.read(path).cells for tag in cell.metadata.get("tags", [])}
    about = {tag.removeprefix("model-") for tag in tags if tag.startswith("model-")}
    assert about and about <= set(REGISTRY)


def test_no_executed_notebook_is_tracked():
    if not (shutil.which("git") and (PROJECT_ROOT / ".git").exists()):
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files", "*.ipynb"], cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
    assert tracked.stdout == ""
