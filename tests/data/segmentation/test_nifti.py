"""One file: what can be read, whatever it is called and however its numbers are stored, and what is refused."""

import gc
import gzip
import struct

import nibabel
import numpy as np
import pytest
import torch

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from helpers.nifti_cases import SHAPE, error_of, random_image, save

SLOPE = 112  # where scl_slope and scl_inter stand in a NIfTI-1 header


def test_a_fourth_axis(tmp_path):
    case = Case("a", {"t1": save(tmp_path / "t1.nii.gz", random_image()[..., None])})
    assert load_case(case, None)["t1"].shape == (1, *SHAPE)
    for shape, volumes in (((*SHAPE, 2), "2 volumes"), ((*SHAPE, 1, 3), "3 volumes"), (SHAPE[:2], "shape (6, 5);")):
        save(case.images["t1"], np.ones(shape, np.int16))
        message = error_of(load_case, case, None)
        assert str(case.images["t1"]) in message
        assert str(shape) in message
        assert volumes in message
        assert "three axes" in message


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_numbers_of_any_type_and_scaled_in_the_header(tmp_path, dtype):
    image = random_image() % 200
    expected = load_case(Case("a", {"t1": save(tmp_path / "i.nii", image)}), None)["t1"]
    path = save(tmp_path / "t1.nii", image.astype(dtype))
    torch.testing.assert_close(load_case(Case("a", {"t1": path}), None)["t1"], expected, rtol=0, atol=1e-6)
    content = bytearray(path.read_bytes())
    struct.pack_into("<ff", content, SLOPE, 0.5, 3)
    path.write_bytes(content)
    assert np.asarray(nibabel.load(path).dataobj).max() == image.max() / 2 + 3
    mask = save(tmp_path / "mask.nii", (image > 0).astype(np.uint8))
    scaled = load_case(Case("a", {"t1": path}, mask=mask), None)["t1"]
    torch.testing.assert_close(scaled, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]], ids=["complex", "colours"])
def test_voxels_that_are_more_than_a_number(tmp_path, dtype):
    path = save(tmp_path / "t1.nii.gz", np.zeros(SHAPE, dtype))
    assert "expected one real number for each voxel" in error_of(load_case, Case("a", {"t1": path}), None)


def test_a_header_that_does_not_say_where_the_axes_point(tmp_path):
    affine = np.diag([1.0, 0, 1, 1])
    path = tmp_path / "t1.nii"
    image = nibabel.Nifti1Image(random_image(), np.eye(4))
    for row in range(3):
        image.header[f"srow_{'xyz'[row]}"] = affine[row]
    content = image.header.structarr.tobytes() + b"\0" * 4 + random_image().tobytes("F")
    path.write_bytes(content)
    message = error_of(load_case, Case("a", {"t1": path}), None)
    assert f"{path}: its affine [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]" in message
    assert "mend the header's sform or qform" in message


@pytest.mark.parametrize("ending", [".NII.GZ", ".NII", ".Nii.gz"])
def test_names_in_capitals_and_with_spaces(tmp_path, ending):
    expected = load_case(Case("a", {"t1": save(tmp_path / "t1.nii", random_image())}), None)["t1"]
    path = tmp_path / "a folder" / f"T1 SCAN{ending}"
    save(path.with_name("x" + ending.lower()), random_image()).rename(path)
    assert torch.equal(load_case(Case("a", {"t1": path}), None)["t1"], expected)
    content = path.read_bytes()
    if ending.lower() == ".nii.gz":
        path.write_bytes(content[:-1])
        assert "cannot be read" in error_of(load_case, Case("a", {"t1": path}), None)


def test_nifti2_files(tmp_path):
    path = tmp_path / "t1.nii.gz"
    nibabel.save(nibabel.Nifti2Image(random_image(), np.eye(4)), path)
    assert load_case(Case("a", {"t1": path}), None)["t1"].shape == (1, *SHAPE)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_truncated_files(tmp_path, ending):
    path = save(tmp_path / f"t1{ending}", random_image())
    content = path.read_bytes()
    for length in (0, 5, 40, len(content) // 2, len(content) - 4):
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as caught:
            load_case(Case("a", {"t1": path}), None)
        assert str(caught.value).startswith(f"{path}: cannot be read")
        assert "copy or download it anew" in str(caught.value)
        assert caught.value.__cause__ is not None


def test_damaged_files(tmp_path):
    """Any flipped bit of the compressed data is noticed: nibabel alone reads most of them as wrong voxels."""
    # of a size at which nibabel does not happen to read to the end
    image = np.random.default_rng(0).integers(0, 2000, (24, 24, 24))
    path = save(tmp_path / "t1.nii.gz", image.astype(np.int16))
    content = path.read_bytes()
    for position in range(12, len(content), 499):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        assert "cannot be read" in error_of(load_case, Case("a", {"t1": path}), None)


@pytest.mark.parametrize("content", [b"<html>404</html>", gzip.compress(b"<html>404</html>" * 50)], ids=["page", "gz"])
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "t1.nii.gz"
    path.write_bytes(content)
    assert f"{path}: cannot be read" in error_of(load_case, Case("a", {"t1": path}), None)


@pytest.mark.slow  # half a second each, to collect the garbage of a process with all of torch in it
# nibabel warns of what it then cannot read, and leaves files open
@pytest.mark.filterwarnings("ignore:PAR/REC version", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("ending", [".par", ".rec", ".head", ".mgh", ".mnc", ".img"])
@pytest.mark.parametrize("content", [b"# a\n. b : c\n", bytes(2000), bytes(range(256))], ids=["text", "zeros", "bytes"])
def test_files_that_are_called_what_they_are_not(tmp_path, ending, content):
    """nibabel chooses a reader by the name, and each has errors of its own."""
    path = tmp_path / f"t1{ending}"
    path.write_bytes(content)
    assert f"{path}: cannot be read" in error_of(load_case, Case("a", {"t1": path}), None)
    gc.collect()  # the warnings of open files


def test_a_surface_is_no_volume(tmp_path):
    path = tmp_path / "t1.gii"
    nibabel.save(nibabel.GiftiImage(), path)
    assert "GiftiImage holds no volume" in error_of(load_case, Case("a", {"t1": path}), None)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_header_that_says_nothing_of_orientation_is_warned_of(tmp_path, kind):
    """It is read by a guess of nibabel's: what lies left may be right."""
    path = tmp_path / "t1.nii.gz"
    nibabel.save(kind(random_image(), None), path)
    with pytest.warns(UserWarning, match=rf"{path}: .*qform and sform codes are 0.*a guess"):
        guessed = load_case(Case("a", {"t1": path}), None)["t1"]
    save(path, random_image(), np.diag([-1, 1, 1, 1]))
    assert torch.equal(guessed, load_case(Case("a", {"t1": path}), None)["t1"])


def test_a_file_that_has_gone(tmp_path):
    message = error_of(load_case, Case("a", {"t1": tmp_path / "t1.nii.gz"}), None)
    assert "FileNotFoundError" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(tmp_path, value):
    image = random_image().astype(np.float32)
    image[3, 2, :2] = value
    path = save(tmp_path / "t1.nii.gz", image)
    message = error_of(load_case, Case("a", {"t1": path}), None)
    assert f"{path}: 2 of 120 voxels are NaN or infinite" in message
