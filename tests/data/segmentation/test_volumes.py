"""From the files of a case to tensors: what is checked between them, and what normalisation promises."""

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmd.data.segmentation.cases import BRATS_MODALITIES, Case, find_cases
from gmd.data.segmentation.data_sets import DataSet
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.splits import split_cases
from gmd.data.segmentation.volumes import load_case, normalise
from helpers.nifti_cases import (
    BRATS15,
    OBLIQUE,
    OPEN_MS,
    ORIENTATIONS,
    SHAPE,
    error_of,
    labels_of,
    make_case,
    names,
    random_image,
    real_data,
    save,
    stored_as,
)


def test_load_case(tmp_path):
    make_case(tmp_path / "a", keys=("t1ce", "flair", "seg"))
    [case] = find_cases(tmp_path)
    loaded = load_case(case)
    assert set(loaded) == {"flair", "t1ce", "target", "scheme", "brain", "name", "affine"}  # t1, t2: no key, no zeros
    assert loaded["name"] == "a"
    expected = {"flair": (torch.float32, 1), "target": (torch.uint8, 3), "brain": (torch.bool, 1)}
    for key, (dtype, channels) in expected.items():
        assert loaded[key].shape == (channels, *SHAPE)
        assert loaded[key].dtype == dtype
    np.testing.assert_array_equal(loaded["affine"], np.eye(4))
    assert loaded["affine"].dtype == np.float64
    brain = random_image() > 0
    np.testing.assert_array_equal(loaded["brain"][0], brain)
    np.testing.assert_array_equal(loaded["t1ce"][0], normalise(random_image(0).astype(np.float32), brain))
    assert loaded["target"].sum(dim=(1, 2, 3)).tolist() == [2, 1, 0]


def test_load_case_without_labels(tmp_path):
    make_case(tmp_path / "a", keys=("flair",))
    [case] = find_cases(tmp_path, require_label=False)
    assert "target" not in load_case(case, labels=False)
    assert "target" not in load_case(case)


def test_the_brain_mask_file_wins_over_non_zero_voxels(tmp_path):
    image = random_image().astype(np.float32) - 0.5  # no zero anywhere
    mask = np.zeros(SHAPE, np.float32)
    mask[2:5] = 0.99999997
    case = Case("a", {"t1": save(tmp_path / "t1.nii.gz", image)}, mask=save(tmp_path / "mask.nii.gz", mask))
    loaded = load_case(case, labels=False)
    np.testing.assert_array_equal(loaded["brain"][0], mask > 0.5)
    assert not loaded["t1"][~loaded["brain"]].any()


def test_the_brain_is_where_any_modality_is_non_zero(tmp_path):
    first, second = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    first[1], second[2] = random_image(1)[1], -random_image(2)[2]
    paths = {"t1": save(tmp_path / "t1.nii", first), "t2": save(tmp_path / "t2.nii", second)}
    brain = load_case(Case("a", paths), labels=False)["brain"][0]
    assert brain[1:3].all()
    assert brain.sum() == brain[1:3].numel()


def test_a_modality_is_what_it_would_be_if_the_case_had_no_other(tmp_path):
    """Otherwise the subset `t1` of a full case would know something of the other modalities."""
    t1, flair = random_image(0), random_image(1)
    t1[:, 1] = 0  # dark where flair is not
    paths = {"flair": save(tmp_path / "flair.nii.gz", flair), "t1": save(tmp_path / "t1.nii.gz", t1)}
    alone = load_case(Case("a", {"t1": paths["t1"]}), labels=False)["t1"]
    assert torch.equal(load_case(Case("a", paths), labels=False)["t1"], alone)


def test_a_modality_without_a_single_voxel_is_named(tmp_path):
    paths = {
        "flair": save(tmp_path / "f.nii.gz", random_image()),
        "t1": save(tmp_path / "t.nii.gz", 0 * random_image()),
    }
    assert f"{paths['t1']}: every voxel is 0" in error_of(load_case, Case("a", paths), labels=False)


def test_a_modality_that_is_zero_counts_as_absent_on_request(tmp_path):
    paths = {key: save(tmp_path / f"{key}.nii.gz", random_image(seed)) for seed, key in enumerate(("flair", "t2"))}
    alone = load_case(Case("a", paths), labels=False)
    paths["t1"] = save(tmp_path / "t1.nii.gz", 0 * random_image())
    assert "--zero-is-missing" in error_of(load_case, Case("a", paths), labels=False)
    loaded = load_case(Case("a", paths), labels=False, zero_is_missing=True)
    assert loaded.keys() == alone.keys()
    assert all(torch.equal(loaded[key], alone[key]) for key in (*paths, "brain") if key in alone)
    nothing = Case("a", {"t1": paths["t1"]})
    assert "every voxel of every modality is 0" in error_of(load_case, nothing, labels=False, zero_is_missing=True)


@pytest.mark.parametrize("outliers", [0, 1])
def test_a_modality_with_one_value_only(tmp_path, outliers):
    """A mask given for a T1, say: normalised it is 0 everywhere, which passed for an image."""
    paths = {"flair": save(tmp_path / "flair.nii.gz", np.tile(random_image(), (2, 2, 2)))}
    alone = load_case(Case("a", paths), labels=False)
    constant = 7 * (nibabel.load(paths["flair"]).get_fdata() > 0).astype(np.int16)
    constant[-outliers:, 0, 0] += outliers
    paths["t1"] = save(tmp_path / "t1.nii.gz", constant)
    message = error_of(load_case, Case("a", paths), labels=False)
    assert f"{paths['t1']}: every voxel that is not 0 is 7, or nearly every one (a mask?)" in message
    assert "--zero-is-missing" in message
    loaded = load_case(Case("a", paths), labels=False, zero_is_missing=True)
    assert "t1" not in loaded
    assert torch.equal(loaded["flair"], alone["flair"])
    mask = save(tmp_path / "mask.nii.gz", (constant > 0).astype(np.uint8))
    case = Case("a", {"t1": paths["t1"]}, mask=mask)
    assert f"every voxel inside {mask} is 7, or nearly every" in error_of(load_case, case, labels=False)
    message = error_of(load_case, case, labels=False, zero_is_missing=True)
    assert f"case a: every modality has one value only inside {mask}" in message


def test_a_modality_that_is_zero_inside_the_brain_mask(tmp_path):
    """It was taken for an image that is the same everywhere: the network saw zeros instead of a missing modality."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[0] = 1  # where the t1 is 0
    mask = save(tmp_path / "mask.nii.gz", mask)
    shifts = {"flair": 1, "t1": 0}
    flair, t1 = (save(tmp_path / f"{m}.nii.gz", np.roll(random_image(), by, 0)) for m, by in shifts.items())
    case = Case("a", {"flair": flair, "t1": t1}, mask=mask)
    assert f"{t1}: every voxel inside {mask} is 0" in error_of(load_case, case, labels=False)
    assert "t1" not in load_case(case, labels=False, zero_is_missing=True)
    message = error_of(load_case, Case("a", {"t1": t1}, mask=mask), labels=False, zero_is_missing=True)
    assert f"every modality has one value only inside {mask}" in message


def test_a_case_is_the_same_however_its_files_are_stored(tmp_path):
    """All 48 orientations; label map and mask with the images, and each file of a case in another one."""
    arrays = {"flair": random_image(0), "t1": random_image(1), "seg": labels_of(1, 2, 4), "mask": random_image(2) > 300}
    arrays["mask"] = arrays["mask"].astype(np.uint8)
    paths = {key: tmp_path / f"{key}.nii" for key in arrays}
    case = Case("a", {key: paths[key] for key in ("flair", "t1")}, paths["seg"], paths["mask"], SCHEMES["brats2018"])
    loaded = []
    for first in range(len(ORIENTATIONS)):
        for number, (key, data) in enumerate(arrays.items()):
            save(paths[key], *stored_as(ORIENTATIONS[(first + 5 * number) % len(ORIENTATIONS)], data))
        loaded.append(load_case(case))
    expected = loaded[0]
    assert expected["target"].sum(dim=(1, 2, 3)).tolist() == [3, 2, 1]
    np.testing.assert_array_equal(expected["brain"][0], arrays["mask"])
    np.testing.assert_array_equal(expected["flair"][0], normalise(arrays["flair"] + np.float32(0), arrays["mask"] > 0))
    for other in loaded:
        np.testing.assert_allclose(other["affine"], OBLIQUE, atol=1e-5)
        for key in ("flair", "t1", "target", "brain"):
            torch.testing.assert_close(other[key], expected[key], rtol=0, atol=1e-6)


def test_shapes_that_differ(tmp_path):
    make_case(tmp_path / "a")
    save(tmp_path / "a" / "a_t1.nii.gz", np.ones((6, 5, 3), np.int16))
    [case] = find_cases(tmp_path)
    message = error_of(load_case, case)
    for part in ("case a", "a_flair.nii.gz and a_t1.nii.gz", "(6, 5, 4) and (6, 5, 3)"):
        assert part in message


def test_spacings_that_differ(tmp_path):
    paths = {"flair": save(tmp_path / "f.nii", random_image(), np.diag([1, 1, 1.5, 1]))}
    paths["t1"] = save(tmp_path / "t.nii", random_image(1), np.diag([1, 1, 5, 1]))
    message = error_of(load_case, Case("a", paths), labels=False)
    assert "f.nii and t.nii differ in spacing, 1 x 1 x 1.5 and 1 x 1 x 5 mm; resample" in message
    save(paths["t1"], np.ones((6, 5, 3), np.int16), np.diag([-1, 1, 2, 1]))
    message = error_of(load_case, Case("a", paths), labels=False)
    assert "shape, (6, 5, 4) and (6, 5, 3); in spacing, 1 x 1 x 1.5 and 1 x 1 x 2 mm" in message


@pytest.mark.parametrize("key", ["t2", "seg"])
def test_affines_that_differ(tmp_path, key):
    make_case(tmp_path / "a")
    [case] = find_cases(tmp_path)
    path = case.label if key == "seg" else case.images[key]
    for shift, accepted in ((5e-4, True), (2.5, False)):
        affine = np.eye(4)
        affine[1, 3] = shift
        save(path, labels_of(1, 2) if key == "seg" else random_image(), affine)
        if accepted:
            load_case(case)
        else:
            message = error_of(load_case, case)
            assert f"a_flair.nii.gz and {path.name} differ in affine, by 2.5" in message


def test_a_background_that_is_not_zero_is_warned_of(tmp_path):
    path = save(tmp_path / "c_flair.nii.gz", random_image() + np.int16(7))
    with pytest.warns(UserWarning, match=r"case c: 100% of the voxels are not 0.*give a brain mask"):
        load_case(Case("c", {"flair": path}), labels=False)


def test_an_empty_brain(tmp_path):
    empty = np.zeros(SHAPE, np.int16)
    case = Case("a", {"t1": save(tmp_path / "t1.nii.gz", empty)})
    assert "case a: no brain, since every voxel" in error_of(load_case, case, labels=False)
    mask = save(tmp_path / "mask.nii.gz", empty)
    case = Case("a", {"t1": save(tmp_path / "t1.nii.gz", random_image())}, mask=mask)
    assert f"no brain, since {mask} is empty" in error_of(load_case, case, labels=False)
    assert "mask is empty" in error_of(normalise, random_image(), empty > 0)


def test_an_unknown_label_names_the_file(tmp_path):
    make_case(tmp_path / "a")
    save(tmp_path / "a" / "a_seg.nii.gz", labels_of(1, 2, 3))
    [case] = find_cases(tmp_path)
    assert f"{case.label}: label values 0, 1, 2, 3 found" in error_of(load_case, case)


# Normalisation

seeds = st.integers(0, 2**32 - 1)


def image_and_brain(seed):
    rng = np.random.default_rng(seed)
    image = (rng.gamma(2.0, 300.0, (9, 8, 7)) - 100).astype(np.float32)
    return image, rng.random((9, 8, 7)) < rng.uniform(0.1, 0.9)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_normalised_images_have_mean_0_and_deviation_1_inside_and_are_0_outside(seed):
    image, brain = image_and_brain(seed)
    result = normalise(image, brain)
    inside = result[brain].astype(np.float64)
    assert result.dtype == np.float32
    assert not result[~brain].any()
    assert abs(inside.mean()) < 1e-6
    assert abs(inside.std() - 1) < 1e-6


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_normalisation_does_not_depend_on_scale_or_offset(seed, scale, offset):
    image, brain = image_and_brain(seed)
    moved = (image.astype(np.float64) * scale + offset * scale).astype(np.float32)
    np.testing.assert_allclose(normalise(moved, brain), normalise(image, brain), atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_normalisation_does_not_look_outside_the_brain_nor_change_its_input(seed):
    image, brain = image_and_brain(seed)
    other = np.where(brain, image, np.float32(1e6))
    before = other.copy()
    np.testing.assert_array_equal(normalise(other, brain), normalise(image, brain))
    np.testing.assert_array_equal(other, before)


def test_outliers_are_clipped():
    image = np.random.default_rng(0).normal(100, 10, (20, 20, 20)).astype(np.float32)
    brain = np.ones(image.shape, bool)
    expected = normalise(image, brain)
    image.flat[image.argmax()] = 1e6
    np.testing.assert_allclose(normalise(image, brain), expected, atol=1e-3)
    assert expected.max() < 2.8


def test_constant_images_become_zeros():
    for value in (0.0, 0.1, -1e30):
        assert not normalise(np.full(SHAPE, value, np.float32), np.ones(SHAPE, bool)).any()


# Real data


def test_brats15_with_two_modalities():
    splits = split_cases([DataSet(real_data("brats15_two_modalities"), patterns=BRATS15, scheme=SCHEMES["brats2015"])])
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (2, 2, 2)
    loaded = load_case(splits.test[0])
    assert "t1" not in loaded
    assert "t2" not in loaded
    brain, (whole, core, enhancing) = loaded["brain"][0], loaded["target"].bool()
    assert 0.1 < brain.float().mean() < 0.3  # from the mask: the background of these images is not 0
    for modality in ("flair", "t1ce"):
        assert loaded[modality].shape == (1, 240, 240, 155)
        assert not loaded[modality][0][~brain].any()
        assert abs(loaded[modality][0][brain].std() - 1) < 1e-3
    assert whole.sum() > core.sum() > enhancing.sum() > 0
    assert loaded["flair"][0][whole].mean() > 1
    assert loaded["t1ce"][0][enhancing].mean() > 1


def test_open_ms():
    folder = real_data("open_ms")
    cases = find_cases(folder, patterns=OPEN_MS, scheme=SCHEMES["binary"])
    assert names(cases) == ["patient07", "patient19", "patient26"]
    assert all(tuple(case.images) == BRATS_MODALITIES for case in cases)
    assert cases[0].images["t1"].name.startswith("T1_N4")
    assert cases[0].images["t1ce"].name.startswith("T1POST_")
    loaded = load_case(cases[0])
    lesion = loaded["target"][0].bool()
    assert loaded["target"].shape == (1, 182, 218, 182)
    assert 500 < lesion.sum() < 5000
    assert loaded["flair"][0][lesion].mean() > 1
    assert 0.1 < loaded["brain"].float().mean() < 0.3
