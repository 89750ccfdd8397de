"""Volumes in numpy's `.npy`, as nibabel has images: without a place in space, so that a voxel counts as 1 mm."""

from pathlib import Path

import numpy as np
from nibabel.spatialimages import SpatialImage

from gmd.data.segmentation.npy_voxels import NpyVoxels


def open_npy(path: Path) -> SpatialImage:
    """Opens an array of numpy as an image whose voxels are 1 mm along each axis, in RAS+ as they lie.

    Raises UserError as `NpyVoxels`, and what it raises.
    """
    image = SpatialImage(NpyVoxels(path), np.eye(4))
    if image.get_data_dtype() == np.float16:  # which no NIfTI header can say, as that of a prediction has to
        image.set_data_dtype(np.float32)
    return image
