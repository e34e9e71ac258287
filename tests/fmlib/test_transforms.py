"""The transforms: what they may change in an image, and what not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from torch import Generator

from fmlib import transforms
from fmlib.transforms import Augmentation, channels_first, pixel_statistics, to_network

shapes = st.tuples(
    st.integers(1, 6), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 12)
)
batches = arrays(np.uint8, shapes).map(torch.from_numpy)
seeds = st.integers(0, 2**32 - 1)
augmentations = st.builds(
    Augmentation,
    flip=st.booleans(),
    crop_padding=st.integers(0, 3),
    erase_size=st.integers(0, 5),
    jitter=st.floats(0, 1),
)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@given(augmentations, batches, seeds)
def test_augmentation_keeps_shape_and_type_and_spares_its_input(augmentation, images, seed):
    before = images.clone()
    after = augmentation(images, generator(seed))
    assert after.shape == images.shape and after.dtype == torch.uint8
    assert torch.equal(images, before)


@given(augmentations, batches, seeds)
def test_augmentation_depends_on_its_generator_alone(augmentation, images, seed):
    torch.manual_seed(seed % 7)
    first = augmentation(images, generator(seed))
    assert torch.equal(first, augmentation(images, generator(seed)))


def test_another_seed_gives_other_images(small):
    images = channels_first(torch.from_numpy(small.train_images))
    augmentation = Augmentation(flip=True, crop_padding=2, erase_size=8, jitter=0.2)
    assert not torch.equal(augmentation(images, generator(1)), augmentation(images, generator(2)))


@given(batches, seeds)
def test_no_augmentation_changes_nothing(images, seed):
    assert torch.equal(Augmentation()(images, generator(seed)), images)


@given(batches, seeds)
def test_a_flip_gives_the_image_or_its_mirror_image(images, seed):
    for before, after in zip(images, transforms.random_flip(images, generator(seed)), strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(-1))


def test_about_half_of_the_images_are_flipped(sample):
    images = channels_first(torch.from_numpy(sample.train_images))
    changed = transforms.random_flip(images, generator()) != images
    flipped = changed.flatten(1).any(1).float().mean().item()
    assert 0.45 < flipped < 0.55


@given(batches, st.integers(1, 3), seeds)
def test_a_crop_is_the_image_shifted_over_a_black_border(images, padding, seed):
    _, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    shifts = [(y, x) for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    for frame, after in zip(
        padded, transforms.random_crop(images, padding, generator(seed)), strict=True
    ):
        assert any(torch.equal(after, frame[:, y : y + height, x : x + width]) for y, x in shifts)


def test_crops_reach_every_shift():
    image = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    image[0, 0, 2, 2] = 255
    after = transforms.random_crop(image.expand(500, -1, -1, -1), 2, generator())
    places = {tuple(place.tolist()[2:]) for place in after.nonzero()}
    assert places == {(y, x) for y in range(5) for x in range(5)}


@given(batches, st.integers(1, 6), seeds)
def test_erasing_blackens_at_most_one_square(images, size, seed):
    for before, after in zip(
        images, transforms.random_erase(images, size, generator(seed)), strict=True
    ):
        changed = (before != after).nonzero()[:, 1:]
        assert (after[before != after] == 0).all()
        assert len(changed) == 0 or (changed.max(0).values - changed.min(0).values < size).all()


def test_erasing_hits_a_whole_square_unless_the_edge_cuts_it():
    white = torch.full((500, 3, 20, 20), 255, dtype=torch.uint8)
    black = transforms.random_erase(white, 6, generator()) == 0
    assert torch.equal(black[:, 0], black[:, 1]) and torch.equal(black[:, 0], black[:, 2])
    counts = black[:, 0].sum((1, 2))
    assert counts.max() == 36 and counts.min() < 36


@given(batches, st.floats(0.01, 1), seeds)
def test_jitter_scales_brightness_within_its_range(images, strength, seed):
    flat = images[:, :1, :1, :1].expand_as(images).clone()  # no contrast to change
    before, after = flat.float(), transforms.random_jitter(flat, strength, generator(seed)).float()
    assert (after >= before * (1 - strength) - 1).all()
    assert (after <= (before * (1 + strength) + 1).clamp_max(255)).all()


@given(batches, st.floats(0.01, 1), seeds)
def test_jitter_keeps_the_order_of_grey_levels(images, strength, seed):
    for before, after in zip(
        images, transforms.random_jitter(images, strength, generator(seed)), strict=True
    ):
        order = before.flatten().argsort()
        assert (after.flatten()[order].int().diff() >= 0).all()


def test_jitter_changes_the_contrast_of_each_image_about_its_own_mean():
    levels = torch.tensor(
        [[60, 80], [100, 160]], dtype=torch.uint8
    )  # which no brightness drives to 255
    images = levels.repeat(250, 1)[:, None, None].repeat(1, 1, 5, 5)
    dark, bright = transforms.random_jitter(images, 0.5, generator()).float()[:, 0, 0, :2].T
    kept = torch.tensor([7.0, 260 / 60]).repeat(250)
    relative = (bright - dark) / (bright + dark) * kept  # 1 as long as contrast is kept
    inside = relative[bright < 255]
    assert 0.4 < inside.min() < 0.6 and 1.4 < inside.max() < 1.6


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": "sometimes"},
        {"crop_padding": -1},
        {"erase_size": -2},
        {"jitter": 1.5},
        {"jitter": -0.1},
        {"mixup": 1},
    ],
)
def test_augmentation_refuses_what_it_cannot_do(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Augmentation(**wrong)


@given(batches, st.booleans())
def test_pixel_statistics_are_numpys(images, roots):
    mean, std = pixel_statistics(images, roots)
    pixels = (
        np.sqrt(images.numpy(), dtype=np.float64) if roots else images.numpy().astype(np.float64)
    )
    assert np.isclose(mean, pixels.mean()) and np.isclose(std, pixels.std())


@pytest.mark.parametrize("roots", [False, True])
def test_the_eval_transform_standardises_exactly(small, roots):
    images = channels_first(torch.from_numpy(small.train_images))
    batch = to_network(images, *pixel_statistics(images, roots), roots=roots)
    assert batch.shape == (300, 1, 28, 28) and batch.dtype == torch.float32
    assert abs(batch.mean().item()) < 1e-4 and abs(batch.std(correction=0).item() - 1) < 1e-4


@given(batches)
def test_the_eval_transform_is_affine_in_the_pixels(images):
    assert torch.allclose(to_network(images, 100.0, 50.0), (images.float() - 100) / 50)
    assert torch.equal(to_network(images, 0.0, 255.0), images.float() / 255)


def test_roots_spread_the_dark_shades():
    shades = torch.tensor([0, 1, 4, 9, 196, 225], dtype=torch.uint8)[:, None, None, None]
    assert to_network(shades, 1.0, 2.0, roots=True).flatten().tolist() == [
        -0.5,
        0.0,
        0.5,
        1.0,
        6.5,
        7.0,
    ]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 30)])
@pytest.mark.parametrize("size", [14, 28, 64])
def test_the_eval_transform_resizes_and_keeps_grey_grey(size, shape):
    batch = to_network(torch.full((2, *shape), 200, dtype=torch.uint8), 100.0, 50.0, size)
    assert batch.shape == (2, shape[0], size, size)
    assert torch.allclose(batch, torch.full_like(batch, 2.0))


def test_raw_images_become_batches_with_their_channels_first(sample):
    grey = torch.from_numpy(sample.test_images)
    assert torch.equal(channels_first(grey)[:, 0], grey)
    colours = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)
    batch = channels_first(colours)
    assert batch.shape == (2, 3, 4, 5) and batch.is_contiguous()
    assert torch.equal(batch[1, 2], colours[1, :, :, 2])
