"""Cases as RFNet's preprocess.py leaves them, and those after it: arrays of numpy, z-scored, with lists beside them."""

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.npy_layout import CHANNELS


def z_scored(images: np.ndarray) -> np.ndarray:
    """Their `normalize`: mean and deviation where the sum of the modalities is above 0, taken off everywhere.

    images: [C, X, Y, Z], 0 outside the brain; a channel of zeros stays one. Returns float32 [X, Y, Z, C].
    """
    mask = images.sum(axis=0) > 0
    result = images.astype(np.float32)
    for channel in result:
        if channel.any():
            channel[:] = (channel - channel[mask].mean()) / channel[mask].std()
    return result.transpose(1, 2, 3, 0)


def write_volumes(root: Path, name: str, volumes: np.ndarray, labels: np.ndarray | None) -> None:
    for folder, array in (("vol", volumes), ("seg", labels)):
        if array is not None:
            (root / folder).mkdir(parents=True, exist_ok=True)
            np.save(root / folder / f"{name}_{folder}.npy", array)


def random_volumes(shape: Sequence[int] = (6, 5, 4), seed: int = 0, channels: int = 4) -> np.ndarray:
    """Z-scored, a brain with background on all sides, so in the corners too."""
    images = np.zeros((channels, *shape))
    inside = tuple(slice(1, -1) for _ in shape)
    images[(slice(None), *inside)] = np.random.default_rng(seed).uniform(50, 900, (channels, *(s - 2 for s in shape)))
    return z_scored(images)


def random_labels(shape: Sequence[int] = (6, 5, 4)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[1, 1, 1], labels[2, 2, 1], labels[3, 2, 2] = 1, 2, 3
    return labels


def as_rfnet(nifti: Path, root: Path, prefix: str = "", without: Sequence[str] = ()) -> list[str]:
    """Writes the cases of a folder, named as in BraTS, as their preprocess.py does, and returns the names.

    prefix: before the names of cases; without: modalities that become channels of zeros
    """
    names = []
    for case in find_cases(nifti):
        images = [np.asarray(nibabel.load(case.images[m]).dataobj, dtype=np.float32) for m in CHANNELS]
        stacked = np.stack([np.zeros_like(i) if m in without else i for m, i in zip(CHANNELS, images, strict=True)])
        labels = np.asarray(nibabel.load(case.label).dataobj).astype(np.uint8)
        labels[labels == 4] = 3
        names.append(f"{prefix}{case.name}")
        write_volumes(root, names[-1], z_scored(stacked), labels)
    return names
