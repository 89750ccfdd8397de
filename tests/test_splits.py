"""Training, validation and test cases: disjoint, by patient, the same for the same seed."""

from itertools import chain

import pytest
from nifti_cases import (
    empty_case,
    error_of,
    names,
)

from gmd.data.cases import Case
from gmd.data.splits import patient_of, split_cases


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


def test_trap_no_case_is_both_chosen_by_and_reported_on(tmp_path):
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
