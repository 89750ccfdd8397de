"""Splits that lists of cases say, as those published with BraTS: for numbers that stand beside published ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.case_lists import listed_cases
from gmd.data.segmentation.cross_validation import all_cases
from gmd.data.segmentation.data_sets import DataSet, find_all
from gmd.data.segmentation.patients import check_disjoint, patient_of
from gmd.data.segmentation.splits import Splits, held_out_of


def splits_of_lists(
    data_sets: Sequence[DataSet], lists: Mapping[str, Path | None], seed: int = 0, validation: float = 0.15
) -> Splits:
    """Finds the labelled cases of the data sets, whatever their folders, and splits them as lists say.

    A case in no list is not used. Without a list for validation that part of the patients is held out from train, drawn
    by the seed; without one for tests there are no test cases. A patient may be in two lists, as published ones have
    them: that is told.

    lists: "train", "validation" and "test" -> the list, or None; one for train is there
    Raises UserError: as `find_all`, `all_cases` and `listed_cases`; a file of two cases in two lists; a single patient
        to train and to validate.
    """
    found = find_all(data_sets)
    cases = all_cases(found)
    where = ", ".join(str(data_set.root) for data_set in data_sets)
    given = {split: path for split, path in lists.items() if path is not None}
    options = {split: f"--{'val' if split == 'validation' else split}-list" for split in lists}
    of_lists = listed_cases({options[split]: path for split, path in given.items()}, cases, where)
    splits: dict[str, list[Case]] = {split: of_lists.get(option, []) for split, option in options.items()}
    unlisted = len(cases) - sum(map(len, splits.values()))
    if "validation" not in given:
        splits |= held_out_of(splits["train"], where, seed, validation)
    check_disjoint(splits, patients=False)
    notes = [f"{unlisted} of {len(cases)} cases of {where} are in no list, and not used"] if unlisted else []
    notes += _notes_on_patients(splits)
    schemes = tuple(each.scheme for each in found)
    return Splits(splits["train"], splits["validation"], splits["test"], schemes, tuple(notes))


def _notes_on_patients(splits: Mapping[str, Sequence[Case]]) -> list[str]:
    """Returns a note if a patient has examinations in several splits."""
    places: dict[str, list[str]] = {}
    for split, cases in splits.items():
        for patient in {patient_of(case) for case in cases}:
            places.setdefault(patient, []).append(split)
    several = {patient: those for patient, those in sorted(places.items()) if len(those) > 1}
    if not several:
        return []
    patient, those = next(iter(several.items()))
    count = f"{len(several)} patient{'s have' if len(several) > 1 else ' has'} examinations"
    return [f"{count} in several lists, as {patient} in {' and '.join(those)}: scores of known patients are too good"]
