"""What the labels of a folder mean when a run is scored on it: what they mean in the run, then what names tell."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.volumes import load_case
from gmd.evaluation.segmentation.held_out import unseen_cases
from gmd.training.saved_run import read_config
from helpers.evaluation_cases import untrained_run

OWN = "{name: own, values: {1: a, 2: b, 4: c}, regions: {WT: [2], TC: [1, 4], ET: [1]}}"
REORDERED = "{name: own, values: {1: a, 2: b, 4: c}, regions: {RC: [2], WT: [1, 4], TC: [1, 4], ET: [4]}}"


def other_voxels(source: Path, target: Path) -> Path:
    """A copy with the names of other cases and other images, which no run has seen."""
    for path in source.glob("*/*"):
        to = target / f"new{path.parent.name}" / f"new{path.name}"
        to.parent.mkdir(parents=True, exist_ok=True)
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj)
        nibabel.save(nibabel.Nifti1Image(voxels + (voxels > 0) * ("_seg" not in path.name), image.affine), to)
    return target


def named_as(challenge: str, source: Path, target: Path) -> Path:
    """A copy whose cases have the names of a challenge, and the files theirs."""
    names = {"_flair": "-t2f", "_t1": "-t1n", "_t1ce": "-t1c", "_t2": "-t2w", "_seg": "-seg"}
    for number, case in enumerate(sorted(source.iterdir())):
        name = challenge.format(number)
        (target / name).mkdir(parents=True)
        for ending, new in names.items():
            shutil.copy(case / f"{case.name}{ending}.nii.gz", target / name / f"{name}{new}.nii.gz")
    return target


def enhancing_is_three(data: Path) -> None:
    for path in data.glob("*/*-seg.nii.gz"):
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj)
        nibabel.save(nibabel.Nifti1Image(np.where(voxels == 4, 3, voxels).astype(np.uint8), image.affine), path)


@pytest.mark.parametrize("labels", ["msd", "brats2015", OWN])
@pytest.mark.parametrize("which", ["moved", "new"])
def test_names_do_not_overrule_what_the_run_was_told(phantoms: Path, tmp_path: Path, labels: str, which: str):
    """`_seg.nii.gz` alone would be read as BraTS 2018-2021."""
    shutil.copytree(phantoms, tmp_path / "data")
    for path in (tmp_path / "data").glob("*/*_seg.nii.gz"):
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj)
        if labels == "msd":
            voxels = np.where(voxels == 4, 3, voxels)
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.uint8), image.affine), path)
    run = untrained_run(tmp_path, modalities=("flair", "t1ce"), labels=(labels,))
    there = other_voxels(tmp_path / "data", tmp_path / "new") if which == "new" else tmp_path / "there"
    if which == "moved":
        (tmp_path / "data").rename(there)
    held_out = unseen_cases(run, read_config(run), there)
    assert not held_out.failed
    assert all(case.scheme == read_config(run).label_scheme() for case in held_out.cases)


def test_regions_keep_the_order_of_the_run(phantoms: Path, tmp_path: Path):
    """The names tell the same regions in another order, which is that of the target's channels."""
    shutil.copytree(phantoms, tmp_path / "data")
    run = untrained_run(tmp_path, modalities=("flair", "t1ce"), labels=(REORDERED,))
    new = named_as("BraTS-GLI-{:05}-100", other_voxels(phantoms, tmp_path / "other"), tmp_path / "new")
    held_out = unseen_cases(run, read_config(run), new)
    assert len(held_out.cases) == len(list(phantoms.iterdir()))
    for case in held_out.cases:
        assert case.scheme == SCHEMES["brats2024-gli"]
        assert tuple(case.scheme.regions) == ("RC", "WT", "TC", "ET")
        label = np.asarray(nibabel.load(case.label).dataobj)
        assert load_case(case)["target"].sum(dim=(1, 2, 3)).tolist() == [
            np.isin(label, values).sum() for values in ((4,), (1, 2, 3), (1, 3), (3,))
        ]


def test_names_that_the_run_does_not_have_tell_what_they_mean(phantoms: Path, tmp_path: Path):
    shutil.copytree(phantoms, tmp_path / "data")
    run = untrained_run(tmp_path, modalities=("flair", "t1ce"))
    new = named_as("BraTS-GLI-{:05}-000", other_voxels(phantoms, tmp_path / "other"), tmp_path / "new")
    enhancing_is_three(new)
    assert {case.scheme.name for case in unseen_cases(run, read_config(run), new).cases if case.scheme} == {"brats2023"}


def test_two_namings_that_the_run_has_learnt_from_are_not_mixed(phantoms: Path, tmp_path: Path):
    """Two data sets, which now lie in one folder; of each its own meaning of the values."""
    shutil.copytree(phantoms, tmp_path / "here/A")
    named_as("BraTS-GLI-{:05}-000", other_voxels(phantoms, tmp_path / "other"), tmp_path / "here/B")
    enhancing_is_three(tmp_path / "here/B")
    roots = (tmp_path / "here/A", tmp_path / "here/B")
    run = untrained_run(tmp_path, data=roots, modalities=("flair", "t1ce"))
    (tmp_path / "here").rename(tmp_path / "there")
    held_out = unseen_cases(run, read_config(run), tmp_path / "there")
    assert held_out.data is None
    assert held_out.cases
    assert not held_out.failed
    for case in held_out.cases:
        assert case.scheme == SCHEMES["brats2023" if case.name.startswith("BraTS") else "brats2018"]
