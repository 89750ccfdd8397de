"""Pictures that need no files: scikit-learn's handwritten digits, and shapes drawn here."""

import numpy as np
from sklearn.datasets import load_digits

from examples.images.pictures import Pictures, PictureSet, hold_out_validation, split

SHAPES = ("disc", "ring", "square", "frame", "cross")
SIDE = 32  # pixels of a drawn picture
SHAPES_OF_A_CLASS = 100
NOISE = 0.1  # standard deviation, where 1 is white


def digits() -> PictureSet:
    """Returns the 1797 digits of scikit-learn, 8 by 8 pixels, split as one tree of folders is: 20 % are the test."""
    found = load_digits()
    grey = (found.images * (255 / 16)).round().astype(np.uint8)
    pictures = Pictures(np.repeat(grey[..., None], 3, axis=-1), found.target.astype(np.int64))
    return _whole_set(pictures, tuple(map(str, found.target_names)))


def generated(seed: int = 0) -> PictureSet:
    """Returns 500 drawn shapes of 32 by 32 pixels: place, size and colours are drawn, and noise is added."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(SHAPES)), SHAPES_OF_A_CLASS)
    drawn = np.stack([_draw(SHAPES[label], rng) for label in labels])
    return _whole_set(Pictures(drawn, labels.astype(np.int64)), SHAPES)


def _whole_set(pictures: Pictures, classes: tuple[str, ...]) -> PictureSet:
    rest, test = split(pictures, 0.2, classes, stream=0)
    return PictureSet(classes, *hold_out_validation(rest, classes), test, photographs=False)


def _draw(shape: str, rng: np.random.Generator) -> np.ndarray:
    """Returns one picture, uint8 [SIDE, SIDE, 3]."""
    radius = rng.uniform(6, 11)
    x, y = (np.arange(SIDE) - rng.uniform(radius + 1, SIDE - radius - 1, size=(2, 1)))[:, None, :]
    across, down = np.abs(x), np.abs(y.reshape(-1, 1))
    distance = np.hypot(across, down) if shape in ("disc", "ring") else np.maximum(across, down)
    mask = distance < radius
    if shape in ("ring", "frame"):
        mask &= distance > 0.6 * radius
    if shape == "cross":
        mask &= np.minimum(across, down) < 0.3 * radius
    dark, bright = rng.uniform(0, 0.4, 3), rng.uniform(0.6, 1, 3)
    picture = np.where(mask[..., None], bright, dark) + NOISE * rng.standard_normal((SIDE, SIDE, 3))
    return (255 * picture.clip(0, 1)).round().astype(np.uint8)
