"""The `.npy` volumes of RFNet, mmFormer and those after them: found, read as they are, or refused."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.check import check_cases
from gmd.data.segmentation.npy_layout import CHANNELS
from gmd.data.segmentation.npy_voxels import varying_volumes
from gmd.data.segmentation.patients import patient_of
from gmd.data.segmentation.volumes import load_case, memory_of
from gmd.data.segmentation.z_scored import notes_on_z_scored, without_background
from gmd.errors import UserError
from helpers.nifti_cases import error_of, make_case, names
from helpers.npy_cases import random_labels, random_volumes, write_volumes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two cases in exactly their layout, with the lists that lie beside them."""
    for seed, name in enumerate(("HG_BraTS20_Training_001", "LG_BraTS20_Training_300")):
        write_volumes(tmp_path / "npy", name, random_volumes(seed=seed), random_labels())
    (tmp_path / "npy/train.txt").write_text("HG_BraTS20_Training_001\n")
    return tmp_path / "npy"


def rewrite(root: Path, change) -> Path:
    """Changes the volumes of the first case."""
    path = sorted((root / "vol").iterdir())[0]
    np.save(path, change(np.load(path)))
    return path


def test_cases_are_found_in_the_order_of_their_channels(root: Path):
    cases = find_cases(root)
    assert names(cases) == ["HG_BraTS20_Training_001", "LG_BraTS20_Training_300"]
    first = cases[0]
    assert list(first.images) == ["flair", "t1", "t1ce", "t2"]
    assert first.channels == {"flair": 0, "t1ce": 1, "t1": 2, "t2": 3}
    assert first.label == root / "seg" / f"{first.name}_seg.npy"
    assert first.folder == root
    assert patient_of(first) == "BraTS20_Training_001", "the patient of the original name"
    loaded, stored = load_case(first), np.load(root / "vol" / f"{first.name}_vol.npy")
    for place, modality in enumerate(CHANNELS):
        inside = loaded[modality][0].numpy() != 0
        assert np.array_equal(loaded[modality][0].numpy()[inside], stored[..., place][inside]), modality


def test_numbers_in_the_brain_stay_and_the_background_becomes_0(root: Path):
    """It is -mean / deviation in their files, another number in each modality, and 0 in gmd's."""
    case, stored = load_case(find_cases(root)[0]), np.load(sorted((root / "vol").iterdir())[0])
    inside = np.zeros(stored.shape[:3], bool)
    inside[1:-1, 1:-1, 1:-1] = True
    assert np.array_equal(case["brain"][0].numpy(), inside)
    for place, modality in enumerate(CHANNELS):
        assert stored[0, 0, 0, place] < -1
        assert torch.equal(case[modality][0], torch.from_numpy(np.where(inside, stored[..., place], 0)))
    assert np.array_equal(case["affine"], np.eye(4)), "a voxel counts as 1 mm"
    assert case["scheme"].name == "rfnet"
    assert case["target"].sum(dim=(1, 2, 3)).tolist() == [3, 2, 1]


def test_volumes_without_one_background_stay_as_they_are():
    image = np.random.default_rng(0).standard_normal((3, 3, 3)).astype(np.float32)
    assert without_background(image) is image
    image[np.ix_((0, -1), (0, -1), (0, -1))] = 0
    assert np.array_equal(without_background(image), image)


def test_a_channel_of_zeros_is_a_missing_modality_and_told(root: Path):
    """As of data whose t1 and t2 never were: the brain and the statistics are of what is there."""

    def without(volumes: np.ndarray) -> np.ndarray:
        volumes[..., 2:] = 0
        return volumes

    path = rewrite(root, without)
    cases = find_cases(root)
    assert list(cases[0].images) == ["flair", "t1ce"]
    assert {"t1", "t2"}.isdisjoint(load_case(cases[0]))
    assert len(cases[1].images) == 4
    assert varying_volumes(path) == [True, True, False, False]
    numpy, absent = notes_on_z_scored(cases, ("flair", "t1", "t1ce", "t2"))
    assert "2 cases are arrays of numpy" in numpy
    assert absent == "channels of one value count as missing: t1 in 1, t2 in 1 of 2 cases"
    assert notes_on_z_scored([], ("t1",)) == []


def test_channels_say_other_orders_and_counts(tmp_path: Path):
    write_volumes(tmp_path, "P1", random_volumes(channels=3), random_labels())
    [case] = find_cases(tmp_path, ("t1", "adc", "flair"), channels=("flair", "adc", "t1"))
    assert case.channels == {"flair": 0, "adc": 1, "t1": 2}
    assert load_case(case)["adc"].shape == (1, 6, 5, 4)
    told = error_of(load_case, find_cases(tmp_path)[0])
    assert re.search(r"P1_vol.npy: has shape \(6, 5, 4, 3\), expected four axes with 4 volumes .* --channels", told)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_numbers_may_lie_in_any_order_and_of_any_size(tmp_path: Path, order: str, dtype: str):
    volumes = random_volumes().astype(dtype)
    write_volumes(tmp_path, "P1", np.asarray(volumes, order=order), random_labels())
    [case] = find_cases(tmp_path)
    assert len(case.images) == 4
    loaded = load_case(case)["t2"][0].numpy()
    assert np.array_equal(loaded[1:-1, 1:-1, 1:-1], volumes[1:-1, 1:-1, 1:-1, 3].astype(np.float32))


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("BraTS20_Training_001", "rfnet"),
        ("HG_Brats18_TCIA01_131_1", "rfnet"),
        ("anything", "rfnet"),
        ("BraTS-GLI-00012-001", "brats2023"),
        ("HG_brats_2013_pat0001_1", "brats2015"),  # RFNet has five classes there
    ],
)
def test_what_labels_mean_is_told_by_the_layout_and_the_name(tmp_path: Path, name: str, scheme: str):
    write_volumes(tmp_path, name, random_volumes(), random_labels())
    assert find_cases(tmp_path)[0].scheme.name == scheme


def objects(path: Path) -> None:
    np.save(path, np.array([os.getcwd, "code"], dtype=object), allow_pickle=True)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(8))


def claims(path: Path) -> None:
    """A header of 2 TB before some bytes."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (8192, 8192, 2048, 4)}
    )
    path.write_bytes(stream.getvalue() + bytes(100))


def shifted(path: Path) -> None:
    np.save(path, np.load(path) * 200 + 900)


def not_finite(path: Path) -> None:
    volumes = np.load(path)
    volumes[..., 1] = np.nan  # what their normalize makes of a channel of zeros
    np.save(path, volumes)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (objects, "holds Python objects, which are never loaded"),
        (cut, r"claims to be float32 \[6, 5, 4, 4\], of 1920 bytes, and has 1820; it is damaged"),
        (longer, "of 1920 bytes, and has 1928"),
        (claims, r"claims to be float32 \[8192, 8192, 2048, 4\], of 2199023255552 bytes, and has 100"),
        (shifted, r"flair has mean \S+ and standard deviation \S+ in the brain; a .npy is expected z-scored"),
        (not_finite, "120 of 120 voxels are NaN or infinite"),
        (lambda path: np.save(path, np.load(path)[..., 0]), r"has shape \(6, 5, 4\), expected four axes with 4 vol"),
        (lambda path: np.save(path, np.load(path)[:5]), "differ in shape"),
        (lambda path: np.save(path, np.full((6, 5, 4, 4), "x")), "holds <U1, expected one real number"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x07\x00xxxx"), "cannot be read as an array of numpy"),
        (lambda path: path.write_text("<html><body>Sign in</body>"), r"it is a web page \(HTML\)"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is a named pipe"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", "spoil"),
)
def test_what_is_no_volume_is_refused_by_name(root: Path, spoil, told: str):
    path = sorted((root / "vol").iterdir())[0]
    spoil(path)
    message = error_of(lambda: check_cases(find_cases(root)))
    assert re.search(told, message), message
    assert "HG_BraTS20_Training_001" in message


def test_a_case_of_constant_channels_is_refused(root: Path):
    rewrite(root, np.zeros_like)
    assert "every channel has one value only; mend or remove the case" in error_of(find_cases, root)


def test_a_case_without_labels_is_refused_and_predicted(root: Path):
    (root / "seg/LG_BraTS20_Training_300_seg.npy").unlink()
    assert "no label map (" in error_of(find_cases, root)
    assert len(find_cases(root, require_label=False)) == 2


def test_two_layouts_in_one_folder_are_refused(root: Path):
    make_case(root / "P1")
    assert "two layouts are mixed" in (told := error_of(find_cases, root))
    assert "holds volumes of numpy" in told


def test_memory_is_asked_for_by_the_header(root: Path):
    [first, _] = find_cases(root)
    assert memory_of(first) == 6 * 5 * 4 * (4 * (2 * 4 + 12) + 2 * 1 + 12)


def test_whatever_byte_of_a_header_is_damaged(root: Path):
    """A case that can be read, or an error that names it: numpy has a dozen classes of errors for headers."""
    path = sorted((root / "vol").iterdir())[0]
    whole = path.read_bytes()
    told = []
    for place in range(128):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            load_case(find_cases(root)[0])
        except UserError as error:
            told.append(str(error))
    assert len(told) > 40
    assert all("HG_BraTS20_Training_001" in message for message in told)
