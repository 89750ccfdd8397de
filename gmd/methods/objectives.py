"""From the outputs of the modalities to the objectives of a step."""

from collections.abc import Callable

from torch import Tensor

from gmd.models.dynamic_sharing import Pairs
from gmd.subsets import Subset, all_subsets

Criterion = Callable[[Tensor, Tensor], Tensor]  # (fused outputs [b, ...], targets [b, ...]) -> scalar


def full_objective(outputs: Pairs, targets: Tensor, criterion: Criterion) -> dict[Subset, Tensor]:
    """One loss, on the fusion of everything that each sample has."""
    return {tuple(outputs.values): criterion(outputs.fuse_present(), targets)}


def subset_objectives(outputs: Pairs, targets: Tensor, criterion: Criterion) -> dict[Subset, Tensor]:
    """One loss per non-empty subset of the modalities, on the samples that have all of it; none for other subsets."""
    losses = {}
    for subset in all_subsets(tuple(outputs.values)):
        if outputs.having(subset):
            fused, samples = outputs.fuse(subset)
            losses[subset] = criterion(fused, targets[samples])
    return losses
