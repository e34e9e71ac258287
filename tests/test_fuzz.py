"""Whatever lies in a file that is read: a right result or an error in words, and nothing else.

No other exception, nothing executed, nothing written outside the folder at hand. Profiles of the
right form have their own tests in ``fmlib/test_profiles.py``, labels in ``fmlib/test_sources.py``.
"""

from __future__ import annotations

import io
import json
import shutil
import string
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from PIL import Image

from fmlib import fetch, results
from fmlib.data import DataError, Dataset, Spec
from fmlib.fetch import get_data
from fmlib.models.registry import build
from fmlib.profiles import ProfileError, examine, load_dataset
from fmlib.project import Project
from fmlib.results import MANIFEST_FILE, PREDICTIONS_FILE, RESULT_FILE, ResultError
from fmreport.predict import read_picture

# --- What happens meanwhile -------------------------------------------------------------------

RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect"}
MOVES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
_watched: list[tuple[str, tuple[Any, ...]]] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is not None and event in RUNS | MOVES | {"open", "pickle.find_class"}:
        _watched.append((event, arguments))


sys.addaudithook(_hear)  # which cannot be taken back; it listens inside `harmless` alone


@contextmanager
def harmless(folder: Path) -> Iterator[None]:
    """Fails where the block runs a program, unpickles, or writes outside ``folder``."""
    global _watched
    _watched = []
    try:
        yield
    finally:
        heard, _watched = _watched, None
    for event, arguments in heard:
        assert event in MOVES | {"open"}, (event, arguments)
        written = event in MOVES or "w" in str(arguments[1]) or "a" in str(arguments[1])
        if written and isinstance(arguments[0], str | Path) and not _within(event, arguments):
            assert Path(arguments[0]).resolve().is_relative_to(folder), (event, arguments)


def _within(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a name is removed of an opened folder, as ``shutil.rmtree`` does on its way down."""
    return event in ("os.remove", "os.rmdir") and arguments[1] != -1


# --- Damage -----------------------------------------------------------------------------------

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    PLAIN, lambda one: st.lists(one) | st.dictionaries(st.text(), one), max_leaves=6
)
DTYPES = stnp.scalar_dtypes() | stnp.unicode_string_dtypes(max_len=4)
SHAPES = stnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9)
ARRAYS = stnp.arrays(DTYPES, SHAPES)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes cut short, with some replaced, or with some put in."""
    place = draw(st.integers(0, len(content)))
    kind = draw(st.sampled_from(["cut", "replaced", "put in", "others"]))
    some = draw(st.binary(min_size=1, max_size=16))
    if kind == "cut":
        return content[:place]
    if kind == "others":
        return some
    skipped = len(some) if kind == "replaced" else 0
    return content[:place] + some + content[place + skipped :]


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in nested lists and dictionaries a value can be replaced."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield (*at, key)
        yield from paths(value[key], (*at, key))


def replaced(content: Any, at: tuple[Any, ...], value: Any) -> Any:
    inner = content
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return content


# --- Records ----------------------------------------------------------------------------------

FITTED = {
    "decision_tree": {"max_depth": 3},
    "mlp": {"hidden_sizes": [8], "recipe": {"epochs": 1, "batch_size": 64, "lr": 0.01}},
    "xgboost": {"n_estimators": 2},
}


@pytest.fixture(scope="module")
def records(tmp_path_factory, few: Dataset) -> dict[str, Path]:
    """A whole record of a model of each file format."""
    root, found = tmp_path_factory.mktemp("records"), {}
    for name, parameters in FITTED.items():
        model = build(name, parameters).fit(few)
        made = synthetic.record(name, 0.9, size=200, parameters=parameters)
        found[name] = results.record_folder(root, name, 9)
        results.save(made, model, found[name])
        results.load_model(found[name])
    return found


def read(folder: Path) -> None:
    """Load a record and its model: whole, or refused in words."""
    for load in (results.load, results.load_model):
        try:
            with harmless(folder):
                load(folder)
        except ResultError as error:
            assert str(folder) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("sealed", [True, False], ids=["as written", "with hashes that fit"])
@pytest.mark.parametrize("model", FITTED)
@given(data=st.data())
def test_a_damaged_record_is_refused_in_words(records, tmp_path_factory, model, sealed, data):
    folder = tmp_path_factory.mktemp("damaged") / "seed-9"
    shutil.copytree(records[model], folder)
    names = sorted(path.name for path in folder.iterdir())
    file = folder / data.draw(st.sampled_from(names))
    file.write_bytes(data.draw(damaged(file.read_bytes())))
    if not sealed:
        results.write_manifest(folder)
    read(folder)


@given(data=st.data())
def test_a_record_that_says_anything_else_is_loaded_or_refused(records, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("altered") / "seed-9"
    shutil.copytree(records["mlp"], folder)
    file = folder / data.draw(st.sampled_from([RESULT_FILE, MANIFEST_FILE]))
    content = json.loads(file.read_text("utf-8"))
    at = data.draw(st.sampled_from([*paths(content)]))
    file.write_text(json.dumps(replaced(content, at, data.draw(VALUES))), "utf-8")
    if file.name != MANIFEST_FILE:
        results.write_manifest(folder)
    read(folder)


@given(name=st.sampled_from(results.ARRAYS), array=ARRAYS)
def test_a_record_with_any_other_array_is_refused(records, tmp_path_factory, name, array):
    folder = tmp_path_factory.mktemp("arrays") / "seed-9"
    shutil.copytree(records["mlp"], folder)
    with np.load(folder / PREDICTIONS_FILE) as arrays:
        np.savez(folder / PREDICTIONS_FILE, **(dict(arrays) | {name: array}))
    results.write_manifest(folder)
    with pytest.raises(ResultError, match="seed-9"):
        results.load(folder)
    read(folder)


# --- A user's data ----------------------------------------------------------------------------


def loaded(settings: dict[str, Any], home: Path) -> Dataset | None:
    """The data set, with images and labels that fit; None where it was refused in words."""
    try:
        with harmless(home):
            data = load_dataset(settings, 0.25, Project(home), home)
    except DataError as error:
        assert all(map(str, error.args))
        return None
    for images, labels in (data.train, data.validation, data.test):
        assert images.dtype == np.uint8 and labels.dtype == np.int64 and len(images) == len(labels)
        assert {*labels.tolist()} == {*range(len(data.class_names))}
    return data


STRIPES = synthetic.stripes((8, 8), 2, 16)


@given(name=st.sampled_from(sorted(STRIPES)), array=ARRAYS)
def test_any_array_in_a_users_file_is_taken_or_refused(tmp_path_factory, name, array):
    home = tmp_path_factory.mktemp("npz")
    np.savez(home / "own.npz", **(STRIPES | {name: array}))
    loaded({"npz": "own.npz"}, home)


@given(names=ARRAYS)
def test_any_class_names_in_a_users_file_are_taken_or_refused(tmp_path_factory, names):
    home = tmp_path_factory.mktemp("npz")
    np.savez(home / "own.npz", **STRIPES, class_names=names)
    found = loaded({"npz": "own.npz"}, home)
    assert found is None or len({*found.class_names}) == 2


@given(data=st.data())
def test_a_users_damaged_file_is_refused(tmp_path_factory, data):
    home = tmp_path_factory.mktemp("npz")
    whole = io.BytesIO()
    np.savez(whole, **STRIPES)
    (home / "own.npz").write_bytes(data.draw(damaged(whole.getvalue())))
    loaded({"npz": "own.npz"}, home)


@given(header=st.dictionaries(st.sampled_from(["descr", "fortran_order", "shape"]), VALUES))
def test_an_array_that_says_of_itself_what_is_not_so_is_refused(tmp_path_factory, header):
    home = tmp_path_factory.mktemp("npz")
    says = {"descr": "|u1", "fortran_order": False, "shape": (10**12,)} | header
    text = f"{says}\n".encode()
    with zipfile.ZipFile(home / "own.npz", "w") as archive:
        for name in STRIPES:
            begin = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little")
            archive.writestr(f"{name}.npy", begin + text)
    assert loaded({"npz": "own.npz"}, home) is None


# What a file system takes: no slash, no NUL, at most 255 bytes.
NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))


@given(classes=st.lists(NAMES, min_size=2, max_size=3, unique=True), stem=NAMES)
def test_folders_and_pictures_may_have_any_names(tmp_path_factory, classes, stem):
    home = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(classes):
        folder = home / "own" / name
        folder.mkdir(parents=True)
        for shade in range(6):
            grey = np.full((8, 8), 40 * number + shade, np.uint8)
            Image.fromarray(grey).save(folder / f"{stem}{shade}.png")
    found = loaded({"folder": "own", "test_share": 0.3}, home)
    hidden = [name for name in classes if name.startswith(".")]
    if found is None:
        assert hidden or stem.startswith("."), "only what is hidden is passed over"
    else:
        assert {*found.class_names} == {*classes} - {*hidden}


@given(data=st.data())
def test_a_damaged_picture_is_read_or_refused(tmp_path_factory, data):
    home = tmp_path_factory.mktemp("picture")
    whole = io.BytesIO()
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    Image.fromarray(np.full((8, 8), 40, np.uint8)).save(whole, kind)
    path = home / f"one.{kind.lower()}"
    path.write_bytes(data.draw(damaged(whole.getvalue())))
    for share in ("a", "b"):
        (home / "own" / share).mkdir(parents=True)
        for number in range(6):
            shutil.copy(path, home / "own" / share / f"{number}{path.suffix}")
    loaded({"folder": "own", "test_share": 0.3, "size": 8}, home)
    try:
        with harmless(home):
            read_picture(path, Spec(10, 28, 28))
    except DataError as error:
        assert path.name in str(error)


# --- FashionMNIST's files ---------------------------------------------------------------------

ONE = "t10k-labels-idx1-ubyte"


@given(data=st.data())
def test_idx_files_are_those_that_were_published_or_none(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("data")
    whole = b"\0\0\x08\x01" + (20).to_bytes(4, "big") + bytes(range(20))
    content = data.draw(damaged(whole))
    packed = data.draw(st.booleans())
    place = fetch.raw_folder(root)
    place.mkdir(parents=True)
    (place / (f"{ONE}.gz" if packed else ONE)).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "SOURCES", {"the folder": lambda to: fetch._copy_from(root, to)})
        patch.setattr(fetch, "SHA256", {ONE: fetch.SHA256[ONE]})
        with harmless(root), pytest.raises(DataError, match="FMLIB_DATA"):
            get_data(root, say=lambda line: None)


# --- Profiles ---------------------------------------------------------------------------------

YAML = b"description: d\ndataset: sample\nseeds: [9]\nmodels: {mlp: {}, svm: {C: 1}}\n"


def examined(name: str, project: Project) -> None:
    try:
        with harmless(project.root):
            found, faults = examine(name, project)
    except ProfileError as error:
        assert str(error)
        return
    assert all(map(str, faults))
    assert found.folder.resolve().parent == project.build, "it builds in its own folder"


@given(content=damaged(YAML) | st.binary(max_size=60))
def test_a_profile_of_any_bytes_is_loaded_or_refused(tmp_path_factory, content):
    project = Project(tmp_path_factory.mktemp("project").resolve())
    project.params.mkdir()
    (project.params / "odd.yaml").write_bytes(content)
    examined("odd", project)


ODD = st.text(st.sampled_from(string.ascii_letters + "./~$ -_\0\n%:*")) | st.text(max_size=300)


@given(name=ODD, ending=st.sampled_from(["", ".yaml"]))
def test_a_profile_of_any_name_is_refused_or_stays_in_its_folder(tmp_path_factory, name, ending):
    project = Project(tmp_path_factory.mktemp("project").resolve())
    project.params.mkdir()
    (project.params / "there.yaml").write_bytes(YAML)
    examined(name + ending, project)
