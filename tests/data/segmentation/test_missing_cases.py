"""Cases that lack modalities on purpose: nothing reads what they lack, and label maps stay."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gmd.data.missing import Missing
from gmd.data.missing_list import read_missing_list
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.missing_modalities import by_case_names, make_absent
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.volumes import load_case
from helpers.nifti_cases import error_of, make_case, names
from helpers.npy_cases import random_labels, random_volumes, write_volumes

PASSION = "data_name,mask_id,mask,pos_mask_ids\n"


def test_a_case_keeps_what_its_mask_says(tmp_path: Path):
    """PASSION's table, whose names have HG_ and LG_ before those of the data: flair, t1ce, t1, t2 in this order."""
    for name in ("BraTS20_Training_001", "BraTS20_Training_300", "BraTS20_Training_336"):
        make_case(tmp_path / "data" / name)
    (tmp_path / "mr2468.csv").write_text(
        PASSION + 'HG_BraTS20_Training_001,3,"[True, False, True, False]","[1, 2, 3]"\n'
        'LG_BraTS20_Training_300,8,"[False, False, False, True]",[8]\n'
    )
    listed = read_missing_list(tmp_path / "mr2468.csv", BRATS_MODALITIES)
    cases = find_cases(tmp_path / "data")
    missing = by_case_names(Missing(listed=listed, source="mr2468.csv"), names(cases))
    absent = make_absent(cases, missing)
    assert [list(case.images) for case in absent] == [["flair", "t1"], ["t2"], list(BRATS_MODALITIES)]
    assert [case.label for case in absent] == [case.label for case in cases]


def test_what_a_case_lacks_has_no_influence(tmp_path: Path):
    """Its brain, its numbers and its checks are those of a case that never had it; here it could not be read."""
    volumes = random_volumes()
    write_volumes(tmp_path, "whole", volumes, random_labels())
    [whole] = find_cases(tmp_path)
    [lessened] = make_absent([whole], Missing(listed={"whole": ("t1",)}))
    spoilt = volumes.copy()
    spoilt[..., [0, 1, 3]] = np.nan
    np.save(tmp_path / "vol/whole_vol.npy", spoilt)
    loaded = load_case(lessened)
    assert [key for key in BRATS_MODALITIES if key in loaded] == ["t1"]
    np.save(tmp_path / "vol/whole_vol.npy", volumes)
    assert torch.equal(loaded["t1"], load_case(whole)["t1"])
    assert torch.equal(loaded["brain"][0], loaded["t1"][0] != 0)


def test_rates_depend_on_the_seed_and_the_name_alone(tmp_path: Path):
    for number in range(8):
        make_case(tmp_path / f"P{number}")
    cases = find_cases(tmp_path)
    missing = Missing({"t1": 0.5, "t2": 1.0}, seed=3)
    absent = make_absent(cases, missing)
    assert make_absent(cases[4:], missing) == absent[4:]
    assert all("t2" not in case.images and "flair" in case.images for case in absent)
    assert 0 < sum("t1" in case.images for case in absent) < 8


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ({"P1": ("t1",), "HG_P1": ("t2",)}, "masks.csv: has two masks for P1, expected one"),
        ({"P2": ("t1",)}, "masks.csv: P2 could be HG_P2 and LG_P2; list the whole name"),
    ],
    ids=["two masks", "two cases"],
)
def test_masks_of_which_the_case_is_not_clear(listed: dict, told: str):
    missing = Missing(listed=listed, source="masks.csv")
    assert told in error_of(by_case_names, missing, ["P1", "HG_P2", "LG_P2"])


def test_a_mask_that_leaves_nothing_and_a_list_of_others(tmp_path: Path):
    make_case(tmp_path / "P1", keys=("flair", "seg"))
    cases = find_cases(tmp_path)
    told = error_of(make_absent, cases, Missing(listed={"P1": ("t1",)}, source="masks.csv"))
    assert "masks.csv: leaves P1 with t1, and it has flair" in told
    assert "names no sample that there is" in error_of(make_absent, cases, Missing(listed={"other": ("t1",)}))
