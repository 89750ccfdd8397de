"""What a data set of nnU-Net says of its channels, and which files are whose."""

import json
from pathlib import Path

import pytest

from gmd.errors import UserError
from gmd.nnunet.channels import channel_files, channel_names, check_same_channels, read_dataset_json


def test_names_come_in_the_order_of_their_numbers():
    assert channel_names({"channel_names": {"1": "t1", "0": "flair", "2": "t2"}}) == ("flair", "t1", "t2")


def test_numbers_may_be_numbers_and_the_key_that_of_old():
    assert channel_names({"modality": {0: "CT", 1: "PET"}}) == ("CT", "PET")


def test_eleven_channels_are_in_the_order_of_numbers_not_of_letters():
    names = {str(number): f"band {number}" for number in reversed(range(11))}
    assert channel_names({"channel_names": names}) == tuple(f"band {number}" for number in range(11))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "got none"),
        ({"channel_names": {}}, r"got \{\}"),
        ({"channel_names": ["flair"]}, "got .*flair"),
        ({"channel_names": {"1": "flair", "2": "t1"}}, "the numbers 1, 2: they have to be 0, 1"),
        ({"channel_names": {"0": "flair", "1": 7}}, "7 as the name of channel 1"),
    ],
)
def test_a_dataset_json_without_names_of_channels_is_refused(said, told):
    with pytest.raises(UserError, match=told):
        channel_names(said)


def test_the_message_names_the_file():
    with pytest.raises(UserError, match="elsewhere/dataset"):
        channel_names({}, "elsewhere/dataset.json")


def test_a_file_that_is_no_object_is_refused(tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps([1, 2]))
    with pytest.raises(UserError, match=r"dataset\.json: got \[1, 2\], expected an object"):
        read_dataset_json(path)


def test_the_same_channels_are_the_same_whatever_their_case():
    check_same_channels(["FLAIR", "T1"], ["flair", "t1"], "data")


def test_another_order_is_told_from_other_channels():
    with pytest.raises(UserError, match="in: got the same channels in another order, t1, flair; expected flair, t1"):
        check_same_channels(["flair", "t1"], ["t1", "flair"], "in")
    with pytest.raises(UserError, match="got other channels, flair; expected flair, t1"):
        check_same_channels(["flair", "t1"], ["flair"], "in")


def test_files_are_grouped_by_case_and_channel(tmp_path: Path):
    names = ["b_0001.nii.gz", "a_b_0000.nii.gz", "b_0000.nii.gz", "b_0000.nii", "b_1.nii.gz", "dataset.json"]
    for name in names:
        (tmp_path / name).touch()
    found = channel_files(tmp_path, ".nii.gz")
    assert found == {
        "a_b": {0: tmp_path / "a_b_0000.nii.gz"},
        "b": {0: tmp_path / "b_0000.nii.gz", 1: tmp_path / "b_0001.nii.gz"},
    }
    assert list(found["b"]) == [0, 1]
