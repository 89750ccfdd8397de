"""Which modality dominates, read off the Gramian of the objectives that a step's surgery has made anyway.

The measure is the cosine, on the shared parameters as on all others, between the gradient of modality m's own objective
and that of the objective of all modalities: Wang et al. (AAAI 2024) take gradients as the indicator of dominance. Where
it is near 1 for one modality and small for the others, training on everything together is training on that modality.

Norms do not measure it. A modality that has been learnt has small gradients, and one that cannot be learnt keeps large
ones, so that they name the dominant modality at the start of training and the weakest at its end; nor does the share of
the joint gradient, |g_m| cos / |g_all|, that contains them. They are recorded beside the cosine, for the reader.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

import torch

from gmd.methods.report import Report
from gmd.subsets import Subset, subset_name

NORM, WITH_ALL, WITH_MERGED = "objective norm", "cosine with all", "cosine with merged"
MARGIN = 0.1  # by which the cosine of a dominant modality exceeds the next one's


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


def dominance_text(lines: Iterable[dict], modalities: Sequence[str]) -> str:
    """Sentences on the lines of metrics.jsonl: which modality dominates, by what, when; or why that cannot be told."""
    steps = [line for line in lines if line["kind"] == "step" and line.get("dominance")]
    compared = [step for step in steps if WITH_ALL in step["dominance"]["modality"]]
    if len(modalities) == 1:
        return f"One modality only, {modalities[0]}: there is none for it to dominate.\n"
    if not compared:
        return _not_compared(steps, modalities)
    first, last = _quarters(compared)
    means, started = mean_of_modality(last, WITH_ALL, modalities), mean_of_modality(first, WITH_ALL, modalities)
    sentences = [
        _verdict(means),
        f"Measured: the cosine between the gradients of a modality's own objective and of the objective of all, mean "
        f"over the last quarter, {_span(last)}: {_listed(means)}; to dominate is to lead by {MARGIN} or more.",
        f"In the first quarter, {_span(first)}: {_listed(started)}.",
        f"Norms of these gradients in the last quarter: {_listed(mean_of_modality(last, NORM, modalities))} (small "
        "where the objective has been learnt).",
        f"Cosines with the merged gradient: {_listed(mean_of_modality(last, WITH_MERGED, modalities))}; the surgery "
        f"changed the mean gradient by {100 * fmean(s['dominance']['projected'] for s in last):.0f} % of its norm.",
    ]
    return "\n".join(sentences + _reported(last, modalities)) + "\n"


def _verdict(cosines: dict[str, float]) -> str:
    top, *others = sorted(cosines, key=cosines.get, reverse=True)
    lead = cosines[top] - max([0.0, *(cosines[m] for m in others)])  # an opposite gradient is no rival
    if not others:
        return f"Whether a modality dominates cannot be told: of the modalities only {top} was there by itself."
    if lead >= MARGIN:
        return f"{top} dominates, by {lead:.2f}."
    if lead > 0:
        return f"No modality dominates: {top} leads by {lead:.2f} only."
    return "No modality dominates: none goes along with the objective of all."


def _not_compared(steps: Sequence[dict], modalities: Sequence[str]) -> str:
    why = "no finite step was recorded"
    if any(step["dominance"]["weights"] for step in steps):
        why = "no step had the objective of all modalities, as no sample of its batch has all of them"
    elif steps:
        why = "the method makes one gradient a step, so no Gramian of several objectives; train with `--method gmd`"
    sentences = [f"Whether a modality dominates cannot be told by cosines: {why}."]
    return "\n".join(sentences + (_reported(_quarters(steps)[1], modalities) if steps else [])) + "\n"


def _reported(steps: Sequence[dict], modalities: Sequence[str]) -> list[str]:
    """A sentence for each quantity that the method itself reports."""
    names = dict.fromkeys(name for step in steps for name in step["dominance"]["modality"])
    return [
        f"{name.capitalize()}, mean over the last quarter: {_listed(mean_of_modality(steps, name, modalities))}."
        for name in names
        if name not in (NORM, WITH_ALL, WITH_MERGED)
    ]


def mean_of_modality(steps: Sequence[dict], quantity: str, modalities: Sequence[str]) -> dict[str, float]:
    """Modality -> mean over the steps that have the quantity; without those of which none has."""
    values = {m: [step["dominance"]["modality"].get(quantity, {}).get(m) for step in steps] for m in modalities}
    there = {
        m: [value for value in column if value is not None] for m, column in values.items()
    }  # NaN was written as null
    return {m: fmean(column) for m, column in there.items() if column}


def _quarters(steps: Sequence[dict]) -> tuple[Sequence[dict], Sequence[dict]]:
    """The first and the last."""
    quarter = max(1, len(steps) // 4)
    return steps[:quarter], steps[-quarter:]


def _span(steps: Sequence[dict]) -> str:
    return f"steps {steps[0]['step']} to {steps[-1]['step']}"


def _listed(means: dict[str, float]) -> str:
    return ", ".join(f"{m} {value:.3g}" for m, value in means.items())
