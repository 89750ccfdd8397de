"""Unusual grids are told of, once for a data set."""

import nibabel
import numpy as np
import pytest

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.grid_notes import affines_of, grid_notes
from gmd.data.segmentation.volumes import load_case
from helpers.nifti_cases import error_of, make_case, random_image, save


def affine(*spacing: float) -> np.ndarray:
    return np.diag([-spacing[0], *spacing[1:], 1.0])


def test_spacing_far_from_a_millimetre_and_an_identity_are_told_with_their_number():
    affines = {"a": affine(1, 1, 1), "b": affine(1, 1, 3), "c": affine(0.4, 0.4, 0.4), "d": np.eye(4)}
    spacing, identity = grid_notes(affines)
    assert spacing.startswith("spacing far from 1 mm in 2 of 4 cases, as 1 x 1 x 3 mm in b:")
    assert identity.startswith("an affine that is the identity in 1 of 4 cases, as in d:")
    assert grid_notes({"a": affine(1, 1.2, 0.9)}) == []


def test_the_headers_of_files_are_asked(tmp_path):
    save(tmp_path / "x/x_flair.nii.gz", random_image(), affine(1, 1, 5))
    cases = find_cases(tmp_path, require_label=False)
    np.testing.assert_array_equal(affines_of(cases)["x"], affine(1, 1, 5))
    assert len(grid_notes(affines_of(cases))) == 1


@pytest.mark.parametrize("off", ["affine", "spacing"])
def test_a_tolerance_for_affines_that_were_rounded(tmp_path, off):
    make_case(tmp_path / "a", keys=("flair", "t1"))
    moved = np.eye(4)
    moved[(0, 3) if off == "affine" else (0, 0)] += 0.01
    image = nibabel.load(tmp_path / "a/a_t1.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), tmp_path / "a/a_t1.nii.gz")
    [case] = find_cases(tmp_path, require_label=False)
    message = error_of(load_case, case)
    assert f"differ in {off}" in message
    assert "--affine-tolerance" in message
    assert set(load_case(Case("a", case.images, affine_tolerance=0.02))) >= {"flair", "t1"}
    moved[0, 3] += 5
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), tmp_path / "a/a_t1.nii.gz")
    message = error_of(load_case, case)
    assert "resample them to one grid" in message
    assert "--affine-tolerance" not in message  # that is another place
