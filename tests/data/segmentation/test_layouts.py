"""The ways in which data sets are laid out: each is read as what it is, or refused with what was seen."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.scan import scan_cases
from gmd.data.segmentation.volumes import load_case
from helpers.nifti_cases import SHAPE, empty_case, error_of, labels_of, names, random_image, save

CHANNELS = ("flair", "t1", "t1ce", "t2")


def touch(root: Path, *paths: str) -> None:
    """For tests that only look at names."""
    for path in paths:
        empty_case((root / path).parent, Path(path).name)


def found(root: Path, **options) -> dict[str, dict[str, str]]:
    """Case -> modality, and "seg" -> path from the root."""
    cases = find_cases(root, **({"require_label": False} | options))
    files = {case.name: {**case.images, **({"seg": case.label} if case.label else {})} for case in cases}
    return {name: {key: str(path.relative_to(root)) for key, path in those.items()} for name, those in files.items()}


# A folder for each modality


@pytest.mark.parametrize("file", ["{case}_{key}.nii.gz", "scan.nii.gz", "{case}.nii"])
def test_modalities_in_folders_of_their_own_are_one_case(tmp_path, file):
    paths = {
        f"P{n}": {key: f"P{n}/{key}/{file.format(case=f'P{n}', key=key)}" for key in (*CHANNELS, "seg")} for n in (1, 2)
    }
    touch(tmp_path, *(path for case in paths.values() for path in case.values()))
    assert found(tmp_path) == paths
    assert [case.folder for case in scan_cases(tmp_path).cases] == [tmp_path / "P1", tmp_path / "P2"]
    # a missing modality is as ordinary as in one folder
    (tmp_path / paths["P2"]["t1"]).unlink()
    del paths["P2"]["t1"]
    assert found(tmp_path) == paths
    assert found(tmp_path / "P1").keys() == {"P1"}


@pytest.mark.parametrize("label", ["seg", "label", "labels"])
def test_modality_folders_at_the_top(tmp_path, label):
    touch(tmp_path, "FLAIR/P1.nii.gz", "FLAIR/P2.nii.gz", "t1/P1.nii.gz", f"{label}/P1.nii.gz", f"{label}/P2.nii.gz")
    assert found(tmp_path) == {
        "P1": {"flair": "FLAIR/P1.nii.gz", "t1": "t1/P1.nii.gz", "seg": f"{label}/P1.nii.gz"},
        "P2": {"flair": "FLAIR/P2.nii.gz", "seg": f"{label}/P2.nii.gz"},
    }


def test_patients_inside_modality_folders(tmp_path):
    touch(tmp_path, "t1/P1/P1_t1.nii.gz", "flair/P1/P1_flair.nii.gz", "t1/P2/scan.nii", "flair/P2/scan.nii")
    assert found(tmp_path) == {
        "P1": {"flair": "flair/P1/P1_flair.nii.gz", "t1": "t1/P1/P1_t1.nii.gz"},
        "P2": {"flair": "flair/P2/scan.nii", "t1": "t1/P2/scan.nii"},
    }


def test_folders_named_as_files_are(tmp_path):
    """`P1_flair` with the one file in it; and as some archives unpack, a folder with an image's name and ending."""
    touch(tmp_path, "a/P1_flair/P1_flair.nii.gz", "a/P1_t1/x.nii.gz")
    assert found(tmp_path / "a") == {"P1": {"flair": "P1_flair/P1_flair.nii.gz", "t1": "P1_t1/x.nii.gz"}}
    touch(tmp_path, "b/P1/P1_flair.nii/00000057_brain_flair.nii", "b/P1/P1_t1.nii/x.nii", "b/P1/P1_seg.nii.gz")
    assert found(tmp_path / "b") == {
        "P1": {
            "flair": "P1/P1_flair.nii/00000057_brain_flair.nii",
            "t1": "P1/P1_t1.nii/x.nii",
            "seg": "P1/P1_seg.nii.gz",
        }
    }
    [case] = find_cases(tmp_path / "b")
    assert case.folder == tmp_path / "b/P1"


def test_examinations_called_t1_and_t2_are_no_modalities(tmp_path):
    touch(tmp_path, *(f"P1/{visit}/P1_{key}.nii.gz" for visit in ("t1", "t2") for key in ("flair", "t1", "t2")))
    assert found(tmp_path) == {
        visit: {key: f"P1/{visit}/P1_{key}.nii.gz" for key in ("flair", "t1", "t2")} for visit in ("t1", "t2")
    }


def test_a_name_that_denies_its_folder_is_refused(tmp_path):
    touch(tmp_path, "P1/t1/P1_flair.nii.gz", "P1/t2/P1_t2.nii.gz")
    message = error_of(find_cases, tmp_path, require_label=False)
    path = tmp_path / "P1/t1/P1_flair.nii.gz"
    assert f"{path}: its name and those of its folders say different modalities, flair and t1" in message


# All cases in one folder


def test_all_cases_in_one_folder(tmp_path):
    touch(tmp_path, *(f"all/P{n}_{key}.nii.gz" for n in (1, 2) for key in ("flair", "t1", "seg")))
    touch(tmp_path, "all/P3_flair.nii.gz", "all/P3_seg.nii.gz")
    assert found(tmp_path) == {
        **{f"P{n}": {key: f"all/P{n}_{key}.nii.gz" for key in ("flair", "t1", "seg")} for n in (1, 2)},
        "P3": {key: f"all/P3_{key}.nii.gz" for key in ("flair", "seg")},
    }
    touch(tmp_path, *(f"more/P{n}_flair.nii.gz" for n in (1, 4)))
    assert list(found(tmp_path)) == ["P2", "P3", "P4", "all__P1", "more__P1"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        # a second image beside those of a case
        (("P1/P1_flair.nii.gz", "P1/x_flair.nii.gz"), "P1_flair.nii.gz and x_flair.nii.gz both match 'flair'"),
        # the same name with another ending
        (("x/P1_t1.nii.gz", "x/P1_t1.nii", "x/P2_t1.nii"), "P1_t1.nii and P1_t1.nii.gz both match 't1'"),
        (("P1/t1/a.nii.gz", "P1/t1/b.nii.gz", "P1/t2/c.nii.gz"), "a.nii.gz and b.nii.gz both match 't1'"),
        (("t1/P1/a.nii.gz", "P1/T1/b.nii.gz", "P1/t2/c.nii.gz"), "T1/b.nii.gz and P1/a.nii.gz both match 't1'"),
        # two patients, or one
        (("x/P1_flair.nii.gz", "x/P2_t1.nii.gz"), "P1_flair.nii.gz and P2_t1.nii.gz: are these files of one case or"),
        (("x/P1_flair.nii.gz", "x/P2_seg.nii.gz"), "P1_flair.nii.gz and P2_seg.nii.gz: are these files of one case or"),
    ],
)
def test_what_could_be_several_things_is_refused_with_both_named(tmp_path, paths, message):
    touch(tmp_path, *paths)
    reason = error_of(find_cases, tmp_path, require_label=False)
    assert message in reason
    # prediction goes on with the others, and says the same
    touch(tmp_path, "good/P9_flair.nii.gz")
    scan = scan_cases(tmp_path)
    assert "good" in names(scan.cases)
    assert list(scan.wrong.values()) == [reason]


# What fits no name


def test_an_image_that_fits_no_name_is_named(tmp_path):
    touch(tmp_path, *(f"a/a_{key}.nii.gz" for key in ("flair", "t1", "seg", "t1km")))
    with pytest.warns(UserWarning, match=r"part of no case, and not used: .*/a/a_t1km\.nii\.gz"):
        assert found(tmp_path)["a"].keys() == {"flair", "t1", "seg"}
    touch(tmp_path, "b/Scan_1.nii.gz", "b/notes.txt")
    with pytest.warns(UserWarning, match=r"2 images are part of no case and not used, as .*/a/a_t1km\.nii\.gz"):
        find_cases(tmp_path)
    assert [path.name for path in scan_cases(tmp_path).unused] == ["a_t1km.nii.gz", "Scan_1.nii.gz"]


def test_a_case_of_other_modalities_is_no_doubt(tmp_path):
    """A network of some modalities on data that lack any: such a case has nothing for it."""
    touch(tmp_path, "a/a_flair.nii.gz", "b/b_t1.nii.gz", "b/b_seg.nii.gz")
    assert found(tmp_path, modalities=("flair",)).keys() == {"a"}
    assert scan_cases(tmp_path, ("flair",)).others == [tmp_path / "b/b_seg.nii.gz", tmp_path / "b/b_t1.nii.gz"]


# Numbered images


def decathlon(root: Path, *cases: str, told: bool = True) -> None:
    """Task01_BrainTumour, small: four modalities along the fourth axis; labels as `dataset.json` has them."""
    for number, name in enumerate(cases):
        save(root / f"imagesTr/{name}.nii.gz", np.stack([random_image(4 * number + k) for k in range(4)], axis=-1))
        save(root / f"labelsTr/{name}.nii.gz", labels_of(1, 2, 3))
    if told:
        modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
        (root / "dataset.json").write_text(json.dumps({"modality": modality}))


@pytest.mark.parametrize("told", [True, False])
def test_the_decathlons_volumes_along_the_fourth_axis(tmp_path, told):
    decathlon(tmp_path, "BRATS_001", "BRATS_002", told=told)
    touch(tmp_path, "imagesTs/BRATS_003.nii.gz")
    with pytest.warns(UserWarning, match="not used: .*imagesTs/BRATS_003"):
        cases = find_cases(tmp_path, channels=() if told else CHANNELS)
    assert names(cases) == ["BRATS_001", "BRATS_002"]
    assert {case.scheme.name for case in cases} == {"msd"}
    loaded = load_case(cases[1])
    for place, modality in enumerate(CHANNELS):
        alone = find_alone(tmp_path / modality, random_image(4 + place))
        torch.testing.assert_close(loaded[modality], alone)
    assert loaded["target"].sum(dim=(1, 2, 3)).tolist() == [3, 2, 1]
    # a network of some of the modalities reads those
    [case, _] = find_cases(tmp_path / "imagesTr", ("t2", "flair"), channels=() if told else CHANNELS)
    assert set(load_case(case)) >= {"t2", "flair", "target"}
    assert "t1" not in load_case(case)


def find_alone(folder: Path, image: np.ndarray) -> torch.Tensor:
    save(folder / "x_flair.nii.gz", image)
    return load_case(find_cases(folder, require_label=False)[0])["flair"]


def test_nnunets_files_with_a_number(tmp_path):
    numbers = {f"P{n}": {key: f"imagesTr/P{n}_{k:04d}.nii.gz" for k, key in enumerate(CHANNELS)} for n in (1, 2)}
    for case in numbers.values():
        touch(tmp_path, *case.values())
    (tmp_path / numbers["P2"].pop("t1ce")).unlink()
    touch(tmp_path, "labelsTr/P1.nii.gz", "labelsTr/P2.nii.gz")
    labels = {name: {"seg": f"labelsTr/{name}.nii.gz"} for name in numbers}
    expected = {name: numbers[name] | labels[name] for name in numbers}
    assert found(tmp_path, channels=CHANNELS) == expected
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": dict(enumerate(CHANNELS))}))
    assert found(tmp_path) == expected
    message = error_of(find_cases, tmp_path, channels=("t1", "flair", "t1ce", "t2"))
    assert f"--channels: got t1 flair t1ce t2, but {tmp_path / 'dataset.json'} says flair t1 t1ce t2" in message
    assert find_cases(tmp_path)[0].scheme is None  # numbers say nothing of labels, see find_all


def test_numbers_that_nothing_explains_are_refused(tmp_path):
    touch(tmp_path, "imagesTr/P1_0000.nii.gz", "labelsTr/P1.nii.gz")
    message = error_of(find_cases, tmp_path)
    assert f"{tmp_path / 'imagesTr/P1_0000.nii.gz'}: its name does not say the modality" in message
    assert "--channels flair t1 t1ce t2" in message
    touch(tmp_path, "imagesTr/P1_0002.nii.gz")
    message = error_of(find_cases, tmp_path, channels=("flair", "t1"))
    assert "P1_0002.nii.gz: expected a name that ends in one of the numbers 0000 flair, 0001 t1" in message
    touch(tmp_path, "P2/P2_flair.nii.gz")
    message = error_of(find_cases, tmp_path, channels=CHANNELS)
    assert f"two layouts are mixed: {tmp_path / 'imagesTr/P1_0000.nii.gz'} is numbered, {tmp_path / 'P2'}" in message


@pytest.mark.parametrize("content", ["[1", "[]", '{"modality": {"a": "T1"}}'])
def test_a_dataset_json_that_cannot_be_read_is_named(tmp_path, content):
    touch(tmp_path, "imagesTr/P1_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(content)
    assert f"{tmp_path / 'dataset.json'}: cannot be read" in error_of(find_cases, tmp_path)


def test_another_number_of_volumes_than_was_said(tmp_path):
    decathlon(tmp_path, "BRATS_001", told=False)
    [case] = find_cases(tmp_path, channels=("flair", "t1", "t2"))
    message = error_of(load_case, case)
    assert "BRATS_001.nii.gz: has shape (6, 5, 4, 4), expected four axes with 3 volumes along the last" in message
    # and a file of four axes that is named as one modality
    nibabel.load(case.label)
    (tmp_path / "p").mkdir()
    (tmp_path / "imagesTr/BRATS_001.nii.gz").rename(tmp_path / "p/p_flair.nii.gz")
    [case] = find_cases(tmp_path / "p", require_label=False)
    assert "4 volumes; expected three axes" in error_of(load_case, case)


def test_a_single_modality_needs_no_fourth_axis(tmp_path):
    save(tmp_path / "images/a.nii.gz", random_image())
    save(tmp_path / "labels/a.nii.gz", labels_of(1))
    [case] = find_cases(tmp_path, ("mri",), channels=("mri",), scheme=SCHEMES["binary"])
    loaded = load_case(case)
    assert loaded["mri"].shape == (1, *SHAPE)
    assert loaded["target"].sum() == 1
    assert "'mri': files are known by their names for flair" in error_of(find_cases, tmp_path / "labels", ("mri",))


def test_a_dataset_json_of_something_else_is_not_read(tmp_path):
    touch(tmp_path, "a/a_flair.nii.gz")
    (tmp_path / "dataset.json").write_text('{"modality": "MRI"}')
    assert found(tmp_path).keys() == {"a"}


def test_plain_folders_of_numbered_images(tmp_path):
    decathlon(tmp_path / "set", "BRATS_001", "BRATS_002", told=False)
    (tmp_path / "set/imagesTr").rename(tmp_path / "new")
    assert "no case found" in error_of(find_cases, tmp_path / "new", require_label=False)
    cases = find_cases(tmp_path / "new", require_label=False, channels=CHANNELS)
    assert names(cases) == ["BRATS_001", "BRATS_002"]
    assert tuple(cases[0].images) == BRATS_MODALITIES


def test_schemes_of_numbered_images_are_given(tmp_path):
    touch(tmp_path, "imagesTr/P1_0000.nii.gz", "labelsTr/P1.nii.gz")
    [case] = find_cases(tmp_path, channels=("flair",), scheme=SCHEMES["msd"])
    assert case.scheme == SCHEMES["msd"]


def test_cases_of_one_modality_each_may_be_parts_of_one(tmp_path):
    """A layout that is not known looks like missing modalities; nothing can tell, so it is said."""
    touch(tmp_path, "P1 FLAIR stripped/P1_flair.nii.gz", "P1 T1 stripped/P1_t1.nii.gz")
    with pytest.warns(UserWarning, match=r"P1_flair\.nii\.gz and .*P1_t1\.nii\.gz count as two cases of one"):
        assert len(found(tmp_path)) == 2
    touch(tmp_path, "missing/P3/P3_flair.nii.gz", "missing/P4/P4_t1.nii.gz")
    assert len(found(tmp_path / "missing")) == 2
    touch(tmp_path, "missing/P5/P5_flair.nii.gz", "missing/P5/P5_t1.nii.gz")
    assert len(found(tmp_path / "missing")) == 3


def test_a_folder_in_which_no_pattern_finds_anything_is_named(tmp_path):
    touch(tmp_path, "p1/FLAIR_x.nii.gz", "p1/other.nii.gz", "p2/T2-FLAIR.nii.gz")
    with pytest.warns(UserWarning, match=f"part of no case, and not used: {tmp_path / 'p2/T2-FLAIR.nii.gz'}"):
        assert found(tmp_path, patterns={"flair": "FLAIR_*"}).keys() == {"p1"}
