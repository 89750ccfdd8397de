"""Fusion of decisions by fixed weights of the modalities, beside the entropy rule of MLA (Zhang et al., CVPR 2024)."""

import torch
from torch import Tensor

from gmd.models.entropy_fusion import check_decisions


def weighted_fusion(logits: Tensor, present: Tensor, weights: Tensor) -> Tensor:
    """Returns the class probabilities of the modalities' logits, averaged with fixed weights; of scores, the average.

    The weights are divided by the sum of those of the modalities that a sample has, so that only their ratios count.

    Args:
        logits: [M, n, ..., C] floating, of each modality alone; where one is absent anything, NaN too.
        present: [M, n] bool on the logits' device, which modalities each sample has.
        weights: [M] floating on the logits' device, above 0.

    Returns:
        [n, ..., C] probabilities, or scores where C is 1, in the logits' type. A present modality's NaN comes out as
        NaN.

    Raises:
        ValueError: shapes that do not go together, or a sample that has no modality.
    """
    check_decisions(logits, present)
    if weights.shape != logits.shape[:1]:
        raise ValueError(f"weights: expected [M] = {list(logits.shape[:1])}, got {list(weights.shape)}")
    shares = torch.where(present, weights[:, None].to(logits.dtype), 0)
    there = (*present.shape, *[1] * (logits.ndim - 2))
    shares = (shares / shares.sum(dim=0)).view(there)
    fused = (shares * logits.where(present.view(there), 0.0)).sum(dim=0)
    return fused.softmax(dim=-1) if fused.shape[-1] > 1 else fused
