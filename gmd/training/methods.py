"""The methods by the names that the command line knows: their objectives, and what makes one gradient of these."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from gmd.config import TrainConfig
from gmd.config.modulation import Modulation
from gmd.config.weighting_options import weighting_options
from gmd.data.pairs import EncodedPairs, Pairs
from gmd.errors import UserError
from gmd.models.confidence_fusion import confidence
from gmd.models.multimodal import FeatureNetwork, MultimodalNetwork
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.sequences.step_classifier import StepClassifier
from gmd.subsets import Subset
from gmd.surgery import Criterion, Scalarised, Surgeon, Weighting
from gmd.surgery._scalarisations import RULES
from gmd.surgery.cggm import CGGM
from gmd.surgery.gmd import GMD
from gmd.surgery.mean import MeanGradient
from gmd.surgery.mla import MLA
from gmd.surgery.ogm_ge import OGMGE
from gmd.surgery.qmf import QMF
from gmd.surgery.report import Report
from gmd.together import processes
from gmd.training.objectives import Predict, decision_objectives, full_objective, subset_objectives
from gmd_kernels import weightings


class Merger(Protocol):
    """Makes one gradient of a step's losses. One with a state of its own has `state_dict` and `load_state_dict` too."""

    @property
    def backward(self) -> Callable[..., Report]:
        """Returns the call (losses, **given) -> report that adds the gradient to `.grad`; given: `Method.given`."""


@dataclass(frozen=True)
class Parts:
    """What a surgeon is made of, and what its backward pass draws on.

    Attributes:
        config: the options of the run.
        network: the network that is trained.
        optimizer: the optimizer of the network's parameters.
        generator: what GMD's orders of projection and OGM-GE's noise are drawn from.
        scaler: scales the losses in fp16; otherwise None.
        criterion: the task's loss.
        metric: the task's metric, higher is better.
        score: the task's score of the predictions of one modality, in [0, 1].
        predict: the task's function from outputs and a subset to predictions, with the network filled in.
        steps_per_epoch: how many steps of the optimizer an epoch has.
        samples: how many samples the training has, if each has one class; None otherwise.
        steps: how many steps were made so far.
        sharded: what has the network's parameters in pieces; None where they are whole.
    """

    config: TrainConfig
    network: MultimodalNetwork
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    scaler: GradScaler | None
    criterion: Criterion
    metric: Criterion
    score: Criterion
    predict: Predict
    steps_per_epoch: int
    samples: int | None
    steps: int
    sharded: nn.Module | None = None

    @property
    def epoch(self) -> int:
        """Returns the number of the epoch that the next step is in, from 1 on."""
        return self.steps // self.steps_per_epoch + 1

    @property
    def progress(self) -> float:
        """Returns how much of that epoch is done, from 0 to less than 1."""
        return self.steps % self.steps_per_epoch / self.steps_per_epoch

    @property
    def modulation(self) -> Modulation:
        """Returns the options of the methods that only tasks with these options offer."""
        assert isinstance(self.config, Modulation)
        return self.config


def _outputs(parts: Parts, outputs: Pairs[Tensor], targets: Tensor) -> dict:
    return {"outputs": outputs.values}


class Method(NamedTuple):
    """How a step's gradients come about.

    Attributes:
        objectives: (outputs, targets, criterion, predict) -> {subset: loss}.
        make: (parts) -> the surgeon.
        given: (parts, outputs, targets) -> what the surgeon's `backward` is given besides the losses.
        named: whether the surgeon knows the losses by the names of their subsets, as it remembers what they were.
        several: whether several processes can train by it together, each on its share of every batch.
        alternating: whether each modality has a step of its own.
        dropout: whether each sample keeps a random subset of its modalities only, another one in each step.
    """

    objectives: Callable[[Pairs[Tensor], Tensor, Criterion, Predict], dict[Subset, Tensor]]
    make: Callable[[Parts], Merger]
    given: Callable[[Parts, Pairs[Tensor], Tensor], dict] = _outputs
    named: bool = False
    several: bool = False
    alternating: bool = False
    dropout: bool = False


def _mean(parts: Parts) -> MeanGradient:
    scope = "global" if processes() > 1 else "local"  # the mean loss over the samples of all processes
    return MeanGradient(parts.optimizer, scaler=parts.scaler, scope=scope, model=parts.sharded)


def _gmd(parts: Parts) -> GMD:
    return GMD(parts.optimizer, generator=parts.generator, **_surgical(parts))


def _surgery(parts: Parts) -> Surgeon:
    config = parts.config
    options: dict[str, Any] = dict(weighting_options(config.weighting_options))
    name = str(config.weighting)  # which the configuration's check has seen to
    if "primary" in weightings.options_of(name):
        options.setdefault("primary", -1)  # the last, that of the largest subset that there is
    if "generator" in signature(weightings.named(name)).parameters:
        options["generator"] = parts.generator
    return Surgeon(parts.optimizer, Weighting(name, **options), **_surgical(parts))


def _scalarised(parts: Parts) -> Scalarised:
    config = parts.config
    options: dict[str, Any] = dict(weighting_options(config.weighting_options))
    rule = str(config.weighting)
    of_the_run = {"generator": parts.generator, "steps": parts.steps_per_epoch * config.accumulate}
    options |= {name: value for name, value in of_the_run.items() if name in signature(RULES[rule]).parameters}
    return Scalarised(parts.optimizer, rule, scaler=parts.scaler, **options)


def _surgical(parts: Parts) -> dict[str, Any]:
    """Returns the arguments that GMD and Surgeon share."""
    config = parts.config
    return {
        "every": config.every,
        "granularity": config.granularity,
        "model": parts.sharded or parts.network,
        "tol": config.tol,
        "scaler": parts.scaler,
        "by_sample": isinstance(parts.network, FeatureNetwork) and parts.network.by_sample,
        "scope": config.scope if processes() > 1 else "local",
    }


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
        lr=config.classifier_lr,
        surgeon=surgeon,
        classifiers=_transformers(parts),
    )


def _transformers(parts: Parts) -> dict[str, nn.Module] | None:
    """Returns the classifiers that look at the steps of each modality; None if copies of the head are asked for.

    Raises UserError for a network without steps.
    """
    config, network = parts.config, parts.network
    if not isinstance(config, Modulation) or config.classifiers == "copies":
        return None
    if not isinstance(network, SequenceNetwork):
        raise UserError("--classifiers: got transformers, expected copies: the network has no sequences of steps")
    head = network.head
    sizes = (head.in_features, head.out_features, network.per_step, network.heads, network.dropout.p)
    return {m: StepClassifier(*sizes).to(head.weight.device) for m in network.modalities}


def _ogm_ge(parts: Parts) -> OGMGE:
    options = parts.modulation
    alpha = 0.1 if options.alpha is None else options.alpha
    given = {"noise": options.noise, "convolutions": options.modulated == "convolutions"}
    if given["convolutions"] and not any(param.ndim == 4 for param in parts.network.parameters()):
        raise UserError(
            "--modulated: got convolutions, expected all: the network has no 2-D convolution, whose weights have four "
            "dimensions"
        )
    return OGMGE(parts.optimizer, alpha, parts.score, parts.generator, _mean(parts), **given)


def _mla(parts: Parts) -> MLA:
    options, network = parts.modulation, parts.network
    assert isinstance(network, FeatureNetwork)  # segmentation does not offer this method
    normalised = options.projector == "normalised"
    return MLA(parts.optimizer, network.head, options.alpha, parts.scaler, options.alpha_end, normalised)


def _qmf(parts: Parts) -> QMF:
    if parts.samples is None:
        raise UserError(
            "--method qmf: expected one class of each sample, of which a modality can be sure and whose losses are "
            "remembered, got scores, or several targets of each sample, or one of each step"
        )
    return QMF(parts.optimizer, parts.network.modalities, parts.samples, _mean(parts))


def _with_targets(parts: Parts, outputs: Pairs[Tensor], targets: Tensor) -> dict:
    return {"outputs": outputs.values, "targets": _targets_of_each(outputs, targets)}


def _with_classified(parts: Parts, outputs: Pairs[Tensor], targets: Tensor) -> dict:
    """Gives also the steps that classifiers look at, if these are no copies of the head."""
    seen = {"seen": outputs.steps} if isinstance(outputs, EncodedPairs) else {}
    return _with_targets(parts, outputs, targets) | seen


def _with_predictions(parts: Parts, outputs: Pairs[Tensor], targets: Tensor) -> dict:
    """Gives also what the network predicts from each modality alone."""
    with torch.no_grad():
        alone = {m: parts.predict(outputs, (m,))[0] for m in outputs.values}
    first, last = parts.modulation.modulation_epochs or (1, parts.epoch)
    modulate = first <= parts.epoch <= last
    return _with_targets(parts, outputs, targets) | {"predictions": alone, "modulate": modulate}


def _with_confidences(parts: Parts, outputs: Pairs[Tensor], targets: Tensor) -> dict:
    """Gives how sure each modality is of its samples, how wrong it is, and which samples these are."""
    assert outputs.numbers is not None  # `_qmf` has asked for them
    logits = {m: parts.predict(outputs, (m,))[0] for m in outputs.values}
    right = _targets_of_each(outputs, targets)
    return {
        "outputs": outputs.values,
        "confidences": {m: confidence(of_one) for m, of_one in logits.items()},
        "sample_losses": {m: F.cross_entropy(logits[m].detach(), right[m], reduction="none") for m in logits},
        "samples": {m: [outputs.numbers[s] for s in outputs.samples[m]] for m in logits},
    }


def _with_head_rows(parts: Parts, outputs: Pairs[Tensor], targets: Tensor) -> dict:
    """Gives what went into the head, without padded steps, of the one modality whose turn it is."""
    [modality] = outputs.values
    rows, samples = parts.network.fuse(outputs, (modality,))
    if rows.ndim > 2:  # waits for a GPU; the features of whole samples are never padded
        there = targets[samples]
        rows = rows[there.isfinite() if there.is_floating_point() else there >= 0]
    return {"outputs": {modality: rows}, "progress": parts.progress}


def _targets_of_each(outputs: Pairs[Tensor], targets: Tensor) -> dict[str, Tensor]:
    """Returns modality -> the targets of the samples that have it."""
    whole = list(range(outputs.num_samples))
    return {m: targets if samples == whole else targets[samples] for m, samples in outputs.samples.items()}


METHODS = {
    "joint": Method(full_objective, _mean, several=True),  # loss on the full set of modalities
    "dropout": Method(full_objective, _mean, several=True, dropout=True),  # the same of a random subset for each sample
    "enumerate": Method(subset_objectives, _mean, several=True),  # mean of the losses of all subsets
    "gmd": Method(subset_objectives, _gmd, named=True, several=True),  # surgery on the losses of all subsets
    "surgery": Method(subset_objectives, _surgery, named=True, several=True),  # the same with another weighting
    "scalarised": Method(subset_objectives, _scalarised, named=True),  # the losses weighed by their values
    "cggm": Method(full_objective, lambda parts: _cggm(parts, _mean(parts)), _with_classified),
    "cggm-gmd": Method(subset_objectives, lambda parts: _cggm(parts, _gmd(parts)), _with_classified, named=True),
    "ogm-ge": Method(full_objective, _ogm_ge, _with_predictions),
    "mla": Method(subset_objectives, _mla, _with_head_rows, alternating=True),
    "qmf": Method(decision_objectives, _qmf, _with_confidences),
}
