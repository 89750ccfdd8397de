"""Prints the MB by which a process grows in two training steps of MONAI's SegResNet, with 15 losses; and its arguments.

A process of its own, as what earlier tests have left in malloc's heap would hide what is looked for.
"""

import itertools
import resource
import sys

import torch
from monai.networks.nets import SegResNet

import gmd

MODALITIES = range(4)
SUBSETS = [s for r in range(1, len(MODALITIES) + 1) for s in itertools.combinations(MODALITIES, r)]


def growth(size: int, num_steps: int = 2) -> float:
    """MB from before the steps to their peak, on a volume of size^3 voxels, of which each loss sees a subset."""
    torch.manual_seed(0)
    model = SegResNet(in_channels=len(MODALITIES))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    surgeon = gmd.GMD(optimizer)
    volume, mask = torch.randn(1, len(MODALITIES), size, size, size), torch.zeros(len(SUBSETS), len(MODALITIES))
    for row, subset in zip(mask, SUBSETS, strict=True):
        row[list(subset)] = 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(num_steps):
        optimizer.zero_grad()
        surgeon.backward([model(volume * row.view(1, -1, 1, 1, 1)).square().mean() for row in mask])
        optimizer.step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(growth(int(sys.argv[1])))
