"""Says what is unusual about the grids of volumes: what a network sees depends on their spacing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from nibabel.affines import voxel_sizes

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.nifti import read_affine
from gmd.errors import UserError

USUAL_SPACING = (2 / 3, 3 / 2)  # mm; BraTS's volumes have 1 mm along each axis


def affines_of(cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """Reads the affine of each case's first image, [4, 4], by the case's name.

    They are for notes only, so cases that cannot be read have none: reading them for training says why. Nor have cases
    that are arrays of numpy, whose files say nothing of it.
    """
    found = {}
    for case in (case for case in cases if not case.z_scored):
        with suppress(UserError):
            found[case.name] = read_affine(next(iter(case.images.values())))
    return found


def grid_notes(affines: Mapping[str, np.ndarray]) -> list[str]:
    """Returns a sentence on each of the two that occurs: spacing far from 1 mm, and an affine that is the identity.

    affines: case -> [4, 4], voxel indices to mm
    """
    low, high = USUAL_SPACING
    far = [name for name, affine in affines.items() if not all(low <= mm <= high for mm in voxel_sizes(affine))]
    unsaid = [name for name, affine in affines.items() if np.array_equal(affine, np.eye(4))]
    notes = []
    if far:
        spacing = " x ".join(f"{mm:.3g}" for mm in voxel_sizes(affines[far[0]]))
        notes.append(
            f"spacing far from 1 mm in {len(far)} of {len(affines)} cases, as {spacing} mm in {far[0]}: nothing is "
            "resampled, and a network sees voxels, so train and predict on one spacing"
        )
    if unsaid:
        notes.append(
            f"an affine that is the identity in {len(unsaid)} of {len(affines)} cases, as in {unsaid[0]}: if the true "
            "one was lost, left and right may be exchanged, and what is told in mm is in voxels"
        )
    return notes
