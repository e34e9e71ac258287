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
from commands import REPORT, records, run
from jupytext.cli import jupytext as jupytext_cli
from nbclient import NotebookClient
from nbformat import NotebookNode
from pypdf import PdfReader

from fmlib import results
from fmlib.fitting import jobs, stale
from fmlib.models.registry import build, changed
from fmlib.profiles import Profile, available_profiles, load_profile
from fmlib.project import HERE, Project
from fmreport import runner
from fmreport.merge import NO_ALT

SOURCES = sorted(HERE.notebooks.glob("*.py"))
PROFILES = available_profiles(HERE.params)
every_notebook = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
REFERENCE = re.compile(r"\]\(#((?:fig|table)-[\w-]+)\)")


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


# --- What a run leaves ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def profile(smoke: tuple[Path, str]) -> Profile:
    """The smoke profile of the copy in which it was run."""
    return load_profile("smoke", Project(smoke[0].parents[1]))


@pytest.fixture(scope="module")
def told(profile: Profile) -> dict[str, NotebookNode]:
    """The executed notebooks, by name."""
    paths = [runner.executed_path(profile, path.stem) for path in SOURCES]
    return {path.stem: nbformat.read(path, 4) for path in paths if path.is_file()}


@pytest.fixture(scope="module")
def page(smoke: tuple[Path, str]) -> str:
    return (smoke[0] / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_model_of_the_profile_leaves_a_valid_and_fresh_record(profile, sample):
    assert [job.name for job in jobs(profile) if stale(job)] == []
    found = records(profile.results)
    assert {one.model for one in found} == set(profile.models)
    for one in found:
        assert (one.data_sha256, one.split_sha256) == (sample.data_sha256, sample.split_sha256)
        assert one.parameters == build(one.model, profile.models[one.model]).parameters()
        assert (one.train_size, one.validation_size, one.test_size) == (1800, 200, 500)
        assert one.accuracy > 0.5, f"{one.model} has learnt nothing"
        assert 0 < one.train_seconds <= one.fit_wall_seconds and one.parameter_count > 0
        assert 0 < one.latency_ms_p50 <= one.latency_ms_p95
        epochs = profile.models[one.model].get("recipe", {}).get("epochs", 0)
        assert len(one.history) == epochs


@pytest.mark.slow
def test_every_fitted_model_predicts_what_its_record_says(profile, sample):
    for job in jobs(profile):
        model = results.load_model(job.folder)
        recorded = results.load(job.folder).proba.argmax(1)
        agree = (model.predict(sample.test_images) == recorded).mean()
        assert agree > 0.99, f"{job.name}: another process rounds otherwise at most"


@pytest.mark.slow
def test_every_chapter_is_told_without_an_error_or_a_warning(profile, told):
    wanted = {path.stem for path in SOURCES} - {"06_transfer"}  # the profile has none of its models
    assert set(told) == wanted
    for name, notebook in told.items():
        wrong = [one for one in outputs(notebook) if one.output_type == "error"]
        warned = [one.text for one in outputs(notebook) if one.get("name") == "stderr"]
        assert (wrong, warned) == ([], []), name
    assert list((profile.folder / "failed").iterdir()) == []
    hidden = {path.name for path in profile.folder.glob(".*")}
    assert hidden == {".lock", ".profile"}, "nothing is left lying about"


@pytest.mark.slow
def test_every_figure_and_table_has_a_caption_and_every_figure_says_what_it_shows(told):
    for name, notebook in told.items():
        shown = [one for one in outputs(notebook) if one.output_type == "display_data"]
        pictures = [one for one in shown if any(mime.startswith("image/") for mime in one.data)]
        tables = [one for one in shown if "<table" in one.data.get("text/html", "")]
        assert pictures or tables, f"{name} shows nothing"
        for what, displayed in (("figure", pictures), ("table", tables)):
            for meta in (one.metadata.get("fmreport", {}) for one in displayed):
                assert meta.get("kind") == what, f"{name}: use show_{what}"
                texts = [meta["caption"], meta["alt"] if what == "figure" else "none needed"]
                assert all(text.strip() for text in texts), f"{name}: {meta['name']}"


@pytest.mark.slow
def test_no_figure_or_table_has_the_name_of_another(told):
    shown = [one.metadata.get("fmreport", {}) for nb in told.values() for one in outputs(nb)]
    names = [(one["kind"], one["name"]) for one in shown if "name" in one]
    assert len(names) > 40 and sorted(names) == sorted(set(names))


@pytest.mark.slow
def test_every_reference_to_a_figure_or_a_table_resolves(told, page):
    texts = [cell.source for nb in told.values() for cell in nb.cells]
    texts += [one.data.get("text/markdown", "") for nb in told.values() for one in displays(nb)]
    wanted = {name for text in texts for name in REFERENCE.findall(text)}
    linked = re.findall(r'<a href="#((?:fig|table)-[\w-]+)">(?:Figure|Table)\s\d+</a>', page)
    assert wanted and wanted <= set(linked)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids) and len(ids) == len(set(ids))


def displays(notebook: NotebookNode) -> list[NotebookNode]:
    return [one for one in outputs(notebook) if one.output_type == "display_data"]


@pytest.mark.slow
def test_a_run_says_what_it_fits_how_it_went_and_where_the_report_is(smoke, profile):
    folder, said = smoke
    count = len(profile.models)
    first, last = said.splitlines()[0], said.splitlines()[-1]
    assert first.startswith(f"smoke: {count} to fit ({', '.join(profile.models)})")
    started = re.findall(rf"^\[(\d+)/{count} \d+:\d\d\] .*: fitting, never fitted$", said, re.M)
    assert started == [str(number) for number in range(1, count + 1)]
    assert len(re.findall(r": accuracy 0\.\d{4}, [\d.]+ s of training$", said, re.M)) == count
    assert last.startswith(f"{count} fitted, 0 kept, {len(SOURCES) - 1} told: ")
    assert last.endswith(f"{folder / 'report.html'}, {folder / 'report.pdf'}")
    assert float(re.search(r"^report written in ([\d.]+) s$", said, re.M)[1]) < 60


class Page(HTMLParser):
    """Collects the addresses that a page loads by itself, and its images' alternative texts."""

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
def test_the_page_names_every_model_and_loads_nothing_from_elsewhere(smoke, profile, page):
    assert [one.title for one in records(profile.results) if one.title not in page] == []
    loads = Page(page).loads
    assert loads
    assert [one[:80] for one in loads if not one.startswith(("data:", "#"))] == []
    assert re.findall(r"url\(\s*['\"]?(?!data:|#)[^)]{1,80}", page) == [] and "@import" not in page
    assert str(profile.project.root) not in page, "the page tells where it was made"


@pytest.mark.slow
def test_every_image_of_the_page_says_what_it_shows(page):
    alts = Page(page).alts
    assert len(alts) > 20
    assert [alt for alt in alts if not alt.strip() or alt == NO_ALT] == []


@pytest.mark.slow
def test_the_pdf_names_every_model(smoke, profile):
    text = "\n".join(page.extract_text() for page in PdfReader(smoke[0] / "report.pdf").pages)
    plain = re.sub(r"\s+", " ", text)
    assert [one.title for one in records(profile.results) if one.title not in plain] == []


@pytest.mark.slow
def test_a_second_run_does_nothing_at_once(smoke, profile):
    folder, _ = smoke
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    said = run(profile.project.root, *REPORT)
    count = len(profile.models)
    assert said.splitlines()[0] == f"smoke: nothing to fit, {count} kept"
    assert said.splitlines()[1].startswith(f"0 fitted, {count} kept, 0 told: ")
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path != folder}
    assert {path for path in after if path.is_file() and after[path] != before.get(path)} == set()


# --- Notebooks as they are opened -------------------------------------------------------------


def run_all(path: Path, project: Project, tmp_path: Path, **parameters: object) -> NotebookNode:
    """Run a notebook of a copy of the project in its own folder, as JupyterLab does."""
    return papermill.execute_notebook(
        jupytext.read(path),
        str(tmp_path / "executed.ipynb"),
        parameters,
        kernel_name="python3",
        language="python",
        progress_bar=False,
        cwd=str(project.notebooks),
    )


@pytest.fixture
def copy(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The copy of the project; kernels run its code."""
    monkeypatch.setenv("PYTHONPATH", str(profile.project.root))
    return profile.project


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_as_it_is_opened_where_nothing_is_fitted(path, copy, tmp_path, monkeypatch):
    monkeypatch.setenv("FMLIB_FIT", "never")  # as the fits of the lesson's models take minutes
    executed = run_all(path, copy, tmp_path)
    notices = [
        one.data["text/plain"]
        for one in displays(executed)
        if one.metadata.get("fmreport", {}).get("kind") == "notice"
    ]
    of_models = re.search(r"^sections.show_model\(", path.read_text(encoding="utf-8"), re.M)
    if of_models or path.stem in ("01_comparison", "08_appendix"):
        assert notices, "a reader is told that results are missing"
    assert not (copy.build / "lesson" / "results").exists()


@pytest.mark.slow
def test_a_notebook_opened_by_hand_fits_what_it_shows_once(copy, tmp_path):
    (path,) = (path for path in SOURCES if path.stem == "04_mlp")
    run_all(path, copy, tmp_path)
    lesson = load_profile("lesson", copy)
    record = results.load(lesson.results / "mlp" / "seed-9")
    made = (lesson.results / "mlp" / "seed-9" / "result.json").stat().st_mtime_ns
    executed = run_all(path, copy, tmp_path)
    assert record.model == "mlp"
    assert (lesson.results / "mlp" / "seed-9" / "result.json").stat().st_mtime_ns == made
    assert f"{100 * record.accuracy:.2f} (" in json.dumps(executed)
    shutil.rmtree(lesson.folder)


MANY = """
description: made-up results
dataset: sample
seeds: [9, 10]
models:
"""


@pytest.mark.slow
def test_the_comparison_tells_of_seeds_other_machines_and_what_is_missing(
    copy, sample, tmp_path, monkeypatch
):
    monkeypatch.setenv("FMLIB_FIT", "never")
    made = synthetic.ten_models(labels=sample.test_labels, names=sample.class_names)
    names = [one.model for one in made]
    models = [f"  {name}: {{}}\n" for name in [*names, "svm_hog"]]
    (copy.params / "many.yaml").write_text(MANY + "".join(models), encoding="utf-8")
    try:
        for job in jobs(load_profile("many", copy)):
            if job.model == "svm_hog":
                continue
            of_model = made[names.index(job.model)]
            update = {"key": job.key, "seed": job.seed}
            results.save(of_model.model_copy(update=update), None, job.folder)
        (path,) = (path for path in SOURCES if path.stem == "01_comparison")
        executed = run_all(path, copy, tmp_path, profile="many")
    finally:
        (copy.params / "many.yaml").unlink()
        shutil.rmtree(copy.build / "many", ignore_errors=True)
    told = json.dumps([cell.get("outputs") for cell in executed.cells], ensure_ascii=False)
    for words in (
        "over the seeds",
        "Test GPU",
        "MobileNetV3",
        "VGG16 (scratch)",
        "EfficientNet-Lite0",
        "SVM on HOG",
    ):
        assert words in told, words


# --- Notebooks' sources -----------------------------------------------------------------------


@every_notebook
def test_a_notebook_has_one_parameters_cell_with_a_profile_and_a_seed(path):
    cells = jupytext.read(path).cells
    (cell,) = (one for one in cells if "parameters" in one.metadata.get("tags", []))
    found = {}
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.AnnAssign), ast.unparse(statement)
        value = ast.literal_eval(statement.value)
        assert type(value).__name__ == ast.unparse(statement.annotation)
        found[ast.unparse(statement.target)] = value
    assert found == {"profile": "lesson", "seed": 9}, "what a reader gets who just opens it"
    assert all("  # " in line for line in cell.source.splitlines()), "each says what it is"


@every_notebook
def test_a_notebook_calls_and_does_not_define(path):
    code = "\n".join(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code")
    wrong = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.While)
    found = [node for node in ast.walk(ast.parse(code)) if isinstance(node, wrong)]
    assert [ast.unparse(node).splitlines()[0] for node in found] == []


@every_notebook
def test_a_notebook_is_text_that_says_nothing_of_the_program_that_wrote_it(path):
    notebook = jupytext.read(path)
    assert path.read_text(encoding="utf-8").startswith("# %%")
    texts = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    titles = re.findall(r"^# (.+)", texts, re.M)
    assert len(titles) == 1 or titles == ["The answer", "The comparison"]
    assert not re.search(r"\[\^|\[\]\(", texts), "JupyterLab knows no footnotes, no empty links"


@every_notebook
def test_a_notebook_of_a_family_ends_with_things_to_try(path):
    cells = jupytext.read(path).cells
    of_models = [cell for cell in cells if cell.source.startswith("sections.show_model(")]
    *_, words, code = cells
    tried = re.findall(r"^- `(.+)`: .+$", words.source, re.M)
    if not of_models:
        assert tried == []
        return
    assert [one.metadata["tags"] for one in (words, code)] == [[runner.EXERCISE]] * 2
    assert 2 <= len(tried) <= 3
    assert code.source.startswith(f"model, change = {tried[0]}\n")
    lesson = load_profile("lesson")
    for line in tried:
        model, change = ast.literal_eval(f"({line})")
        was = build(model, lesson.models[model]).parameters()
        assert build(model, changed(lesson.models[model], change)).parameters() != was, line


@pytest.mark.slow
def test_a_notebook_is_paired_by_other_editors_too(copy, tmp_path):
    """As in VS Code, by jupytext's own command."""
    path = copy.notebooks / "02_dataset.py"
    shutil.copyfile(HERE.root / "jupytext.toml", copy.root / "jupytext.toml")
    before = path.read_bytes()
    jupytext_cli(["--quiet", "--sync", str(path)])
    paired = copy.build / "lab" / "02_dataset.ipynb"
    notebook = nbformat.read(paired, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(copy.notebooks)}}).execute()
    nbformat.write(notebook, paired)
    jupytext_cli(["--quiet", "--sync", str(path)])
    assert path.read_bytes() == before
    assert any(cell.get("outputs") for cell in nbformat.read(paired, as_version=4).cells)


def tagged(path: Path) -> dict[str, set[str]]:
    """What kinds of cells of a notebook are about each model."""
    kinds: dict[str, set[str]] = {}
    for cell in jupytext.read(path).cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith(runner.MODEL_TAG):
                kinds.setdefault(tag.removeprefix(runner.MODEL_TAG), set()).add(cell.cell_type)
    return kinds


@pytest.mark.parametrize("name", PROFILES)
def test_every_model_of_a_profile_has_a_heading_and_a_section_in_some_notebook(name):
    kinds: dict[str, set[str]] = {}
    for path in SOURCES:
        kinds |= tagged(path)
    lacking = [one for one in load_profile(name).models if kinds.get(one) != {"markdown", "code"}]
    assert lacking == []


def test_texts_about_a_model_are_about_models_that_exist():
    about = {model for path in SOURCES for model in tagged(path)}
    assert about
    for model in about:
        build(model)  # is refused in words where there is none


def test_no_executed_notebook_is_tracked():
    if not (shutil.which("git") and (HERE.root / ".git").exists()):
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "*.ipynb"]
    tracked = subprocess.run(command, cwd=HERE.root, check=True, capture_output=True, text=True)
    assert tracked.stdout == ""
