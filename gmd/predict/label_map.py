"""Turns predicted regions into the label values of a data set: the inverse of `region_targets`."""

import numpy as np

from gmd.data.segmentation.label_scheme import LabelScheme


def paint(regions: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Makes the label map that has these regions.

    Each voxel gets the value of the innermost region predicted there. So a voxel of ET is ET, and thereby part of TC
    and WT, even where the network said so of neither: regions that are nested come back from `region_targets` as they
    were, others grow by what was predicted inside them.

    regions: bool [R, X, Y, Z], in the scheme's order, from the outermost to the innermost
    returns uint8 [X, Y, Z]
    """
    labels = np.zeros(regions.shape[1:], np.uint8)
    for region, value in zip(regions, region_values(scheme), strict=True):
        labels[region] = value
    return labels


def region_values(scheme: LabelScheme) -> list[int]:
    """Returns the label value of each region's voxels that are in no region further in, in the scheme's order.

    BraTS 2018-2021: 2, 1, 4; from 2023: 2, 1, 3. BraTS 2015: 2, 1, 4, since necrosis (1) and non-enhancing core (3) are
    one region to the network. binary: 1. A region that those further in fill has no such value, and gets its first.
    """
    regions = list(scheme.regions.values())
    inner = [set().union(*regions[place + 1 :]) for place in range(len(regions))]
    return [
        next((value for value in own if value not in further), own[0])
        for own, further in zip(regions, inner, strict=True)
    ]
