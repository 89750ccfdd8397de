"""Which cases train, which select the model, and which are only ever tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmd.data.segmentation.cases import BRATS_MODALITIES, Case, find_cases
from gmd.data.segmentation.patients import check_disjoint, hold_out, patient_of, shuffled
from gmd.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """The cases of each split, disjoint by patient and by file.

    Attributes:
        train, validation, test: the cases, sorted by name.
        scheme: the label scheme that the file names imply; None where patterns name the files.
    """

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
    """Finds the labelled cases below `root` and splits them by patient.

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
    check_disjoint({name: getattr(splits, name) for name in SPLITS})
    return splits


def split_folders(root: str | Path) -> list[str]:
    """Returns the names of those of the folders train, validation and test that are directly below `root`."""
    return [name for name in SPLITS if (Path(root) / name).is_dir()]


def _at_random(
    root: Path,
    modalities: Sequence[str],
    patterns: dict[str, str] | None,
    seed: int,
    validation: float,
    test: float,
) -> Splits:
    """Splits all cases below `root`, the patients being drawn. Raises UserError if there are too few of them."""
    cases, scheme = find_cases(root, modalities, patterns)
    patients = sorted({patient_of(case) for case in cases})
    if len(patients) < 3:
        raise UserError(
            f"{root}: {len(patients)} patient(s) found ({', '.join(patients)}), "
            "but training, validation and test need one each; add cases"
        )
    test_count, validation_count = (max(1, round(part * len(patients))) for part in (test, validation))
    drawn = shuffled(patients, seed)
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
    """Splits the cases as their folders say; without a folder for it, validation is held out from train."""
    cases, scheme = cases_of_folders(root, folders, modalities, patterns)
    if "validation" not in cases:
        patients = sorted({patient_of(case) for case in cases["train"]})
        if len(patients) < 2:
            raise UserError(f"{root / 'train'}: one patient cannot both train and validate; add cases to it")
        held_out = hold_out(patients, validation, seed)
        cases["validation"] = [case for case in cases["train"] if patient_of(case) in held_out]
        cases["train"] = [case for case in cases["train"] if patient_of(case) not in held_out]
    return Splits(cases["train"], cases["validation"], cases["test"], scheme)


def cases_of_folders(
    root: Path, folders: list[str], modalities: Sequence[str], patterns: dict[str, str] | None
) -> tuple[dict[str, list[Case]], str | None]:
    """Returns the labelled cases of each of `folders` below `root`, and the label scheme implied by their naming.

    modalities, patterns: as in `find_cases`
    Raises UserError: as `find_cases`; folders whose namings imply different label schemes.
    """
    found = {name: find_cases(root / name, modalities, patterns) for name in folders}
    schemes = {scheme for _, scheme in found.values()}
    if len(schemes) > 1:
        raise UserError(f"{root}: two namings are mixed in {', '.join(folders)}; name all files in one way")
    return {name: cases for name, (cases, _) in found.items()}, schemes.pop()
