"""Tells the patient of a case: splits are made by patient, as two examinations of one patient resemble each other."""

import os
import re

import numpy as np

from gmd.data.segmentation.case import Case
from gmd.errors import UserError

_PATIENT = re.compile(
    r"BraTS-(?:\w+-)+\d+(?=-\d+$)|brats_\w+_pat\d+(?=_\d+$)|Brats1[789]_\w+(?=_\d+$)"
    r"|(?<=[HL]G_)BraTS20_Training_\d+$",
    re.IGNORECASE,
)
_GRADE = re.compile(r"[HL]G_")  # before the names of BraTS 2020 and others in the .npy and lists of RFNet and mmFormer


def without_grade(name: str) -> str:
    """Returns the name of a case without `HG_` or `LG_` before it: high or low grade, which no original name says."""
    return _GRADE.sub("", name, count=1) if _GRADE.match(name) else name


def patient_of(case: Case) -> str:
    """Returns the patient of a case by BraTS's names of examinations; any other name is a patient of its own.

    BraTS 2023 and later: `BraTS-GLI-00012-001`, BraTS 2013 and 2015: `brats_2013_pat0001_1`, `brats_tcia_pat105_0002`:
    the last number is the examination, and a patient may have several. BraTS 2017-2019: `Brats18_TCIA01_131_1`, where
    it is always 1. BraTS 2020 and 2021 (`BraTS20_Training_001`, `BraTS2021_00001`): the only number is the patient.
    A prefix `HG_` or `LG_` before these makes no difference.
    """
    match = _PATIENT.search(case.name)
    return match[0] if match else case.name


def hold_out(patients: list[str], fraction: float, seed: int | list[int]) -> list[str]:
    """Draws a fraction of the patients: at least one, and not all. There have to be two or more."""
    count = min(max(1, round(fraction * len(patients))), len(patients) - 1)
    return shuffled(patients, seed)[:count].tolist()


def shuffled(patients: list[str], seed: int | list[int]) -> np.ndarray:
    """Returns the patients in an order that depends on the seed and on their order before, str [n]."""
    return np.random.default_rng(seed).permutation(patients)


def check_disjoint(groups: dict[str, list[Case]], patients: bool = True) -> None:
    """Raises UserError for a patient or a file in two groups: a link can give one examination two names.

    patients: whether a patient may not be in two
    """
    owner: dict[str, str] = {}
    for name, cases in groups.items():
        for case in cases:
            keys = [patient_of(case)] if patients else []
            for key in (*keys, *map(os.path.realpath, case.images.values())):
                other = owner.setdefault(key, name)
                if other != name:
                    raise UserError(f"{key} is in {other} and in {name} ({case.folder}); remove it from one")
