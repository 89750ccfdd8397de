"""The methods by the names that the command line knows: their objectives, and what makes one gradient of these."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from gmd.config.train_config import TrainConfig
from gmd.data.pairs import Pairs
from gmd.models.sequences.network import SequenceNetwork
from gmd.surgery.cggm import CGGM
from gmd.surgery.gmd import GMD
from gmd.surgery.losses import Criterion
from gmd.surgery.mean import MeanGradient
from gmd.surgery.mla import MLA
from gmd.surgery.ogm_ge import OGMGE
from gmd.training.objectives import Predict, full_objective, subset_objectives


@dataclass(frozen=True)
class Parts:
    """What a surgeon is made of, and what its backward pass draws on."""

    config: TrainConfig
    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator  # of the orders in which GMD projects, and of OGM-GE's noise
    scaler: GradScaler | None
    criterion: Criterion
    metric: Criterion  # higher is better
    score: Criterion  # of the predictions of one modality, in [0, 1]
    predict: Predict


class Method(NamedTuple):
    """How a step's gradients come about.

    Attributes:
        objectives: (outputs, targets, criterion, predict) -> {subset: loss}
        make: (parts) -> the surgeon, whose `backward(losses, outputs=..., **given)` fills `.grad`
        given: (parts, outputs, targets) -> what `backward` is given besides
        alternating: whether each modality has a step of its own
    """

    objectives: Callable[..., dict]
    make: Callable[[Parts], object]
    given: Callable[[Parts, Pairs, Tensor], dict] = lambda parts, outputs, targets: {"outputs": outputs.values}
    alternating: bool = False


def _mean(parts: Parts) -> MeanGradient:
    return MeanGradient(parts.optimizer, scaler=parts.scaler)


def _gmd(parts: Parts) -> GMD:
    config = parts.config
    return GMD(
        parts.optimizer,
        generator=parts.generator,
        granularity=config.granularity,
        model=parts.network,
        tol=config.tol,
        scaler=parts.scaler,
        by_sample=isinstance(parts.network, SequenceNetwork),
    )


def _cggm(parts: Parts, surgeon: MeanGradient | GMD) -> CGGM:
    config = parts.config
    return CGGM(
        parts.optimizer,
        parts.network.head,
        parts.criterion,
        parts.metric,
        parts.network.modalities,
        rho=config.rho or None,
        lam=config.lam or None,
        direction=config.direction,
        rule=config.balance,
        surgeon=surgeon,
    )


def _ogm_ge(parts: Parts) -> OGMGE:
    alpha = 0.1 if parts.config.alpha is None else parts.config.alpha
    return OGMGE(parts.optimizer, alpha, parts.score, generator=parts.generator, surgeon=_mean(parts))


def _mla(parts: Parts) -> MLA:
    return MLA(parts.optimizer, parts.network.head, parts.config.alpha, scaler=parts.scaler)


def _with_targets(parts: Parts, outputs: Pairs, targets: Tensor) -> dict:
    return {"outputs": outputs.values, "targets": _targets_of_each(outputs, targets)}


def _with_predictions(parts: Parts, outputs: Pairs, targets: Tensor) -> dict:
    with torch.no_grad():
        alone = {m: parts.predict(outputs, (m,))[0] for m in outputs.values}
    return _with_targets(parts, outputs, targets) | {"predictions": alone}


def _with_head_rows(parts: Parts, outputs: Pairs, targets: Tensor) -> dict:
    """What went into the head, of the one modality whose turn it is, without padded steps."""
    [modality] = outputs.values
    rows, samples = parts.network.fuse(outputs, (modality,))
    if targets.ndim > 1:  # waits for a GPU; targets of whole samples are never padded
        there = targets[samples]
        rows = rows[there.isfinite() if there.is_floating_point() else there >= 0]
    return {"outputs": {modality: rows}}


def _targets_of_each(outputs: Pairs, targets: Tensor) -> dict[str, Tensor]:
    whole = list(range(outputs.num_samples))
    return {m: targets if samples == whole else targets[samples] for m, samples in outputs.samples.items()}


METHODS = {
    "joint": Method(full_objective, _mean),  # loss on the full set of modalities
    "enumerate": Method(subset_objectives, _mean),  # mean of the losses of all subsets
    "gmd": Method(subset_objectives, _gmd),  # surgery on the losses of all subsets
    "cggm": Method(full_objective, lambda parts: _cggm(parts, _mean(parts)), _with_targets),
    "cggm-gmd": Method(subset_objectives, lambda parts: _cggm(parts, _gmd(parts)), _with_targets),
    "ogm-ge": Method(full_objective, _ogm_ge, _with_predictions),
    "mla": Method(subset_objectives, _mla, _with_head_rows, alternating=True),
}
