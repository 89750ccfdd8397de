"""From label maps to regions."""

import numpy as np
import pytest

from gmd.data.segmentation.labels import SCHEMES, region_targets
from helpers.nifti_cases import SHAPE, error_of, labels_of


@pytest.mark.parametrize(
    ("scheme", "regions"),
    [
        ("brats2015", {"WT": {1, 2, 3, 4}, "TC": {1, 3, 4}, "ET": {4}}),
        ("brats2018", {"WT": {1, 2, 4}, "TC": {1, 4}, "ET": {4}}),
        ("brats2023", {"WT": {1, 2, 3}, "TC": {1, 3}, "ET": {3}}),
        ("binary", {"lesion": {1}}),
    ],
)
def test_region_targets(scheme, regions):
    labels = labels_of(*SCHEMES[scheme].values)
    targets = region_targets(labels, SCHEMES[scheme], "file")
    assert targets.shape == (len(regions), *SHAPE)
    assert targets.dtype == np.uint8
    assert list(SCHEMES[scheme].regions) == list(regions)
    for target, values in zip(targets, regions.values(), strict=True):
        np.testing.assert_array_equal(target, np.isin(labels, list(values)))


def test_label_values_rescaled_in_the_header(tmp_path):
    labels = labels_of(1, 2, 4).astype(np.float32) * np.float32(0.99999997)
    assert region_targets(labels, SCHEMES["brats2018"], "f").sum(axis=(1, 2, 3)).tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("values", "scheme", "hint"),
    [
        ((1, 2, 3), "brats2018", "fit the label scheme brats2015 or brats2023"),
        ((1, 2, 4), "brats2023", "fit the label scheme brats2015 or brats2018"),
        ((1, 2, 3, 4), "brats2018", "fit the label scheme brats2015"),
        ((1, 7), "brats2018", "no known scheme"),
        ((1, -1), "binary", "no known scheme"),
        ((1, 0.5), "binary", "no known scheme"),
        ((1, 256), "binary", "no known scheme"),  # 0 as uint8
    ],
)
def test_unknown_labels(values, scheme, hint):
    labels = labels_of(0).astype(np.float32)
    labels.flat[-len(values) :] = values
    message = error_of(region_targets, labels, SCHEMES[scheme], "a/seg.nii")
    listed = ", ".join(f"{value:g}" for value in sorted({0, *values}))
    assert message.startswith(f"a/seg.nii: label values {listed} found, but scheme '{scheme}' has only 0,")
    assert hint in message
