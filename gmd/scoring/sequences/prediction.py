"""Predictions on sequences from every subset of the modalities, with one network pass for each modality."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from gmd.config import TrainSequences
from gmd.data.pairs import Pairs
from gmd.data.sequences.batches import collate
from gmd.data.sequences.samples import Sample, Unit
from gmd.errors import UserError
from gmd.models.confidence_fusion import confidence_fusion
from gmd.models.entropy_fusion import entropy_fusion
from gmd.models.multimodal import run_modalities
from gmd.models.precision import autocast
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.weighted_fusion import weighted_fusion
from gmd.scoring.sequences.tables import Predictions
from gmd.subsets import Subset

# (modalities, logits [M, b, ..., C], present [M, b]) -> probabilities [b, ..., C]
Rule = Callable[[Subset, Tensor, Tensor], Tensor]

BATCH = 64  # samples at once


def predict_samples(
    network: SequenceNetwork,
    samples: Sequence[Sample],
    subsets: Sequence[Subset | None],
    config: TrainSequences,
    unit: Unit | None = None,
) -> Predictions:
    """Predicts samples from each of the subsets, without gradients.

    Args:
        network: put into eval mode meanwhile.
        samples: each has at least one of the network's modalities.
        subsets: of the modalities; None stands for whatever each sample has.
        config: of the run; its method says how modalities are fused, and its precision what the network computes in.
        unit: in which the network has learnt scores; None: in that of the targets.

    returns the predictions, on the CPU. Raises UserError if the network's predictions are not finite.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            waiting = iter(samples)
            parts = [_predict(network, some, subsets, config) for some in iter(lambda: [*islice(waiting, BATCH)], [])]
    finally:
        network.train(was_training)
    values = {subset: torch.cat([part.subsets[subset] for part in parts]) for subset in subsets}
    if unit is not None:
        values = {subset: unit[0] + unit[1] * value for subset, value in values.items()}
    return Predictions(
        [name for part in parts for name in part.names],
        [step for part in parts for step in part.steps],
        torch.cat([part.targets for part in parts]),
        values,
    )


def _predict(
    network: SequenceNetwork, samples: Sequence[Sample], subsets: Sequence[Subset | None], config: TrainSequences
) -> Predictions:
    """Predicts the samples of one batch."""
    device = next(network.parameters()).device
    inputs, targets = collate(samples, network.modalities)
    inputs = replace(inputs, values={m: values.to(device) for m, values in inputs.values.items()})
    with autocast(config.precision, device):
        outputs = run_modalities(network, inputs)
    outputs = replace(outputs, values={m: values.float() for m, values in outputs.values.items()})  # as in training
    rule = _rule_of(config, network)
    by_subset = {subset: _from_subset(network, outputs, subset, rule) for subset in subsets}
    there = targets.isfinite() if targets.is_floating_point() else targets >= 0
    lengths = [sample.target.numel() for sample in samples]
    return Predictions(
        [sample.name for sample, length in zip(samples, lengths, strict=True) for _ in range(length)],
        [step for length in lengths for step in range(length)],
        targets[there],
        {subset: values[there] for subset, values in by_subset.items()},
    )


def _rule_of(config: TrainSequences, network: SequenceNetwork) -> Rule | None:
    """Returns how a run's method fuses what the modalities say by themselves; None if features are fused before."""
    if config.fusion_weights:
        return partial(_by_weights, config.weights_of_modalities())
    if config.method == "qmf":
        return _by_confidence
    return _by_entropy if config.method == "mla" and network.head.out_features > 1 else None


def _from_subset(network: SequenceNetwork, outputs: Pairs[Tensor], subset: Subset | None, rule: Rule | None) -> Tensor:
    """Predicts a batch from one subset: [n, ..., C] on the CPU, NaN for the samples that lack a modality of it."""
    members = list(range(outputs.num_samples)) if subset is None else outputs.having(subset)
    if not members:
        [shape] = {tuple(values.shape[1:-1]) for values in outputs.values.values()}
        return torch.full((outputs.num_samples, *shape, network.head.out_features), torch.nan)
    if rule is not None:
        predictions = _fused_decisions(network, outputs, subset, members, rule)
    else:
        predictions = network.head(network.fuse(outputs, subset)[0])
        predictions = predictions.softmax(dim=-1) if predictions.shape[-1] > 1 else predictions
    predictions = predictions.float().cpu()
    if not predictions.isfinite().all():
        raise UserError("the network predicts NaN or infinity: it has diverged; train anew with a lower --lr")
    return _for_every_sample(predictions, members, outputs.num_samples)


def _fused_decisions(
    network: SequenceNetwork, outputs: Pairs[Tensor], subset: Subset | None, members: list[int], rule: Rule
) -> Tensor:
    """Lets every modality predict by itself through the one head, and fuses what they say by the rule.

    members: the b samples that have the subset; returns their probabilities [b, ..., C]
    """
    modalities = tuple(outputs.values) if subset is None else subset
    alone = [network.fuse(outputs, (m,)) for m in modalities]
    each = [_for_every_sample(network.head(rows), samples, outputs.num_samples) for rows, samples in alone]
    present = [[s in outputs.samples[m] for s in members] for m in modalities]
    logits = torch.stack(each)[:, members]
    return rule(modalities, logits, torch.tensor(present, device=logits.device))


def _by_entropy(modalities: Subset, logits: Tensor, present: Tensor) -> Tensor:
    return entropy_fusion(logits, present)


def _by_confidence(modalities: Subset, logits: Tensor, present: Tensor) -> Tensor:
    return confidence_fusion(logits, present).softmax(dim=-1)


def _by_weights(weights: Mapping[str, float], modalities: Subset, logits: Tensor, present: Tensor) -> Tensor:
    return weighted_fusion(logits, present, logits.new_tensor([weights[m] for m in modalities]))


def _for_every_sample(rows: Tensor, samples: list[int], num_samples: int) -> Tensor:
    """Returns the rows of `samples` among those of all samples, [num_samples, ...], with NaN for the others."""
    result = rows.new_full((num_samples, *rows.shape[1:]), torch.nan)
    result[samples] = rows
    return result
