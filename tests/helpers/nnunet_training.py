"""Preprocessed data of nnU-Net and plans for them, as small as they can be, written without nnU-Net's planning."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

DATASET = "Dataset777_Blobs"
CONFIGURATION = "3d_fullres"
NAMES = ("flair", "t1", "t1ce", "t2")
PATCH = (8, 8, 8)
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
LABELS = {"labels": {"background": 0, "rim": 1, "core": 2}}


def dataset_json(names: Sequence[str] = NAMES, labels: Mapping[str, Any] = REGIONS) -> dict[str, Any]:
    channels = {str(number): name for number, name in enumerate(names)}
    return {"channel_names": channels, **labels, "numTraining": 5, "file_ending": ".nii.gz"}


def architecture(features: Sequence[int] = (4, 4, 8)) -> dict[str, Any]:
    """Returns nnU-Net's plain U-Net of these features, a stage for each, halving each time."""
    stages = len(features)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(features),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(
    channels: int = len(NAMES),
    gmd: object = None,
    patch: Sequence[int] = PATCH,
    features: Sequence[int] = (4, 4, 8),
    **changed: Any,
) -> dict[str, Any]:
    """Returns plans of one configuration; gmd: what stands under that key, if anything."""
    resampling = "resample_data_or_seg_to_shape"
    configuration: dict[str, Any] = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": [float(size) for size in patch],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        **{f"resampling_fn_{what}": resampling for what in ("data", "seg", "probabilities")},
        **{
            f"resampling_fn_{what}_kwargs": {
                "is_seg": what == "seg",
                "order": 1,
                "order_z": 0,
                "force_separate_z": None,
            }
            for what in ("data", "seg", "probabilities")
        },
        "architecture": architecture(features),
        "batch_dice": False,
        **changed,
    }
    if gmd is not None:
        configuration["gmd"] = gmd
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": list(patch),
        "image_reader_writer": "NibabelIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }


@contextmanager
def nnunet_folders(root: Path) -> Iterator[None]:
    """Sets nnU-Net's variables to folders below `root`, and lets it augment in this process."""
    folders = {name: str(root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in folders.values():
        Path(folder).mkdir(exist_ok=True)
    with mock.patch.dict(os.environ, folders | {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}):
        yield


def write_preprocessed(
    root: Path,
    planned: Mapping[str, Any],
    said: Mapping[str, Any],
    missing: Mapping[str, Sequence[int]] | None = None,
    size: int = 12,
) -> list[str]:
    """Writes five cases of a bright ball in noise, the last two for validation, and returns their names.

    missing: case -> numbers of the channels that are zeros in it.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    base = root / "nnUNet_preprocessed" / DATASET
    folder = base / "nnUNetPlans_3d_fullres"
    folder.mkdir(parents=True, exist_ok=True)
    cases = [f"case{number}" for number in range(5)]
    rng = np.random.default_rng(0)
    channels = len(said["channel_names"])
    for case in cases:
        labels = ball(size, rng)
        data = rng.standard_normal((channels, size, size, size)).astype(np.float32) + labels
        data[list((missing or {}).get(case, []))] = 0
        places = {key: np.argwhere(np.isin(labels, key))[:20] for key in ((1, 2), (2,))}
        nnUNetDatasetBlosc2.save_case(data, labels.astype(np.int16), {"class_locations": places}, str(folder / case))
    for name, content in {
        "nnUNetPlans.json": planned,
        "dataset.json": said,
        "dataset_fingerprint.json": {},
        "splits_final.json": [{"train": cases[:3], "val": cases[3:]}],
    }.items():
        (base / name).write_text(json.dumps(content), encoding="utf-8")
    return cases


def ball(size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns labels [1, size, size, size]: a core, 2, in a rim, 1."""
    centre = rng.uniform(size / 3, 2 * size / 3, 3)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices([size] * 3), centre, strict=True)))
    return ((distance < size / 3).astype(int) + (distance < size / 5))[None]


def trainer_of(name: str, continue_training: bool = False) -> Any:
    """Returns a trainer of the data set that was written, as nnU-Net's command makes it."""
    from nnunetv2.run.run_training import get_trainer_from_args

    return get_trainer_from_args(
        DATASET, CONFIGURATION, 0, name, continue_training=continue_training, device=torch.device("cpu")
    )
