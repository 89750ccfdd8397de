"""Preprocessed data of nnU-Net and plans for them, as small as they can be, written without nnU-Net's planning."""

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from bench.measure.nnunet_plans import CONFIGURATION, DATASET, plans

PATCH, FEATURES = (8, 8, 8), (4, 4, 8)
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
LABELS = {"labels": {"background": 0, "rim": 1, "core": 2}}


def small_plans(gmd: object = None, **changed: Any) -> dict[str, Any]:
    """Returns plans of a network of three stages with few features; arguments as those of `plans`."""
    return plans(PATCH, FEATURES, gmd=gmd, **changed)


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
    folder = base / f"nnUNetPlans_{CONFIGURATION}"
    folder.mkdir(parents=True, exist_ok=True)
    cases = [f"case{number}" for number in range(5)]
    rng = np.random.default_rng(0)
    channels = len(said["channel_names"])
    for case in cases:
        labels = ball(size, rng)
        data = rng.standard_normal((channels, size, size, size)).astype(np.float32) + labels
        data[list((missing or {}).get(case, []))] = 0
        places = {key: np.argwhere(np.isin(labels, key))[:20] for key in ((1, 2), (2,))}
        whole = (1, size, size, size)
        nnUNetDatasetBlosc2.save_case(
            data, labels.astype(np.int16), {"class_locations": places}, str(folder / case), whole, whole, whole, whole
        )
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


def made(name: str, planned: Mapping[str, Any], said: Mapping[str, Any], continue_training: bool = False) -> Any:
    """Returns a trainer by its name, as nnU-Net's command makes it from what lies in its folder."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from gmd.nnunet import trainers

    torch.manual_seed(0)
    own = {**copy.deepcopy(dict(planned)), "continue_training": continue_training}
    return getattr(trainers, name, nnUNetTrainer)(own, CONFIGURATION, 0, dict(said), torch.device("cpu"))


def batch_of(trainer: Any, cases: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Returns a batch as nnU-Net's loader does, of noise and of targets at random, said to be of these cases."""
    generator = torch.Generator().manual_seed(seed)
    labels = trainer.label_manager
    scales = trainer._get_deep_supervision_scales()
    sizes = [[round(size * factor) for size, factor in zip(PATCH, scale, strict=False)] for scale in scales]
    sizes = [size[: len(trainer.configuration_manager.patch_size)] for size in sizes]
    most = max(labels.all_labels) + 1 + labels.has_ignore_label
    targets = []
    for size in sizes:
        if labels.has_regions:
            channels = len(labels.foreground_regions) + labels.has_ignore_label
            targets.append(torch.rand(len(cases), channels, *size, generator=generator) > 0.5)
        else:
            drawn = torch.randint(0, most, (len(cases), 1, *size), generator=generator)
            targets.append(drawn.to(torch.int16))
    data = torch.randn(len(cases), len(trainer.channels), *sizes[0], generator=generator)
    return {"data": data, "target": targets, "keys": np.array(cases)}
