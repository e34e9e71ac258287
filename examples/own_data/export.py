"""Scikit-learn's handwritten digits, 8 x 8, as an archive of arrays and as folders of pictures."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent


def load() -> dict[str, np.ndarray]:
    """The arrays that a profile's data set is made of."""
    digits = load_digits()
    images = (digits.images * 255 / 16).astype(np.uint8)
    parts = train_test_split(
        images, digits.target, test_size=500, stratify=digits.target, random_state=9
    )
    names = ("train_images", "test_images", "train_labels", "test_labels")
    return dict(zip(names, parts, strict=True))


def main() -> None:
    """Write ``digits.npz``, and ``pictures/`` in colours."""
    arrays = load()
    np.savez_compressed(HERE / "digits.npz", **arrays)
    for part in ("train", "test"):
        pairs = zip(arrays[f"{part}_images"], arrays[f"{part}_labels"], strict=True)
        for number, (image, label) in enumerate(pairs):
            path = HERE / "pictures" / part / f"digit {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            paper = np.array([40, 20, 90])  # ink is yellow
            ink = np.array([255, 230, 80]) - paper
            coloured = paper + image[..., None] / 255 * ink
            Image.fromarray(coloured.astype(np.uint8)).resize((16, 16)).save(path)


if __name__ == "__main__":
    main()
