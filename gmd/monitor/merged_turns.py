"""The reports of several batches that make one step of the optimizer, as one report."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gmd.monitor.records import Turn
from gmd.subsets import Subset
from gmd.surgery import Report


class Places(NamedTuple):
    """Where the entries of each turn's report stand in that of all turns.

    Attributes:
        subsets: of all turns, in the order in which they come.
        present: the modalities that occur in them, in the network's order.
        rows: for each turn, the places of its subsets.
        columns: for each turn, the places of its modalities.
    """

    subsets: list[Subset]
    present: list[str]
    rows: list[list[int]]
    columns: list[list[int]]

    @classmethod
    def of(cls, turns: Sequence[Turn], modalities: Sequence[str]) -> "Places":
        """Returns the places of some turns. modalities: all that the network has"""
        subsets = list(dict.fromkeys(subset for turn in turns for subset in turn.subsets))
        present = _present(modalities, subsets)
        rows = [[subsets.index(subset) for subset in turn.subsets] for turn in turns]
        columns = [[present.index(m) for m in _present(modalities, turn.subsets)] for turn in turns]
        return cls(subsets, present, rows, columns)


def merged(turns: Sequence[Turn], weights: Sequence[float], modalities: Sequence[str]) -> Turn:
    """Returns the turns of several batches as one: what their reports say, on the average.

    A loss, or a value of a modality, is the mean over the batches that have it. Gramians are averaged too: cosines and
    conflicts are those of the mean Gramian. Of directions, and what they discard, the most counts.

    turns: at least one, with reports on the host
    weights: of the batches
    modalities: all that the network has
    """
    places, reports = Places.of(turns, modalities), [turn.report for turn in turns]
    one = all(report.grams.shape[-1] == 1 for report in reports)  # gradient, that of the mean of several losses
    gradients, size = ([[0]] * len(turns), 1) if one else (places.rows, len(places.subsets))
    report = replace(
        reports[-1],
        losses=_mean([report.losses for report in reports], places.rows, len(places.subsets), weights),
        grams=_mean([report.grams for report in reports], gradients, size, weights, square=True),
        weights=_mean([report.weights for report in reports], gradients, size, weights),
        modality={
            name: _mean([report.modality[name] for report in reports], places.columns, len(places.present), weights)
            for name in reports[0].modality
        },
        squared_norm=None,
        refreshed=any(report.refreshed for report in reports),
        **_compression(reports, places),
    )
    skipped = [turn.searching for turn in turns if not turn.report.finite]
    return Turn(places.subsets, report, bool(skipped) and all(skipped))


def _compression(reports: Sequence[Report], places: Places) -> dict[str, Any]:
    """Returns the most directions of each modality, and the largest share that these have discarded."""
    most, discarded = [0] * len(places.present), torch.zeros(len(places.present), dtype=torch.float64)
    whole = True
    for report, columns in zip(reports, places.columns, strict=True):
        whole = whole and report.discarded is not None
        for m, place in enumerate(columns):
            most[place] = max(most[place], 0 if report.directions is None else report.directions[m])
            if report.discarded is not None:
                discarded[place] = torch.maximum(discarded[place], report.discarded[m])
    return {"directions": tuple(most) if any(most) else None, "discarded": discarded if whole else None}


def _mean(
    values: Sequence[Tensor], places: Sequence[list[int]], size: int, weights: Sequence[float], square: bool = False
) -> Tensor:
    """Returns the mean, entry by entry, of tensors that each have some of the entries of the last dimension.

    values: [..., n_i]; places: where the n_i entries of each stand among `size`
    square: whether that holds for the last two dimensions, [..., n_i, n_i]
    """
    lead = values[0].shape[: -2 if square else -1]
    total = values[0].new_zeros([*lead, size, size] if square else [*lead, size])
    known = torch.zeros_like(total)
    for value, place, weight in zip(values, places, weights, strict=True):
        to = torch.tensor(place)
        index = (..., to[:, None], to) if square else (..., to)
        total[index] += weight * value
        known[index] += weight
    return total / known.clamp_min(torch.finfo(known.dtype).tiny)


def _present(modalities: Sequence[str], subsets: Sequence[Subset]) -> list[str]:
    """Returns the modalities that occur in some subset, in the order of all."""
    return [m for m in modalities if any(m in subset for subset in subsets)]
