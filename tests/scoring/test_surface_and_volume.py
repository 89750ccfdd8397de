"""The surface Dice against MONAI's, and volumes by hand."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_surface_dice
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gmd.scoring.segmentation.metrics import surface_dice, volumes

SPACING = (0.5, 1.0, 3.0)


def blobs(seed: int) -> Tensor:
    """Two regions, bool [2, 12, 9, 14]."""
    noise = np.random.default_rng(seed).standard_normal((2, 12, 9, 14))
    return torch.from_numpy(gaussian_filter(noise, (0, 1.5, 1.5, 1.5)) > 0.1)


@given(seed=st.integers(0, 2**31), tolerance=st.sampled_from([0.4, 0.5, 1.0, 3.0, 100.0]))
@settings(max_examples=15, deadline=None)
def test_it_is_the_surface_dice_of_monai(seed: int, tolerance: float):
    predicted, target = blobs(seed), blobs(seed + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = compute_surface_dice(
            predicted[None], target[None], [tolerance] * 2, include_background=True, spacing=list(SPACING)
        )
    found = surface_dice(predicted, target.to(torch.uint8), SPACING, tolerance)
    assert found == pytest.approx(theirs[0].tolist(), abs=1e-6)


def test_empty_masks():
    nothing, something = torch.zeros(1, 4, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, 4, dtype=torch.bool)
    assert surface_dice(nothing, nothing, SPACING, 1.0) == [1.0]
    assert surface_dice(nothing, something, SPACING, 1.0) == surface_dice(something, nothing, SPACING, 1.0) == [0.0]


def test_volumes_are_in_ml():
    predicted, target = torch.zeros(2, 10, 10, 10, dtype=torch.bool), torch.zeros(2, 10, 10, 10, dtype=torch.bool)
    predicted[:, :5], target[1, :, :8] = True, True
    first, second = volumes(predicted, target, (1.0, 2.0, 3.0))
    assert first == {"true_ml": 0.0, "predicted_ml": 3.0, "error_ml": 3.0, "relative_error": None}
    assert second == pytest.approx({"true_ml": 4.8, "predicted_ml": 3.0, "error_ml": 1.8, "relative_error": 0.375})
