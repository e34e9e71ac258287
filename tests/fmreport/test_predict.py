"""A user's own pictures: what is made of them, and what is said of those that are none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fmlib.data import DataError, Dataset, Spec
from fmlib.fitting import FitError, fit_or_load, job_of
from fmlib.models.registry import ParameterError
from fmlib.profiles import Profile, load_profile
from fmlib.project import HERE, Project
from fmlib.sources import picture
from fmreport import __main__ as command_line
from fmreport.predict import predict, read_picture

GREY, COLOUR = Spec(10, 28, 28), Spec(10, 28, 28, 3)
TINY = """
description: a tree that is fitted, and a forest that is not
dataset: sample
models:
  decision_tree: {max_depth: 8}
  random_forest: {n_estimators: 3}
"""
TURNED, INVERTED = "turned upright, as its orientation says", "light background"


def shirt(
    colour: str | tuple[int, ...] = "black", background: str | tuple[int, ...] = "white"
) -> Image.Image:
    """A drawing of a T-shirt, off the middle of a photograph of 300 x 400 pixels."""
    picture = Image.new("RGBA", (300, 400), background)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((80, 60, 180, 250), fill=colour)
    draw.rectangle((60, 60, 200, 120), fill=colour)
    return picture


def photo(garment: np.ndarray) -> Image.Image:
    """A shop's photograph, 448 x 560, of what a FashionMNIST image shows."""
    large = Image.fromarray(255 - garment).resize((280, 280), Image.Resampling.BICUBIC)
    picture = Image.new("RGB", (448, 560), "white")
    picture.paste(large, (30, 200))
    return picture


def saved(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)
    return path


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    project = Project(tmp_path_factory.mktemp("predict"))
    project.params.mkdir()
    (project.params / "tiny.yaml").write_text(TINY, encoding="utf-8")
    profile = load_profile("tiny", project)
    fit_or_load(job_of(profile, "decision_tree"), here=True)
    return profile


# --- What is made of a picture ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "notes"),
    [
        (shirt().convert("RGB"), [INVERTED]),
        (shirt((180, 20, 40), (250, 250, 245)).convert("RGB"), ["made grey", INVERTED]),
        (shirt("black", (0, 0, 0, 0)), [INVERTED]),
        (shirt("white", "black").convert("L"), []),
    ],
    ids=["on white", "in colour", "transparent", "on black"],
)
def test_a_garment_is_bright_on_black_cut_out_and_in_the_middle(tmp_path, picture, notes):
    image, told = read_picture(saved(picture, tmp_path / "shirt.png"), GREY)
    assert image.shape == (28, 28) and image.dtype == np.uint8
    shape = image > 100
    assert shape[0].any() and shape[-1].any(), "it is as high as the image"
    columns = np.flatnonzero(shape.any(0))
    assert abs(columns[0] - (27 - columns[-1])) <= 1, "it stands in the middle"
    assert image[:, 0].max() == 0 and image[14, 14] > 150
    assert shape[4].sum() > shape[20].sum() > 8, "the sleeves are above"
    assert [note.partition(":")[0] for note in told[:-1]] == notes
    assert told[-1] == "300x400 pixels brought to 28x28"


def test_a_photograph_of_a_garment_gives_nearly_the_data_sets_own_image(tmp_path, few):
    for number, garment in enumerate(few.test_images):
        path = saved(photo(garment), tmp_path / f"{number}.jpg", quality=95)
        image, _ = read_picture(path, GREY)
        agree = np.corrcoef(image.ravel(), garment.ravel())[0, 1]
        assert agree > 0.75, f"test image {number} became another one"


@pytest.mark.parametrize(("suffix", "differs"), [("png", 0), ("jpg", 10)])
def test_a_photograph_is_turned_as_its_camera_says(tmp_path, suffix, differs):
    upright = shirt().convert("RGB")
    lying = upright.rotate(90, expand=True)
    orientation = Image.Exif()
    orientation[0x0112] = 6  # of a camera on its side
    expected, told = read_picture(saved(upright, tmp_path / f"upright.{suffix}"), GREY)
    path = saved(lying, tmp_path / f"lying.{suffix}", exif=orientation)
    image, notes = read_picture(path, GREY)
    assert notes == [TURNED, *told]
    assert np.abs(image.astype(int) - expected).mean() <= differs


@pytest.mark.parametrize("spec", [GREY, COLOUR])
def test_a_model_of_own_data_gets_a_picture_as_its_training_data_were_read(tmp_path, spec):
    path = saved(shirt((200, 0, 0)).convert("RGB"), tmp_path / "shirt.png")
    image, notes = read_picture(path, spec, is_fashion=False)
    read = picture(path, (28, 28), spec.channels > 1)
    assert np.array_equal(image, read) and image.shape == spec.image_shape
    assert image[0, 0].tolist() == ([255] * 3 if spec == COLOUR else 255), "a light border stays"
    assert notes == ["scaled and cut to 28x28"]


def test_the_data_sets_own_images_stay_as_they_are(tmp_path, few):
    wide = np.zeros((28, 28), np.uint8)  # two of FashionMNIST's fill most of the border like this
    wide[:, :3] = wide[:, -3:] = 230
    for number, raw in enumerate([*few.test_images, wide]):
        path = saved(Image.fromarray(raw), tmp_path / f"{number}.png")
        image, notes = read_picture(path, GREY)
        assert np.array_equal(image, raw) and notes == []


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (28, 28)])
@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_an_empty_picture_of_any_size_is_an_image(tmp_path, size, colour):
    path = saved(Image.new("RGB", size, colour), tmp_path / "empty.png")
    for spec in (GREY, COLOUR):
        image, _ = read_picture(path, spec, is_fashion=spec == GREY)
        assert image.shape == spec.image_shape and image.dtype == np.uint8


def test_a_huge_photograph_gives_what_a_small_one_does(tmp_path):
    small = shirt().convert("RGB")
    expected, _ = read_picture(saved(small, tmp_path / "small.png"), GREY)
    large = small.resize((4500, 6000), Image.Resampling.NEAREST)
    image, notes = read_picture(saved(large, tmp_path / "large.png", compress_level=1), GREY)
    assert np.abs(image.astype(int) - expected).mean() < 2
    assert notes[-1] == "4500x6000 pixels brought to 28x28"


def text_file(path: Path) -> None:
    path.write_text("a shirt")


def empty_file(path: Path) -> None:
    path.touch()


def folder(path: Path) -> None:
    path.mkdir()


def cut_file(path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 90), np.uint8)
    Image.fromarray(noise).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:3000])


def bomb(path: Path) -> None:
    """A BMP of a few bytes that claims to be 90,000 pixels wide and high."""
    Image.new("L", (3, 3)).save(path, "BMP")
    content = bytearray(path.read_bytes())
    content[18:26] = (90_000).to_bytes(4, "little") * 2
    path.write_bytes(bytes(content))


def nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (text_file, "no picture that can be read"),
        (empty_file, "no picture that can be read"),
        (folder, "no picture that can be read"),
        (cut_file, "no picture that can be read"),
        (bomb, "no picture that can be read"),
        (nothing, "there is no such file"),
    ],
)
def test_what_is_no_picture_is_told_with_its_name(tmp_path, make: Callable[[Path], None], says):
    make(tmp_path / "shirt.png")
    with pytest.raises(DataError, match=says) as error:
        read_picture(tmp_path / "shirt.png", GREY)
    assert "shirt.png" in str(error.value) and "\n" not in str(error.value)


# --- What is predicted ------------------------------------------------------------------------


def test_a_data_sets_image_in_a_file_is_predicted_exactly_as_the_array_is(
    profile, tmp_path, sample: Dataset
):
    images = sample.test_images[:40]
    files = [
        saved(Image.fromarray(image), tmp_path / f"{number}.png")
        for number, image in enumerate(images)
    ]
    _, model = fit_or_load(job_of(profile, "decision_tree"))
    found = predict(profile, "decision_tree", files)
    expected = [sample.class_names[label] for label in model.predict(images)]
    assert [one.label for one in found] == expected
    assert [one.file for one in found] == list(map(str, files))
    for one in found:
        assert list(one.probabilities) == list(sample.class_names) and one.notes == []
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert one.probability == max(one.probabilities.values())


def test_probabilities_are_calibrated_on_the_validation_images(profile, tmp_path, sample):
    files = [
        saved(Image.fromarray(image), tmp_path / f"{number}.png")
        for number, image in enumerate(sample.test_images)
    ]
    _, model = fit_or_load(job_of(profile, "decision_tree"))
    told = predict(profile, "decision_tree", files)
    names = sample.class_names
    truth = [names[label] for label in sample.test_labels]
    calibrated = [one.probabilities[name] for one, name in zip(told, truth, strict=True)]
    raw = model.predict_proba(sample.test_images)[np.arange(500), sample.test_labels]
    log_loss, before = (-np.log(np.maximum(p, 1e-7)).mean() for p in (np.array(calibrated), raw))
    assert log_loss < before, "a deep tree is too sure of itself"


def test_every_file_is_told_in_a_line_with_what_was_done_to_it(profile, tmp_path):
    path = saved(shirt(), tmp_path / "my shirt.png")
    (one,) = predict(profile, "decision_tree", [path])
    assert str(one).startswith(f"{path}: {one.label}, ") and "\n" not in str(one)
    assert "%" in str(one) and f"({'; '.join(one.notes)})" in str(one)


def test_an_unknown_model_is_told_with_the_nearest(profile, tmp_path):
    with pytest.raises(ParameterError, match="did you mean 'decision_tree'"):
        predict(profile, "decison_tree", [saved(shirt(), tmp_path / "shirt.png")])


def test_a_model_that_is_not_fitted_is_told_with_what_fits_it(profile, tmp_path):
    with pytest.raises(FitError, match=r"never fitted.*make report PROFILE=tiny"):
        predict(profile, "random_forest", [saved(shirt(), tmp_path / "shirt.png")])


# --- The command ------------------------------------------------------------------------------


@pytest.fixture
def command(profile, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """``python -m fmreport predict`` of the tiny project: exit status, output, errors."""

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(
            command_line, "load_profile", lambda name: load_profile(name, profile.project)
        )
        monkeypatch.setattr("sys.argv", ["fmreport", "predict", "--profile", "tiny", *arguments])
        status = command_line.main()
        said = capsys.readouterr()
        return status, said.out, said.err

    return called


def test_the_command_tells_a_line_a_picture(command, tmp_path):
    files = [str(saved(shirt(), tmp_path / f"{number}.png")) for number in range(2)]
    status, out, err = command("--model", "decision_tree", *files)
    assert (status, err) == (0, "")
    assert [line.partition(": ")[0] for line in out.splitlines()] == files


def test_the_commands_json_has_every_probability(command, tmp_path):
    path = str(saved(shirt(), tmp_path / "shirt.png"))
    status, out, _ = command("--model", "decision_tree", "--json", path)
    (one,) = json.loads(out)
    assert status == 0 and one["file"] == path and len(one["probabilities"]) == 10
    assert sum(one["probabilities"].values()) == pytest.approx(1)
    assert one["probabilities"][one["label"]] == one["probability"] and one["notes"]


@pytest.mark.parametrize(
    ("model", "file", "status", "says"),
    [
        ("decision_tree", "text.png", 2, "no picture that can be read"),
        ("decision_tree", "missing.png", 2, "there is no such file"),
        ("decisiontree", "shirt.png", 2, "did you mean 'decision_tree'"),
        ("random_forest", "shirt.png", 1, "make report PROFILE=tiny"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(command, tmp_path, model, file, status, says):
    saved(shirt(), tmp_path / "shirt.png")
    text_file(tmp_path / "text.png")
    got, out, err = command("--model", model, str(tmp_path / file))
    assert (got, out) == (status, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err


@pytest.mark.slow
def test_a_mistake_ends_the_process_with_its_status_and_one_line(tmp_path):
    arguments = ["predict", "--profile", "smoke", "--model", "decisiontree", "shirt.png"]
    done = subprocess.run(
        [sys.executable, "-m", "fmreport", *arguments],
        cwd=HERE.root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: model: ") and done.stderr.count("\n") == 1
