"""`python -m examples.brats_folds`: the five folds of BraTS 2018 of ACN and GMD, as lists of cases."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from gmd.errors import UserError, shown
from gmd.files import replacing
from gmd.output_paths import check_folder
from gmd.printing import say

FOLDS = 5
SEED = 0  # of the published shuffle
PUBLISHED = 285  # cases of BraTS 2018 that have label maps
_NAME = re.compile(r"Brats18_\w+")


@dataclass(frozen=True)
class Options:
    """Write the five folds of BraTS 2018 that ACN (Wang et al., MICCAI 2021) drew and GMD used, as lists of cases.

    Fold k is OUT/train<k>.txt and OUT/test<k>.txt, for gmd train brats --train-list --test-list. The shuffle is the
    published one, over sorted names; published over the order in which a file system lists folders, which nobody can
    repeat. So figures are comparable up to the draw.

    Example: python -m examples.brats_folds --data MICCAI_BraTS_2018_Data_Training --out folds
    """

    data: Path
    """The folder of BraTS 2018 with HGG and LGG in it, which hold a folder for each case."""
    out: Path
    """Folder for the lists; none of them may be there already."""


def folds(names: Sequence[str]) -> list[list[str]]:
    """Returns the cases that each of the five folds tests.

    names: of all cases, in order; as many as five folds of one size have
    """
    order = np.arange(len(names))
    np.random.RandomState(SEED).shuffle(order)  # the generator of the published code, whose draws numpy keeps
    return [[names[index] for index in fold] for fold in np.split(order, FOLDS)]


def case_names(folder: Path) -> list[str]:
    """Returns the names of the cases in HGG and LGG, high grades first, each sorted.

    Raises UserError if there are none, or a number that five folds of one size do not divide.
    """
    names = [
        path.name
        for grade in sorted(folder.glob("*GG"))
        for path in sorted(grade.glob("Brats18*"))
        if path.is_dir() and _NAME.fullmatch(path.name)
    ]
    if not names:
        raise UserError(f"--data: {folder}: holds no case as HGG/Brats18_...; expected the folder of BraTS 2018's")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"--data: {folder}: {shown(min(twice), 80)} is a case of both grades; expected it once")
    if len(names) % FOLDS:
        raise UserError(
            f"--data: {folder}: holds {len(names)} cases, which five folds of one size do not divide; BraTS 2018 has "
            f"{PUBLISHED} to train with: is the folder half there?"
        )
    return names


def write(options: Options) -> None:
    """Writes the lists. Raises UserError for data or a folder that cannot be, before anything is written."""
    names = case_names(options.data)
    check_folder(options.out, "--out")
    lists = {}
    for fold, tested in enumerate(folds(names)):
        lists[options.out / f"train{fold}.txt"] = [name for name in names if name not in tested]
        lists[options.out / f"test{fold}.txt"] = sorted(tested)
    for path in lists:
        if path.exists():
            raise UserError(f"--out: {path}: is there already; give another folder")
    for path, listed in lists.items():
        with replacing(path) as unfinished:
            unfinished.write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")
    if len(names) != PUBLISHED:
        say(f"{len(names)} cases, BraTS 2018 has {PUBLISHED}: these are not the published folds")
    say(f"{options.out}: five folds, each of {len(names) // FOLDS} cases to test and the others to train")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the lists, and returns the exit status. What the user can mend is one line on stderr, and status 2.

    arguments: the words behind the name of the program; by default those of this process
    """
    options = tyro.cli(Options, prog="python -m examples.brats_folds", args=arguments)
    try:
        write(options)
    except (UserError, OSError) as error:
        say(f"error: {error}", error=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
