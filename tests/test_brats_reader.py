"""From folders of NIfTI files to tensors: what is found, what is checked, and what each error says."""

import gzip
from itertools import chain
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmd.data.cases import BRATS_MODALITIES, Case, find_cases, parse_patterns
from gmd.data.labels import SCHEMES, region_targets
from gmd.data.splits import patient_of, split_cases
from gmd.data.volumes import load_case, normalise
from gmd.errors import UserError

SHAPE = (6, 5, 4)
SUFFIXES = {
    "brats2018": {"flair": "_flair", "t1": "_t1", "t1ce": "_t1ce", "t2": "_t2", "seg": "_seg"},
    "brats2023": {"flair": "-t2f", "t1": "-t1n", "t1ce": "-t1c", "t2": "-t2w", "seg": "-seg"},
}
OPEN_MS = {
    "flair": "FLAIR_*.nii.gz",
    "t1": "T1_*.nii.gz",
    "t1ce": "T1POST_*.nii.gz",
    "t2": "T2_*.nii.gz",
    "seg": "GOLD_STANDARD_*.nii.gz",
}
BRATS15 = {
    "flair": "Flair_*.nii.gz",
    "t1ce": "T1c_*.nii.gz",
    "seg": "OTMultiClass.nii.gz",
    "mask": "brainmask.nii.gz",
}


def save(path, data, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def random_image(seed=0):
    image = np.random.default_rng(seed).integers(1, 1000, SHAPE).astype(np.int16)
    image[0] = 0  # background
    return image


def labels_of(*values):
    labels = np.zeros(SHAPE, np.uint8)
    labels.flat[-len(values) :] = values
    return labels


def make_case(folder, naming="brats2018", keys=(*BRATS_MODALITIES, "seg"), ending=".nii.gz"):
    for seed, key in enumerate(keys):
        data = labels_of(1, 2) if key == "seg" else random_image(seed)
        save(folder / f"{folder.name}{SUFFIXES[naming][key]}{ending}", data)


def empty_case(folder, *names):
    """For tests that only look at names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or (f"{folder.name}_flair.nii.gz", f"{folder.name}_seg.nii.gz"):
        (folder / name).touch()


def error_of(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return str(caught.value)


# --- finding cases --------------------------------------------------------------------------------


@pytest.mark.parametrize("naming", ["brats2018", "brats2023"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_both_namings(tmp_path, naming, ending):
    for name in ("b", "a", "deep/er/c"):
        make_case(tmp_path / name, naming, ending=ending)
    cases, scheme = find_cases(tmp_path)
    assert scheme == naming
    assert [case.name for case in cases] == ["a", "b", "c"]
    assert tuple(cases[0].images) == BRATS_MODALITIES
    for key, path in (*cases[0].images.items(), ("seg", cases[0].label)):
        assert path == tmp_path / "a" / f"a{SUFFIXES[naming][key]}{ending}"


def test_a_case_folder_itself_can_be_the_root(tmp_path):
    make_case(tmp_path / "only")
    assert [case.name for case in find_cases(tmp_path / "only")[0]] == ["only"]


def test_missing_modalities_are_ordinary(tmp_path):
    make_case(tmp_path / "a", keys=("t2", "flair", "seg"))
    make_case(tmp_path / "b", keys=("t1ce", "seg"))
    make_case(tmp_path / "no_images", keys=("seg",))
    cases, _ = find_cases(tmp_path)
    assert [tuple(case.images) for case in cases] == [("flair", "t2"), ("t1ce",)]


def test_a_choice_of_modalities(tmp_path):
    make_case(tmp_path / "a")
    assert tuple(find_cases(tmp_path, ("t2", "flair"))[0][0].images) == ("t2", "flair")
    assert "'ct'" in error_of(find_cases, tmp_path, ("ct",))


def test_labels_can_be_optional(tmp_path):
    make_case(tmp_path / "a", keys=("flair", "t1"))
    [case], _ = find_cases(tmp_path, require_label=False)
    assert case.label is None
    make_case(tmp_path / "b", keys=("flair",))
    message = error_of(find_cases, tmp_path)
    assert str(tmp_path / "a") in message
    assert "*_seg.nii.gz" in message
    assert "only a_flair.nii.gz, a_t1.nii.gz" in message
    assert "1 more case" in message


def test_hidden_files_are_not_seen(tmp_path):
    empty_case(tmp_path / "a", "a_flair.nii.gz", "a_seg.nii.gz", "._a_flair.nii.gz")
    empty_case(tmp_path / ".trash" / "b")
    assert [case.name for case in find_cases(tmp_path)[0]] == ["a"]


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    empty_case(tmp_path / "store" / "a")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").symlink_to(tmp_path / "store" / "a")
    (tmp_path / "set" / "up").symlink_to(tmp_path / "set")
    assert [case.name for case in find_cases(tmp_path / "set")[0]] == ["a"]


def test_equal_folder_names_get_unique_case_names(tmp_path):
    for folder in ("p1/ses1", "p2/ses1", "p2/ses2"):
        empty_case(tmp_path / folder)
    assert [case.name for case in find_cases(tmp_path)[0]] == ["p1__ses1", "p2__ses1", "ses2"]
    empty_case(tmp_path / "p2__ses1")
    assert "would both be called p2__ses1" in error_of(find_cases, tmp_path)


def test_patterns(tmp_path):
    empty_case(tmp_path / "p7", "FLAIR_x.nii.gz", "T1_x.nii.gz", "T1POST_x.nii.gz", "GOLD_STANDARD_x.nii.gz")
    [case], scheme = find_cases(tmp_path, patterns=OPEN_MS)
    assert scheme is None
    assert case.mask is None
    assert {key: path.name for key, path in case.images.items()} == {
        "flair": "FLAIR_x.nii.gz",
        "t1": "T1_x.nii.gz",
        "t1ce": "T1POST_x.nii.gz",
    }
    assert case.label.name == "GOLD_STANDARD_x.nii.gz"


def test_patterns_for_modalities_of_ones_own(tmp_path):
    empty_case(tmp_path / "p", "p_pet.nii", "p_ct.nii")
    patterns = {"pet": "*_pet.nii", "ct": "*_ct.nii"}
    [case], _ = find_cases(tmp_path, ("ct", "pet"), patterns, require_label=False)
    assert list(case.images) == ["ct", "pet"]


def test_ambiguous_patterns_are_refused(tmp_path):
    empty_case(tmp_path / "p", "T1_x.nii.gz", "T1POST_x.nii.gz")
    message = error_of(find_cases, tmp_path, patterns={"t1": "T1*"}, require_label=False)
    assert "T1POST_x.nii.gz and T1_x.nii.gz both match 't1' (T1*)" in message
    # with T1 itself missing, the same pattern would make T1POST two modalities
    (tmp_path / "p" / "T1_x.nii.gz").unlink()
    message = error_of(find_cases, tmp_path, patterns={"t1": "T1*", "t1ce": "T1POST*"}, require_label=False)
    assert "T1POST_x.nii.gz: matches the patterns of 't1' and 't1ce'" in message


def test_several_cases_in_one_folder_are_refused(tmp_path):
    empty_case(tmp_path / "flat", "a_flair.nii.gz", "b_flair.nii.gz")
    message = error_of(find_cases, tmp_path)
    assert "a_flair.nii.gz and b_flair.nii.gz" in message
    assert "a case is a folder" in message


def test_pattern_errors(tmp_path):
    empty_case(tmp_path / "p", "Flair.nii.gz")
    message = error_of(find_cases, tmp_path, patterns={"T1": "T1*"})
    assert "'T1' is not known; the keys are flair, t1, t1ce, t2, seg, mask" in message
    assert "name no modality" in error_of(find_cases, tmp_path, patterns={"seg": "x"})
    assert "add seg=GLOB" in error_of(find_cases, tmp_path, patterns={"flair": "Flair*"})
    patterns = {"flair": "Flair*", "mask": "mask*"}
    message = error_of(find_cases, tmp_path, patterns=patterns, require_label=False)
    assert "no brain mask (mask*), only Flair.nii.gz" in message


def test_parse_patterns():
    assert parse_patterns(["flair=F_*.nii", "seg=a=b*"]) == {"flair": "F_*.nii", "seg": "a=b*"}
    for wrong in ("flair", "=x", "flair="):
        assert f"{wrong!r} is not of the form KEY=GLOB" in error_of(parse_patterns, [wrong])
    assert "two patterns for 't1': 'a' and 'b'" in error_of(parse_patterns, ["t1=a", "t1=b"])


def test_no_such_folder(tmp_path):
    assert f"{tmp_path / 'x'}: there is no such folder" in error_of(find_cases, tmp_path / "x")


def test_no_cases(tmp_path):
    assert "1 folder(s)" in error_of(find_cases, tmp_path)
    assert "no files" in error_of(find_cases, tmp_path)
    empty_case(tmp_path / "p", "License.txt", "Scan_1.nii.gz")
    message = error_of(find_cases, tmp_path)
    for part in (str(tmp_path), "2 folder(s)", "flair=*_flair.nii.gz", "flair=*-t2f.nii.gz", "Scan_1.nii.gz"):
        assert part in message
    assert "Looked for flair=F*;" in error_of(find_cases, tmp_path, patterns={"flair": "F*"})


def test_mixed_namings(tmp_path):
    make_case(tmp_path / "a", "brats2018")
    make_case(tmp_path / "b", "brats2023")
    message = error_of(find_cases, tmp_path)
    assert f"{tmp_path / 'a'} (brats2018) and {tmp_path / 'b'} (brats2023)" in message


# --- labels ---------------------------------------------------------------------------------------


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


# --- loading --------------------------------------------------------------------------------------


def test_load_case(tmp_path):
    make_case(tmp_path / "a", keys=("t1ce", "flair", "seg"))
    [case], scheme = find_cases(tmp_path)
    loaded = load_case(case, SCHEMES[scheme])
    assert set(loaded) == {"flair", "t1ce", "target", "brain", "name", "affine"}  # t1, t2: no key, no zeros
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
    [case], _ = find_cases(tmp_path, require_label=False)
    assert "target" not in load_case(case, None)
    assert "target" not in load_case(case, SCHEMES["brats2018"])


def test_the_brain_mask_file_wins_over_non_zero_voxels(tmp_path):
    image = random_image().astype(np.float32) - 0.5  # no zero anywhere
    mask = np.zeros(SHAPE, np.float32)
    mask[2:5] = 0.99999997
    case = Case("a", {"t1": save(tmp_path / "t1.nii.gz", image)}, mask=save(tmp_path / "mask.nii.gz", mask))
    loaded = load_case(case, None)
    np.testing.assert_array_equal(loaded["brain"][0], mask > 0.5)
    assert not loaded["t1"][~loaded["brain"]].any()


def test_the_brain_is_where_any_modality_is_non_zero(tmp_path):
    first, second = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    first[1], second[2] = 5, -3
    paths = {"t1": save(tmp_path / "t1.nii", first), "t2": save(tmp_path / "t2.nii", second)}
    brain = load_case(Case("a", paths), None)["brain"][0]
    assert brain[1:3].all()
    assert brain.sum() == brain[1:3].numel()


def test_a_fourth_axis(tmp_path):
    case = Case("a", {"t1": save(tmp_path / "t1.nii.gz", random_image()[..., None])})
    assert load_case(case, None)["t1"].shape == (1, *SHAPE)
    save(case.images["t1"], np.ones((*SHAPE, 2), np.int16))
    message = error_of(load_case, case, None)
    assert str(case.images["t1"]) in message
    assert "(6, 5, 4, 2)" in message
    assert "three axes" in message


def test_nifti2_files(tmp_path):
    path = tmp_path / "t1.nii.gz"
    nibabel.save(nibabel.Nifti2Image(random_image(), np.eye(4)), path)
    assert load_case(Case("a", {"t1": path}), None)["t1"].shape == (1, *SHAPE)


def test_shapes_that_differ(tmp_path):
    make_case(tmp_path / "a")
    save(tmp_path / "a" / "a_t1.nii.gz", np.ones((6, 5, 3), np.int16))
    [case], scheme = find_cases(tmp_path)
    message = error_of(load_case, case, SCHEMES[scheme])
    for part in ("case a", "a_flair.nii.gz and a_t1.nii.gz", "(6, 5, 4) and (6, 5, 3)"):
        assert part in message


@pytest.mark.parametrize("key", ["t2", "seg"])
def test_affines_that_differ(tmp_path, key):
    make_case(tmp_path / "a")
    [case], scheme = find_cases(tmp_path)
    path = case.label if key == "seg" else case.images[key]
    for shift, accepted in ((5e-4, True), (2.5, False)):
        affine = np.eye(4)
        affine[1, 3] = shift
        save(path, labels_of(1, 2) if key == "seg" else random_image(), affine)
        if accepted:
            load_case(case, SCHEMES[scheme])
        else:
            message = error_of(load_case, case, SCHEMES[scheme])
            assert f"a_flair.nii.gz and {path.name} differ in affine, by 2.5" in message


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_truncated_files(tmp_path, ending):
    path = save(tmp_path / f"t1{ending}", random_image())
    content = path.read_bytes()
    for length in (0, 5, 40, len(content) // 2, len(content) - 4):
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as caught:
            load_case(Case("a", {"t1": path}), None)
        assert str(caught.value).startswith(f"{path}: cannot be read")
        assert "copy or download it anew" in str(caught.value)
        assert caught.value.__cause__ is not None


def test_damaged_files(tmp_path):
    """Any flipped bit of the compressed data is noticed: nibabel alone reads most of them as wrong voxels."""
    # of a size at which nibabel does not happen to read to the end
    image = np.random.default_rng(0).integers(0, 2000, (24, 24, 24))
    path = save(tmp_path / "t1.nii.gz", image.astype(np.int16))
    content = path.read_bytes()
    for position in range(12, len(content), 499):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        assert "cannot be read" in error_of(load_case, Case("a", {"t1": path}), None)


@pytest.mark.parametrize("content", [b"<html>404</html>", gzip.compress(b"<html>404</html>" * 50)])
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "t1.nii.gz"
    path.write_bytes(content)
    assert f"{path}: cannot be read" in error_of(load_case, Case("a", {"t1": path}), None)


def test_a_file_that_has_gone(tmp_path):
    message = error_of(load_case, Case("a", {"t1": tmp_path / "t1.nii.gz"}), None)
    assert "FileNotFoundError" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(tmp_path, value):
    image = random_image().astype(np.float32)
    image[3, 2, :2] = value
    path = save(tmp_path / "t1.nii.gz", image)
    message = error_of(load_case, Case("a", {"t1": path}), None)
    assert f"{path}: 2 of 120 voxels are NaN or infinite" in message


def test_an_empty_brain(tmp_path):
    empty = np.zeros(SHAPE, np.int16)
    case = Case("a", {"t1": save(tmp_path / "t1.nii.gz", empty)})
    assert "case a: no brain, since every voxel" in error_of(load_case, case, None)
    mask = save(tmp_path / "mask.nii.gz", empty)
    case = Case("a", {"t1": save(tmp_path / "t1.nii.gz", random_image())}, mask=mask)
    assert f"no brain, since {mask} is empty" in error_of(load_case, case, None)
    assert "mask is empty" in error_of(normalise, random_image(), empty > 0)


def test_an_unknown_label_names_the_file(tmp_path):
    make_case(tmp_path / "a")
    save(tmp_path / "a" / "a_seg.nii.gz", labels_of(1, 2, 3))
    [case], scheme = find_cases(tmp_path)
    assert f"{case.label}: label values 0, 1, 2, 3 found" in error_of(load_case, case, SCHEMES[scheme])


# --- normalisation --------------------------------------------------------------------------------

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


# --- splits ---------------------------------------------------------------------------------------


def names(cases):
    return [case.name for case in cases]


def test_random_splits_are_disjoint_complete_and_follow_the_seed(tmp_path):
    for index in range(20):
        empty_case(tmp_path / f"case{index:02d}")
    splits = split_cases(tmp_path, seed=1)
    parts = [names(part) for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in parts] == [13, 3, 4]
    assert splits.scheme == "brats2018"
    assert sorted(chain(*parts)) == [f"case{index:02d}" for index in range(20)]
    assert all(part == sorted(part) for part in parts)
    assert splits == split_cases(tmp_path, seed=1) != split_cases(tmp_path, seed=2)
    assert len(split_cases(tmp_path, validation=0.25, test=0.5).train) == 5


def test_examinations_of_a_patient_stay_together(tmp_path):
    for patient in range(8):
        for visit in range(3):
            name = f"BraTS-GLI-{patient:05d}-{visit:03d}"
            empty_case(tmp_path / name, f"{name}-t2f.nii.gz", f"{name}-seg.nii.gz")
    for seed in range(5):
        splits = split_cases(tmp_path, seed=seed)
        lists = (splits.train, splits.validation, splits.test)
        parts = [{patient_of(case) for case in cases} for cases in lists]
        assert [len(part) for part in parts] == [5, 1, 2]
        assert len(set.union(*parts)) == 8
        assert len(splits.test) == 6
        assert splits.scheme == "brats2023"


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("BraTS-GLI-00012-001", "BraTS-GLI-00012"),
        ("site__BraTS-MEN-00012-001", "BraTS-MEN-00012"),
        ("BraTS2021_00001", "BraTS2021_00001"),
        ("study-7-1", "study-7-1"),
    ],
)
def test_patient_of(name, patient):
    assert patient_of(Case(name, {})) == patient


def test_split_folders_are_the_splits(tmp_path):
    for name in ("train/a", "train/b", "validation/c", "test/d", "elsewhere/e"):
        empty_case(tmp_path / name)
    splits = split_cases(tmp_path)
    assert (names(splits.train), names(splits.validation), names(splits.test)) == (["a", "b"], ["c"], ["d"])


def test_without_a_validation_folder_it_is_held_out_from_train(tmp_path):
    for name in ("train/a", "train/b", "train/c", "test/d"):
        empty_case(tmp_path / name)
    splits = split_cases(tmp_path)
    assert len(splits.validation) == 1
    assert names(splits.test) == ["d"]
    assert sorted(names(splits.train) + names(splits.validation)) == ["a", "b", "c"]


def test_split_errors(tmp_path):
    for name in ("a/x", "a/y", "b/train/x", "c/train/x", "c/test/y"):
        empty_case(tmp_path / name)
    assert "2 patient(s) found (x, y)" in error_of(split_cases, tmp_path / "a")
    assert "none called test" in error_of(split_cases, tmp_path / "b")
    assert "cannot both train and validate" in error_of(split_cases, tmp_path / "c")
    assert "fractions 0.5 (validation) and 0.5 (test)" in error_of(
        split_cases, tmp_path / "a", test=0.5, validation=0.5
    )
    empty_case(tmp_path / "a" / "z")
    assert "leave none of 3" in error_of(split_cases, tmp_path / "a", test=0.6, validation=0.3)


def test_nothing_is_in_two_splits(tmp_path):
    for name in ("train/a", "train/b", "validation/c", "test/a"):
        empty_case(tmp_path / name)
    assert "a is in train and in test" in error_of(split_cases, tmp_path)
    # the same files under another name
    (tmp_path / "test" / "a").rename(tmp_path / "test" / "d")
    (tmp_path / "test" / "e").symlink_to(tmp_path / "validation" / "c")
    assert "c_flair.nii.gz is in validation and in test" in error_of(split_cases, tmp_path)


def test_split_folders_with_different_namings(tmp_path):
    for name in ("train/a", "train/b", "validation/c"):
        empty_case(tmp_path / name)
    empty_case(tmp_path / "test" / "d", "d-t2f.nii.gz", "d-seg.nii.gz")
    assert "two namings are mixed in train, validation, test" in error_of(split_cases, tmp_path)


# --- real data ------------------------------------------------------------------------------------


def real_data(name):
    folder = Path(__file__).parents[2] / "shared" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"real data not there: {folder}")
    return folder


def test_brats15_with_two_modalities():
    splits = split_cases(real_data("brats15_two_modalities"), patterns=BRATS15)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (2, 2, 2)
    loaded = load_case(splits.test[0], SCHEMES["brats2015"])
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
    cases, scheme = find_cases(folder, patterns=OPEN_MS)
    assert names(cases) == ["patient07", "patient19", "patient26"]
    assert scheme is None
    assert all(tuple(case.images) == BRATS_MODALITIES for case in cases)
    assert cases[0].images["t1"].name.startswith("T1_N4")
    assert cases[0].images["t1ce"].name.startswith("T1POST_")
    loaded = load_case(cases[0], SCHEMES["binary"])
    lesion = loaded["target"][0].bool()
    assert loaded["target"].shape == (1, 182, 218, 182)
    assert 500 < lesion.sum() < 5000
    assert loaded["flair"][0][lesion].mean() > 1
    assert 0.1 < loaded["brain"].float().mean() < 0.3
