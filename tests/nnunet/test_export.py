"""Cases in gmd's layouts as a raw data set of nnU-Net."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gmd import cli
from gmd.config import TrainBrats
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.nifti import read_volume
from gmd.errors import UserError
from gmd.nnunet.export import consecutive_values, dataset_json, export
from helpers.nifti_cases import ORIENTATIONS, SHAPE, random_image, save, stored_as

RAW = "raw/Dataset501_Name"
AXES = np.diag([1.0, 1.0, 2.0, 1.0])


def write_case(
    folder: Path, modalities: tuple[str, ...] = ("flair", "t1"), labels: tuple[int, ...] = (1, 2, 4)
) -> Path:
    """Writes a case with images of different numbers and a label map that has each of the values."""
    for number, modality in enumerate(modalities):
        save(folder / f"{folder.name}_{modality}.nii.gz", random_image(number), AXES)
    values = np.zeros(SHAPE, np.uint8)
    values.ravel()[60 : 60 + len(labels)] = labels
    save(folder / f"{folder.name}_seg.nii.gz", values, AXES)
    return folder


def exported(tmp_path: Path, **options: object) -> Path:
    config = TrainBrats((tmp_path / "data",), out=tmp_path / RAW, **options)
    assert not export(config).failed
    return tmp_path / RAW


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_labels_become_consecutive_and_regions_stay_what_they_are(scheme):
    numbers = consecutive_values(scheme)
    assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))
    said = dataset_json(("t1", "t2"), scheme, 3)
    assert list(said["labels"]) == ["background", *scheme.regions]
    for region, own in scheme.regions.items():
        of_nnunet = said["labels"][region]
        of_nnunet = of_nnunet if isinstance(of_nnunet, list) else [of_nnunet]
        assert sorted(of_nnunet) == sorted(numbers[value] for value in own)
    if "regions_class_order" in said:
        painted = dict(zip(scheme.regions, said["regions_class_order"], strict=True))
        assert all(painted[region] in said["labels"][region] for region in scheme.regions)
    else:
        assert all(isinstance(value, int) for value in said["labels"].values())


def test_the_values_of_brats_are_those_that_nnunets_own_converter_has():
    """2, 1, 4 become 1, 2, 3, so that each region is a run of numbers."""
    said = dataset_json(("flair",), SCHEMES["brats2018"], 1)
    assert consecutive_values(SCHEMES["brats2018"]) == {2: 1, 1: 2, 4: 3}
    assert said["labels"] == {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": [3]}
    assert said["regions_class_order"] == [1, 2, 3]
    assert "2 (oedema) became 1" in said["description"]


def test_images_and_labels_lie_where_nnunet_looks(tmp_path: Path):
    write_case(tmp_path / "data/a")
    write_case(tmp_path / "data/b", ("t1",))
    raw = exported(tmp_path, modalities=("t1", "flair"))
    names = [f"{case}_{channel:04d}.nii.gz" for case in "ab" for channel in range(2)]
    assert sorted(path.name for path in (raw / "imagesTr").iterdir()) == names
    assert np.array_equal(voxels(raw / "imagesTr/a_0000.nii.gz"), random_image(1))
    assert np.array_equal(voxels(raw / "imagesTr/a_0001.nii.gz"), random_image(0))
    absent = voxels(raw / "imagesTr/b_0001.nii.gz")
    assert not absent.any()
    assert absent.dtype == np.uint8
    assert voxels(raw / "labelsTr/a.nii.gz").ravel()[60:63].tolist() == [2, 1, 3]
    said = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
    assert said["channel_names"] == {"0": "t1", "1": "flair"}
    assert (said["numTraining"], said["file_ending"]) == (2, ".nii.gz")
    assert not (raw / "imagesTs").exists()


def test_cases_of_the_folder_test_are_not_trained_on(tmp_path: Path):
    for split, case in (("train", "a"), ("validation", "b"), ("test", "c")):
        write_case(tmp_path / "data" / split / case)
    raw = exported(tmp_path, modalities=("flair", "t1"))
    assert {path.name for path in (raw / "labelsTr").iterdir()} == {"a.nii.gz", "b.nii.gz"}
    assert {path.name for path in (raw / "labelsTs").iterdir()} == {"c.nii.gz"}
    assert (raw / "imagesTs/c_0001.nii.gz").is_file()


def test_files_of_one_grid_stored_in_two_ways_become_one(tmp_path: Path):
    """nnU-Net takes them as they are stored, and would refuse them, or see one of them turned."""
    case = write_case(tmp_path / "data/a")
    turned, affine = stored_as(ORIENTATIONS[17], random_image(1), AXES)
    save(case / "a_t1.nii.gz", turned, affine)
    raw = exported(tmp_path, modalities=("flair", "t1"))
    one, other = (read_volume(raw / f"imagesTr/a_000{channel}.nii.gz") for channel in range(2))
    assert np.array_equal(one.affine, other.affine)
    assert np.array_equal(other.data, random_image(1))


def test_what_lies_outside_the_brain_mask_is_zero(tmp_path: Path):
    case = write_case(tmp_path / "data/a")
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:4] = 1
    save(case / "a_mask.nii.gz", mask, AXES)
    patterns = ("flair=*_flair.nii.gz", "t1=*_t1.nii.gz", "seg=*_seg.nii.gz", "mask=*_mask.nii.gz")
    raw = exported(tmp_path, modalities=("flair", "t1"), patterns=patterns, labels=("brats2018",))
    assert np.array_equal(voxels(raw / "imagesTr/a_0000.nii.gz"), random_image(0) * mask)


def test_a_bad_case_is_told_and_the_others_are_written(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_case(tmp_path / "data/a")
    write_case(tmp_path / "data/b", labels=(1, 2, 9))
    command = ["nnunet", "export", str(tmp_path / "data"), "-o", str(tmp_path / RAW), "--modalities", "flair", "t1"]
    assert cli.main(command) == 1
    printed = capsys.readouterr()
    assert printed.err.count("left out: b: ") == 1
    assert "label values 0, 1, 2, 9 found" in printed.err
    assert f"1 cases to train on, in {tmp_path / RAW}; next: nnUNetv2_plan_and_preprocess -d 501 " in printed.out
    assert [path.name for path in (tmp_path / RAW / "labelsTr").iterdir()] == ["a.nii.gz"]


def test_a_name_that_nnunet_does_not_take_is_refused_first(tmp_path: Path):
    for name in ("brats", "Dataset1_X", "Dataset501"):
        with pytest.raises(UserError, match="expected nnU-Net's form of a name"):
            export(TrainBrats((tmp_path / "absent",), out=tmp_path / name))


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path):
    write_case(tmp_path / "data/a")
    raw = exported(tmp_path, modalities=("flair", "t1"))
    before = {path: path.read_bytes() for path in raw.rglob("*.*")}
    with pytest.raises(UserError, match="is there already and not empty; give another number"):
        exported(tmp_path, modalities=("flair", "t1"))
    assert {path: path.read_bytes() for path in raw.rglob("*.*")} == before


def test_nothing_is_left_of_data_without_a_case_to_use(tmp_path: Path):
    write_case(tmp_path / "data/a", labels=(7,))
    with pytest.raises(UserError, match=r"no case to train on\. .*label values 0, 7 found"):
        exported(tmp_path, modalities=("flair", "t1"))
    assert not list((tmp_path / "raw").iterdir())
