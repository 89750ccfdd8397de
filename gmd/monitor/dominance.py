"""What a step's gradients say of the modalities, read off the Gramian that the surgery has made anyway.

Wang et al. (AAAI 2024) take gradients as the indicator of dominance: here the norms of each modality's own objective,
their cosines with the objective of all modalities and with the merged gradient, and how much the surgery changed.
`dominance_text` puts them into words.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from gmd.subsets import Subset, subset_name
from gmd.surgery.report import Report

NORM, WITH_ALL, WITH_MERGED = "objective norm", "cosine with all", "cosine with merged"


def on_host(report: Report) -> Report:
    """The report with its tensors on the host, in float64, brought there by one transfer: reading is free then."""
    tensors = [report.losses, report.grams, report.weights, *report.modality.values()]
    flat = torch.cat([tensor.detach().flatten().double() for tensor in tensors]).cpu()
    parts = [
        part.view(tensor.shape)
        for part, tensor in zip(flat.split([tensor.numel() for tensor in tensors]), tensors, strict=True)
    ]
    modality = dict(zip(report.modality, parts[3:], strict=True))
    return replace(report, losses=parts[0], grams=parts[1], weights=parts[2], modality=modality)


def dominance_record(subsets: Sequence[Subset], modalities: Sequence[str], report: Report) -> dict | None:
    """What a step's report says of the modalities, as plain values for metrics.jsonl; None of a step not finite.

    Args:
        subsets: [T], of each loss the subset that it is the objective of.
        modalities: all that the network has. Those of the batch are those that occur in `subsets`.
        report: of the step; of `reduction="mean"` where the surgery has several objectives.

    Returns:
        norms: objective -> norm of its gradient; of a method with one gradient for several losses that of their "mean".
        weights: objective -> what its gradient was multiplied with, 1/T where nothing was projected; the mean over the
            groups of another granularity. None of one objective, as is `projected`.
        projected: by how much the surgery changed the mean of the gradients, relative to its norm.
        modality: quantity -> modality -> value: the norm of the gradient of the modality's own objective; its cosines
            with that of the objective of all modalities and with the merged gradient, private parameters counted as if
            shared; and what else the method reports.

    A value that does not exist is left out: of a modality that no sample of the batch has, or of an objective that no
    sample can serve.
    """
    report = on_host(report)
    if not report.finite:
        return None
    present = [m for m in modalities if any(m in subset for subset in subsets)]
    reported = {name: dict(zip(present, values.tolist(), strict=True)) for name, values in report.modality.items()}
    norms = report.gram.diagonal().clamp(min=0).sqrt()  # that of a compressed one may round to below zero
    if len(norms) == 1:
        name, norm = subset_name(subsets[0]) if len(subsets) == 1 else "mean", float(norms[0])
        own = {NORM: {present[0]: norm}} if list(subsets) == [(present[0],)] else {}
        return {"norms": {name: norm}, "weights": None, "projected": None, "modality": own | reported}

    names = [subset_name(subset) for subset in subsets]
    with_merged, projected = _merging(report, norms)
    rows = {m: subsets.index((m,)) for m in present if (m,) in subsets}
    measured = {NORM: {m: float(norms[row]) for m, row in rows.items()}}
    if tuple(modalities) in subsets:
        with_all = report.cosines[subsets.index(tuple(modalities))]
        measured[WITH_ALL] = {m: float(with_all[row]) for m, row in rows.items()}
    measured[WITH_MERGED] = {m: float(with_merged[row]) for m, row in rows.items()}
    weights = report.weights.reshape(-1, len(names)).mean(dim=0)
    return {
        "norms": dict(zip(names, norms.tolist(), strict=True)),
        "weights": dict(zip(names, weights.tolist(), strict=True)),
        "projected": projected,
        "modality": measured | reported,
    }


def _merging(report: Report, norms: torch.Tensor) -> tuple[torch.Tensor, float]:
    """[T] cosines with the merged gradient, group by group w_k G_k w_k; and the share of the mean that was changed."""
    t, tiny = len(norms), torch.finfo(torch.float64).tiny
    grams, weights = report.grams.reshape(-1, t, t), report.weights.reshape(-1, t, 1)
    products = (grams @ weights).sum(dim=0)[:, 0]
    square = lambda by: float((by.mT @ grams @ by).sum().clamp(min=0))  # noqa: E731
    cosines = products / (norms * square(weights) ** 0.5).clamp_min(tiny)
    mean = torch.full_like(weights, 1 / t)
    return cosines, (square(weights - mean) / max(square(mean), tiny)) ** 0.5
