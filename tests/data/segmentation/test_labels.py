"""From label maps to regions."""

from dataclasses import replace

import numpy as np
import pytest

from gmd.data.segmentation.labels import SCHEMES, region_targets
from gmd.data.segmentation.own_labels import option_of, read_scheme
from helpers.nifti_cases import SHAPE, error_of, labels_of


@pytest.mark.parametrize(
    ("scheme", "regions"),
    [
        ("brats2015", {"WT": {1, 2, 3, 4}, "TC": {1, 3, 4}, "ET": {4}}),
        ("brats2018", {"WT": {1, 2, 4}, "TC": {1, 4}, "ET": {4}}),
        ("brats2023", {"WT": {1, 2, 3}, "TC": {1, 3}, "ET": {3}}),
        ("brats2024-gli", {"WT": {1, 2, 3}, "TC": {1, 3}, "ET": {3}, "RC": {4}}),
        ("brats2024-ped", {"WT": {1, 2, 3, 4}, "TC": {1, 2, 3}, "ET": {1}}),
        ("brats2024-men-rt", {"GTV": {1}}),
        ("msd", {"WT": {1, 2, 3}, "TC": {2, 3}, "ET": {3}}),
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
    ("values", "scheme", "unknown", "offered"),
    [
        # the same number is a cavity for one challenge and enhancing tumour for another
        (
            (1, 2, 3, 4),
            "brats2023",
            "4",
            ("brats2015: 1 necrosis, 2 oedema, 3 non-enhancing tumour, 4 enhancing tumour", "4 resection cavity"),
        ),
        ((1, 2, 4), "brats2023", "4", ("brats2018: ", "brats2024-gli: ", "brats2024-ped: 1 enhancing tumour")),
        # the decathlon's numbers are those of BraTS 2023, and mean otherwise
        (
            (1, 2, 3),
            "brats2018",
            "3",
            ("brats2023: 1 necrotic core, 2 oedema", "msd: 1 oedema, 2 non-enhancing tumour"),
        ),
        ((1, 7), "brats2018", "7", ()),
        ((1, -1), "binary", "-1", ()),
        ((1, 0.5), "binary", "0.5", ()),
        ((255,), "binary", "255", ()),
        ((1, 256), "binary", "256", ()),  # 0 as uint8
    ],
)
def test_numbers_that_fit_are_told_with_their_meanings_and_none_is_recommended(values, scheme, unknown, offered):
    labels = labels_of(0).astype(np.float32)
    labels.flat[-len(values) :] = values
    message = error_of(region_targets, labels, SCHEMES[scheme], "a/seg.nii")
    listed = ", ".join(f"{value:g}" for value in sorted({0, *values}))
    assert message.startswith(
        f"a/seg.nii: label values {listed} found, but scheme '{scheme}' has no {unknown}; it says"
    )
    for meaning in offered:
        assert meaning in message
    assert ("These have all values of the file" in message) == bool(offered)
    assert "that a scheme has the number does not make it right" in message
    assert "--labels brats" not in message


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_regions_lie_in_each_other_or_apart(scheme):
    assert read_scheme(option_of(replace(scheme, name="mine"))) == replace(scheme, name="mine")
    assert read_scheme(option_of(scheme)) == scheme


def test_a_scheme_includes_another_where_its_numbers_mean_the_same_regions():
    def included(a: str, b: str) -> bool:
        return SCHEMES[a].includes(SCHEMES[b])

    assert included("brats2024-gli", "brats2023")
    assert included("brats2025-met", "brats2023-met")
    assert included("brats2023", "brats2023-men")
    assert not included("brats2023", "brats2024-gli")
    assert not included("brats2024-ped", "brats2023-ped")
    assert not included("msd", "brats2023")
    assert not included("brats2018", "binary")
