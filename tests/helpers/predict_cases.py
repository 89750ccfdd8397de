"""Runs without a training and cases to predict, for the tests of prediction."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor, nn

from gmd.config import TrainBrats
from gmd.config.file import CONFIG, write_config
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.training.checkpoint import save_checkpoint
from gmd.training.networks import build_network


def write_run(run: Path, **options) -> Path:
    """A run whose network, untrained, finds something in about half of the voxels, by what each modality shows."""
    options = {"data": run.parent, "labels": "brats2018", "width": 0.125, "patch": (32, 32, 32)} | options
    config = TrainBrats(out=run, device="cpu", **options)
    torch.manual_seed(0)
    network = build_network(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        network.head.bias.zero_()
    write_config(run / CONFIG, config)
    save_checkpoint(run / "best.pt", {"config": config.to_dict(), "network": network.state_dict()})
    return run


def copy_cases(phantoms: Path, root: Path) -> list[Path]:
    """Three case folders, root/case0 ... root/case2."""
    copied = [root / f"case{n}" for n in range(3)]
    for source, folder in zip(sorted(phantoms.iterdir()), copied, strict=False):
        folder.mkdir(parents=True)
        for path in source.iterdir():
            shutil.copy(path, folder / path.name.replace(source.name, folder.name))
    return copied


def image_of(case: Path, modality: str) -> Path:
    return case / f"{case.name}_{modality}.nii.gz"


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class Pointwise(nn.Module):
    """Logits of each voxel by itself: the volume minus 0, 0.5 and 1 for the regions, weighed by modality."""

    modalities, regions, stride = BRATS_MODALITIES, ("WT", "TC", "ET"), 1

    def __init__(self):
        super().__init__()
        self.offsets = nn.Parameter(torch.tensor([0, 0.5, 1]).view(-1, 1, 1, 1))

    def forward(self, volumes: Tensor, modalities: list[int]) -> Tensor:
        return (1 + modalities[0]) * (volumes - self.offsets)
