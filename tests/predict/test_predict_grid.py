"""Predictions lie where the input lies: every orientation, every header; and files are written whole."""

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gmd.config import TrainBrats
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.nifti import from_ras, to_ras
from gmd.predict.grid import Grid, write_image
from gmd.predict.predictor import Predictor
from gmd.predict.request import Job
from helpers.nifti_cases import OBLIQUE, ORIENTATIONS, SHAPE, error_of, random_image, save, stored_as
from helpers.predict_cases import Pointwise

pytestmark = pytest.mark.usefixtures("one_thread")

# Orientation


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: "".join(nibabel.orientations.ornt2axcodes(o)))
def test_to_ras_and_back(orientation: np.ndarray):
    data = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    stored, affine = stored_as(orientation, data)
    turned = to_ras(stored[..., 0], affine)
    np.testing.assert_array_equal(turned.data, data[..., 0])
    np.testing.assert_allclose(turned.affine, OBLIQUE, atol=1e-12)
    np.testing.assert_array_equal(from_ras(data, affine), stored)


def predicted(folder: Path, images: dict[str, Path]) -> tuple[nibabel.Nifti1Image, nibabel.Nifti1Image]:
    """Label map and probabilities of a pointwise network."""
    config = TrainBrats(folder, folder / "run", labels="brats2018", patch=(16, 16, 16), device="cpu")
    job = Job(Case("a", images), folder / "seg.nii", folder / "probabilities.nii")
    predictor = Predictor(folder / "run", config, Pointwise(), zero_is_missing=False)
    predictor.write(job, predictor.predict_case(job))
    return tuple(nibabel.load(path) for path in (job.labels, job.probabilities))


def test_the_prediction_of_a_turned_case_is_the_turned_prediction(tmp_path: Path):
    """In all 48 orientations, and with another one for the second modality."""
    flair, t1 = random_image(0), random_image(1)
    paths = {key: tmp_path / f"{key}.nii" for key in ("flair", "t1")}
    for image, path in ((flair, paths["flair"]), (t1, paths["t1"])):
        save(path, image, OBLIQUE)
    labels, probabilities = (np.asarray(image.dataobj) for image in predicted(tmp_path, paths))
    assert set(np.unique(labels)) == {0, 1, 2, 4}
    for number, orientation in enumerate(ORIENTATIONS):
        save(paths["flair"], *stored_as(orientation, flair))
        save(paths["t1"], *stored_as(ORIENTATIONS[number - 7], t1))
        turned, turned_probabilities = predicted(tmp_path, paths)
        expected, affine = stored_as(orientation, labels)
        np.testing.assert_array_equal(np.asarray(turned.dataobj), expected)
        expected, _ = stored_as(orientation, probabilities)
        np.testing.assert_allclose(np.asarray(turned_probabilities.dataobj), expected, atol=1e-6)
        for image in (turned, turned_probabilities):
            np.testing.assert_array_equal(image.affine, nibabel.load(paths["flair"]).affine)
            np.testing.assert_allclose(image.affine, affine, atol=1e-5)


# Headers


def write_with_header(path: Path, kind: type, codes: tuple[int, int]) -> nibabel.Nifti1Header:
    """As scanners write them: scaled, with units, a description, an extension and a window for viewers."""
    image = kind(random_image().astype(np.float32), OBLIQUE)
    header = image.header
    header.set_xyzt_units("mm", "sec")
    image.set_qform(OBLIQUE, codes[0])
    image.set_sform(OBLIQUE if codes[1] else None, codes[1])
    header["descrip"], header["cal_max"] = b"a scanner", 900
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    nibabel.save(image, path)
    return nibabel.load(path).header


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 0), (1, 1), (2, 4)], ids=str)
def test_the_header_is_kept(tmp_path: Path, kind: type, codes: tuple[int, int]):
    path = tmp_path / "flair.nii.gz"
    before = write_with_header(path, kind, codes)
    changed = {"datatype", "bitpix", "scl_slope", "scl_inter", "cal_max", "vox_offset", "descrip"}
    labels, probabilities = predicted(tmp_path, {"flair": path})
    assert isinstance(labels, kind)
    for image, more in ((labels, set()), (probabilities, {"dim", "pixdim"})):
        for field in set(before.keys()) - changed - more:
            np.testing.assert_array_equal(image.header[field], before[field], err_msg=field)
        assert [e.get_content() for e in image.header.extensions] == [e.get_content() for e in before.extensions]
        assert (image.dataobj.slope, image.dataobj.inter) == (1, 0)
        assert image.header["cal_max"] == 0
        np.testing.assert_array_equal(image.affine, nibabel.load(path).affine)
    assert labels.get_data_dtype() == np.uint8
    assert labels.shape == SHAPE
    assert probabilities.get_data_dtype() == np.float32
    assert probabilities.shape == (*SHAPE, 3)
    np.testing.assert_allclose(probabilities.header.get_zooms(), (*before.get_zooms(), 1))
    for image, about in ((labels, b"segmentation"), (probabilities, b"probabilities of WT, TC, ET")):
        assert re.fullmatch(b"gmd [0-9a-f]{16}: " + about, bytes(image.header["descrip"]).rstrip(b"\0"))
    assert 0 <= np.asarray(probabilities.dataobj).min() < 0.5 < np.asarray(probabilities.dataobj).max() <= 1


def test_a_file_with_a_fourth_axis_gets_a_label_map_with_three(tmp_path: Path):
    path = save(tmp_path / "flair.nii", random_image()[..., None], OBLIQUE)
    labels, _ = predicted(tmp_path, {"flair": path})
    assert labels.shape == SHAPE
    np.testing.assert_array_equal(labels.affine, nibabel.load(path).affine)


# Files


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Beyond that to write fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path):
    noise = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
    image = Grid.of(save(tmp_path / "in.nii", random_image())).image(noise)
    path = tmp_path / "out" / "seg.nii.gz"
    with files_of_at_most(100_000):
        message = error_of(write_image, image, path)
    assert message.startswith(f"{path}: cannot be written (File too large); nothing half-written is left")
    assert list(path.parent.iterdir()) == []
    write_image(image, path)
    with files_of_at_most(100_000):
        error_of(write_image, Grid.of(path).image(noise + 1), path)
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), noise)  # what was there before


def test_the_same_image_gives_the_same_bytes(tmp_path: Path):
    image = Grid.of(save(tmp_path / "in.nii", random_image())).image(random_image().astype(np.uint8))
    paths = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    for path in paths:
        write_image(image, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
