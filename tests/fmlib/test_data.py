"""Data sets: what they hold, how they are split, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fmlib import data
from fmlib.data import Dataset, Spec, TransformedDataset, check_images, load_sample, split

# --- Splits -----------------------------------------------------------------------------------

balances = st.lists(st.integers(10, 40), min_size=2, max_size=10)
fractions = st.floats(0.1, 0.5)


def numbered(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """So many images of each class, in random order, whose pixels hold the image's number."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(len(counts)).permutation(labels)
    numbers = np.arange(len(labels))
    return np.stack([numbers // 256, numbers % 256], 1).astype(np.uint8)[:, None], labels


def numbers(images: np.ndarray) -> list[int]:
    return (images[:, 0, 0].astype(int) * 256 + images[:, 0, 1]).tolist()


def split_of(counts: list[int], fraction: float) -> Dataset:
    names = [f"class {i}" for i in range(len(counts))]
    return split("made up", numbered(counts), numbered(counts), names, fraction)


@given(balances, fractions)
def test_a_split_is_disjoint_complete_and_in_order(counts, fraction):
    made = split_of(counts, fraction)
    kept, held_out = numbers(made.train_images), numbers(made.validation_images)
    assert sorted(kept + held_out) == list(range(sum(counts)))
    assert kept == sorted(kept) and held_out == sorted(held_out)
    labels = numbered(counts)[1]
    assert np.array_equal(made.train_labels, labels[kept])
    assert np.array_equal(made.validation_labels, labels[held_out])


@given(balances, fractions)
def test_a_split_is_stratified(counts, fraction):
    held_out = np.bincount(split_of(counts, fraction).validation_labels, minlength=len(counts))
    assert np.abs(held_out - fraction * np.array(counts)).max() < 1.5


@given(balances, fractions)
def test_a_split_is_the_same_every_time(counts, fraction):
    first, second = (split_of(counts, fraction) for _ in range(2))
    assert np.array_equal(first.validation_images, second.validation_images)
    assert first.split_sha256 == second.split_sha256


def test_the_test_images_are_left_alone(sample):
    other = load_sample(validation_fraction=0.3)
    assert np.array_equal(other.test_images, sample.test_images)
    assert np.array_equal(other.test_labels, sample.test_labels)


def test_hashes_tell_splits_and_data_apart(sample):
    other = load_sample(validation_fraction=0.2)
    assert load_sample().split_sha256 == sample.split_sha256 != other.split_sha256
    assert other.data_sha256 == sample.data_sha256
    images, labels = sample.train
    darker = split("sample", (images // 2, labels), sample.test, sample.class_names, 0.1)
    assert darker.data_sha256 != sample.data_sha256


@given(st.integers(0, 99), st.integers(0, 27), st.integers(0, 27))
def test_any_changed_pixel_changes_the_hash(small, image, row, column):
    changed = small.test_images.copy()
    changed[image, row, column] ^= 1
    assert data.sha256_of(changed) != data.sha256_of(small.test_images)


def test_the_hash_sees_shape_and_type_and_not_memory_layout():
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert data.sha256_of(array) == data.sha256_of(np.asfortranarray(array))
    others = (array, array.reshape(3, 2), array.astype(np.int32), array.T)
    assert len({data.sha256_of(one) for one in others}) == 4


# --- The sample -------------------------------------------------------------------------------


def test_the_sample_is_small_real_and_balanced(sample):
    assert data.SAMPLE_FILE.stat().st_size < 1.5e6
    sizes = {"train": 1800, "validation": 200, "test": 500}
    for part, size in sizes.items():
        images, labels = getattr(sample, part)
        assert images.shape == (size, 28, 28) and images.dtype == np.uint8
        assert labels.shape == (size,) and labels.dtype == np.int64
        assert set(np.bincount(labels).tolist()) == {size // 10}
    assert sample.name == "sample" and sample.class_names[0] == "T-shirt/top"


def test_no_image_is_in_two_parts_of_the_sample(sample):
    parts = sample.train, sample.validation, sample.test
    seen = [{image.tobytes() for image in images} for images, _ in parts]
    assert seen[0] & seen[1] == seen[0] & seen[2] == seen[1] & seen[2] == set()


# --- Data sets --------------------------------------------------------------------------------


def made(shape: tuple[int, ...] = (28, 28), classes: int = 10) -> Dataset:
    """Four black images in every part."""
    images, labels = np.zeros((4, *shape), np.uint8), np.array([0, 1, 0, 1])
    names = tuple(str(i) for i in range(classes))
    return Dataset("made", *(images, labels) * 3, names)


@pytest.mark.parametrize(
    ("shape", "classes", "spec"),
    [
        ((28, 28), 10, Spec(num_classes=10, height=28, width=28, channels=1)),
        ((32, 24), 2, Spec(num_classes=2, height=32, width=24, channels=1)),
        ((32, 24, 3), 7, Spec(num_classes=7, height=32, width=24, channels=3)),
    ],
)
def test_a_data_set_says_what_a_model_must_know(shape, classes, spec):
    assert made(shape, classes).spec == spec
    assert spec.image_shape == shape and spec.pixels == np.prod(shape)


def test_parts_are_images_and_labels(sample):
    assert sample.train[0] is sample.train_images and sample.train[1] is sample.train_labels
    assert sample.validation[0] is sample.validation_images
    assert sample.test[1] is sample.test_labels


IMAGES, LABELS = np.zeros((4, 28, 28), np.uint8), np.array([0, 1, 9, 9])
BAD_IMAGES = [
    (IMAGES.astype(np.float32), "float32"),
    (np.full((4, 28, 28), np.nan), "float64"),
    (IMAGES[0], r"\(28, 28\)"),
    (IMAGES.reshape(4, 784), r"\(4, 784\)"),
    (IMAGES[:, :27], r"\(4, 27, 28\)"),
    (IMAGES[..., None], r"\(4, 28, 28, 1\)"),
    (IMAGES[:0], r"\(0, 28, 28\)"),
    ([], r"\(0,\)"),
    ("boots", "str|<U"),
]


@pytest.mark.parametrize(("images", "got"), BAD_IMAGES)
def test_what_is_no_batch_of_images_is_refused_with_wanted_and_got(images, got):
    spec = Spec(10, 28, 28)
    with pytest.raises(
        ValueError, match=rf"things: wanted uint8 of shape \(n, 28, 28\).*got .*{got}"
    ):
        check_images(images, spec, "things")


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize(("images", "got"), BAD_IMAGES[:7])
def test_a_data_set_refuses_images_that_are_not_as_its_training_images(part, images, got):
    with pytest.raises(ValueError, match=rf"{part} images: wanted uint8 of shape .*got .*{got}"):
        replace(made(), **{f"{part}_images": images})


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES.astype(float), IMAGES[:0], IMAGES[0, 0]])
def test_training_images_that_are_none_are_refused(images):
    with pytest.raises(ValueError, match="train images: wanted uint8 of shape"):
        replace(made(), train_images=images)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (LABELS[:3], r"\(3,\)"),
        (LABELS[:, None], r"\(4, 1\)"),
        (LABELS.astype(float), "float64"),
        (np.array([0, np.nan, 1, 2]), "float64"),
        (LABELS + 1, "from 1 to 10"),
        (LABELS - 1, "from -1 to 8"),
        (np.array(list("abcd")), "<U1"),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_wanted_and_got(part, labels, got):
    wanted = f"{part} labels: wanted 4 integers from 0 to 9.*got .*{got}"
    with pytest.raises(ValueError, match=wanted):
        replace(made(), **{f"{part}_labels": labels})


def test_good_images_pass_unchanged_also_as_a_tensor():
    images = check_images(torch.from_numpy(IMAGES), Spec(10, 28, 28))
    assert images.dtype == np.uint8 and np.array_equal(images, IMAGES)


# --- The wrapper ------------------------------------------------------------------------------


def test_a_wrapped_data_set_transforms_its_images_in_a_data_loader(sample):
    base = list(zip(*sample.test, strict=True))
    wrapped = TransformedDataset(base, lambda image: torch.from_numpy(image)[None] / 255)
    images, labels = next(iter(DataLoader(wrapped, batch_size=32)))
    assert len(wrapped) == 500
    assert images.shape == (32, 1, 28, 28) and images.dtype == torch.float32
    assert torch.equal(images[:, 0], torch.from_numpy(sample.test_images[:32]) / 255)
    assert labels.tolist() == sample.test_labels[:32].tolist()


def test_one_base_serves_two_transforms(sample):
    base = list(zip(*sample.test, strict=True))
    plain, inverted = (TransformedDataset(base, one) for one in (np.asarray, np.invert))
    assert np.array_equal(plain[3][0], 255 - inverted[3][0]) and plain[3][1] == inverted[3][1]
