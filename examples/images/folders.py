"""Pictures in folders: a folder for each class, or such trees for training, validation and test."""

import os
from pathlib import Path

import numpy as np

from examples.images.pictures import Pictures, PictureSet, hold_out_validation, split
from gmd.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
NO_CLASS = "BACKGROUND_Google"  # Caltech-101's folder of pictures of nothing in particular
CALTECH = "101_ObjectCategories"
TEST = 0.2  # of each class, where there is one tree for everything


def read_folders(folder: Path) -> PictureSet:
    """Reads CLASS/PICTURE as Caltech-101 has it, or train/CLASS/PICTURE with val and test beside it.

    Of one tree 20 % of each class are the test, drawn over the sorted names, so that every machine draws the same.
    Where there is no folder `val`, 10 % of what is left are for validation. With `train` and no `test`, nothing is
    tested. Folders and files whose names begin with a dot are not looked at, nor other files than pictures.
    Raises UserError: fewer than two classes, a class without pictures, one of val or test that train lacks.
    """
    folder = folder / CALTECH if (folder / CALTECH).is_dir() else folder
    if not (folder / "train").is_dir():
        classes, pictures = _tree(folder)
        rest, test = split(pictures, TEST, classes, stream=0)
        training, validation = hold_out_validation(rest, classes)
        return PictureSet(classes, training, validation, test, photographs=True)
    classes, training = _tree(folder / "train")
    if (folder / "val").is_dir():
        _, validation = _tree(folder / "val", classes)
    else:
        training, validation = hold_out_validation(training, classes)
    tested = _tree(folder / "test", classes)[1] if (folder / "test").is_dir() else None
    return PictureSet(classes, training, validation, tested, photographs=True)


def _tree(folder: Path, known: tuple[str, ...] = ()) -> tuple[tuple[str, ...], Pictures]:
    """Returns the names of the classes, `known` where given, and the pictures."""
    names = _class_folders(folder)
    classes, files, labels = known or tuple(names), [], []
    if len(classes) < 2 or not names:
        raise UserError(f"{folder}: got {len(names)} folders, expected one for each class, with its pictures in it")
    for name in names:
        if name not in classes:
            raise UserError(f"{folder / name}: a class of which there is no folder in train")
        found = sorted(entry.name for entry in os.scandir(folder / name) if _is_picture(entry.name))
        if not found:
            raise UserError(f"{folder / name}: holds no pictures; expected some ({' '.join(SUFFIXES)})")
        files += [folder / name / file for file in found]
        labels += [classes.index(name)] * len(found)
    return classes, Pictures(files, np.array(labels, np.int64))


def _class_folders(folder: Path) -> list[str]:
    names = [entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(name for name in names if name != NO_CLASS)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)
