"""Volumes as the page holds them: a byte a voxel, cropped to the brain, compressed, in letters; and back.

Every voxel comes back as it was, in every browser: what a page draws and reads back may be something else, as browsers
that guard privacy add noise to it. And one copy serves slices along all three axes.
"""

import base64
import zlib

import numpy as np
from torch import Tensor

MARGIN = 3  # voxels that are kept around the brain
LEVEL = 6  # zlib's; 9 takes twice as long for files one per cent smaller

Box = tuple[slice, slice, slice]


def brain_box(case: dict) -> Box:
    """Returns the part of a case that is shown: the bounding box of its brain, and of its truth, with a margin.

    case: of `load_case`, with its target
    """
    shown = case["brain"][0].numpy() | case["target"].any(dim=0).numpy()
    lines = (shown.any(axis=axes) for axes in ((1, 2), (0, 2), (0, 1)))
    x, y, z = (_extent(line) for line in lines)
    return x, y, z


def grey(image: Tensor, box: Box) -> np.ndarray:
    """Returns the grey values of an image: 0.5th to 99.5th percentile of what it shows -> 1 to 255; 0 outside of that.

    image: float [1, X, Y, Z], 0 outside what the modality shows, which is something
    returns uint8, of the shape of the box
    """
    whole = image[0].numpy()
    part, shown = whole[box], whole[whole != 0]
    low, high = np.percentile(shown, (0.5, 99.5))
    levels = 1 + 254 * ((part - low) / max(high - low, np.finfo(np.float32).tiny)).clip(0, 1)
    return np.where(part != 0, levels.round(), 0).astype(np.uint8)


def region_bits(regions: Tensor, box: Box) -> np.ndarray:
    """Returns the regions of each voxel as bits, 1 for the first region, 2 for the second, 4 for the third.

    regions: bool or uint8 (0, 1) [R, X, Y, Z], of at most 8 regions
    returns uint8, of the shape of the box
    """
    [bits] = np.packbits(regions[(slice(None), *box)].cpu().numpy(), axis=0, bitorder="little")
    return bits


def in_letters(volume: np.ndarray) -> str:
    """Returns a volume as text: base64 of zlib's format, of the differences between neighbours along the last axis.

    volume: uint8 [X, Y, Z]; the differences are taken modulo 256
    """
    steps = np.diff(volume, axis=-1, prepend=np.uint8(0))
    return base64.b64encode(zlib.compress(steps.tobytes(), LEVEL)).decode("ascii")


def _extent(line: np.ndarray) -> slice:
    """Returns from where to where a line is true, with the margin. line: bool [N], true somewhere"""
    [places] = np.nonzero(line)
    return slice(max(int(places[0]) - MARGIN, 0), min(int(places[-1]) + 1 + MARGIN, len(line)))
