"""Which cases train, which select the model, and which are only ever tested on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmd.data import SPLITS
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.data_sets import WHOLE, DataSet, find_all, split_folders
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.patients import check_disjoint, hold_out, patient_of, shuffled
from gmd.errors import UserError


@dataclass(frozen=True)
class Splits:
    """The cases of each split, disjoint by patient and by file.

    Attributes:
        train, validation, test: the cases, sorted by name.
        schemes: what the label values mean, of each data set.
        notes: what a user should know of how they came about, in sentences without a full stop.
    """

    train: list[Case]
    validation: list[Case]
    test: list[Case]
    schemes: tuple[LabelScheme, ...]
    notes: tuple[str, ...] = ()


def split_cases(data_sets: Sequence[DataSet], seed: int = 0, validation: float = 0.15, test: float = 0.2) -> Splits:
    """Finds the labelled cases of the data sets and splits them by patient.

    Folders `train` and `test` (and `validation`) directly in a data set ARE its splits; without `validation` that part
    is held out from train at random, and the rest of train is trained on. The patients of data sets without such
    folders are split at random, all together. The draw depends on the seed and on the patients' names only. There are
    no test cases where there are folders `train` and `validation` but none for tests, and of two patients, of whom one
    trains and the other validates.

    validation, test: fractions of the patients, at least one patient each
    Raises UserError: as `find_all`; a single patient; fractions that leave nobody to train on; folders for splits,
        but none `train`, or it alone; a patient or a file in two splits.
    """
    if min(validation, test) <= 0 or validation + test >= 1:
        raise UserError(
            f"fractions {validation} (validation) and {test} (test): each must be above 0, their sum below 1"
        )
    for data_set in data_sets:
        _check_folders(data_set)
    found = find_all(data_sets)
    where = _listed(data_sets)
    parts = [each.cases for each in found if WHOLE not in each.cases]
    drawn = [case for each in found for case in each.cases.get(WHOLE, [])]
    if drawn:
        parts.append(_at_random(drawn, where, seed, validation, test))
    splits = _pooled(_all_validated(parts, where, seed, validation))
    check_disjoint(splits)
    schemes = tuple(each.scheme for each in found)
    return Splits(splits["train"], splits["validation"], splits["test"], schemes)


def _all_validated(
    parts: list[dict[str, list[Case]]], where: str, seed: int, validation: float
) -> list[dict[str, list[Case]]]:
    """Returns the splits of data sets, where those without validation have it held out from train, all together."""
    unvalidated = [part for part in parts if "validation" not in part]
    if not unvalidated:
        return parts
    pooled = _pooled(unvalidated)
    held_out = held_out_of(pooled["train"], where, seed, validation) | {"test": pooled["test"]}
    return [*(part for part in parts if "validation" in part), held_out]


def _pooled(parts: list[dict[str, list[Case]]]) -> dict[str, list[Case]]:
    """Returns all cases of each split, sorted by name. Not every part has each split."""
    pooled = {name: [case for part in parts for case in part.get(name, [])] for name in SPLITS}
    return {name: sorted(cases, key=lambda case: case.name) for name, cases in pooled.items()}


def _listed(data_sets: Sequence[DataSet]) -> str:
    """Returns the folders of the data sets, for messages."""
    return ", ".join(str(data_set.root) for data_set in data_sets)


def _check_folders(data_set: DataSet) -> None:
    """Raises UserError if a data set has folders for splits, but none to train on, or none for anything else."""
    folders, root = split_folders(data_set.root), data_set.root
    if folders and ("train" not in folders or len(folders) == 1):
        missing = "test" if "train" in folders else "train"
        raise UserError(
            f"{root}: has a folder {folders[0]} but none called {missing}; add it, "
            f"or give {root / folders[0]} to have the cases in there split at random"
        )


def _at_random(cases: list[Case], where: str, seed: int, validation: float, test: float) -> dict[str, list[Case]]:
    """Splits the cases, the patients being drawn. Raises UserError if there are too few of them. where: for messages"""
    patients = sorted({patient_of(case) for case in cases})
    if len(patients) < 2:
        raise UserError(
            f"{where}: one patient found ({patients[0]}), but training and validation need one each, and a test one "
            "more; add cases"
        )
    test_count, validation_count = (max(1, round(part * len(patients))) for part in (test, validation))
    if len(patients) == 2:
        test_count, validation_count = 0, 1
    drawn = shuffled(patients, seed)
    groups = np.split(drawn, [test_count, test_count + validation_count])
    tested, validated, trained = ([case for case in cases if patient_of(case) in group] for group in groups)
    if not trained:
        raise UserError(
            f"{where}: {test_count} patients for test and {validation_count} for validation leave none of "
            f"{len(patients)} to train on; hold out smaller fractions"
        )
    return {"train": trained, "validation": validated, "test": tested}


def held_out_of(cases: list[Case], where: str, seed: int, validation: float) -> dict[str, list[Case]]:
    """Splits cases that are to train into train and validation. Raises UserError for a single patient."""
    patients = sorted({patient_of(case) for case in cases})
    if len(patients) < 2:
        raise UserError(f"{where}: one patient in train cannot both train and validate; add cases to it")
    held_out = hold_out(patients, validation, seed)
    return {
        "train": [case for case in cases if patient_of(case) not in held_out],
        "validation": [case for case in cases if patient_of(case) in held_out],
    }
