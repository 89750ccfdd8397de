"""Measures of the modalities' dominance: those that a step's gradients tell, and one that its losses tell.

Wang et al. (AAAI 2024) take gradients as the indicator of dominance. Recorded are the norm of the gradient of each
modality's own objective, its cosines with the gradient of the objective of all modalities and with the merged gradient,
and how much the surgery changed. All of it comes from the Gramian that the surgery has made anyway, so that it costs no
backward pass. The losses tell how much the loss of all modalities rises without each of them.

`gmd.monitor.dominance_verdict` puts both into words.
"""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from gmd.monitor.transfer import on_host
from gmd.subsets import Subset, subset_name
from gmd.surgery.report import Report

# the quantities of a modality by their names in metrics.jsonl; but for RISE, which is computed from the losses there
NORM, WITH_ALL, WITH_MERGED = "objective norm", "cosine with all", "cosine with merged"
GRADIENT_NORM = "gradient norm"  # a key of `Report.modality`
RISE = "rise of the loss"

TITLES = {
    RISE: "How much the loss of all modalities rises without each of them",
    NORM: "Norms of the gradients of the objectives",
    WITH_ALL: "Cosine of each modality's own objective with that of all",
    WITH_MERGED: "Cosine of each modality's own objective with the merged gradient",
    GRADIENT_NORM: "Norm of the loss's gradient at each modality's output",
}

OfModalities = dict[str, dict[str, float]]  # quantity -> modality -> value


class DominanceRecord(TypedDict):
    """What the gradients of a step say of the modalities, as plain values for metrics.jsonl.

    Attributes:
        norms: objective -> norm of its gradient. A method with one gradient for several losses has one of their "mean".
            Empty at a step whose weights were taken before it.
        weights: objective -> the factor that the surgery gave its gradient, 1/T where nothing was projected; at a finer
            granularity the mean over the groups of parameters. None where there is one gradient only.
        projected: the norm of what the surgery changed in the mean of the gradients, relative to the norm of that mean.
            None where there is one gradient only, and at a step whose weights were taken before it.
        modality: quantity -> modality -> value. The quantities are NORM, WITH_ALL and WITH_MERGED of the modality's own
            objective, private parameters counted as if shared, and what else the method reports.
    """

    norms: dict[str, float]
    weights: dict[str, float] | None
    projected: float | None
    modality: OfModalities


def dominance_record(subsets: Sequence[Subset], modalities: Sequence[str], report: Report) -> DominanceRecord | None:
    """Returns what a step's report says of the modalities, or None if the step has a loss or gradient not finite.

    A value that does not exist is left out: that of a modality which no sample of the batch has, or of an objective
    which no sample can serve.

    Args:
        subsets: [T], of each loss the subset of the modalities that it is the objective of.
        modalities: all that the network has; those of the batch are those that occur in `subsets`.
        report: of the step. Where the surgery has several objectives it is that of `reduction="mean"`.
    """
    report = on_host(report)
    if not report.finite:
        return None
    present = [m for m in modalities if any(m in subset for subset in subsets)]
    reported = {name: dict(zip(present, values.tolist(), strict=True)) for name, values in report.modality.items()}
    if not report.refreshed:  # its Gramian is that of another step
        weights = dict(zip(map(subset_name, subsets), report.weights.tolist(), strict=True))
        return {"norms": {}, "weights": weights, "projected": None, "modality": reported}
    norms = report.gram.diagonal().clamp(min=0).sqrt()  # that of a compressed gradient may round to below zero
    if len(norms) == 1:
        return _of_one_gradient(subsets, float(norms[0]), reported)
    return _of_several_gradients(subsets, modalities, report, norms, reported)


def _of_one_gradient(subsets: Sequence[Subset], norm: float, reported: OfModalities) -> DominanceRecord:
    """Returns the record of a method that has one gradient: of its only loss, or of the mean of its losses."""
    if len(subsets) > 1:
        return {"norms": {"mean": norm}, "weights": None, "projected": None, "modality": reported}
    [subset] = subsets
    own = {NORM: {subset[0]: norm}} if len(subset) == 1 else {}
    return {"norms": {subset_name(subset): norm}, "weights": None, "projected": None, "modality": own | reported}


def _of_several_gradients(
    subsets: Sequence[Subset], modalities: Sequence[str], report: Report, norms: Tensor, reported: OfModalities
) -> DominanceRecord:
    """Returns the record of a method with a gradient for each objective, whose norms are [T]."""
    names = [subset_name(subset) for subset in subsets]
    weights = report.weights.reshape(-1, len(names)).mean(dim=0)
    with_merged, projected = _merging(report, norms)

    own_row = {m: subsets.index((m,)) for m in modalities if (m,) in subsets}
    measured = {NORM: {m: float(norms[row]) for m, row in own_row.items()}}
    if tuple(modalities) in subsets:
        with_all = report.cosines[subsets.index(tuple(modalities))]
        measured[WITH_ALL] = {m: float(with_all[row]) for m, row in own_row.items()}
    measured[WITH_MERGED] = {m: float(with_merged[row]) for m, row in own_row.items()}
    return {
        "norms": dict(zip(names, norms.tolist(), strict=True)),
        "weights": dict(zip(names, weights.tolist(), strict=True)),
        "projected": projected,
        "modality": measured | reported,
    }


def _merging(report: Report, norms: Tensor) -> tuple[Tensor, float]:
    """Returns the cosines [T] of the objectives with the merged gradient, and the share of the mean that was changed.

    The merged gradient of a group of parameters k is sum_i w_ki g_ki. With the Gramian G_k of the group its inner
    products are G_k w_k, its squared norm is w_k G_k w_k; over all parameters both are sums over the groups.
    """
    t, tiny = len(norms), torch.finfo(torch.float64).tiny
    grams, weights = report.grams.reshape(-1, t, t), report.weights.reshape(-1, t, 1)
    products = (grams @ weights).sum(dim=0)[:, 0]
    cosines = products / (norms * _squared_norm(grams, weights) ** 0.5).clamp_min(tiny)
    mean = torch.full_like(weights, 1 / t)
    return cosines, (_squared_norm(grams, weights - mean) / max(_squared_norm(grams, mean), tiny)) ** 0.5


def _squared_norm(grams: Tensor, weights: Tensor) -> float:
    """Returns the squared norm of the gradients' combination: grams [K, T, T], weights [K, T, 1]."""
    return float((weights.mT @ grams @ weights).sum().clamp(min=0))


def rises(step: dict, modalities: Sequence[str]) -> dict[str, float]:
    """Returns how much the loss rises without each modality: the loss of all but it, minus the loss of all.

    Args:
        step: a step's line of metrics.jsonl, with finite losses.
        modalities: all that the network has, two at least.

    Returns:
        Modality -> rise, or an empty dictionary if the step lacks one of these losses.
    """
    losses = step["losses"]
    without = {m: subset_name(tuple(other for other in modalities if other != m)) for m in modalities}
    everything = subset_name(tuple(modalities))
    if not {everything, *without.values()} <= losses.keys():
        return {}
    return {m: losses[name] - losses[everything] for m, name in without.items()}
