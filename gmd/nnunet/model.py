"""A model that nnU-Net has trained: its folder, checked before anything of it is used, and the predictor of it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from gmd.data.text_files import brief
from gmd.errors import UserError
from gmd.files import check_regular
from gmd.nnunet import installation
from gmd.nnunet.channels import DATASET_JSON
from gmd.nnunet.raw_cases import RawDataset, read_dataset
from gmd.nnunet.trainer_folder import use_trainers

if TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

CHECKPOINT = "checkpoint_final.pth"


class Model(NamedTuple):
    """What lies in a folder TRAINER__PLANS__CONFIGURATION of nnUNet_results.

    Attributes:
        folder: the folder.
        dataset: what the data that it was trained on are.
        folds: those to predict with, whose logits are averaged; numbers, or "all".
        checkpoint: name of the file in the folder of each fold.
    """

    folder: Path
    dataset: RawDataset
    folds: tuple[str, ...]
    checkpoint: str

    @property
    def checkpoints(self) -> list[Path]:
        """Returns the file of each fold."""
        return [self.folder / f"fold_{fold}" / self.checkpoint for fold in self.folds]


def find_model(folder: Path, folds: Sequence[str] = (), checkpoint: str = CHECKPOINT) -> Model:
    """Finds a trained model in a folder.

    folds: those to predict with; by default all that have the checkpoint
    Raises UserError: no such folder, one that is not of a model, a fold or checkpoint that is not there.
    """
    if not (folder / "plans.json").is_file():
        raise UserError(
            f"{folder}: holds no plans.json; give a folder such as "
            "nnUNet_results/Dataset501_Name/nnUNetTrainerGMD__nnUNetPlans__3d_fullres"
        )
    dataset = read_dataset(folder / DATASET_JSON)
    there = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}"))
    folds = tuple(folds) or tuple(fold for fold in there if fold != "all") or tuple(there)
    for fold in folds:
        if fold not in there:
            known = f"those with it are {', '.join(there)}" if there else "no fold has it: is the training finished?"
            raise UserError(f"{folder}: fold {fold} has no {checkpoint}; {known}")
    if not folds:
        raise UserError(f"{folder}: no fold has {checkpoint}; is the training finished? Or give another --checkpoint")
    return Model(folder, dataset, folds, checkpoint)


def load_predictor(model: Model, tta: bool, device: torch.device) -> "nnUNetPredictor":
    """Loads nnU-Net's predictor of a model.

    tta: whether predictions are means over mirrored images, as nnU-Net's own are by default
    Raises UserError: what keeps nnU-Net from being used, a checkpoint that holds anything but data, a trainer that is
        not found, a cascade.
    """
    installation.prepare()
    use_trainers()
    for path in model.checkpoints:
        check_holds_data(path)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    with quiet():
        predictor = nnUNetPredictor(use_mirroring=tta, device=device, allow_tqdm=os.isatty(2))
        try:
            predictor.initialize_from_trained_model_folder(str(model.folder), list(model.folds), model.checkpoint)
        except (RuntimeError, NotImplementedError, ValueError, KeyError, AssertionError) as error:
            raise UserError(f"{model.folder}: nnU-Net cannot load this model: {_reason(error)}") from error
    if predictor.configuration_manager.previous_stage_name is not None:
        raise UserError(f"{model.folder}: the second stage of a cascade, for which channels may not be missing yet")
    return predictor


def check_holds_data(path: Path) -> None:
    """Raises UserError for a checkpoint that could do something when it is read, or that cannot be read.

    nnU-Net reads checkpoints with a pickle that may hold programs. What torch's reader of plain data accepts, with the
    numbers of numpy that nnU-Net writes, holds none, so it is read with that first.
    """
    check_regular(path)
    scalar = np.float32(0).__reduce__()[0]  # the function that a pickle makes a number of numpy with
    assert callable(scalar)
    kinds = [type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "bool")]
    try:
        with torch.serialization.safe_globals([scalar, np.dtype, *kinds]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of zip, pickle and torch alike, for files of others
        raise UserError(f"{path}: is no checkpoint of nnU-Net that holds data only ({_reason(error)})") from error
    if not isinstance(content, dict) or not {"network_weights", "trainer_name", "init_args"} <= content.keys():
        raise UserError(f"{path}: got {brief(content)}, expected a checkpoint of nnU-Net")


def is_ours(predictor: "nnUNetPredictor") -> bool:
    """Returns whether the model was made to be predicted with channels missing, by a trainer of gmd."""
    return type(predictor.network).__module__.partition(".")[0] == "gmd"


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what nnU-Net prints on stdout from the terminal; an error that leaves the block ends with its last line.

    nnU-Net prints what is wrong with files, and raises an error without a text.
    """
    said = StringIO()
    try:
        with redirect_stdout(said):
            yield
    except RuntimeError as error:
        if not str(error) and (lines := said.getvalue().strip().splitlines()):
            raise RuntimeError(lines[-1]) from error
        raise


def _reason(error: Exception) -> str:
    """Returns an error's first line, or its class."""
    return (str(error) or type(error).__name__).splitlines()[0]
