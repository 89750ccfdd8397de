"""Lists of cases to train, validate and test on, as the field hands them around."""

import os
import re
from pathlib import Path

import pytest

from gmd.data.segmentation.data_sets import DataSet
from gmd.data.segmentation.listed_splits import splits_of_lists
from gmd.data.segmentation.splits import Splits
from helpers.nifti_cases import empty_case, error_of, names

CASES = [f"BraTS20_Training_{number:03}" for number in (1, 2, 259, 260, 300, 336)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Names alone: nothing here reads a voxel."""
    for name in CASES:
        empty_case(tmp_path / "data" / name)
    return tmp_path / "data"


def split(data: Path, **texts: str | bytes) -> Splits:
    """With lists of these texts; `train`, `validation` and `test`."""
    lists = {}
    for name in ("train", "validation", "test"):
        lists[name] = None
        if name in texts:
            lists[name] = data.parent / f"{name}.txt"
            content = texts[name]
            lists[name].write_bytes(content if isinstance(content, bytes) else content.encode())
    return splits_of_lists([DataSet(data)], lists)


def parts(splits: Splits) -> list[list[str]]:
    return [names(part) for part in (splits.train, splits.validation, splits.test)]


def test_lists_say_who_trains_validates_and_tests(data: Path):
    splits = split(data, train="\n".join(CASES[:3]), validation=CASES[3], test=f"{CASES[4]}\r\n{CASES[5]}\r\n")
    assert parts(splits) == [CASES[:3], CASES[3:4], CASES[4:]]
    assert splits.notes == ()


def test_comments_blank_lines_tables_and_prefixes(data: Path):
    """IM-Fuse's test list is a table `case,mask`; BraTS 2020's names have HG_ up to 259 and from 336 on, else LG_."""
    table = f'case,mask\n{CASES[4]},"[False, False, True, False]"\nHG_{CASES[5]},"[True, True, True, True]"\n'
    train = f"\ufeff# 219 cases\n\nHG_{CASES[0]}\n  HG_{CASES[1]}  \n"
    splits = split(data, train=train, validation=f"LG_{CASES[3]}", test=table)
    assert parts(splits) == [CASES[:2], CASES[3:4], CASES[4:]]
    assert splits.notes == (f"1 of 6 cases of {data} are in no list, and not used",)


def test_prefixes_that_the_files_carry_may_lack_in_the_lists(tmp_path: Path):
    for name in ("HG_P1", "LG_P2", "HG_P3", "LG_P3"):
        empty_case(tmp_path / "data" / name)
    splits = split(tmp_path / "data", train="P1", validation="P2", test="LG_P3")
    assert names(splits.train + splits.validation + splits.test) == ["HG_P1", "LG_P2", "LG_P3"]
    told = error_of(split, tmp_path / "data", train="P1\nP3")
    assert re.search(r"train.txt: line 2: P3 could be HG_P3 and LG_P3; list the whole name", told)


def test_without_lists_for_the_others_a_part_validates_and_nobody_tests(data: Path):
    splits = split(data, train="\n".join(CASES))
    assert len(splits.train) == 5
    assert len(splits.validation) == 1
    assert splits.test == []
    assert split(data, train="\n".join(reversed(CASES))) == splits, "the order of a list says nothing"


def test_folders_for_splits_mean_nothing_beside_lists(tmp_path: Path):
    for folder, name in (("train", "A"), ("train", "B"), ("test", "C")):
        empty_case(tmp_path / "data" / folder / name)
    splits = split(tmp_path / "data", train="C", validation="A", test="B")
    assert names(splits.train + splits.validation + splits.test) == ["C", "A", "B"]


def test_a_patient_in_two_lists_is_told(tmp_path: Path):
    """Published lists of BraTS 2023 are of examinations, of which a patient may have several."""
    for name in ("BraTS-GLI-00008-000", "BraTS-GLI-00008-001", "BraTS-GLI-00009-000"):
        empty_case(tmp_path / "data" / name, f"{name}-t2f.nii.gz", f"{name}-seg.nii.gz")
    splits = split(
        tmp_path / "data", train="BraTS-GLI-00008-000", validation="BraTS-GLI-00009-000", test="BraTS-GLI-00008-001"
    )
    [note] = splits.notes
    assert note.startswith("1 patient has examinations in several lists, as BraTS-GLI-00008 in train and test")


def test_a_file_under_two_names_is_refused(data: Path):
    os.symlink(data / CASES[0] / f"{CASES[0]}_flair.nii.gz", data / "x_flair.nii.gz")
    os.symlink(data / CASES[0] / f"{CASES[0]}_seg.nii.gz", data / "x_seg.nii.gz")
    told = error_of(split, data, train=f"{CASES[0]}\n{CASES[1]}", validation="data")
    assert "is in train and in validation" in told


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (
            {"train": "nobody\nsomebody\n" + CASES[0]},
            r"2 of its 3 names are no cases of .*data: nobody, somebody; the 6",
        ),
        ({"train": CASES[0], "test": CASES[0]}, r"test.txt: line 1: .*001 is in .*train.txt too, on line 1"),
        ({"train": CASES[0], "validation": f"HG_{CASES[0]}"}, r"HG_.*001 is in .*train.txt too"),
        ({"train": f"{CASES[0]}\nHG_{CASES[0]}"}, r"line 2: HG_.*001 is in .*train.txt too, on line 1"),
        ({"train": f"{CASES[0]}\n\n{CASES[0]}"}, r"train.txt: line 3: .*001 stands on line 1 already; list it once"),
        ({"train": "# nothing\n\n"}, "--train-list: .*holds no name of a case"),
        ({"train": "case,mask\n"}, "holds no name of a case"),
        ({"train": CASES[0], "validation": ""}, "--val-list: .*validation.txt: holds no name"),
        ({"train": "x" * 200_000}, "1 of its 1 names are no cases of .*: x+"),
        ({"train": "a\0b"}, r"names are no cases of .*: a\\x00b"),
        ({"train": b"\xff\xfe\x00"}, "is no text in UTF-8"),
        ({"train": CASES[0]}, "one patient in train cannot both train and validate"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "+".join(value),
)
def test_lists_that_cannot_be_are_refused_by_name(data: Path, texts: dict, told: str):
    assert re.search(told, message := error_of(split, data, **texts)), message


def test_a_list_that_is_not_there(data: Path):
    told = error_of(splits_of_lists, [DataSet(data)], {"train": data / "no.txt", "validation": None, "test": None})
    assert "--train-list: " in told
    assert "there is no such file" in told
    assert "is a folder" in error_of(
        splits_of_lists, [DataSet(data)], {"train": data, "validation": None, "test": None}
    )
