"""However a file lies in space, a page has the patient's left at low x, the front at high y, and the top at high z."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.volumes import load_case
from gmd.evaluation.trained_network import load_segmentation
from gmd.view.case_view import see_case
from gmd.view.page import page_of
from helpers.nifti_cases import save
from helpers.training_cases import TWO
from helpers.view_cases import REGIONS, about_of, finding_run, volume_of

pytestmark = pytest.mark.usefixtures("one_thread")
TURN = nibabel.eulerangles.euler2mat(0.1, -0.2, 0.15)  # the scanner's, of a few degrees
# the file's shape, where its axes lead, in mm to the right, front and top, and the voxel at the left front top in it
FILES = {
    "LPS": ((20, 24, 16), np.diag([-1.0, -1.0, 2.0]), (15, 4, 12)),
    "oblique": ((16, 20, 24), TURN @ np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [2.0, 0.0, 0.0]]), (12, 15, 19)),
}
LEFT_FRONT_TOP = (4, 19, 12)  # of 20 x 24 x 16 voxels from left to right, from back to front and from below


@pytest.fixture(scope="module")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finding_run(tmp_path_factory.mktemp("viewed"), phantoms, modalities=TWO)


@pytest.mark.parametrize(("shape", "axes", "mark"), FILES.values(), ids=FILES)
def test_a_mark_at_the_left_front_top_is_there_on_the_page(
    run: Path, tmp_path: Path, shape: tuple[int, ...], axes: np.ndarray, mark: tuple[int, ...]
):
    affine = nibabel.affines.from_matvec(axes, [30.0, -20.0, 10.0])
    image = np.random.default_rng(0).integers(100, 200, shape).astype(np.int16)
    image[:3] = 0  # background
    image[mark] = 30000
    labels = np.zeros(shape, np.uint8)
    labels[mark] = 4
    for key, data in {"flair": image, "t1ce": image // 2, "seg": labels}.items():
        save(tmp_path / f"case/case_{key}.nii.gz", data, affine)
    config, network = load_segmentation(run, "best", device="cpu")
    [case] = find_cases(tmp_path, modalities=TWO)
    text = page_of(see_case(network, load_case(case), config), "run", "best.pt", "It is new.", REGIONS, TWO)
    told = about_of(text)
    assert told["full"] == [20, 24, 16]
    assert told["spacing"] == pytest.approx([1.0, 1.0, 2.0])
    expected = [place - start for place, start in zip(LEFT_FRONT_TOP, told["origin"], strict=True)]
    truth, flair = volume_of(text, "truth"), volume_of(text, "image-0")
    assert np.argwhere(truth).tolist() == [expected]
    assert truth[tuple(expected)] == 7, "in all three regions"
    assert told["start"] == expected
    assert flair[tuple(expected)] == 255
