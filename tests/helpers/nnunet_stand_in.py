"""A stand-in for nnU-Net's predictor: what surrounds it is tested in no time, and where nnU-Net is not installed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
from torch import nn

from gmd.models.unet3d import UNet3d
from helpers.nnunet_training import dataset_json

NAMES = ("flair", "t1", "t2")


class Files:
    """Reads and writes as nnU-Net's classes for files do: [1, Z, Y, X], and properties."""

    def read_images(self, paths: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
        [path] = paths
        image = nibabel.load(path)
        properties = {"spacing": [1.0, 1.0, 1.0], "nibabel_stuff": {"original_affine": image.affine}}
        return np.asarray(image.dataobj, np.float32).T[None], properties

    def read_seg(self, path: str) -> tuple[np.ndarray, dict[str, Any]]:
        return self.read_images([path])

    def write_seg(self, labels: np.ndarray, path: str, properties: dict[str, Any]) -> None:
        affine = properties["nibabel_stuff"]["original_affine"]
        nibabel.save(nibabel.Nifti1Image(labels.T, affine), path)


class Predictor:
    """Labels a voxel 1 where the sum of the channels is above 0, and 2 where it is above 1; notes what it was given.

    ours: whether its network is one of gmd
    """

    trainer_name = "nnUNetTrainer"

    def __init__(self, ours: bool = True, schemes: tuple[str, ...] = ("ZScoreNormalization",) * len(NAMES)):
        self.network = UNet3d(("a",), ("b",), 0.125) if ours else nn.Identity()
        self.plans_manager = SimpleNamespace(image_reader_writer_class=Files)
        self.configuration_manager = SimpleNamespace(normalization_schemes=schemes, previous_stage_name=None)
        self.dataset_json = dataset_json(NAMES)
        self.given: list[np.ndarray] = []

    def predict_single_npy_array(
        self, data: np.ndarray, properties: dict[str, Any], previous: None, out: None
    ) -> np.ndarray:
        properties["bbox_used_for_cropping"] = "as nnU-Net leaves it there"
        self.given.append(data)
        total = data.sum(axis=0)
        return (total > 0).astype(np.uint8) + (total > 1)


def write_model(folder: Path, folds: tuple[str, ...] = ("0",)) -> Path:
    """Writes the files of a trained model, whose checkpoints hold nothing, and returns its folder."""
    model = folder / "results" / "Dataset777_Blobs" / "nnUNetTrainerGMD__nnUNetPlans__3d_fullres"
    for fold in folds:
        (model / f"fold_{fold}").mkdir(parents=True)
        (model / f"fold_{fold}" / "checkpoint_final.pth").touch()
    (model / "plans.json").write_text("{}", encoding="utf-8")
    (model / "dataset.json").write_text(json.dumps(dataset_json(NAMES)), encoding="utf-8")
    return model
