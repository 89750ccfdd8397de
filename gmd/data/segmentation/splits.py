"""Which cases train, which select the model, and which are only ever tested on."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from gmd.data.segmentation.cases import BRATS_MODALITIES, Case, find_cases
from gmd.errors import UserError

_NAMES = ("train", "validation", "test")

_PATIENT = re.compile(
    r"BraTS-\w+-\d+(?=-\d+$)|brats_\w+_pat\d+(?=_\d+$)|Brats1[789]_\w+(?=_\d+$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Splits:
    """Cases, disjoint by patient and by file, each list sorted by name; `scheme`: what file names imply, or None."""

    train: list[Case]
    validation: list[Case]
    test: list[Case]
    scheme: str | None


def split_cases(
    root: str | Path,
    modalities: Sequence[str] = BRATS_MODALITIES,
    patterns: dict[str, str] | None = None,
    seed: int = 0,
    validation: float = 0.15,
    test: float = 0.2,
) -> Splits:
    """The labelled cases below `root`, split by patient.

    Folders `train` and `test` (and `validation`) directly below `root` ARE the splits; without `validation`
    that part is held out from train at random, and the rest of train is trained on. Without such folders all
    patients are split at random. The draw depends on the seed and on the patients' names only.

    modalities, patterns: as in `find_cases`
    validation, test: fractions of the patients, at least one patient each
    Raises UserError: as `find_cases`; fewer than 3 patients; fractions that leave nobody to train on; one
        of the folders `train` and `test` without the other; a patient or a file in two splits.
    """
    if min(validation, test) <= 0 or validation + test >= 1:
        raise UserError(
            f"fractions {validation} (validation) and {test} (test): each must be above 0, their sum below 1"
        )
    root = Path(root)
    folders = split_folders(root)
    if not folders:
        splits = _at_random(root, modalities, patterns, seed, validation, test)
    elif "train" in folders and "test" in folders:
        splits = _from_folders(root, folders, modalities, patterns, seed, validation)
    else:
        missing = "test" if "train" in folders else "train"
        raise UserError(
            f"{root}: has a folder {folders[0]} but none called {missing}; add it, "
            f"or give {root / folders[0]} to have the cases in there split at random"
        )
    _check_disjoint({name: getattr(splits, name) for name in _NAMES})
    return splits


def fold_cases(
    root: str | Path,
    modalities: Sequence[str] = BRATS_MODALITIES,
    patterns: dict[str, str] | None = None,
    *,
    folds: int,
    fold: int,
    seed: int = 0,
    validation: float = 0.15,
) -> Splits:
    """The labelled cases of `all_cases` for one run of a cross-validation, split by patient.

    The patients, shuffled once by the seed, are cut into `folds` parts whose sizes differ by at most one. Part `fold`
    is the test split; validation is held out from the others at random, and the rest is trained on. So each patient
    is tested on in exactly one fold. The draw depends on the seed and on the patients' names only.

    folds, fold: how many parts, at least 2, and which of them is tested on, from 0
    validation: fraction of the patients outside the test split, at least one patient
    Raises UserError: as `all_cases`; fewer patients than folds; nobody left to train on; a file of two patients.
    Raises ValueError: `folds` below 2, or a `fold` that is none of them.
    """
    if folds < 2 or fold not in range(folds):
        raise ValueError(f"fold {fold} of {folds}: expected at least 2 folds, and one of 0 to {folds - 1}")
    cases, scheme = all_cases(root, modalities, patterns)
    patients: dict[str, list[Case]] = {}
    for case in cases:
        patients.setdefault(patient_of(case), []).append(case)
    _check_enough(len(patients), folds, root)
    # under another patient's name a file would be tested on in one fold by a model that it trained
    _check_disjoint(patients)
    tested = folds_of(patients, folds, seed)[fold]
    others = sorted(patients.keys() - tested)
    validated = _held_out(others, validation, [seed, fold])
    groups = (set(others).difference(validated), validated, tested)
    return Splits(*([case for case in cases if patient_of(case) in group] for group in groups), scheme)


def folds_of(patients: Iterable[str], folds: int, seed: int) -> list[list[str]]:
    """The patients in `folds` parts whose sizes differ by at most one, whatever the order in which they are given."""
    return [part.tolist() for part in np.array_split(_shuffled(sorted(patients), seed), folds)]


def all_cases(
    root: str | Path, modalities: Sequence[str] = BRATS_MODALITIES, patterns: dict[str, str] | None = None
) -> tuple[list[Case], str | None]:
    """The labelled cases below `root` whatever their split: those of its folders train, validation and test, if any.

    modalities, patterns: as in `find_cases`
    returns the cases, sorted by name, and the label scheme implied by their naming (None with patterns)
    Raises UserError: as `find_cases`; one name for cases in two of the folders.
    """
    root = Path(root)
    folders = split_folders(root)
    if not folders:
        return find_cases(root, modalities, patterns)
    found, scheme = _in_folders(root, folders, modalities, patterns)
    named: dict[str, Case] = {}
    for case in chain(*found.values()):
        if other := named.get(case.name):
            raise UserError(f"{case.folder} and {other.folder} are both called {case.name}; remove or rename one")
        named[case.name] = case
    return [named[name] for name in sorted(named)], scheme


def split_folders(root: str | Path) -> list[str]:
    """Which of the folders train, validation and test there are directly below `root`."""
    return [name for name in _NAMES if (Path(root) / name).is_dir()]


def patient_of(case: Case) -> str:
    """The patient, as BraTS names the examinations; with other names each case counts as a patient of its own.

    BraTS 2023 and later: `BraTS-GLI-00012-001`, BraTS 2013 and 2015: `brats_2013_pat0001_1`, `brats_tcia_pat105_0002`:
    the last number is the examination, and a patient may have several. BraTS 2017-2019: `Brats18_TCIA01_131_1`, where
    it is always 1. BraTS 2020 and 2021 (`BraTS20_Training_001`, `BraTS2021_00001`): the only number is the patient.
    """
    match = _PATIENT.search(case.name)
    return match[0] if match else case.name


def _at_random(
    root: Path,
    modalities: Sequence[str],
    patterns: dict[str, str] | None,
    seed: int,
    validation: float,
    test: float,
) -> Splits:
    cases, scheme = find_cases(root, modalities, patterns)
    patients = sorted({patient_of(case) for case in cases})
    if len(patients) < 3:
        raise UserError(
            f"{root}: {len(patients)} patient(s) found ({', '.join(patients)}), "
            "but training, validation and test need one each; add cases"
        )
    test_count, validation_count = (max(1, round(part * len(patients))) for part in (test, validation))
    drawn = _shuffled(patients, seed)
    groups = np.split(drawn, [test_count, test_count + validation_count])
    tested, validated, trained = ([case for case in cases if patient_of(case) in group] for group in groups)
    if not trained:
        raise UserError(
            f"{root}: {test_count} patients for test and {validation_count} for validation leave none of "
            f"{len(patients)} to train on; hold out smaller fractions"
        )
    return Splits(trained, validated, tested, scheme)


def _check_enough(patients: int, folds: int, root: str | Path) -> None:
    if patients < folds:
        raise UserError(
            f"--folds: got {folds}, but {root} has {patients} patient(s), and each fold tests on one at least"
        )
    tested = -(-patients // folds)
    if patients - tested < 2:
        raise UserError(
            f"{root}: {patients} patients in {folds} folds are {tested} to test on in one of them, which leaves "
            f"{patients - tested}, but training and validation need one each; add cases, or give more --folds"
        )


def _from_folders(
    root: Path,
    folders: list[str],
    modalities: Sequence[str],
    patterns: dict[str, str] | None,
    seed: int,
    validation: float,
) -> Splits:
    cases, scheme = _in_folders(root, folders, modalities, patterns)
    if "validation" not in cases:
        patients = sorted({patient_of(case) for case in cases["train"]})
        if len(patients) < 2:
            raise UserError(f"{root / 'train'}: one patient cannot both train and validate; add cases to it")
        held_out = _held_out(patients, validation, seed)
        cases["validation"] = [case for case in cases["train"] if patient_of(case) in held_out]
        cases["train"] = [case for case in cases["train"] if patient_of(case) not in held_out]
    return Splits(cases["train"], cases["validation"], cases["test"], scheme)


def _in_folders(
    root: Path, folders: list[str], modalities: Sequence[str], patterns: dict[str, str] | None
) -> tuple[dict[str, list[Case]], str | None]:
    found = {name: find_cases(root / name, modalities, patterns) for name in folders}
    schemes = {scheme for _, scheme in found.values()}
    if len(schemes) > 1:
        raise UserError(f"{root}: two namings are mixed in {', '.join(folders)}; name all files in one way")
    return {name: cases for name, (cases, _) in found.items()}, schemes.pop()


def _held_out(patients: list[str], fraction: float, seed: int | list[int]) -> list[str]:
    """At least one of the patients, of whom there are at least two, and not all."""
    count = min(max(1, round(fraction * len(patients))), len(patients) - 1)
    return _shuffled(patients, seed)[:count].tolist()


def _shuffled(patients: list[str], seed: int | list[int]) -> np.ndarray:
    return np.random.default_rng(seed).permutation(patients)


def _check_disjoint(groups: dict[str, list[Case]]) -> None:
    """By patient, and by file: a link can give the same examination another name."""
    owner: dict[str | Path, str] = {}
    for name, cases in groups.items():
        for case in cases:
            for key in (patient_of(case), *(path.resolve() for path in case.images.values())):
                other = owner.setdefault(key, name)
                if other != name:
                    raise UserError(f"{key} is in {other} and in {name} ({case.folder}); remove it from one")
