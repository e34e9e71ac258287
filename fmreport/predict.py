"""Classify any picture files with a fitted model of a profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fmlib.data import DataError, Spec, nearest
from fmlib.fitting import FitError, job_of, stale
from fmlib.models.registry import ParameterError
from fmlib.profiles import Profile
from fmlib.results import load, load_model
from fmlib.scores import fit_temperature, log_proba, log_softmax
from fmlib.sources import picture

NOISE = 0.05  # the share of all grey levels by which a background may differ from its own median


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture; ``notes`` say what was done to the picture first."""

    file: str
    label: str
    probability: float
    probabilities: dict[str, float]
    notes: list[str]

    def __str__(self) -> str:
        notes = f"  ({'; '.join(self.notes)})" if self.notes else ""
        return f"{self.file}: {self.label}, {self.probability:.1%}{notes}"


def predict(profile: Profile, model: str, files: list[Path]) -> list[Prediction]:
    """Class and calibrated probabilities of each picture file, by the profile's first seed.

    The temperature is the one of least log loss on the record's validation images. Raises FitError
    where the model is not fitted, DataError for a file that is no picture.
    """
    if model not in profile.models:
        raise ParameterError("model", model, f"not in profile; {nearest(model, profile.models)}")
    job = job_of(profile, model)
    if why := stale(job):
        found = f"no fresh record in profile {profile.name} ({why})"
        raise FitError(f"{model} has {found}: {profile.command}")
    result, fitted = load(job.folder), load_model(job.folder)
    pictures = [read_picture(path, fitted.spec_, profile.is_fashion) for path in files]
    known = log_proba(result.validation_proba)
    temperature = fit_temperature(known, result.validation_labels)
    proba = fitted.predict_proba(np.stack([image for image, _ in pictures]))
    scaled = np.exp(log_softmax(log_proba(proba) / temperature))
    found = []
    for path, (_, notes), row in zip(files, pictures, scaled, strict=True):
        by_class = dict(zip(result.class_names, map(float, row), strict=True))
        label = max(by_class, key=by_class.__getitem__)
        found.append(Prediction(str(path), label, by_class[label], by_class, notes))
    return found


def read_picture(
    path: Path, spec: Spec, is_fashion: bool = True
) -> tuple[NDArray[np.uint8], list[str]]:
    """A picture as a raw image of ``spec``, and what was done to make it one.

    As FashionMNIST's images were made, or else as those in folders of one's own are read.
    """
    try:
        if not is_fashion:
            image = picture(path, (spec.height, spec.width), spec.channels > 1)
            return image, [f"scaled and cut to {spec.width}x{spec.height}"]
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            turned = upright.size != opened.size or opened.getexif().get(0x0112, 1) != 1
            colour = upright.convert("RGBA")
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except Exception as error:  # whatever Pillow finds wrong with a file, or too large about it
        raise DataError(f"{path}: no picture that can be read ({error})") from error
    white = Image.new("RGBA", colour.size, "white")
    flat = Image.alpha_composite(white, colour).convert("RGB")
    image, notes = _as_fashion(flat, spec)
    return image, ["turned upright, as its orientation says"] * turned + notes


def _as_fashion(flat: Image.Image, spec: Spec) -> tuple[NDArray[np.uint8], list[str]]:
    """A picture as FashionMNIST's images were made (Xiao et al. 2017, section 2).

    Grey, its background black and cut off, the rest in the middle and brought to size.
    """
    grey, notes = np.asarray(flat.convert("L"), np.uint8), []
    if (np.asarray(flat) != grey[..., None]).any():
        notes.append("made grey")
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    raw = grey.shape == (spec.height, spec.width)
    background = int(np.median(border))
    # two of FashionMNIST's own images have a white garment along more than half of the border
    if np.quantile(border, 0.25 if raw else 0.5) > 127:
        grey, background = 255 - grey, 255 - background
        notes.append("light background: brightness turned round")
    if raw:
        return grey, notes
    shown = np.abs(grey.astype(np.int16) - background) > NOISE * 255
    if shown.any():
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cut = Image.fromarray(np.maximum(grey.astype(np.int16) - background, 0).astype(np.uint8))
    fitted = ImageOps.pad(cut, (spec.width, spec.height), Image.Resampling.LANCZOS, color=0)
    if flat.size != fitted.size:
        before, after = (f"{image.width}x{image.height}" for image in (flat, fitted))
        notes.append(f"{before} pixels brought to {after}")
    return np.asarray(fitted, np.uint8), notes
