"""From the outputs of the modalities to the objectives of a step."""

from collections.abc import Callable

from torch import Tensor

from gmd.data.pairs import Pairs
from gmd.models.multimodal import mean_fusion
from gmd.subsets import Subset, all_subsets
from gmd.surgery.losses import Criterion

# (outputs, subset) -> predictions [b, ...] and the b samples that have all of the subset; None: whatever each has
Predict = Callable[[Pairs, Subset | None], tuple[Tensor, list[int]]]


def full_objective(
    outputs: Pairs, targets: Tensor, criterion: Criterion, predict: Predict = mean_fusion
) -> dict[Subset, Tensor]:
    """One loss, on the fusion of everything that each sample has."""
    return {tuple(outputs.values): criterion(predict(outputs, None)[0], targets)}


def subset_objectives(
    outputs: Pairs, targets: Tensor, criterion: Criterion, predict: Predict = mean_fusion
) -> dict[Subset, Tensor]:
    """One loss per non-empty subset of the modalities, on the samples that have all of it; none for other subsets."""
    losses = {}
    for subset in all_subsets(tuple(outputs.values)):
        if outputs.having(subset):
            fused, samples = predict(outputs, subset)
            losses[subset] = criterion(fused, targets if len(samples) == len(targets) else targets[samples])
    return losses
