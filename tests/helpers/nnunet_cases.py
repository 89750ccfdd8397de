"""nnU-Net on phantoms as small as they can be, in this process: no workers to start, which would import it all anew."""

import json
import multiprocessing
import multiprocessing.dummy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch

from gmd import cli
from gmd.data.segmentation.phantom import write_phantoms

DATASET = "Dataset501_Phantoms"
PREPROCESSED = "nnUNet_preprocessed"


@contextmanager
def without_workers() -> Iterator[None]:
    """Lets pools of processes be threads of this one."""
    dummy = SimpleNamespace(Pool=multiprocessing.dummy.Pool)
    with mock.patch.object(multiprocessing, "get_context", return_value=dummy):
        yield


def write_raw(root: Path, cases: int = 4, side: int = 32) -> Path:
    """Writes phantoms as a raw data set of nnU-Net, and returns its folder."""
    write_phantoms(root / "phantoms", cases, (side, side, side), seed=3)
    out = root / "nnUNet_raw" / DATASET
    assert cli.main(["nnunet", "export", str(root / "phantoms"), "-o", str(out)]) == 0
    return out


def plan_and_preprocess(validation: int = 1) -> list[str]:
    """Plans and preprocesses the data set as nnU-Net's command does, and returns the cases that fold 0 validates on."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    # planning sets torch's threads to this number
    with without_workers(), mock.patch.dict(os.environ, {"nnUNet_n_proc_DA": "1"}):
        api.extract_fingerprints([501], num_processes=1, check_dataset_integrity=True)
        api.plan_experiments([501])
        api.preprocess([501], configurations=["3d_fullres"], num_processes=[1])
    folder = Path(os.environ[PREPROCESSED]) / DATASET
    names = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "gt_segmentations").iterdir())
    splits = [{"train": names[validation:], "val": names[:validation]}]
    (folder / "splits_final.json").write_text(json.dumps(splits), encoding="utf-8")
    return names[:validation]


def train(trainer: str, epochs: int = 2, steps: int = 2) -> Path:
    """Trains fold 0 for a few short epochs without nnU-Net's final validation, and returns the model's folder."""
    from nnunetv2.run.run_training import get_trainer_from_args

    made = get_trainer_from_args("501", "3d_fullres", 0, trainer, device=torch.device("cpu"))
    made.num_epochs, made.num_iterations_per_epoch, made.num_val_iterations_per_epoch = epochs, steps, 1
    made.run_training()
    return Path(made.output_folder_base)
