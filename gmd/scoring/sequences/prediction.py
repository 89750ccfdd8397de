"""Predictions of samples from every subset of the modalities, with one network pass for each modality."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gmd.config import TrainSamples
from gmd.data.pairs import Pairs
from gmd.data.sequences.batches import collate
from gmd.data.sequences.samples import Sample
from gmd.errors import UserError
from gmd.models.confidence_fusion import confidence_fusion
from gmd.models.entropy_fusion import entropy_fusion
from gmd.models.multimodal import FeatureNetwork, run_modalities
from gmd.models.precision import autocast
from gmd.models.weighted_fusion import weighted_fusion
from gmd.scoring.outcomes import Outcomes
from gmd.scoring.sequences.tables import Predictions
from gmd.subsets import Subset
from gmd.together import Apart, in_turn


class Rule(NamedTuple):
    """How what the modalities say by themselves becomes one prediction.

    Attributes:
        fuse: (modalities, logits [M, b, ..., C], present [M, b]) -> probabilities [b, ..., C], or numbers.
        of_numbers: whether it can fuse numbers too.
    """

    fuse: Callable[[Subset, Tensor, Tensor], Tensor]
    of_numbers: bool = False


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
    apart: Apart = in_turn,
) -> Predictions:
    """Predicts samples from each of the subsets, without gradients.

    Args:
        network: put into eval mode meanwhile.
        samples: each has at least one of the network's modalities.
        subsets: of the modalities; None stands for whatever each sample has.
        config: of the run; its method says how modalities are fused, and its precision what the network computes in.
        outcomes: what the network's outputs stand for, one behind the other.
        collate: makes a batch of samples; by default of sequences in memory.
        apart: how the batches are done, one by one.

    returns the predictions, on the CPU. Raises UserError if the network's predictions are not finite.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            parts = apart(
                [samples[first : first + BATCH] for first in range(0, len(samples), BATCH)],
                lambda some: _predict(network, some, subsets, config, outcomes, collate(some, network.modalities)),
            )
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
    rule = _rule_of(config)
    by_subset = {subset: _from_subset(network, outputs, subset, rule, outcomes) for subset in subsets}
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


def _rule_of(config: TrainSamples) -> Rule | None:
    """Returns how a run's method fuses what the modalities say by themselves; None if features are fused before."""
    if config.fusion_weights:
        return Rule(partial(_by_weights, config.weights_of_modalities()), of_numbers=True)
    rules = {"mla": _by_entropy, "qmf": _by_confidence}
    return Rule(rules[config.method]) if config.method in rules else None


def _by_entropy(modalities: Subset, logits: Tensor, present: Tensor) -> Tensor:
    return entropy_fusion(logits, present)


def _by_confidence(modalities: Subset, logits: Tensor, present: Tensor) -> Tensor:
    return confidence_fusion(logits, present).softmax(dim=-1)


def _by_weights(weights: Mapping[str, float], modalities: Subset, logits: Tensor, present: Tensor) -> Tensor:
    return weighted_fusion(logits, present, logits.new_tensor([weights[m] for m in modalities]))


def _from_subset(
    network: FeatureNetwork, outputs: Pairs[Tensor], subset: Subset | None, rule: Rule | None, outcomes: Outcomes
) -> Tensor:
    """Predicts a batch from one subset: [n, ..., C] on the CPU, NaN for the samples that lack a modality of it."""
    members = list(range(outputs.num_samples)) if subset is None else outputs.having(subset)
    if not members:
        [shape] = {tuple(values.shape[1:-1]) for values in outputs.values.values()}
        return torch.full((outputs.num_samples, *shape, network.head.out_features), torch.nan)
    predictions = _of_outcomes(network, outputs, subset, members, rule, outcomes).float().cpu()
    if not predictions.isfinite().all():
        raise UserError("the network predicts NaN or infinity: it has diverged; train anew with a lower --lr")
    return _for_every_sample(predictions, members, outputs.num_samples)


def _of_outcomes(
    network: FeatureNetwork,
    outputs: Pairs[Tensor],
    subset: Subset | None,
    members: list[int],
    rule: Rule | None,
    outcomes: Outcomes,
) -> Tensor:
    """Returns the probabilities of each outcome's classes, and the numbers as they are in the data: [b, ..., C].

    members: the b samples that have the subset
    rule: how what the modalities say by themselves is fused, for each outcome by itself; None: their features are
    """
    widths = [outcome.width for outcome in outcomes]
    fused = network.head(network.fuse(outputs, subset)[0]).split(widths, dim=-1)
    if rule is not None:
        modalities = tuple(outputs.values) if subset is None else subset
        alone, present = _alone(network, outputs, modalities, members)
        each_alone = alone.split(widths, dim=-1)
    parts = []
    for number, outcome in enumerate(outcomes):
        if rule is not None and (outcome.classes or rule.of_numbers):
            part = rule.fuse(modalities, each_alone[number], present)
        else:
            part = fused[number].softmax(dim=-1) if outcome.classes else fused[number]
        parts.append(part if outcome.classes else part * outcome.std + outcome.mean)
    return torch.cat(parts, dim=-1)


def _alone(
    network: FeatureNetwork, outputs: Pairs[Tensor], modalities: Subset, members: list[int]
) -> tuple[Tensor, Tensor]:
    """Returns the head's logits of every modality by itself, [M, b, ..., C], and which each sample has, bool [M, b].

    members: the b samples whose logits these are
    """
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
