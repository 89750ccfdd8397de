"""The numbers of a comparison: runs against a baseline, paired over what all of them have scored."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gmd.data.segmentation.own_labels import read_scheme
from gmd.errors import UserError
from gmd.evaluation.compare.contributions import ContributionRow, contribution_rows
from gmd.evaluation.compare.paired import Difference, labelled_difference
from gmd.evaluation.compare.run_scores import Column, Item, RunScores
from gmd.evaluation.segmentation.listed_cases import ListedCase
from gmd.names import POST_PROCESSED
from gmd.subsets import Subset, all_subsets, subset_name

CommonItems = dict[Item, list[Subset]]  # what every run has scored: item -> the subsets that each has for it


class ComparisonRow(NamedTuple):
    """The difference between one run and the baseline in one column.

    Attributes:
        run: the name of the run.
        subset: the subset of the modalities; None stands for the mean over the subsets, taken within each item.
        column: the metric and the region.
        difference: the run minus the baseline, with its interval.
    """

    run: str
    subset: Subset | None
    column: Column
    difference: Difference


class Comparison(NamedTuple):
    """All differences between some runs and a baseline.

    Attributes:
        names: of the runs; the first is the baseline.
        modalities: those of the baseline, in its order.
        columns: the metric and region of each difference.
        item_noun, unit_noun: what an item and what a resampled unit is called, as in `RunScores`.
        subsets: those that are compared, small ones first.
        rows: the differences: run by run, in a run subset by subset, the mean over the subsets last.
        notes: what a reader must know to read them, in sentences without a full stop.
        seed: of the bootstrap.
        contributions: the differences in what each modality adds, run by run.
    """

    names: list[str]
    modalities: tuple[str, ...]
    columns: list[Column]
    item_noun: str
    unit_noun: str
    subsets: list[Subset]
    rows: list[ComparisonRow]
    notes: list[str]
    seed: int
    contributions: Sequence[ContributionRow] = ()


def compare_scores(names: list[str], scores: list[RunScores], seed: int) -> Comparison:
    """Compares the second and each further run with the first.

    names: what the runs are called; scores: their scores, in the same order
    Raises UserError if the runs have different metrics or targets, or no item in common.
    """
    scores, notes_on_columns = _with_common_columns(scores)
    scores = [_in_order(run, scores[0].modalities, scores[0].columns) for run in scores]
    first = scores[0]
    _check_comparable(names, scores)
    common = _common_items(names, scores)
    compared = {subset for subsets in common.values() for subset in subsets}
    subsets = [subset for subset in all_subsets(first.modalities) if subset in compared]
    rows = []
    pairs = [
        (name, run, subset) for name, run in zip(names[1:], scores[1:], strict=True) for subset in (*subsets, None)
    ]
    for name, run, subset in tqdm(pairs, desc="bootstrap"):
        rows += _compare_subset(name, first, run, subset, common, seed)
    notes = [
        *_notes_on_left_out(names, scores, common),
        *_notes_on_other_images(names, scores, common),
        *notes_on_columns,
        *_notes_on_older_scores(names, scores),
        *_notes_on_few_units(rows, first.unit_noun),
    ]
    nouns = first.item_noun, first.unit_noun
    added = contribution_rows(names, scores, common, seed)
    return Comparison(names, first.modalities, first.columns, *nouns, subsets, rows, notes, seed, added)


def _with_common_columns(scores: list[RunScores]) -> tuple[list[RunScores], list[str]]:
    """Returns the scores without ET after post-processing unless all runs have it; and a note if it was left out."""
    have = [any(region == POST_PROCESSED for _, region in run.columns) for run in scores]
    if all(have) or not any(have):
        return scores, []
    note = f"{POST_PROCESSED} left out, which an earlier gmd has not scored; evaluate the runs again to have it"
    return [_without_post_processed(run) for run in scores], [note]


def _without_post_processed(run: RunScores) -> RunScores:
    places = [place for place, (_, region) in enumerate(run.columns) if region != POST_PROCESSED]
    values = {
        item: {subset: [numbers[p] for p in places] for subset, numbers in of.items()}
        for item, of in run.values.items()
    }
    return replace(run, values=values, columns=[run.columns[p] for p in places])


def _in_order(run: RunScores, modalities: Sequence[str], columns: list[Column]) -> RunScores:
    """Writes the run's subsets in the order of the baseline's modalities, and its columns in that of the baseline's.

    The orders of --modalities and of regions mean nothing. Columns that are others stay as they are.
    """
    place = {modality: number for number, modality in enumerate(modalities)}

    def in_order(subset: Subset) -> Subset:
        return tuple(sorted(subset, key=lambda modality: place.get(modality, len(place))))

    same = sorted(run.columns) == sorted(columns)
    places = [run.columns.index(column) for column in columns] if same else list(range(len(run.columns)))
    values = {
        item: {in_order(subset): [numbers[p] for p in places] for subset, numbers in of.items()}
        for item, of in run.values.items()
    }
    return replace(run, values=values, columns=[run.columns[p] for p in places])


def _check_comparable(names: list[str], scores: list[RunScores]) -> None:
    """Raises UserError unless all runs have the columns of the first, and the same target for each common item."""
    first = scores[0]
    for name, other in zip(names[1:], scores[1:], strict=True):
        if other.columns != first.columns:
            ours, theirs = (", ".join(" ".join(c).strip() for c in run.columns) for run in (first, other))
            raise UserError(f"{names[0]} and {name} cannot be compared: one has {ours}, the other {theirs}")
        differing = [item for item, target in first.targets.items() if other.targets.get(item, target) != target]
        if differing:
            raise UserError(
                f"{names[0]} and {name} were scored on other data: the targets of {len(differing)} {first.item_noun}s "
                f"differ, as of {' '.join(differing[0])}; evaluate both on the same"
            )


def _common_items(names: list[str], scores: list[RunScores]) -> CommonItems:
    """Returns the items that all runs have scored, each with its common subsets. Raises UserError if there are none."""
    first, *others = scores
    common = {}
    for item, values in first.values.items():
        subsets = [subset for subset in values if all(subset in run.values.get(item, ()) for run in others)]
        if subsets:
            common[item] = subsets
    if not common:
        raise UserError(f"{' and '.join(names)} have no {first.item_noun} in common; evaluate them on the same data")
    return common


def _compare_subset(
    name: str, first: RunScores, run: RunScores, subset: Subset | None, common: CommonItems, seed: int
) -> list[ComparisonRow]:
    """Compares one run with the baseline on one subset, or on the mean over each item's subsets: a row a column."""
    items = [item for item, subsets in common.items() if subset is None or subset in subsets]
    chosen = [common[item] if subset is None else [subset] for item in items]
    base, other = (
        np.array([_mean_values(scores, item, subsets) for item, subsets in zip(items, chosen, strict=True)])
        for scores in (first, run)
    )
    units = [first.units[item] for item in items]
    return [
        ComparisonRow(name, subset, column, labelled_difference(base[:, c], other[:, c], units, seed))
        for c, column in enumerate(first.columns)
    ]


def _mean_values(scores: RunScores, item: Item, subsets: list[Subset]) -> np.ndarray:
    """Returns the item's numbers, [columns] float64, each the mean over the subsets."""
    return np.mean([scores.values[item][subset] for subset in subsets], axis=0)


def _notes_on_left_out(names: list[str], scores: list[RunScores], common: CommonItems) -> list[str]:
    """Returns a note for each run that has scored subsets or items which some other run has not."""
    notes = []
    compared = {subset for subsets in common.values() for subset in subsets}
    for name, run in zip(names, scores, strict=True):
        if lost := {subset for subsets in run.values.values() for subset in subsets} - compared:
            notes.append(
                f"{len(lost)} of {name}'s subsets left out, which not every run has: "
                f"{_first_few(map(subset_name, lost))}"
            )
        if only := [" ".join(item) for item in run.values if item not in common]:
            noun = run.item_noun + "s" * (len(only) > 1)
            notes.append(f"{len(only)} {noun} of {name} left out, which not every run has scored: {_first_few(only)}")
    return notes


def _notes_on_other_images(names: list[str], scores: list[RunScores], common: Iterable[Item]) -> list[str]:
    """Returns a note for each run whose cases are not, or not surely, the baseline's cases of the same names.

    Cases are paired by their names, which two data sets may share. Where both runs have checksums these tell; else the
    folders do, which is no error: data sets are moved, too.
    """
    notes = []
    for name, run in zip(names[1:], scores[1:], strict=True):
        both = [item for item in common if item in scores[0].listed and item in run.listed]
        pairs = [(scores[0].listed[item], run.listed[item]) for item in both]
        notes += _notes_on_pairs(f"{names[0]} and {name}", pairs)
    return notes


def _notes_on_pairs(runs: str, pairs: list[tuple[ListedCase, ListedCase]]) -> list[str]:
    """Returns the notes on two runs' cases of the same names. runs: their names, in words"""
    told = [pair for pair in pairs if pair[0].checksums and pair[1].checksums]
    others = [ours.name for ours, theirs in told if not ours.images() & theirs.images()]
    moved = [pair for pair in pairs if pair not in told and pair[0].folder != pair[1].folder]
    notes = _notes_on_meanings(runs, pairs)
    if others:
        count = f"{len(others)} case{'s' * (len(others) > 1)} of {runs}"
        notes.append(f"{count} share the name but not the images ({_first_few(others)}): the comparison does not hold")
    if moved:
        count = f"{len(moved)} case{'s' * (len(moved) > 1)} of {runs}"
        notes.append(
            f"paired by name alone: {count} in other folders, as {moved[0][0].folder} and {moved[0][1].folder}; "
            "the comparison holds only if the images are the same"
        )
    return notes


def _notes_on_meanings(runs: str, pairs: list[tuple[ListedCase, ListedCase]]) -> list[str]:
    """Returns a note if the regions of one label map are made of other values in one run than in the other.

    runs: their names, in words
    """
    others = [
        ours.name
        for ours, theirs in pairs
        if ours.checksums.get("seg") == theirs.checksums.get("seg") and _other_regions(ours, theirs)
    ]
    if not others:
        return []
    return [
        f"{len(others)} case{'s' * (len(others) > 1)} of {runs} had other --labels in each ({_first_few(others)}), so "
        "that the regions are not the same: the comparison does not hold"
    ]


def _other_regions(ours: ListedCase, theirs: ListedCase) -> bool:
    """Returns whether two runs make the regions of a case of other label values, as far as they say it."""
    if not ours.labels or not theirs.labels or ours.labels == theirs.labels:
        return False
    one, other = (
        {region: set(values) for region, values in read_scheme(labels).regions.items()}
        for labels in (ours.labels, theirs.labels)
    )
    return one != other


def _notes_on_older_scores(names: list[str], scores: list[RunScores]) -> list[str]:
    """Returns a note for each run that an earlier gmd has evaluated, on something else than label maps."""
    return [
        f"an earlier gmd scored the network's channels of {name}, which may differ from its label maps, as they are "
        "scored now; evaluate it again"
        for name, run in zip(names, scores, strict=True)
        if run.of_channels
    ]


def _notes_on_few_units(rows: list[ComparisonRow], unit_noun: str) -> list[str]:
    """Returns a note if some interval comes from fewer than 5 units."""
    fewest = min(row.difference.units for row in rows)
    if fewest == 1:
        return [f"of a single {unit_noun} there is no interval, and one of fewer than 5 means little"]
    if fewest < 5:
        return [f"an interval from fewer than 5 {unit_noun}s means little; some here are from {fewest}"]
    return []


def _first_few(names: Iterable[str]) -> str:
    """Returns the first five names in alphabetical order, with dots if there are more."""
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + ", ..." * (len(ordered) > 5)
