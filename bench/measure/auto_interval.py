"""How often `every="auto"` takes weights: in a training without conflicts, and in one with the study's.

A step between two refreshes costs what it costs whatever the run; how many refreshes there are is the run's. So they
are counted in trainings of a small U-Net, and the times come from the network that is measured.
"""

from typing import NamedTuple

import torch

from bench.measure.blobs import MODALITIES, REGIONS, make_case
from bench.measure.step import region_loss
from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.unet3d import UNet3d
from gmd.surgery import GMD, MeanGradient
from gmd.training.objectives import subset_objectives

WIDTH, SIZE = 0.125, 16


class Counted(NamedTuple):
    """What a training with `every="auto"` did.

    Attributes:
        steps: how many there were.
        refreshes: at how many of them weights were taken.
        conflicts: the mean share of the pairs of objectives that were in conflict then.
    """

    steps: int
    refreshes: int
    conflicts: float


class Training(NamedTuple):
    """One whose refreshes are counted: after some steps on the mean loss, each step on a case of its own."""

    lr: float
    before: int
    steps: int

    def shortened(self) -> "Training":
        """Returns a training of few steps, for a benchmark that only shows that it works."""
        return self._replace(before=0, steps=8)


# so slow that the gradients stay as alike as they are at first
QUIET = Training(lr=1e-5, before=0, steps=256)
# until the losses are low: 10 % of the pairs are in conflict, as late in the study
CONFLICTING = Training(lr=3e-3, before=140, steps=128)


def count_refreshes(training: Training) -> Counted:
    """Trains, and counts the steps that take weights, from the first on."""
    torch.manual_seed(0)
    network = UNet3d(MODALITIES, REGIONS, WIDTH).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.lr)
    before = MeanGradient(optimizer)
    surgeon = GMD(optimizer, generator=torch.Generator().manual_seed(0), every="auto")
    conflicts = []
    for turn in range(training.before + training.steps):
        volumes, target = make_case(SIZE, seed=turn)
        inputs = {m: volumes[i : i + 1] for i, m in enumerate(MODALITIES)}
        outputs = run_modalities(network, Pairs(1, {m: [0] for m in MODALITIES}, inputs))
        losses = list(subset_objectives(outputs, target, region_loss).values())
        optimizer.zero_grad()
        report = (before if turn < training.before else surgeon).backward(losses, outputs.values)
        optimizer.step()
        if turn >= training.before and report.refreshed:
            conflicts.append(float(report.conflicts))
    return Counted(training.steps, len(conflicts), sum(conflicts) / len(conflicts))
