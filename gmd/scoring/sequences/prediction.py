"""Predictions of samples from every subset of the modalities, with one network pass for each modality."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from gmd.config import TrainSamples
from gmd.data.pairs import Pairs
from gmd.data.sequences.batches import collate
from gmd.data.sequences.samples import Sample
from gmd.errors import UserError
from gmd.models.entropy_fusion import entropy_fusion
from gmd.models.multimodal import FeatureNetwork, run_modalities
from gmd.models.precision import autocast
from gmd.scoring.outcomes import Outcomes
from gmd.scoring.sequences.tables import Predictions
from gmd.subsets import Subset

BATCH = 64  # samples at once

# (samples, modalities) -> their pairs, as a network takes them, and their targets
Collate = Callable[[Sequence[Sample], Sequence[str]], tuple[Pairs[Any], Tensor]]


def predict_samples(
    network: FeatureNetwork,
    samples: Sequence[Sample],
    subsets: Sequence[Subset | None],
    config: TrainSamples,
    outcomes: Outcomes,
    collate: Collate = collate,
) -> Predictions:
    """Predicts samples from each of the subsets, without gradients.

    Args:
        network: put into eval mode meanwhile.
        samples: each has at least one of the network's modalities.
        subsets: of the modalities; None stands for whatever each sample has.
        config: of the run; its method says how modalities are fused, and its precision what the network computes in.
        outcomes: what the network's outputs stand for, one behind the other.
        collate: makes a batch of samples; by default of sequences in memory.

    returns the predictions, on the CPU. Raises UserError if the network's predictions are not finite.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            waiting = iter(samples)
            parts = [
                _predict(network, some, subsets, config, outcomes, collate(some, network.modalities))
                for some in iter(lambda: [*islice(waiting, BATCH)], [])
            ]
    finally:
        network.train(was_training)
    return Predictions(
        [name for part in parts for name in part.names],
        [step for part in parts for step in part.steps],
        torch.cat([part.targets for part in parts]),
        {subset: torch.cat([part.subsets[subset] for part in parts]) for subset in subsets},
    )


def _predict(
    network: FeatureNetwork,
    samples: Sequence[Sample],
    subsets: Sequence[Subset | None],
    config: TrainSamples,
    outcomes: Outcomes,
    batch: tuple[Pairs[Any], Tensor],
) -> Predictions:
    """Predicts the samples of one batch."""
    device = next(network.parameters()).device
    inputs, targets = batch
    inputs = replace(inputs, values={m: values.to(device) for m, values in inputs.values.items()})
    with autocast(config.precision, device):
        outputs = run_modalities(network, inputs)
    outputs = replace(outputs, values={m: values.float() for m, values in outputs.values.items()})  # as in training
    by_subset = {subset: _from_subset(network, outputs, subset, config.method == "mla", outcomes) for subset in subsets}
    if next(iter(outputs.values.values())).ndim == 2:  # one prediction of each sample
        return Predictions([sample.name for sample in samples], [0] * len(samples), targets, by_subset)
    there = targets.isfinite() if targets.is_floating_point() else targets >= 0
    lengths = [sample.target.numel() for sample in samples]
    return Predictions(
        [sample.name for sample, length in zip(samples, lengths, strict=True) for _ in range(length)],
        [step for length in lengths for step in range(length)],
        targets[there],
        {subset: values[there] for subset, values in by_subset.items()},
    )


def _from_subset(
    network: FeatureNetwork, outputs: Pairs[Tensor], subset: Subset | None, by_entropy: bool, outcomes: Outcomes
) -> Tensor:
    """Predicts a batch from one subset: [n, ..., C] on the CPU, NaN for the samples that lack a modality of it."""
    members = list(range(outputs.num_samples)) if subset is None else outputs.having(subset)
    if not members:
        [shape] = {tuple(values.shape[1:-1]) for values in outputs.values.values()}
        return torch.full((outputs.num_samples, *shape, network.head.out_features), torch.nan)
    predictions = _of_outcomes(network, outputs, subset, members, by_entropy, outcomes).float().cpu()
    if not predictions.isfinite().all():
        raise UserError("the network predicts NaN or infinity: it has diverged; train anew with a lower --lr")
    return _for_every_sample(predictions, members, outputs.num_samples)


def _of_outcomes(
    network: FeatureNetwork,
    outputs: Pairs[Tensor],
    subset: Subset | None,
    members: list[int],
    by_entropy: bool,
    outcomes: Outcomes,
) -> Tensor:
    """Returns the probabilities of each outcome's classes, and the numbers as they are in the data: [b, ..., C].

    members: the b samples that have the subset
    by_entropy: whether the modalities are weighed, for each outcome with classes by itself, as MLA does
    """
    widths = [outcome.width for outcome in outcomes]
    fused = network.head(network.fuse(outputs, subset)[0]).split(widths, dim=-1)
    if by_entropy and max(widths) > 1:
        alone, present = _alone(network, outputs, subset, members)
        each_alone = alone.split(widths, dim=-1)
    parts = []
    for number, outcome in enumerate(outcomes):
        if outcome.classes is None:  # which has no entropy
            parts.append(fused[number] * outcome.std + outcome.mean)
        elif by_entropy:
            parts.append(entropy_fusion(each_alone[number], present))
        else:
            parts.append(fused[number].softmax(dim=-1))
    return torch.cat(parts, dim=-1)


def _alone(
    network: FeatureNetwork, outputs: Pairs[Tensor], subset: Subset | None, members: list[int]
) -> tuple[Tensor, Tensor]:
    """Returns the head's logits of every modality by itself, [M, b, ..., C], and which each sample has, bool [M, b].

    members: the b samples that have the subset
    """
    modalities = tuple(outputs.values) if subset is None else subset
    alone = [network.fuse(outputs, (m,)) for m in modalities]
    each = [_for_every_sample(network.head(rows), samples, outputs.num_samples) for rows, samples in alone]
    present = [[s in outputs.samples[m] for s in members] for m in modalities]
    logits = torch.stack(each)[:, members]
    return logits, torch.tensor(present, device=logits.device)


def _for_every_sample(rows: Tensor, samples: list[int], num_samples: int) -> Tensor:
    """Returns the rows of `samples` among those of all samples, [num_samples, ...], with NaN for the others."""
    result = rows.new_full((num_samples, *rows.shape[1:]), torch.nan)
    result[samples] = rows
    return result
