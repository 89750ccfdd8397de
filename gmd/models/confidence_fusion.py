"""QMF's fusion of decisions (Zhang et al., ICML 2023): each modality counts by the energy of its own logits."""

from torch import Tensor

from gmd.models.entropy_fusion import check_decisions

SCALE = 10.0  # what the energy is divided by, as published


def confidence(logits: Tensor) -> Tensor:
    """Returns how sure logits [..., C] are: log sum exp over the classes, divided by 10, [...]."""
    return logits.logsumexp(dim=-1) / SCALE


def confidence_fusion(logits: Tensor, present: Tensor) -> Tensor:
    """Returns the sum of the modalities' logits, each times its confidence, which gets no gradient.

    A modality that is alone keeps its logits as they are. A confidence below 0, of logits that are far below 0
    altogether, counts against what the modality says, as published.

    Args:
        logits: [M, n, ..., C] floating, of each modality alone; where one is absent anything, NaN too.
        present: [M, n] bool on the logits' device, which modalities each sample has.

    Returns:
        [n, ..., C] logits. A present modality's NaN comes out as NaN.

    Raises:
        ValueError: shapes that do not go together, or a sample that has no modality.
    """
    check_decisions(logits, present)
    there = present.view(*present.shape, *[1] * (logits.ndim - 2))
    known = logits.where(there, 0.0)
    alone = there.sum(dim=0, keepdim=True) == 1
    weights = confidence(known.detach()).unsqueeze(-1).where(~alone, 1.0)
    return (weights * known).where(there, 0.0).sum(dim=0)
