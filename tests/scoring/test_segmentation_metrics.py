"""HD95 against all pairs of surface voxels in float64, and BraTS's rule for empty masks."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from torch import Tensor

from gmd.scoring.segmentation.metrics import hausdorff95

SPACINGS = st.tuples(*[st.sampled_from([0.5, 1.0, 1.2, 3.0, 5.0])] * 3)


def surface(mask: np.ndarray) -> np.ndarray:
    """Indices [n, 3] of the voxels of a mask that have a neighbour outside it, found voxel by voxel."""
    padded = np.pad(mask, 1)
    found = []
    for index in np.argwhere(mask):
        neighbours = [index + 1 + step * np.eye(3, dtype=int)[axis] for axis in range(3) for step in (-1, 1)]
        if not all(padded[tuple(n)] for n in neighbours):
            found.append(index)
    return np.array(found)


def oracle(predicted: np.ndarray, target: np.ndarray, spacing: tuple[float, float, float]) -> float:
    pairs = cdist(surface(predicted) * np.float64(spacing), surface(target) * np.float64(spacing))
    return max(np.percentile(pairs.min(axis=1), 95), np.percentile(pairs.min(axis=0), 95))


def blobs(seed: int, shape: tuple[int, ...] = (12, 9, 14)) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5) > 0.1


def regions(*masks: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(masks))


@given(seed=st.integers(0, 2**31), spacing=SPACINGS)
@settings(max_examples=15, deadline=None)
def test_blobs_are_as_far_apart_as_all_pairs_of_their_surfaces_say(seed: int, spacing: tuple[float, float, float]):
    predicted, target = blobs(seed), blobs(seed + 1)
    [distance] = hausdorff95(regions(predicted), regions(target).to(torch.uint8), spacing)
    assert distance == pytest.approx(oracle(predicted, target, spacing), rel=1e-6)


@given(
    masks=st.tuples(*[arrays(bool, (3, 4, 2)).filter(np.any)] * 2),
    spacing=SPACINGS,
)
@settings(max_examples=25, deadline=None)
def test_any_two_small_masks(masks: tuple[np.ndarray, np.ndarray], spacing: tuple[float, float, float]):
    """Single voxels, and masks that fill the image, among them. Truth and prediction may change places."""
    predicted, target = map(regions, masks)
    [distance] = hausdorff95(predicted, target, spacing)
    assert distance == pytest.approx(oracle(*masks, spacing), rel=1e-6)
    assert hausdorff95(target, predicted, spacing) == [distance]


def test_it_is_the_distance_that_monai_computes():
    predicted, target = regions(blobs(1), blobs(2)), regions(blobs(3), blobs(4))
    with warnings.catch_warnings():  # MONAI 1.6 warns of what it calls itself
        warnings.simplefilter("ignore", FutureWarning)
        expected = compute_hausdorff_distance(
            predicted[None], target[None], include_background=True, percentile=95, spacing=[1.0, 2.0, 3.0]
        )
    assert hausdorff95(predicted, target, (1.0, 2.0, 3.0)) == pytest.approx(expected[0].tolist(), rel=1e-6)


def test_a_shift_along_each_axis_is_measured_in_its_millimetres():
    target = np.zeros((16, 16, 16), bool)
    target[4:10, 4:10, 4:10] = True
    for axis, size in enumerate((0.5, 1.0, 4.0)):
        moved = np.roll(target, 3, axis)
        assert hausdorff95(regions(moved), regions(target), (0.5, 1.0, 4.0)) == [3 * size]


def test_masks_at_opposite_ends_of_the_image():
    """The crop to both masks must not cut either."""
    predicted, target = np.zeros((2, 20, 10, 8), bool)
    predicted[0, 0, 0] = target[-1, -1, -1] = True
    assert hausdorff95(regions(predicted), regions(target), (1, 1, 1)) == [pytest.approx(np.hypot(19, np.hypot(9, 7)))]


def test_empty_masks_count_as_in_brats():
    """Both empty: 0. One of them: the diagonal, BraTS's 373.13 mm."""
    some, none = torch.zeros(2, 1, 240, 240, 155, dtype=torch.bool)
    some[0, 5, 5, 5] = True
    assert hausdorff95(none, none, (1, 1, 1)) == [0.0]
    assert hausdorff95(some, none, (1, 1, 1)) == [pytest.approx(373.1287, abs=1e-4)]
    assert hausdorff95(none, some, (1, 1, 1)) == [pytest.approx(373.1287, abs=1e-4)]
    both = hausdorff95(torch.cat([some, none, some]), torch.cat([some, none, none]), (2, 1, 1))
    assert both == [0.0, 0.0, pytest.approx(np.hypot(480, np.hypot(240, 155)))]


@pytest.mark.parametrize("shapes", [((1, 4, 4, 4), (1, 4, 4, 5)), ((4, 4, 4), (4, 4, 4))])
def test_shapes_that_do_not_fit_are_named(shapes: tuple[tuple[int, ...], ...]):
    with pytest.raises(ValueError, match=r"expected \[R, X, Y, Z\] both, got \[.*4, 4, 4\], \[.*4, 4, .\]"):
        hausdorff95(*(torch.zeros(shape, dtype=torch.bool) for shape in shapes), (1, 1, 1))
