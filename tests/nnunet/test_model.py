"""The folder of a model that nnU-Net has trained, and its checkpoints, which are read only if they hold data alone."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from gmd.errors import UserError
from gmd.nnunet.model import check_holds_data, find_model, quiet
from helpers.nnunet_stand_in import write_model


def test_the_folds_that_are_trained_are_found(tmp_path: Path):
    model = write_model(tmp_path, ("0", "3", "all"))
    assert find_model(model).folds == ("0", "3"), "all is a network of the same data, not one of the folds"
    assert find_model(model, ("all",)).checkpoints == [model / "fold_all/checkpoint_final.pth"]
    (model / "fold_1").mkdir()
    with pytest.raises(UserError, match=r"fold 1 has no checkpoint_final\.pth; those with it are 0, 3, all"):
        find_model(model, ("0", "1"))
    with pytest.raises(
        UserError, match=r"no fold has checkpoint_best\.pth; is the training finished\? Or give another"
    ):
        find_model(model, checkpoint="checkpoint_best.pth")


def test_what_is_no_model_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"holds no plans\.json; give a folder such as nnUNet_results/"):
        find_model(tmp_path)
    model = write_model(tmp_path)
    (model / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"dataset\.json: there is no such file"):
        find_model(model)


def checkpoint(path: Path, **more: object) -> Path:
    """Writes what nnU-Net writes, with numbers of numpy among it."""
    content = {
        "network_weights": {"conv.weight": torch.ones(2, 2)},
        "optimizer_state": {"state": {}, "param_groups": [{"lr": np.float64(0.01)}]},
        "logging": {"mean_fg_dice": [np.float32(0.5), np.float64(0.25)], "epoch_start_timestamps": [1.5]},
        "_best_ema": np.float32(0.4),
        "current_epoch": 3,
        "init_args": {"configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainerGMD",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(content | more, path)
    return path


class Program:
    """What a pickle may hold to do something when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_of_data_is_taken_and_one_that_would_do_something_is_not(tmp_path: Path):
    check_holds_data(checkpoint(tmp_path / "good.pth"))
    done = tmp_path / "done"
    for path in (checkpoint(tmp_path / "zip.pth", logging=Program(done)), tmp_path / "bare.pth"):
        if not path.exists():
            path.write_bytes(pickle.dumps(Program(done)))
        with pytest.raises(UserError, match=rf"{path.name}: is no checkpoint of nnU-Net that holds data only"):
            check_holds_data(path)
    assert not done.exists()


def test_a_file_that_is_none_of_nnunets_is_refused(tmp_path: Path):
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="expected a checkpoint of nnU-Net"):
        check_holds_data(tmp_path / "other.pth")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(UserError, match="is no checkpoint"):
        check_holds_data(tmp_path / "empty.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(UserError, match="is a named pipe"):
        check_holds_data(tmp_path / "pipe.pth")


def test_what_nnunet_prints_is_kept_but_for_the_reason_of_an_error_without_one(capsys: pytest.CaptureFixture):
    def raising(line: str, *reason: str) -> None:
        with quiet():
            print(line)
            raise RuntimeError(*reason)

    with quiet():
        print("Using nnU-Net")
    with pytest.raises(RuntimeError, match="ERROR! Shapes"):
        raising("a line\nERROR! Shapes")
    with pytest.raises(RuntimeError, match="of its own"):
        raising("a line", "of its own")
    assert not capsys.readouterr().out
