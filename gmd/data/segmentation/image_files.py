"""The files at and below a folder, by the names that a data set knows them by."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ENDINGS = (".nii.gz", ".nii")

Folder = tuple[Path, list[str]]  # a folder and the names of the files in it


class ImageFile(NamedTuple):
    """A file and what its place says of it.

    Attributes:
        path: of the file itself.
        folders: the names of the folders between the root and it.
        name: its own; or that of its folder, if that is called like an image and holds no other image: some archives
            unpack `a_flair.nii` as a folder of that name.
    """

    path: Path
    folders: tuple[str, ...]
    name: str


def files_below(root: Path) -> list[ImageFile]:
    """Returns all files at and below `root`, sorted by their folders."""
    found = []
    for folder, names in walk_folders(root):
        folders = folder.relative_to(root).parts
        images = [name for name in names if is_image(name)]
        if folders and is_image(folders[-1]) and len(images) == 1:
            found.append(ImageFile(folder / images[0], folders[:-1], folders[-1]))
        else:
            found += [ImageFile(folder / name, folders, name) for name in names]
    return found


def walk_folders(root: Path) -> Iterator[Folder]:
    """Yields all folders from `root` down with the names of their files, through links too, without hidden ones.

    Hidden files are left out because macOS keeps a twin called `._name` beside each file.
    """
    seen = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link, perhaps to a folder above: not in circles
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(folder), sorted(name for name in files if not name.startswith("."))


def is_image(name: str) -> bool:
    """Returns whether a file's name is that of a NIfTI image."""
    return name.lower().endswith(ENDINGS)


def stem(name: str) -> str:
    """Returns a file's name without .nii.gz or .nii; dots before that belong to the name."""
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
