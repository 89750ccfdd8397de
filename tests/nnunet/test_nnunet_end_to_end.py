"""Phantoms, exported, planned, trained for two short epochs and segmented with a channel missing, by nnU-Net itself."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from gmd import cli
from gmd.nnunet.installation import prepare
from gmd.nnunet.model import find_model, is_ours, load_predictor
from gmd.scoring.segmentation.tables import read_cases
from gmd.subsets import all_subsets
from helpers.nnunet_cases import plan_and_preprocess, train, write_raw
from helpers.nnunet_training import nnunet_folders

pytest.importorskip("nnunetv2", reason="nnU-Net is an extra of its own")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # of dynamic_network_architectures
]

MISSING = 2  # t1ce


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with raw and preprocessed phantoms, one of them held out; nnU-Net's variables point into it."""
    folder = tmp_path_factory.mktemp("nnunet")
    with nnunet_folders(folder):
        write_raw(folder)
        prepare()
        plan_and_preprocess()
        yield folder


@pytest.fixture(scope="module")
def model(root: Path) -> Path:
    return train_with_ours("nnUNetTrainerGMDEnumerate")


def train_with_ours(trainer: str) -> Path:
    from gmd.nnunet.trainer_folder import use_trainers

    use_trainers()
    return train(trainer)


@pytest.fixture
def images(root: Path, tmp_path: Path) -> Path:
    """A folder with the files of two cases, of which the second lacks a channel."""
    [raw] = (root / "nnUNet_raw").iterdir()
    (tmp_path / "in").mkdir()
    for number in range(2):
        for path in (raw / "imagesTr").glob(f"*_0000{number}_*"):
            shutil.copy(path, tmp_path / "in")
    next((tmp_path / "in").glob(f"*_00001_{MISSING:04d}*")).unlink()
    return tmp_path / "in"


def voxels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(nibabel.load(path).dataobj) for path in sorted(folder.glob("*.nii.gz"))}


@pytest.mark.parametrize("tta", [True, False], ids=["mirrored", "plain"])
def test_a_channel_without_a_file_is_one_of_zeros_to_nnunets_own_prediction(
    model: Path, images: Path, tmp_path: Path, tta: bool, capfd: pytest.CaptureFixture
):
    """By gmd nnunet predict, and by nnU-Net's predictor from the files that gmd nnunet fill has written."""
    plain = [] if tta else ["--disable-tta"]
    command = ["nnunet", "predict", "-i", str(images), "-o", str(tmp_path / "ours"), "-m", str(model), *plain]
    assert cli.main(command) == 0
    printed = capfd.readouterr().out
    assert "from flair, t1, t2 (missing: t1ce)" in printed
    assert "Searching in" not in printed, "nnU-Net's own words"
    filled = tmp_path / "filled"
    shutil.copytree(images, filled / "imagesTs")
    shutil.copy(model / "dataset.json", filled)
    assert cli.main(["nnunet", "fill", str(filled)]) == 0
    predictor = load_predictor(find_model(model), tta, torch.device("cpu"))
    assert is_ours(predictor)
    (tmp_path / "theirs").mkdir()
    predictor.predict_from_files_sequential(str(filled / "imagesTs"), str(tmp_path / "theirs"))
    ours, theirs = voxels(tmp_path / "ours"), voxels(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    assert len(ours) == 2
    for name, labels in ours.items():
        assert np.array_equal(labels, theirs[name])
        assert nibabel.load(tmp_path / "ours" / name).affine == pytest.approx(
            nibabel.load(tmp_path / "theirs" / name).affine
        )


def test_the_table_has_every_subset_and_agrees_with_a_prediction(model: Path, root: Path, tmp_path: Path):
    assert cli.main(["nnunet", "evaluate", "-m", str(model), "--disable-tta", "-o", str(tmp_path)]) == 0
    scores = read_cases(tmp_path / "cases.csv", ("flair", "t1", "t1ce", "t2"))
    assert {score.subset for score in scores} == set(all_subsets(("flair", "t1", "t1ce", "t2")))
    assert {score.region for score in scores} == {"WT", "TC", "ET"}
    [case] = {score.case for score in scores}
    [raw] = (root / "nnUNet_raw").iterdir()
    for channel in (0, 3):
        source = raw / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / "in")
    command = ["nnunet", "predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model)]
    assert cli.main([*command, "--disable-tta"]) == 0
    [labels] = voxels(tmp_path / "out").values()
    truth = np.asarray(nibabel.load(raw / "labelsTr" / f"{case}.nii.gz").dataobj)
    dice = 2 * ((labels > 0) & (truth > 0)).sum() / ((labels > 0).sum() + (truth > 0).sum())
    [score] = [score for score in scores if score.subset == ("flair", "t2") and score.region == "WT"]
    assert score.dice == pytest.approx(dice, abs=1e-6)


def test_bad_files_are_told_in_nnunets_formats(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    path = next(images.glob("*_00000_0001*"))
    path.write_bytes(path.read_bytes()[:200])
    assert cli.main(["nnunet", "predict", "-i", str(images), "-o", str(tmp_path / "out"), "-m", str(model)]) == 1
    assert f"{path}: cannot be read (" in capsys.readouterr().out


def test_nnunets_command_trains_by_ours_without_the_variable(root: Path, capfd: pytest.CaptureFixture):
    os.environ.pop("nnUNet_extTrainer", None)
    words = ["501", "3d_fullres", "0", "-tr", "nnUNetTrainerGMDNobody", "-device", "cpu"]
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainerGMDNobody"):
        cli.main(["nnunet", "train", *words])
    assert "gmd/nnunet/external" in capfd.readouterr().out
