"""Makes the objectives of a step, a loss for each subset of the modalities, from the outputs of the modalities."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gmd.data.pairs import Pairs
from gmd.models.confidence_fusion import confidence_fusion
from gmd.models.multimodal import mean_fusion
from gmd.subsets import Subset, all_subsets
from gmd.surgery import Criterion

# (outputs, subset) -> predictions [b, ...] and the b samples that have all of the subset; None: whatever each has
Predict = Callable[[Pairs[Tensor], Subset | None], tuple[Tensor, list[int]]]


def full_objective(
    outputs: Pairs[Tensor], targets: Tensor, criterion: Criterion, predict: Predict = mean_fusion
) -> dict[Subset, Tensor]:
    """Returns one loss, on the fusion of all modalities that each sample has, for all samples.

    The arguments are those of `subset_objectives`. The key is the modalities that the batch has.
    """
    return {tuple(outputs.values): criterion(predict(outputs, None)[0], targets)}


def subset_objectives(
    outputs: Pairs[Tensor], targets: Tensor, criterion: Criterion, predict: Predict = mean_fusion
) -> dict[Subset, Tensor]:
    """Returns a loss for each subset of the modalities that some sample has all of, on the samples that do.

    Args:
        outputs: modality -> [n_m, ...], of the samples that have it.
        targets: [n, ...] of all samples.
        criterion: (predictions [b, ...], targets [b, ...]) -> scalar.
        predict: (outputs, subset) -> predictions [b, ...] and the b samples that have all of the subset.
    """
    losses = {}
    for subset in all_subsets(tuple(outputs.values)):
        if outputs.having(subset):
            fused, samples = predict(outputs, subset)
            losses[subset] = criterion(fused, targets if len(samples) == len(targets) else targets[samples])
    return losses


def decision_objectives(
    outputs: Pairs[Tensor], targets: Tensor, criterion: Criterion, predict: Predict = mean_fusion
) -> dict[Subset, Tensor]:
    """Returns a loss of each modality alone, and one of what they say together, by their confidence (QMF).

    The arguments are those of `subset_objectives`; the predictions are logits.
    """
    logits = {m: predict(outputs, (m,))[0] for m in outputs.values}
    losses: dict[Subset, Tensor] = {(m,): criterion(logits[m], targets[outputs.samples[m]]) for m in logits}
    if len(logits) > 1:
        alone = replace(outputs, values=logits)
        every = torch.stack([alone.for_every_sample(m) for m in logits])
        fused = confidence_fusion(every, alone.present().T.to(every.device))
        losses[tuple(logits)] = criterion(fused, targets)
    return losses
