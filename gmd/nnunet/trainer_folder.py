"""The folder in which nnU-Net finds our trainers, by its variable nnUNet_extTrainer."""

import os
from pathlib import Path

from gmd.errors import UserError
from gmd.files import real_path

VARIABLE = "nnUNet_extTrainer"  # folders, separated as in PATH
TRAINERS = Path(__file__).parent / "external"  # holds one file, since nnU-Net imports every file of the folder
PACKAGE = Path(__file__).parents[1]


def use_trainers() -> None:
    """Lets nnU-Net find our trainers in this process and its children, beside those that the user has named.

    Raises UserError as `check_folders`.
    """
    given = os.environ.get(VARIABLE, "")
    check_folders(given)
    ours = str(TRAINERS)
    if ours not in given.split(os.pathsep):
        os.environ[VARIABLE] = os.pathsep.join([ours, given] if given else [ours])


def check_folders(value: str) -> None:
    """Checks a value of nnUNet_extTrainer, of which nnU-Net leaves out without a word whatever is no folder.

    Raises UserError for a file, for a path where nothing is, and for a folder in which gmd itself lies: nnU-Net would
    import all that is in it, each module as one of its own.
    """
    for part in filter(str.strip, value.split(os.pathsep)):
        folder = Path(part)
        if folder.is_file():
            raise UserError(f"{VARIABLE}: {part} is a file, in which nnU-Net finds nothing; give a folder, {_ours()}")
        if not folder.is_dir():
            raise UserError(f"{VARIABLE}: there is no {part}, which nnU-Net does not tell; give a folder, {_ours()}")
        if real_path(folder) in real_path(TRAINERS).parents:
            what = "is gmd itself" if real_path(folder) == real_path(PACKAGE) else "holds more than trainers"
            raise UserError(f"{VARIABLE}: {part} {what}, and nnU-Net would import all of it; give {_ours()}")


def _ours() -> str:
    return f"that of `gmd nnunet path`: {TRAINERS}"
