"""Training, validation and test cases: disjoint, by patient, the same for the same seed."""

from itertools import chain
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmd.data.segmentation.cases import Case
from gmd.data.segmentation.cross_validation import all_cases, fold_cases
from gmd.data.segmentation.data_sets import DataSet, find_all
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.patients import patient_of
from gmd.data.segmentation.splits import Splits, split_cases
from helpers.nifti_cases import BRATS15, empty_case, error_of, names, real_data


def test_random_splits_are_disjoint_complete_and_follow_the_seed(tmp_path):
    for index in range(20):
        empty_case(tmp_path / f"case{index:02d}")
    splits = split_cases([DataSet(tmp_path)], seed=1)
    parts = [names(part) for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in parts] == [13, 3, 4]
    assert [scheme.name for scheme in splits.schemes] == ["brats2018"]
    assert sorted(chain(*parts)) == [f"case{index:02d}" for index in range(20)]
    assert all(part == sorted(part) for part in parts)
    assert splits == split_cases([DataSet(tmp_path)], seed=1) != split_cases([DataSet(tmp_path)], seed=2)
    assert len(split_cases([DataSet(tmp_path)], validation=0.25, test=0.5).train) == 5


def test_examinations_of_a_patient_stay_together(tmp_path):
    for patient in range(8):
        for visit in range(3):
            name = f"BraTS-GLI-{patient:05d}-{visit:03d}"
            empty_case(tmp_path / name, f"{name}-t2f.nii.gz", f"{name}-seg.nii.gz")
    for seed in range(5):
        splits = split_cases([DataSet(tmp_path)], seed=seed)
        lists = (splits.train, splits.validation, splits.test)
        parts = [{patient_of(case) for case in cases} for cases in lists]
        assert [len(part) for part in parts] == [5, 1, 2]
        assert len(set.union(*parts)) == 8
        assert len(splits.test) == 6
        assert splits.schemes == (SCHEMES["brats2023"],)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("BraTS-GLI-00012-001", "BraTS-GLI-00012"),
        ("site__BraTS-MEN-00012-001", "BraTS-MEN-00012"),
        ("BraTS2021_00001", "BraTS2021_00001"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("Brats18_TCIA01_131_1", "Brats18_TCIA01_131"),
        ("Brats17_2013_10_1", "Brats17_2013_10"),
        ("BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAB"),
        ("brats_2013_pat0001_1", "brats_2013_pat0001"),
        ("HGG__brats_tcia_pat105_0002", "brats_tcia_pat105"),
        ("BRATS_TCIA_PAT105_0002", "BRATS_TCIA_PAT105"),
        ("study-7-1", "study-7-1"),
    ],
)
def test_patient_of(name, patient):
    assert patient_of(Case(name, {})) == patient


def test_trap_examinations_of_brats_2015_stay_together(tmp_path):
    """`brats_tcia_pat105_0001` and `brats_tcia_pat105_0002` are one patient, whom a model has seen or has not."""
    for patient in range(8):
        for visit in range(1, 4):
            empty_case(tmp_path / f"brats_tcia_pat{patient:03d}_{visit:04d}")
    for seed in range(5):
        splits = split_cases([DataSet(tmp_path)], seed=seed)
        assert [len(cases) for cases in (splits.train, splits.validation, splits.test)] == [15, 3, 6]


def test_split_folders_are_the_splits(tmp_path):
    for name in ("train/a", "train/b", "validation/c", "test/d", "elsewhere/e"):
        empty_case(tmp_path / name)
    splits = split_cases([DataSet(tmp_path)])
    assert (names(splits.train), names(splits.validation), names(splits.test)) == (["a", "b"], ["c"], ["d"])


def test_without_a_validation_folder_it_is_held_out_from_train(tmp_path):
    for name in ("train/a", "train/b", "train/c", "test/d"):
        empty_case(tmp_path / name)
    splits = split_cases([DataSet(tmp_path)])
    assert len(splits.validation) == 1
    assert names(splits.test) == ["d"]
    assert sorted(names(splits.train) + names(splits.validation)) == ["a", "b", "c"]


def test_split_errors(tmp_path):
    for name in ("a/x", "b/train/x", "c/train/x", "c/test/y", "d/validation/x", "d/test/y"):
        empty_case(tmp_path / name)
    assert "one patient found (x), but training and validation need" in error_of(split_cases, [DataSet(tmp_path / "a")])
    assert "none called test" in error_of(split_cases, [DataSet(tmp_path / "b")])
    assert "none called train" in error_of(split_cases, [DataSet(tmp_path / "d")])
    assert "cannot both train and validate" in error_of(split_cases, [DataSet(tmp_path / "c")])
    assert "fractions 0.5 (validation) and 0.5 (test)" in error_of(
        split_cases, [DataSet(tmp_path / "a")], test=0.5, validation=0.5
    )
    for name in "yz":
        empty_case(tmp_path / "a" / name)
    assert "leave none of 3" in error_of(split_cases, [DataSet(tmp_path / "a")], test=0.6, validation=0.3)


def test_two_patients_train_and_validate(tmp_path):
    for name in ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"):
        empty_case(tmp_path / name, f"{name}-t2f.nii.gz", f"{name}-seg.nii.gz")
    drawn = [split_cases([DataSet(tmp_path)], seed=seed) for seed in range(8)]
    assert {len(splits.train) for splits in drawn} == {1, 2}, "each of them in some draw"
    assert all(len(splits.train) + len(splits.validation) == 3 for splits in drawn)
    assert all(splits.test == [] for splits in drawn)


def test_folders_for_training_and_validation_are_enough(tmp_path):
    for name in ("train/a", "train/b", "validation/c"):
        empty_case(tmp_path / name)
    splits = split_cases([DataSet(tmp_path)])
    assert (names(splits.train), names(splits.validation), splits.test) == (["a", "b"], ["c"], [])
    # beside a data set with tests, and one that is split at random
    for name in ("new/train/d", "new/test/e", "all/f", "all/g", "all/h"):
        empty_case(tmp_path.parent / "others" / name)
    others = [DataSet(tmp_path.parent / "others" / name) for name in ("new", "all")]
    assert "one patient in train cannot both train" in error_of(split_cases, [DataSet(tmp_path), *others])
    empty_case(tmp_path.parent / "others/new/train/i")
    splits = split_cases([DataSet(tmp_path), *others])
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [4, 3, 2]


def test_trap_no_case_is_both_chosen_by_and_reported_on(tmp_path):
    for name in ("train/a", "train/b", "validation/c", "test/a"):
        empty_case(tmp_path / name)
    assert "a is in train and in test" in error_of(split_cases, [DataSet(tmp_path)])
    # the same files under another name
    (tmp_path / "test" / "a").rename(tmp_path / "test" / "d")
    (tmp_path / "test" / "e").symlink_to(tmp_path / "validation" / "c")
    assert "c_flair.nii.gz is in validation and in test" in error_of(split_cases, [DataSet(tmp_path)])


def test_split_folders_with_different_namings(tmp_path):
    for name in ("train/a", "train/b", "validation/c"):
        empty_case(tmp_path / name)
    empty_case(tmp_path / "test" / "d", "d-t2f.nii.gz", "d-seg.nii.gz")
    assert "two namings are mixed in train, validation, test" in error_of(split_cases, [DataSet(tmp_path)])


# Cross-validation


def folds_on(folder: Path, folds: int, **options) -> list[Splits]:
    return [fold_cases([DataSet(Path(folder))], folds=folds, fold=fold, **options) for fold in range(folds)]


def parts_of(splits: Splits) -> dict[str, set[str]]:
    """The names in each split."""
    return {name: set(names(getattr(splits, name))) for name in ("train", "validation", "test")}


@given(
    examinations=st.lists(st.integers(1, 3), min_size=4, max_size=25),
    folds=st.integers(2, 7),
    seed=st.integers(0, 2**32 - 1),
    order=st.randoms(use_true_random=False),
)
def test_each_patient_is_tested_on_in_exactly_one_fold(examinations: list[int], folds: int, seed: int, order: Random):
    folds = min(folds, len(examinations))
    cases = [
        Case(
            f"BraTS-GLI-{patient:05d}-{visit:03d}",
            {"flair": Path(f"/nowhere/{patient}/{visit}/f.nii.gz")},
            scheme=SCHEMES["brats2023"],
        )
        for patient, visits in enumerate(examinations)
        for visit in range(visits)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmd.data.segmentation.data_sets.find_cases", lambda *_, **__: cases)
        drawn = folds_on("/nowhere", folds, seed=seed)
        cases = order.sample(cases, len(cases))
        again = folds_on("/nowhere", folds, seed=seed)
    everybody = set(range(len(examinations)))
    tested = []
    for splits in drawn:
        lists = (splits.train, splits.validation, splits.test)
        patients = [{int(case.name.split("-")[2]) for case in part} for part in lists]
        assert all(patients)
        assert sum(map(len, patients)) == len(everybody)
        assert set.union(*patients) == everybody
        assert sum(map(len, lists)) == len(cases)
        tested.append(patients[2])
    assert sum(map(len, tested)) == len(everybody)
    assert set.union(*tested) == everybody
    assert max(map(len, tested)) - min(map(len, tested)) <= 1
    assert [parts_of(splits) for splits in drawn] == [parts_of(splits) for splits in again]


def test_folds_follow_the_seed_and_hold_out_what_is_asked(tmp_path):
    for index in range(20):
        empty_case(tmp_path / f"case{index:02d}")
    drawn = folds_on(tmp_path, 4, seed=1)
    assert drawn == folds_on(tmp_path, 4, seed=1) != folds_on(tmp_path, 4, seed=2)
    assert [len(part) for part in parts_of(drawn[0]).values()] == [13, 2, 5]
    assert [len(part) for part in parts_of(folds_on(tmp_path, 4, validation=0.4)[3]).values()] == [9, 6, 5]
    assert len({names(splits.validation)[0] for splits in drawn}) > 1
    assert all(splits.schemes == (SCHEMES["brats2018"],) for splits in drawn)
    assert all(names(splits.train) == sorted(names(splits.train)) for splits in drawn)


def test_folds_of_real_cases():
    folder = real_data("brats15_two_modalities")
    data = DataSet(folder, ("flair", "t1ce"), BRATS15, SCHEMES["brats2015"])
    drawn = [fold_cases([data], folds=3, fold=fold) for fold in range(3)]
    assert [[len(part) for part in parts_of(splits).values()] for splits in drawn] == [[3, 1, 2]] * 3
    tested = [patient_of(case) for splits in drawn for case in splits.test]
    assert sorted(tested) == [f"brats_2013_pat{number:04d}" for number in range(1, 7)]


def test_folds_pool_what_is_in_split_folders(tmp_path):
    for name in ("train/c", "train/a", "validation/d", "test/b", "elsewhere/e"):
        empty_case(tmp_path / name)
    assert names(all_cases(find_all([DataSet(tmp_path)]))) == ["a", "b", "c", "d"]
    assert set.union(*(parts_of(splits)["test"] for splits in folds_on(tmp_path, 2))) == set("abcd")
    empty_case(tmp_path / "test" / "a")
    message = error_of(all_cases, find_all([DataSet(tmp_path)]))
    assert f"{tmp_path / 'test' / 'a'} and {tmp_path / 'train' / 'a'} are both called a" in message


def test_all_cases_without_split_folders(tmp_path):
    for name in ("x/b", "y/a"):
        empty_case(tmp_path / name)
    assert names(all_cases(find_all([DataSet(tmp_path)]))) == ["a", "b"]


def test_too_few_patients_for_the_folds(tmp_path):
    for name in "abc":
        empty_case(tmp_path / name)
    assert "--folds: got 4, but" in error_of(fold_cases, [DataSet(tmp_path)], folds=4, fold=0)
    assert "has 3 patient(s)" in error_of(fold_cases, [DataSet(tmp_path)], folds=4, fold=0)
    # a fold that could be is refused with the others: half a cross-validation is none
    for fold in range(2):
        message = error_of(fold_cases, [DataSet(tmp_path)], folds=2, fold=fold)
        assert "3 patients in 2 folds are 2 to test on in one of them, which leaves 1" in message
    assert all(all(parts_of(splits).values()) for splits in folds_on(tmp_path, 3))


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (3, 3), (3, -1), (3, None)])
def test_folds_that_are_none(tmp_path, folds, fold):
    with pytest.raises(ValueError, match=f"fold {fold} of {folds}: expected"):
        fold_cases([DataSet(tmp_path)], folds=folds, fold=fold)


def test_trap_a_file_is_not_tested_on_under_another_name(tmp_path):
    """In each fold: found before any is trained, not in the one in which the two names part."""
    for name in "abcde":
        empty_case(tmp_path / name)
    (tmp_path / "f").mkdir()
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "f" / path.name).symlink_to(path)
    for fold in range(3):
        assert "a_flair.nii.gz is in a and in f" in error_of(fold_cases, [DataSet(tmp_path)], folds=3, fold=fold)


# Several data sets


def test_data_sets_are_pooled_each_by_its_folders_or_at_random(tmp_path):
    for name in ("one/a", "one/b", "one/c", "two/train/d", "two/train/e", "two/test/f"):
        empty_case(tmp_path / name)
    for name in ("g", "h", "i"):
        empty_case(tmp_path / "three" / name, f"{name}-t2f.nii.gz", f"{name}-seg.nii.gz")
    splits = split_cases([DataSet(tmp_path / name) for name in ("one", "two", "three")])
    assert [len(part) for part in parts_of(splits).values()] == [5, 2, 2]
    assert set.union(*parts_of(splits).values()) == set("abcdefghi")
    assert "f" in parts_of(splits)["test"]
    assert [scheme.name for scheme in splits.schemes] == ["brats2018", "brats2018", "brats2023"]
    meaning = {case.name: case.scheme.name for case in (*splits.train, *splits.validation, *splits.test)}
    assert meaning == dict.fromkeys("abcdef", "brats2018") | dict.fromkeys("ghi", "brats2023")
    folds = [fold_cases([DataSet(tmp_path / "one"), DataSet(tmp_path / "three")], folds=3, fold=n) for n in range(3)]
    assert sorted(chain(*(names(fold.test) for fold in folds))) == list("abcghi")


def test_cases_of_two_data_sets_that_share_a_name_are_two(tmp_path):
    for name in ("x/data/a", "x/data/b", "y/data/a", "y/data/c"):
        empty_case(tmp_path / name)
    found = find_all([DataSet(tmp_path / "x/data"), DataSet(tmp_path / "y/data")])
    assert names(all_cases(found)) == ["b", "c", "x__data__a", "y__data__a"]
    assert {patient_of(case) for case in all_cases(found)} == set(names(all_cases(found)))
    # BraTS gives its numbers once: there it is one patient, who must not be trained and tested on
    for name in ("x/data/BraTS-GLI-00001-000", "y/data/BraTS-GLI-00001-001"):
        empty_case(tmp_path / name)
    splits = split_cases([DataSet(tmp_path / "x/data"), DataSet(tmp_path / "y/data")])
    assert sum("BraTS-GLI-00001-000" in part for part in parts_of(splits).values()) == 1


def test_data_sets_that_cannot_be_learnt_from_together(tmp_path):
    for name in ("one/a", "one/b", "two/c"):
        empty_case(tmp_path / name)
    one, two = DataSet(tmp_path / "one"), DataSet(tmp_path / "two", scheme=SCHEMES["binary"])
    assert f"{tmp_path / 'one'} is given twice" in error_of(find_all, [one, DataSet(tmp_path / "two" / ".." / "one")])
    assert f"{tmp_path / 'one'} and {tmp_path} lie in each other" in error_of(find_all, [one, DataSet(tmp_path)])
    message = error_of(find_all, [one, two])
    assert f"{tmp_path / 'one'} WT, TC, ET (brats2018); {tmp_path / 'two'} lesion (binary)" in message
    message = error_of(find_all, [DataSet(tmp_path / "one", patterns={"flair": "*_flair*", "seg": "*_seg*"})])
    assert f"{tmp_path / 'one'}: nothing says what its label values mean; add --labels" in message
