"""`gmd nnunet predict`, around a stand-in for nnU-Net's predictor."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import gmd.nnunet.predict as module
from gmd import cli
from gmd.errors import UserError
from gmd.nnunet.predict import RECORD, predict
from helpers.nifti_cases import OBLIQUE, save
from helpers.nnunet_stand_in import NAMES, Predictor, write_model
from helpers.nnunet_training import dataset_json

SHAPE = (3, 4, 5)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path)


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    made = Predictor()
    monkeypatch.setattr(module, "load_predictor", lambda model, tta, device: made)
    return made


def write_case(folder: Path, name: str, channels: tuple[int, ...] = (0, 1, 2)) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(len(name))
    data = {channel: rng.normal(size=SHAPE).astype(np.float32) for channel in channels}
    for channel, voxels in data.items():
        save(folder / f"{name}_{channel:04d}.nii.gz", voxels, OBLIQUE)
    return data


def test_absent_channels_are_zeros_and_what_is_written_lies_where_the_images_do(
    model: Path, predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture
):
    data = write_case(tmp_path / "in", "one", (0, 2))
    command = ["nnunet", "predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model)]
    assert cli.main([*command, "-f", "0", "--disable-tta"]) == 0
    [given] = predictor.given
    assert np.array_equal(given, np.stack([data[0].T, np.zeros(SHAPE[::-1]), data[2].T]))
    image = nibabel.load(tmp_path / "out/one.nii.gz")
    total = data[0] + data[2]
    assert np.array_equal(np.asarray(image.dataobj), (total > 0).astype(int) + (total > 1))
    assert np.allclose(image.affine, OBLIQUE)
    lines = capsys.readouterr().out.splitlines()
    assert f"one, from flair, t2 (missing: t1); written: {tmp_path}/out/one.nii.gz" in lines
    assert "1 done, 0 skipped, 0 failed" in lines
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["dataset.json", RECORD, "one.nii.gz", "plans.json"]


def test_one_bad_case_stops_no_other_and_done_ones_are_left(
    model: Path, predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture
):
    for name in ("a", "b", "c"):
        write_case(tmp_path / "in", name)
    save(tmp_path / "in/b_0001.nii.gz", np.full(SHAPE, 3, np.float32), OBLIQUE)
    save(tmp_path / "in/d_0003.nii.gz", np.ones(SHAPE, np.float32), OBLIQUE)
    assert predict(tmp_path / "in", tmp_path / "out", model) == 1
    printed = capsys.readouterr().out
    assert "2 done, 0 skipped, 2 failed:" in printed
    assert f"  b: {tmp_path}/in/b_0001.nii.gz: every voxel is 3; a channel that is absent has no file" in printed
    assert "  d: " in printed
    assert "channel 3 is not known; the channels are 0 flair, 1 t1, 2 t2" in printed
    before = (tmp_path / "out/a.nii.gz").stat().st_mtime_ns
    write_case(tmp_path / "in", "b")
    (tmp_path / "in/d_0003.nii.gz").unlink()
    assert predict(tmp_path / "in", tmp_path / "out", model) == 0
    assert "1 done, 2 skipped (their files are there; delete them" in capsys.readouterr().out
    assert (tmp_path / "out/a.nii.gz").stat().st_mtime_ns == before


def test_out_of_memory_is_a_case_that_failed_and_a_bug_is_none(
    model: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    write_case(tmp_path / "in", "a")

    def raising(error: Exception):
        def without(*arguments: object) -> np.ndarray:
            raise error

        monkeypatch.setattr(predictor, "predict_single_npy_array", without)

    raising(torch.OutOfMemoryError("CUDA out of memory"))
    assert predict(tmp_path / "in", tmp_path / "out", model) == 1
    assert "  a: out of memory (CUDA out of memory)" in capsys.readouterr().out
    raising(RuntimeError("shapes do not agree"))
    with pytest.raises(RuntimeError, match="shapes do not agree"):
        predict(tmp_path / "in", tmp_path / "out", model)
    raising(KeyboardInterrupt())
    assert predict(tmp_path / "in", tmp_path / "out", model) == 130
    assert "the same command goes on with the rest" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (Predictor(ours=False), "t1 missing, but the model is one of nnUNetTrainer, which has never seen that"),
        (Predictor(schemes=("ZScoreNormalization", "CTNormalization", "NoNormalization")), "normalisation of CT makes"),
    ],
    ids=["a plain trainer", "CT"],
)
def test_a_model_for_which_zeros_mean_something_else_takes_complete_cases_only(
    model: Path, made: Predictor, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(module, "load_predictor", lambda *arguments: made)
    write_case(tmp_path / "in", "complete")
    write_case(tmp_path / "in", "lacking", (0, 2))
    assert predict(tmp_path / "in", tmp_path / "out", model) == 1
    printed = capsys.readouterr().out
    assert "1 done, 0 skipped, 1 failed:" in printed
    assert reason in printed
    assert (tmp_path / "out/complete.nii.gz").is_file()


def test_predictions_of_another_model_are_not_mixed(model: Path, predictor: Predictor, tmp_path: Path):
    write_case(tmp_path / "in", "a")
    predict(tmp_path / "in", tmp_path / "out", model)
    write_case(tmp_path / "in", "b")
    other = write_model(tmp_path / "other")
    for folder, tta in ((other, True), (model, False)):
        with pytest.raises(UserError, match="holds predictions that were made otherwise"):
            predict(tmp_path / "in", tmp_path / "out", folder, tta=tta)
    assert not (tmp_path / "out/b.nii.gz").exists()


def test_folders_that_cannot_be_used_are_refused_before_the_network_is_loaded(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "load_predictor", None)
    out = tmp_path / "out"
    with pytest.raises(UserError, match="there is no such folder; give one with files such as CASE_0000"):
        predict(tmp_path / "absent", out, model)
    (tmp_path / "in").mkdir()
    with pytest.raises(
        UserError, match=r"holds no file such as CASE_0000\.nii\.gz; the channels of the model are _0000"
    ):
        predict(tmp_path / "in", out, model)
    write_case(tmp_path / "in", "a")
    with pytest.raises(UserError, match="is the folder of the images itself"):
        predict(tmp_path / "in", tmp_path / "in", model)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"-o: .*file is a file"):
        predict(tmp_path / "in", tmp_path / "file", model)
    with pytest.raises(UserError, match="--device: nonsense cannot be used"):
        predict(tmp_path / "in", out, model, device="nonsense")
    said = dataset_json(NAMES[::-1])
    (tmp_path / "in/dataset.json").write_text(str(said).replace("'", '"'), encoding="utf-8")
    with pytest.raises(UserError, match="got the same channels in another order"):
        predict(tmp_path / "in", out, model)
    assert not out.exists()
