"""Volumes of a page: what is shown of a case, and that every voxel comes back as it was."""

import base64
import zlib

import numpy as np
import pytest
import torch

from gmd.data.segmentation.own_labels import MOST_REGIONS
from gmd.pictures.case import REGION_COLOURS
from gmd.view.voxels import MARGIN, brain_box, grey, in_letters, region_bits


def unpacked(letters: str, shape: tuple[int, ...]) -> np.ndarray:
    steps = np.frombuffer(zlib.decompress(base64.b64decode(letters)), np.uint8).reshape(shape)
    return np.cumsum(steps, axis=-1, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(5, 7, 11), (1, 1, 1), (3, 1, 4)], ids=str)
def test_every_voxel_comes_back(shape: tuple[int, int, int]):
    volume = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(unpacked(in_letters(volume), shape), volume)
    assert in_letters(volume) == in_letters(np.asfortranarray(volume))


def test_the_brain_and_a_truth_outside_of_it_are_shown_with_a_margin():
    brain = torch.zeros(1, 20, 30, 10, dtype=torch.bool)
    brain[0, 8:12, 10:20, 0:9] = True
    case = {"brain": brain, "target": torch.zeros(3, 20, 30, 10, dtype=torch.uint8)}
    assert brain_box(case) == (slice(8 - MARGIN, 12 + MARGIN), slice(10 - MARGIN, 20 + MARGIN), slice(0, 10))
    case["target"][1, 19, 15, 5] = 1
    assert brain_box(case)[0] == slice(5, 20)
    assert not brain[0, 19].any(), "the case itself is as it was"


def test_grey_values_go_from_black_outside_to_white_at_the_percentile():
    values = torch.linspace(-2, 2, 1000)
    image = torch.zeros(1, 12, 10, 10)
    image[0, :10] = values.view(10, 10, 10)
    image[0, 0, 0, 0], image[0, 9, 9, 9] = -50, 50  # beyond the percentiles
    box = (slice(0, 12), slice(0, 10), slice(2, 10))
    shown = grey(image, box)
    assert (shown.shape, shown.dtype) == ((12, 10, 8), np.uint8)
    assert not shown[10:].any(), "outside"
    inside = shown[:10]
    assert (inside.min(), inside.max()) == (1, 255)
    assert np.all(np.diff(inside.reshape(-1)[1:-1].astype(int)) >= 0)
    assert abs(int(np.median(inside)) - 128) <= 2


def test_an_image_of_one_value_is_no_division_by_zero():
    image = torch.zeros(1, 4, 4, 4)
    image[0, 1:3] = 0.7
    assert set(np.unique(grey(image, (slice(0, 4),) * 3))) == {0, 1}


def test_regions_become_bits():
    regions = torch.zeros(3, 4, 4, 4, dtype=torch.bool)
    regions[0, :3], regions[1, :2], regions[2, 0] = True, True, True
    bits = region_bits(regions, (slice(0, 4), slice(1, 3), slice(0, 4)))
    assert bits.shape == (4, 2, 4)
    assert [int(bits[x, 0, 0]) for x in range(4)] == [7, 3, 1, 0]
    assert np.array_equal(region_bits(regions.to(torch.uint8), (slice(0, 4), slice(1, 3), slice(0, 4))), bits)


def test_every_region_has_a_bit_and_a_colour():
    assert MOST_REGIONS == len(REGION_COLOURS) <= 8
    regions = torch.ones(9, 1, 1, 1, dtype=torch.bool)
    assert region_bits(regions[:8], (slice(0, 1),) * 3).item() == 255
    with pytest.raises(ValueError, match="too many values"):
        region_bits(regions, (slice(0, 1),) * 3)
