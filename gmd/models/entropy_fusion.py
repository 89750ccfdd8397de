"""MLA's fusion at test time (Zhang et al., CVPR 2024): the surer a modality is of a sample, the more it counts."""

import torch
from torch import Tensor


def entropy_fusion(logits: Tensor, present: Tensor) -> Tensor:
    """Returns the mean of the modalities' class probabilities, weighted by how sure each modality is.

    With e_m the entropy of softmax(logits_m) over the classes, the weights are proportional to exp(max e - e_m), over
    the modalities that a sample has, at each of its steps by themselves. What else is in the batch does not matter.

    Args:
        logits: [M, n, ..., C] floating, of each modality alone; where one is absent anything, NaN too.
        present: [M, n] bool on the logits' device, which modalities each sample has.

    Returns:
        [n, ..., C] probabilities, in the logits' type. A present modality's NaN comes out as NaN.

    Raises:
        ValueError: shapes that do not go together, or a sample that has no modality.
    """
    check_decisions(logits, present)
    there = present.view(*present.shape, *[1] * (logits.ndim - 2))
    log_probabilities = torch.log_softmax(logits.where(there, 0.0), dim=-1)
    probabilities = log_probabilities.exp()
    # p log p -> 0 with p, also where log p is -inf
    entropies = -torch.where(probabilities == 0, 0.0, probabilities * log_probabilities).sum(dim=-1, keepdim=True)
    # softmax takes max e - e_m from all alike: the weights are the same
    weights = torch.softmax((-entropies).where(there, -torch.inf), dim=0)
    return (weights * probabilities).sum(dim=0)


def check_decisions(logits: Tensor, present: Tensor) -> None:
    """Raises a ValueError unless these are logits [M, n, ..., C], and which of the M each sample has, at least one."""
    if not logits.is_floating_point() or logits.ndim < 3:
        raise ValueError(f"logits: expected floating [M, n, ..., C], got {logits.dtype} {list(logits.shape)}")
    if present.dtype is not torch.bool or present.shape != logits.shape[:2]:
        expected = list(logits.shape[:2])
        raise ValueError(f"present: expected bool [M, n] = {expected}, got {present.dtype} {list(present.shape)}")
    without = (~present.any(dim=0)).nonzero().flatten().tolist()
    if without:
        raise ValueError(f"present: expected a modality of each sample at least, got none of samples {without}")
