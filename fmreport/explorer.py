"""What a reader may look up image by image, on the page: the data for its script."""

from __future__ import annotations

import io

import numpy as np
from IPython.display import display
from numpy.typing import NDArray
from PIL import Image

from fmlib.data import Dataset
from fmreport.compare import errors
from fmreport.compare.verdict import Comparison
from fmreport.show import data_url

MOST = 4000  # images on the page
SIDE = 32  # pixels of a small picture, at most
COLUMNS = 64  # of pictures in the one that holds them all
WORDS = "In the report's page a reader looks up here which images which model gets wrong."


def show_explorer(found: Comparison, data: Dataset) -> None:
    """Let readers of the page see what a model takes for what, and compare two image by image.

    The images are those that a model gets wrong, by most of its seeds; where these are more than
    ``MOST``, the first. Nothing without a model or an error.
    """
    if not found.runs:
        return
    guesses = errors.usual_guesses(found.runs)
    wrong = guesses.ne(data.test_labels, axis=0).any(axis=1)
    every = np.flatnonzero(wrong)
    chosen = every[:MOST]
    if not len(chosen):
        return
    picture, size = sprite(data.test_images[chosen])
    content = {
        "models": list(found.runs),
        "classes": list(data.class_names),
        "images": chosen.tolist(),
        "all": len(every),
        "labels": data.test_labels[chosen].tolist(),
        "guesses": [guesses[name].to_numpy()[chosen].tolist() for name in found.runs],
        "sprite": data_url(picture, "image/webp"),
        "size": size,
        "columns": COLUMNS,
    }
    meta = {"kind": "explorer", "data": content}
    display({"text/plain": WORDS}, metadata={"fmreport": meta}, raw=True)


def sprite(images: NDArray[np.uint8]) -> tuple[bytes, list[int]]:
    """All images (n, h, w) or (n, h, w, 3) in one, ``COLUMNS`` a row: WebP, and the width and
    height in pixels of each, at most ``SIDE``."""
    height, width = images.shape[1:3]
    scale = min(1, SIDE / max(height, width))
    size = [max(1, round(width * scale)), max(1, round(height * scale))]
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("L" if images.ndim == 3 else "RGB", (COLUMNS * size[0], rows * size[1]))
    for place, image in enumerate(images):
        row, column = divmod(place, COLUMNS)
        small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
        sheet.paste(small, (column * size[0], row * size[1]))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=55, method=4)
    return buffer.getvalue(), size
