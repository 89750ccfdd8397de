"""What label values mean is told by the names of a data set, never by the values."""

from dataclasses import replace
from pathlib import Path

import pytest

from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.data_sets import DataSet, find_all
from gmd.data.segmentation.label_names import left_by_names, told_scheme
from gmd.data.segmentation.labels import SCHEMES
from helpers.nifti_cases import empty_case, error_of


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("Brats18_CBICA_AAB_1/Brats18_CBICA_AAB_1_seg.nii.gz", "brats2018"),
        ("BraTS20_Training_001/BraTS20_Training_001_seg.nii", "brats2018"),
        ("BraTS2021_00001/BraTS2021_00001_seg.nii.gz", "brats2018"),
        ("Phantom_000_00000/Phantom_000_00000_seg.nii.gz", "brats2018"),
        ("HGG/brats_2013_pat0001_1/x_seg.nii", "brats2015"),
        ("VSD.Brain.XX.O.OT.54517/seg.nii", "brats2015"),
        ("BraTS-GLI-00000-000-seg.nii.gz", "brats2023"),
        ("BraTS-GLI-02060-100-seg.nii.gz", "brats2024-gli"),
        ("BraTS-SSA-00002-000-seg.nii.gz", "brats2023"),
        ("BraTS-MET-00001-000-seg.nii.gz", "brats2023-met"),
        ("BraTS-MEN-00000-000-seg.nii.gz", "brats2023-men"),
        ("BraTS-MEN-RT-0000-1/BraTS-MEN-RT-0000-1_gtv.nii.gz", "brats2024-men-rt"),
        ("ASNR-MICCAI-BraTS2023-PED-Challenge-TrainingData/BraTS-PED-00001-000-seg.nii.gz", "brats2023-ped"),
        ("BraTS-PEDs2024_Training/BraTS-PED-00001-000-seg.nii.gz", "brats2024-ped"),
        ("Task01_BrainTumour/labelsTr/BRATS_001.nii.gz", "msd"),
        ("somewhere/gold.nii.gz", None),
    ],
)
def test_told_by_the_name(path: str, told: str | None):
    scheme = told_scheme(Path("root"), [Path("/data", path)])
    assert (scheme and scheme.name) == told


@pytest.mark.parametrize(
    ("path", "schemes"),
    [
        ("BraTS-PED-00001-000-seg.nii.gz", ("brats2023-ped", "brats2024-ped")),
        ("case-seg.nii.gz", ("brats2023", "brats2024-gli", "brats2023-met", "brats2024-ped")),
        ("BRATS_001_seg.nii.gz", ("msd", "brats2018")),
    ],
)
def test_a_name_that_leaves_several_meanings_is_asked_about(path: str, schemes: tuple[str, ...]):
    message = error_of(told_scheme, Path("root"), [Path(path)])
    assert "root: the names of the files leave open what the label values mean" in message
    assert "--labels" in message
    for name in schemes:
        assert f"\n  {name}: {SCHEMES[name].described()}" in message
    for name in schemes:  # what a run already knows settles it
        assert told_scheme(Path("root"), [Path(path)], otherwise=SCHEMES[name]) == SCHEMES[name]
    assert "leave open" in error_of(told_scheme, Path("root"), [Path(path)], otherwise=SCHEMES["binary"])


def test_glioma_before_and_after_treatment_are_one_data_set():
    """As in BraTS 2025: before treatment there is no cavity, and the other values mean the same."""
    paths = [Path(f"BraTS-GLI-0000{n}-{visit}-seg.nii.gz") for n, visit in enumerate(("000", "101", "001"))]
    assert told_scheme(Path(), paths).name == "brats2024-gli"


def test_it_is_so_over_split_folders(tmp_path: Path):
    for split, name in (("train", "BraTS-GLI-00001-100"), ("test", "BraTS-GLI-00002-000")):
        empty_case(tmp_path / split / name, f"{name}-t2f.nii.gz", f"{name}-seg.nii.gz")
    [found] = find_all([DataSet(tmp_path)])
    assert found.scheme.name == "brats2024-gli"
    assert {case.scheme.name for cases in found.cases.values() for case in cases} == {"brats2024-gli"}


@pytest.mark.parametrize(
    ("name", "given"), [("BraTS-GLI-00001-100", "brats2015"), ("BraTS-PED-00001-000", "brats2018")]
)
def test_labels_that_are_given_against_the_names_are_told_of(tmp_path: Path, name: str, given: str):
    empty_case(tmp_path / name, f"{name}-t2f.nii.gz", f"{name}-seg.nii.gz")
    with pytest.warns(
        UserWarning, match=f"are read as {given} .* as --labels says, but the name of {name}-seg.nii.gz tells"
    ):
        find_all([DataSet(tmp_path, scheme=SCHEMES[given])])
    for fitting in ("brats2024-gli", "brats2024-ped"):
        if fitting[-3:].upper() in name:
            find_all([DataSet(tmp_path, scheme=SCHEMES[fitting])])
    find_all([DataSet(tmp_path, scheme=replace(SCHEMES[given], name="mine"))])


@pytest.mark.parametrize("other", ["BraTS-PED-00002-000-seg.nii.gz", "b_seg.nii.gz"])
def test_names_of_different_meanings_are_not_mixed(other: str):
    message = error_of(told_scheme, Path("root"), [Path("BraTS-GLI-00001-000-seg.nii.gz"), Path(other)])
    assert "root: two namings are mixed, with other label values or meanings" in message
    assert f"BraTS-GLI-00001-000-seg.nii.gz (brats2023) and {other} (" in message


def test_values_are_never_asked(tmp_path: Path):
    """Files that are empty: the names alone decide, and a scheme that is given decides before them."""
    name = "BraTS-GLI-00001-000"
    empty_case(tmp_path / name, f"{name}-t2f.nii.gz", f"{name}-seg.nii.gz")
    assert find_cases(tmp_path)[0].scheme.name == "brats2023"
    assert find_cases(tmp_path, scheme=SCHEMES["brats2024-ped"])[0].scheme.name == "brats2024-ped"


@pytest.mark.parametrize(
    "relative", ["BraTS-PED-00001-000/x-seg.nii.gz", "../BraTS2024-PED/BraTS-PED-00001-000/x-seg.nii.gz"]
)
def test_a_relative_path_tells_what_the_whole_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: str):
    (tmp_path / "BraTS2024-PED").mkdir()
    monkeypatch.chdir(tmp_path / "BraTS2024-PED")
    assert left_by_names(Path(relative)) == ("brats2024-ped",)
    assert told_scheme(Path("."), [Path(relative)]) == SCHEMES["brats2024-ped"]
