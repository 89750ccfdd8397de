"""`gmd predict` understands the layouts that a training does, and writes the label values of the run's data."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.own_labels import option_of
from gmd.data.segmentation.phantom import write_phantoms
from gmd.predict import predict
from helpers.nifti_cases import error_of
from helpers.predict_cases import copy_cases, files, image_of, voxels, write_run

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = ("flair", "t1", "t1ce", "t2")
OWN = LabelScheme("own", {0: "background", 7: "a", 255: "b", 30: "c"}, {"A": (30, 7), "B": (7,), "C": (255,)})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("trained") / "run", patch=(16, 16, 16))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_phantoms(folder, cases=2, shape=(16, 16, 16), seed=0)
    return folder


@pytest.fixture
def cases(small: Path, tmp_path: Path) -> list[Path]:
    """Two case folders in a folder of their own."""
    return copy_cases(small, tmp_path / "cases")[:2]


@pytest.fixture
def expected(run: Path, cases: list[Path], tmp_path: Path) -> dict[str, np.ndarray]:
    assert predict(run, cases[0].parent, {}, tmp_path / "expected") == 0
    return {f"{case.name}.nii.gz": voxels(tmp_path / "expected" / f"{case.name}.nii.gz") for case in cases}


def check(run: Path, source: Path, out: Path, expected: dict[str, np.ndarray], **options) -> None:
    assert predict(run, source, {}, out, **options) == 0
    assert files(out) == sorted(expected)
    for name, labels in expected.items():
        np.testing.assert_array_equal(voxels(out / name), labels)


def test_a_folder_for_each_modality_and_all_in_one_folder(run: Path, cases: list[Path], tmp_path: Path, expected: dict):
    """The first was read as cases of one modality each, four segmentations for a patient."""
    for case in cases:
        for modality in CHANNELS:
            for place in (f"inside/{case.name}/{modality}/scan.nii.gz", f"top/{modality}/{case.name}.nii.gz"):
                (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(image_of(case, modality), tmp_path / place)
        shutil.copytree(case, tmp_path / "flat", dirs_exist_ok=True)
    for layout in ("inside", "top", "flat"):
        check(run, tmp_path / layout, tmp_path / f"{layout}_out", expected)
    # one patient alone is a case
    assert predict(run, tmp_path / "inside" / cases[0].name, {}, tmp_path / "one.nii.gz") == 0
    np.testing.assert_array_equal(voxels(tmp_path / "one.nii.gz"), expected[f"{cases[0].name}.nii.gz"])


def test_volumes_along_a_fourth_axis(run: Path, cases: list[Path], tmp_path: Path, expected: dict):
    folder = tmp_path / "task" / "imagesTs"
    folder.mkdir(parents=True)
    for case in cases:
        images = [nibabel.load(image_of(case, modality)) for modality in CHANNELS]
        data = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
        nibabel.save(nibabel.Nifti1Image(data, images[0].affine), folder / f"{case.name}.nii.gz")
    message = error_of(predict, run, folder, {}, tmp_path / "out")
    assert "its name does not say the modality" in message
    assert "--channels flair t1 t1ce t2" in message
    check(run, folder, tmp_path / "given", expected, channels=CHANNELS)
    (tmp_path / "task/dataset.json").write_text(json.dumps({"modality": {str(n): m for n, m in enumerate(CHANNELS)}}))
    check(run, folder, tmp_path / "told", expected)
    written, image = (nibabel.load(tmp_path / name) for name in ("told/case0.nii.gz", "task/imagesTs/case0.nii.gz"))
    assert written.shape == image.shape[:3]
    np.testing.assert_array_equal(written.affine, image.affine)


def test_an_image_beside_a_case_is_named(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture, expected: dict
):
    extra = cases[0] / f"{cases[0].name}_t1km.nii.gz"
    shutil.copy(image_of(cases[0], "t1"), extra)
    check(run, cases[0].parent, tmp_path / "out", expected)
    assert f"note: part of no case, and not used: {extra}" in capsys.readouterr().out


def test_affines_that_another_tool_has_rounded(run: Path, cases: list[Path], tmp_path: Path):
    path = image_of(cases[0], "t1")
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 0.01
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), path)
    message = error_of(predict, run, cases[0], {}, tmp_path / "seg.nii.gz")
    assert "affine, by 0.01 (allowed 0.001)" in message
    assert "--affine-tolerance" in message
    assert predict(run, cases[0], {}, tmp_path / "seg.nii.gz", affine_tolerance=0.02) == 0


def test_a_spacing_far_from_a_millimetre_is_told_once(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    for case in cases:
        for path in case.glob("*.nii.gz"):
            image = nibabel.load(path)
            nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), np.diag([-1.0, -1.0, 3.0, 1.0])), path)
    assert predict(run, cases[0].parent, {}, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert printed.count("note: spacing far from 1 mm in 2 of 2 cases, as 1 x 1 x 3 mm in case0") == 1


@pytest.mark.parametrize(
    "scheme", [SCHEMES["brats2024-gli"], SCHEMES["brats2024-ped"], SCHEMES["msd"], OWN], ids=lambda each: each.name
)
def test_the_label_map_has_the_values_of_the_runs_data(scheme: LabelScheme, cases: list[Path], tmp_path: Path):
    """A scheme of one's own is in the run's configuration."""
    run = write_run(tmp_path / "run", labels=option_of(scheme), patch=(16, 16, 16))
    assert predict(run, cases[0], {}, tmp_path / "seg.nii.gz") == 0
    found = set(np.unique(voxels(tmp_path / "seg.nii.gz")))
    assert found - {0}
    assert found <= set(scheme.values)


@pytest.mark.parametrize("wrong", ["other names", "twice", "two stems"])
def test_no_advice_is_about_an_option_that_only_training_has(run: Path, cases: list[Path], tmp_path: Path, wrong: str):
    """Patterns are the run's: who predicts cannot give any."""
    case = cases[0]
    (tmp_path / "new/a").mkdir(parents=True)
    names = {
        "other names": {"t1": "scan1"},
        "twice": {"t1": "a_t1", "t2": "a-t1n"},
        "two stems": {"t1": "x_t1", "t2": "y_t2"},
    }
    for modality, name in names[wrong].items():
        shutil.copy(image_of(case, modality), tmp_path / f"new/a/{name}.nii.gz")
    message = error_of(predict, run, tmp_path / "new", {}, tmp_path / "out")
    assert "patterns" in message.replace("train with --patterns", "patterns")
    assert "patterns" not in message.replace("train with --patterns", "")
