"""The rule of BraTS 2023 by hand: what is dilated, merged, missed, invented and too small to be scored."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gmd.scoring.segmentation.lesion_wise_2023 import PENALTY, lesion_scores_2023

SHAPE = (40, 24, 24)
Box = tuple[slice, slice, slice]
LARGE: Box = np.s_[4:10, 4:10, 4:10]  # 216 voxels
SHIFTED: Box = np.s_[5:11, 4:10, 4:10]  # 5/6 of LARGE
NEAR: Box = np.s_[14:20, 4:10, 4:10]  # 4 voxels away from LARGE
FAR: Box = np.s_[30:36, 14:20, 14:20]
FIFTY: Box = np.s_[30:35, 14:19, 14:16]  # 50 voxels, which are too few


def mask(*boxes: Box) -> Tensor:
    """One region, bool [1, X, Y, Z]."""
    filled = torch.zeros(1, *SHAPE, dtype=torch.bool)
    for box in boxes:
        filled[(0, *box)] = True
    return filled


NOTHING = mask()


def numbers(predicted: Tensor, target: Tensor, scheme: str = "brats2023", spacing=(1.0, 1.0, 1.0)) -> tuple[float, ...]:
    """Dice, HD95, and how many were found, invented and missed."""
    [found] = lesion_scores_2023(predicted, target, spacing, scheme)
    assert list(found) == [f"lesion2023_{name}" for name in ("dice", "hd95", "tp", "fp", "fn")]
    return tuple(found.values())


@pytest.mark.parametrize(
    ("predicted", "target", "expected"),
    [
        (NOTHING, NOTHING, (1, 0, 0, 0, 0)),
        (NOTHING, mask(LARGE, FAR), (0, PENALTY, 0, 0, 2)),
        (mask(LARGE, FAR), NOTHING, (0, PENALTY, 0, 2, 0)),
        (mask(SHIFTED), mask(LARGE), (5 / 6, 1, 1, 0, 0)),
        (mask(SHIFTED), mask(LARGE, FAR), (5 / 12, (1 + PENALTY) / 2, 1, 0, 1)),
        (mask(SHIFTED, FAR), mask(LARGE), (5 / 12, (1 + PENALTY) / 2, 1, 1, 0)),
        (mask(FAR), mask(LARGE), (0, PENALTY, 0, 1, 1)),
        (mask(LARGE, FAR), mask(LARGE, FAR), (1, 0, 2, 0, 0)),
    ],
    ids=["empty", "missed", "invented", "shifted", "one missed", "one invented", "elsewhere", "equal"],
)
def test_missed_and_invented_lesions_count_as_nothing_at_374_mm(predicted: Tensor, target: Tensor, expected: tuple):
    assert numbers(predicted, target) == pytest.approx(expected)


def test_lesions_that_touch_once_they_are_dilated_are_one():
    """By 3 voxels each, LARGE and NEAR meet; by the 1 voxel of metastases they do not."""
    assert numbers(mask(LARGE), mask(LARGE, NEAR))[:1] == pytest.approx((2 / 3,))
    assert numbers(mask(LARGE), mask(LARGE, NEAR))[2:] == (1, 0, 0)
    assert numbers(mask(LARGE), mask(LARGE, NEAR), "brats2023-met") == pytest.approx((0.5, PENALTY / 2, 1, 0, 1))


def test_a_component_belongs_to_the_lesion_that_it_meets_dilated():
    """It need not overlap it: it lies 2 voxels beside the lesion, and counts in its Dice."""
    beside = np.s_[12:14, 4:10, 4:10]  # 72 voxels
    assert numbers(mask(LARGE, beside), mask(LARGE))[:1] == pytest.approx((2 * 216 / (216 + 216 + 72),))
    assert numbers(mask(LARGE, beside), mask(LARGE))[2:] == (1, 0, 0)
    assert numbers(mask(LARGE, beside), mask(LARGE), "brats2023-men")[2:] == (1, 1, 0)


def test_lesions_of_50_voxels_are_not_scored_and_what_meets_them_is_no_error():
    assert numbers(mask(LARGE), mask(LARGE, FIFTY)) == (1, 0, 1, 0, 0)
    assert numbers(mask(LARGE, FIFTY), mask(LARGE, FIFTY)) == (1, 0, 1, 0, 0)
    assert numbers(mask(FIFTY), mask(FIFTY)) == (1, 0, 0, 0, 0)
    # an invented one counts however small it is
    assert numbers(mask(LARGE, np.s_[30:31, 14:15, 14:15]), mask(LARGE))[2:] == (1, 1, 0)


def test_the_threshold_is_a_volume_and_that_of_metastases_is_lower():
    assert numbers(NOTHING, mask(FIFTY), "brats2023-met") == (0, PENALTY, 0, 0, 1)
    assert numbers(NOTHING, mask(FIFTY), spacing=(1.0, 1.0, 1.1)) == (0, PENALTY, 0, 0, 1)
    assert numbers(mask(SHIFTED), mask(LARGE), spacing=(2.0, 1.0, 1.0))[1] == pytest.approx(2)
    two = np.s_[20:21, 10:11, 10:12]
    assert numbers(NOTHING, mask(two), "brats2025-met") == (1, 0, 0, 0, 0)


def test_regions_are_scored_one_by_one_and_components_touch_at_corners():
    corner = np.s_[10:12, 10:12, 10:12]
    predicted, target = torch.cat([mask(SHIFTED), NOTHING]), torch.cat([mask(LARGE), mask(LARGE, corner)])
    first, second = lesion_scores_2023(predicted.to(torch.uint8), target, (1, 1, 1), "brats2023-met")
    assert (first["lesion2023_tp"], second["lesion2023_fn"]) == (1, 1)
