"""Which cases train, which select the model, and which are only ever tested on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmd.data.cases import BRATS_MODALITIES, Case, find_cases
from gmd.errors import UserError

_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """Disjoint lists of cases, each sorted by name; `scheme`: what the file names imply, or None."""

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
    folders = [name for name in _NAMES if (root / name).is_dir()]
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
    _check_disjoint(splits)
    return splits


def patient_of(case: Case) -> str:
    """BraTS 2023 names end in the number of the examination (`BraTS-GLI-00012-001`); else the case's name."""
    match = re.search(r"(BraTS-\w+-\d+)-\d+$", case.name)
    return match[1] if match else case.name


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


def _from_folders(
    root: Path,
    folders: list[str],
    modalities: Sequence[str],
    patterns: dict[str, str] | None,
    seed: int,
    validation: float,
) -> Splits:
    found = {name: find_cases(root / name, modalities, patterns) for name in folders}
    cases = {name: cases for name, (cases, _) in found.items()}
    schemes = {scheme for _, scheme in found.values()}
    if len(schemes) > 1:
        raise UserError(f"{root}: two namings are mixed in {', '.join(folders)}; name all files in one way")
    if "validation" not in cases:
        patients = sorted({patient_of(case) for case in cases["train"]})
        if len(patients) < 2:
            raise UserError(f"{root / 'train'}: one patient cannot both train and validate; add cases to it")
        count = min(max(1, round(validation * len(patients))), len(patients) - 1)
        held_out = _shuffled(patients, seed)[:count]
        cases["validation"] = [case for case in cases["train"] if patient_of(case) in held_out]
        cases["train"] = [case for case in cases["train"] if patient_of(case) not in held_out]
    return Splits(cases["train"], cases["validation"], cases["test"], schemes.pop())


def _shuffled(patients: list[str], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(patients)


def _check_disjoint(splits: Splits) -> None:
    """By patient, and by file: a link can give the same examination another name."""
    owner: dict[str | Path, str] = {}
    for name in _NAMES:
        for case in getattr(splits, name):
            for key in (patient_of(case), *(path.resolve() for path in case.images.values())):
                other = owner.setdefault(key, name)
                if other != name:
                    raise UserError(f"{key} is in {other} and in {name} ({case.folder}); remove it from one")
