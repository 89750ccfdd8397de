"""Which cases train, validate and test in each run of a cross-validation."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from gmd.data.segmentation.cases import Case
from gmd.data.segmentation.data_sets import DataSet, Found, find_all
from gmd.data.segmentation.patients import check_disjoint, hold_out, patient_of, shuffled
from gmd.data.segmentation.splits import Splits
from gmd.errors import UserError


def fold_cases(
    data_sets: Sequence[DataSet], *, folds: int, fold: int, seed: int = 0, validation: float = 0.15
) -> Splits:
    """Splits the labelled cases of the data sets by patient, whatever their folders, for one run of a cross-validation.

    The patients, shuffled once by the seed, are cut into `folds` parts whose sizes differ by at most one. Part `fold`
    is the test split; validation is held out from the others at random, and the rest is trained on. So each patient
    is tested on in exactly one fold. The draw depends on the seed and on the patients' names only.

    folds, fold: how many parts, at least 2, and which of them is tested on, from 0
    validation: fraction of the patients outside the test split, at least one patient
    Raises UserError: as `find_all` and `all_cases`; fewer patients than folds; nobody left to train on; a file of two
        patients.
    Raises ValueError: `folds` below 2, or a `fold` that is none of them.
    """
    if folds < 2 or fold not in range(folds):
        raise ValueError(f"fold {fold} of {folds}: expected at least 2 folds, and one of 0 to {folds - 1}")
    found = find_all(data_sets)
    cases = all_cases(found)
    patients: dict[str, list[Case]] = {}
    for case in cases:
        patients.setdefault(patient_of(case), []).append(case)
    _check_enough(len(patients), folds, ", ".join(str(data_set.root) for data_set in data_sets))
    # under another patient's name a file would be tested on in one fold by a model that it trained
    check_disjoint(patients)
    tested = folds_of(patients, folds, seed)[fold]
    others = sorted(patients.keys() - tested)
    validated = hold_out(others, validation, [seed, fold])
    groups = (set(others).difference(validated), validated, tested)
    train, validate, test = ([case for case in cases if patient_of(case) in group] for group in groups)
    return Splits(train, validate, test, tuple(each.scheme for each in found))


def folds_of(patients: Iterable[str], folds: int, seed: int) -> list[list[str]]:
    """Draws `folds` parts of the patients, whose sizes differ by at most one, whatever the order they are given in."""
    return [part.tolist() for part in np.array_split(shuffled(sorted(patients), seed), folds)]


def all_cases(found: Sequence[Found]) -> list[Case]:
    """Returns the cases of all data sets and splits, sorted by name.

    Raises UserError if cases in two of the folders train, validation and test have one name.
    """
    named: dict[str, Case] = {}
    for case in chain.from_iterable(chain(*each.cases.values()) for each in found):
        if other := named.get(case.name):
            raise UserError(f"{case.folder} and {other.folder} are both called {case.name}; remove or rename one")
        named[case.name] = case
    return [named[name] for name in sorted(named)]


def _check_enough(patients: int, folds: int, where: str) -> None:
    """Raises UserError if a fold would have nobody to test on, to validate on or to train on. where: for messages"""
    if patients < folds:
        raise UserError(
            f"--folds: got {folds}, but {where} has {patients} patient(s), and each fold tests on one at least"
        )
    tested = -(-patients // folds)
    if patients - tested < 2:
        raise UserError(
            f"{where}: {patients} patients in {folds} folds are {tested} to test on in one of them, which leaves "
            f"{patients - tested}, but training and validation need one each; add cases, or give more --folds"
        )
