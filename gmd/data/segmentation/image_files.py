"""The files at and below a folder, by the names that a data set knows them by."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ENDINGS = (".nii.gz", ".nii")
OF_NUMPY = ".npy"
OF_THE_FILE_SYSTEM = "lost+found"  # a folder at the top of a disk that only the administrator may look into

Folder = tuple[Path, list[str]]  # a folder and the names of the files in it


class ImageFile(NamedTuple):
    """A file and what its place says of it.

    Attributes:
        path: of the file itself; or of a pipe, a device or a folder that is called like an image, and is none.
        folders: the names of the folders between the root and it.
        name: its own; or that of its folder, if that is called like an image and holds no other image: some archives
            unpack `a_flair.nii` as a folder of that name.
    """

    path: Path
    folders: tuple[str, ...]
    name: str


def is_npy(path: Path) -> bool:
    """Returns whether a file is called as numpy's arrays are."""
    return path.name.lower().endswith(OF_NUMPY)


class Found(NamedTuple):
    """What there is at and below a folder.

    Attributes:
        files: sorted by their folders.
        closed: folder that cannot be looked into -> why.
    """

    files: list[ImageFile]
    closed: dict[Path, str]


def files_below(root: Path) -> Found:
    """Returns all files at and below `root`, and which folders cannot be looked into."""
    found: list[ImageFile] = []
    closed: dict[Path, str] = {}
    for folder, names in walk_folders(root, closed.update):
        folders = folder.relative_to(root).parts
        images = [name for name in names if is_image(name)]
        if folders and is_image(folders[-1]) and len(images) <= 1:
            # one that holds no image is told where it is read, not taken for a modality that the case lacks
            path = folder / images[0] if images else folder
            found.append(ImageFile(path, folders[:-1], folders[-1]))
        else:
            found += [ImageFile(folder / name, folders, name) for name in names]
    return Found(found, closed)


def walk_folders(root: Path, tell: Callable[[dict[Path, str]], None] | None = None) -> Iterator[Folder]:
    """Yields all folders from `root` down with the names of their files, through links too, without hidden ones.

    Hidden files are left out because macOS keeps a twin called `._name` beside each file.

    tell: called for each folder that cannot be looked into, with the folder -> why
    """

    def closed(error: OSError) -> None:
        if tell is not None:
            why = f"{error.filename}: cannot be looked into ({error.strerror}); have it opened to you, or take it away"
            tell({Path(error.filename): why})

    seen = set()
    for folder, below, files in os.walk(root, onerror=closed, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link, perhaps to a folder above: not in circles
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith(".") and name != OF_THE_FILE_SYSTEM)
        yield Path(folder), sorted(name for name in files if not name.startswith("."))


def is_image(name: str) -> bool:
    """Returns whether a file's name is that of a NIfTI image."""
    return name.lower().endswith(ENDINGS)


def stem(name: str) -> str:
    """Returns a file's name without .nii.gz or .nii; dots before that belong to the name."""
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
