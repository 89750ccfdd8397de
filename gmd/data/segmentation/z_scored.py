"""Volumes that come z-scored, as the `.npy` of RFNet, mmFormer and those after them.

Their `preprocess.py` takes mean and standard deviation over the voxels where the sum of all modalities is above 0, and
then subtracts and divides everywhere. So the background is not 0 but one negative number, another one in each modality
and case: -mean / deviation. The numbers in the brain are used as they are: to normalise anew would be by the statistics
of another brain. The background becomes 0, as everywhere in gmd: a network here sees 0 where there is nothing.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gmd.data.segmentation.case import Case
from gmd.errors import UserError

# that of the brain as it is seen here, which is not quite the one that mean and deviation were taken of
MOST_MEAN, DEVIATIONS = 0.5, (0.5, 2.0)


def without_background(image: np.ndarray) -> np.ndarray:
    """Returns a volume with 0 for its background: the value that its eight corners have, if it is one.

    A brain's bounding box has no brain in its corners. Where they differ there is no background to be told.

    image, returns: float32 [X, Y, Z]
    """
    corners = image[np.ix_(*((0, -1),) * 3)]
    if (corners != corners.flat[0]).any():
        return image
    return np.where(image == corners.flat[0], np.float32(0), image)


def check_z_scored(path: Path, modality: str, values: np.ndarray) -> None:
    """Raises UserError unless values have about mean 0 and standard deviation 1.

    values: float32 [n], of a modality in the brain; none: there is nothing to say of them
    """
    if not values.size:
        return
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if abs(mean) > MOST_MEAN or not DEVIATIONS[0] <= deviation <= DEVIATIONS[1]:
        raise UserError(
            f"{path}: {modality} has mean {mean:.3g} and standard deviation {deviation:.3g} in the brain; a .npy is "
            "expected z-scored, as RFNet's preprocess.py writes it (about 0 and 1): normalise it so, or give NIfTI "
            "files, which gmd normalises"
        )


def notes_on_z_scored(cases: Iterable[Case], modalities: Sequence[str]) -> list[str]:
    """Returns what a user should know of those cases that come z-scored: how they are read, and what they lack.

    modalities: those of the run
    """
    ours = [case for case in cases if case.z_scored]
    if not ours:
        return []
    notes = [
        f"{len(ours)} cases are arrays of numpy: their numbers are used as they are, z-scored; the background, the "
        "value of a volume's corners, becomes 0; they say no spacing, so a voxel counts as 1 mm: HD95 is in voxels"
    ]
    absent = {m: sum(m in case.channels and m not in case.images for case in ours) for m in modalities}
    if listed := ", ".join(f"{modality} in {count}" for modality, count in absent.items() if count):
        notes.append(f"channels of one value count as missing: {listed} of {len(ours)} cases")
    return notes
