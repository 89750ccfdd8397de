"""Voxels that a prediction has right and wrong, for the Dice that nnU-Net logs after each epoch."""

import torch
from torch import Tensor


def voxel_counts(logits: Tensor, target: Tensor, regions: bool, ignore_label: int | None = None) -> Tensor:
    """Returns how many voxels are true positives, false positives and false negatives: int64 [3, R], over the batch.

    Args:
        logits: [b, R, *spatial]; with labels the first channel is the background, which is left out: [3, R - 1].
        target: labels [b, 1, *spatial]; or regions [b, R, *spatial], which may overlap, and with `ignore_label` one
            more channel, of the voxels that do not count.
        regions: whether the channels are regions, each present or not, rather than labels that exclude each other.
        ignore_label: the label of voxels that do not count, if there is one.
    """
    counted = None
    if regions:
        predicted = logits > 0
        true = target.bool()
        if ignore_label is not None:
            true, counted = true[:, :-1], ~true[:, -1:]
    else:
        labels = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, *[1] * (logits.ndim - 2))
        predicted = logits.argmax(dim=1, keepdim=True) == labels
        true = target == labels
        counted = None if ignore_label is None else target != ignore_label
    if counted is not None:
        predicted, true = predicted & counted, true & counted
    dims = (0, *range(2, logits.ndim))
    return torch.stack([each.sum(dims) for each in (predicted & true, predicted & ~true, ~predicted & true)])
