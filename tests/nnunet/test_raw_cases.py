"""dataset.json of nnU-Net, and the files of its cases."""

import json
from pathlib import Path

import pytest

from gmd.errors import UserError
from gmd.nnunet.raw_cases import RawCase, check_numbers, check_order, group_cases, read_dataset
from helpers.nnunet_training import dataset_json


def written(folder: Path, **changed: object) -> Path:
    path = folder / "dataset.json"
    folder.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in (dataset_json() | changed).items() if value is not None}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_what_it_says_comes_back(tmp_path: Path):
    dataset = read_dataset(written(tmp_path))
    assert dataset.channels == ("flair", "t1", "t1ce", "t2")
    assert dataset.ending == ".nii.gz"
    assert dataset.labels["whole"] == [1, 2]


def test_channels_of_one_name_are_told_apart(tmp_path: Path):
    path = written(tmp_path, channel_names={"0": "CT", "1": "MR", "2": "CT"})
    assert read_dataset(path).channels == ("CT_0", "MR", "CT_2")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"labels": None}, "labels: got None, expected what nnU-Net 2 has there"),
        ({"file_ending": ["nii"]}, r"file_ending: got \['nii'\], expected"),
        ({"channel_names": {"1": "t1"}}, "expected channel_names such as"),
    ],
)
def test_one_that_is_none_is_refused(tmp_path: Path, changed: dict, reason: str):
    with pytest.raises(UserError, match=reason):
        read_dataset(written(tmp_path, **changed))


def test_an_absent_one_is_told(tmp_path: Path):
    with pytest.raises(UserError, match=r"dataset\.json: there is no such file"):
        read_dataset(tmp_path / "dataset.json")


def test_files_are_grouped_by_their_numbers(tmp_path: Path):
    for name in ("a_b_0001.nii.gz", "a_b_0003.nii.gz", "c_0000.nii.gz", "c.nii.gz", "._c_0001.nii.gz", "c_0001.nii"):
        (tmp_path / name).touch()
    first, second = group_cases(tmp_path, ".nii.gz")
    assert first == RawCase("a_b", {1: tmp_path / "a_b_0001.nii.gz", 3: tmp_path / "a_b_0003.nii.gz"})
    assert (second.name, list(second.files)) == ("c", [0])
    check_numbers(first, ("w", "x", "y", "z"))
    with pytest.raises(UserError, match=r"a_b_0003\.nii\.gz: channel 3 is not known; the channels are 0 x, 1 y, 2 z"):
        check_numbers(first, ("x", "y", "z"))


@pytest.mark.parametrize("place", ["raw/imagesTs", "raw"], ids=["beside it", "in it"])
def test_channels_in_another_order_than_trained_are_refused(tmp_path: Path, place: str):
    trained = read_dataset(written(tmp_path / "model"))
    (tmp_path / "raw/imagesTs").mkdir(parents=True)
    check_order(trained, tmp_path / place)  # nothing says what they are
    written(tmp_path / "raw")
    check_order(trained, tmp_path / place)
    written(tmp_path / "raw", channel_names={"0": "t1", "1": "flair", "2": "t1ce", "3": "t2"})
    with pytest.raises(UserError, match=r"raw/dataset\.json: got the same channels in another order, t1, flair"):
        check_order(trained, tmp_path / place)
