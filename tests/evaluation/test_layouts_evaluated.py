"""A run's test cases are read back as they were laid out: several in one folder, or along the fourth axis of a file."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from gmd.data.segmentation.phantom import write_phantoms
from gmd.data.segmentation.volumes import load_case
from gmd.evaluation.segmentation.held_out import own_test_cases, unseen_cases
from gmd.training.saved_run import read_config
from helpers.evaluation_cases import names, untrained_run

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = ("flair", "t1", "t1ce", "t2")


def lay_flat(cases: list[Path], data: Path) -> None:
    for case in cases:
        shutil.copytree(case, data, dirs_exist_ok=True)


def lay_along_the_fourth_axis(cases: list[Path], data: Path) -> None:
    (data / "imagesTr").mkdir(parents=True)
    (data / "labelsTr").mkdir()
    for case in cases:
        images = [nibabel.load(case / f"{case.name}_{modality}.nii.gz") for modality in CHANNELS]
        stacked = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
        nibabel.save(nibabel.Nifti1Image(stacked, images[0].affine), data / f"imagesTr/{case.name}.nii.gz")
        shutil.copy(case / f"{case.name}_seg.nii.gz", data / f"labelsTr/{case.name}.nii.gz")
    (data / "dataset.json").write_text(json.dumps({"channel_names": dict(enumerate(CHANNELS))}))


@pytest.mark.parametrize("lay", [lay_flat, lay_along_the_fourth_axis])
def test_a_runs_own_test_cases_and_others_beside_them(tmp_path: Path, lay):
    write_phantoms(tmp_path / "phantoms", cases=5, shape=(16, 16, 16), seed=0)
    cases = sorted((tmp_path / "phantoms").iterdir())
    lay(cases, tmp_path / "data")
    run = untrained_run(tmp_path, labels="brats2018", patch=(16, 16, 16))
    config = read_config(run)
    own = own_test_cases(run, config)
    assert {case.name for case in own.cases} == names(run, "test")
    assert not own.failed
    (ours,) = own.cases
    loaded = load_case(ours)
    assert loaded["target"].any()
    lay([case for case in cases if case.name == ours.name], tmp_path / "alone")
    (theirs,) = unseen_cases(run, config, tmp_path / "alone").cases
    assert all(torch.equal(load_case(theirs)[modality], loaded[modality]) for modality in CHANNELS)
