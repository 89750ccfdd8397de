"""The numbers of a comparison: runs against a baseline, paired over what all of them have scored."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gmd.errors import UserError
from gmd.evaluation.compare.paired import Difference, paired_difference
from gmd.evaluation.compare.run_scores import Column, Item, Scored
from gmd.subsets import Subset, all_subsets, subset_name


class Line(NamedTuple):
    """One run against the baseline, on one subset of the modalities; None: on the mean over an item's subsets."""

    run: str
    subset: Subset | None
    column: Column
    difference: Difference


class Comparison(NamedTuple):
    """Of the runs `names`, the first of which is the baseline. `subsets`: those that are compared, in order."""

    names: list[str]
    modalities: tuple[str, ...]
    columns: list[Column]
    words: tuple[str, str]
    subsets: list[Subset]
    lines: list[Line]
    notes: list[str]
    seed: int


def compare_scored(names: list[str], scored: list[Scored], seed: int) -> Comparison:
    """The second and each further run against the first. Raises UserError if they have nothing in common."""
    scored = [_in_order(run, scored[0].modalities) for run in scored]
    first = scored[0]
    _check_alike(names, scored)
    items = [item for item in first.values if all(item in other.values for other in scored)]
    common = {item: [s for s in first.values[item] if all(s in o.values[item] for o in scored)] for item in items}
    common = {item: subsets for item, subsets in common.items() if subsets}
    if not common:
        raise UserError(f"{' and '.join(names)} have no {first.words[0]} in common; evaluate them on the same data")
    subsets = [subset for subset in all_subsets(first.modalities) if any(subset in has for has in common.values())]
    lines = []
    bar = tqdm([(k, subset) for k in range(1, len(names)) for subset in (*subsets, None)], desc="bootstrap")
    for k, subset in bar:
        there = [item for item, has in common.items() if subset is None or subset in has]
        base, other = (
            np.array([_values(run, item, common[item] if subset is None else [subset]) for item in there])
            for run in (first, scored[k])
        )
        units = [first.units[item] for item in there]
        for c, column in enumerate(first.columns):
            difference = paired_difference(base[:, c], other[:, c], units, seed)
            lines.append(Line(names[k], subset, column, difference))
    notes = [*_left_out(names, scored, common), *_elsewhere(names, scored, common), *_few(lines, first.words[1])]
    return Comparison(names, first.modalities, first.columns, first.words, subsets, lines, notes, seed)


def _in_order(run: Scored, modalities: Sequence[str]) -> Scored:
    """With its subsets written as the baseline's: the order of --modalities means nothing."""
    place = {modality: number for number, modality in enumerate(modalities)}

    def written(subset: Subset) -> Subset:
        return tuple(sorted(subset, key=lambda modality: place.get(modality, len(place))))

    values = {item: {written(subset): told[subset] for subset in told} for item, told in run.values.items()}
    return replace(run, values=values)


def _values(scored: Scored, item: Item, subsets: list[Subset]) -> np.ndarray:
    """[columns], the mean over the subsets"""
    return np.mean([scored.values[item][subset] for subset in subsets], axis=0)


def _check_alike(names: list[str], scored: list[Scored]) -> None:
    first = scored[0]
    for name, other in zip(names[1:], scored[1:], strict=True):
        if other.columns != first.columns:
            ours, theirs = (", ".join(" ".join(c).strip() for c in s.columns) for s in (first, other))
            raise UserError(f"{names[0]} and {name} cannot be compared: one has {ours}, the other {theirs}")
        differing = [item for item, truth in first.truths.items() if other.truths.get(item, truth) != truth]
        if differing:
            raise UserError(
                f"{names[0]} and {name} were scored on other data: the targets of {len(differing)} {first.words[0]}s "
                f"differ, as of {' '.join(differing[0])}; evaluate both on the same"
            )


def _left_out(names: list[str], scored: list[Scored], common: dict[Item, list[Subset]]) -> list[str]:
    notes = []
    compared = {subset for subsets in common.values() for subset in subsets}
    for name, run in zip(names, scored, strict=True):
        if lost := {subset for subsets in run.values.values() for subset in subsets} - compared:
            notes.append(
                f"{len(lost)} of {name}'s subsets left out, which not every run has: {_shown(map(subset_name, lost))}"
            )
        if only := [" ".join(item) for item in run.values if item not in common]:
            word = scored[0].words[0] + "s" * (len(only) > 1)
            notes.append(f"{len(only)} {word} of {name} left out, which not every run has scored: {_shown(only)}")
    return notes


def _elsewhere(names: list[str], scored: list[Scored], common: Iterable[Item]) -> list[str]:
    """Cases are paired by their names, which two data sets may share. Not an error: data sets are moved, too."""
    notes = []
    for name, run in zip(names[1:], scored[1:], strict=True):
        places = {item: (scored[0].folders.get(item), run.folders.get(item)) for item in common}
        if other := [places[item] for item in places if None not in places[item] and len(set(places[item])) > 1]:
            notes.append(
                f"paired by name alone: {len(other)} case{'s' * (len(other) > 1)} of {names[0]} and {name} in other "
                f"folders, as {other[0][0]} and {other[0][1]}; the comparison holds only if the images are the same"
            )
    return notes


def _shown(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)


def _few(lines: list[Line], word: str) -> list[str]:
    fewest = min(line.difference.units for line in lines)
    if fewest == 1:
        return [f"of a single {word} there is no interval, and one of fewer than 5 means little"]
    return [f"an interval from fewer than 5 {word}s means little; some here are from {fewest}"] if fewest < 5 else []
