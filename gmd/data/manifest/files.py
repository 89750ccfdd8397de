"""The file that a cell names: inside the manifest's folder, a regular file, and neither an archive nor a pickle."""

import errno
import os
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path, PurePosixPath

from gmd.data.file_kind import unreadable
from gmd.data.manifest.cells import Cell, Unreadable
from gmd.errors import UserError, shown
from gmd.files import real_path

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib")


def path_of(cell: Cell, text: str | None = None) -> Path:
    """Returns the file or folder that a cell names, without links, whether it is there or not.

    text: the path in the cell, if that holds more than a path
    Raises UserError for a path that is absolute, goes up by `..` or leads out of the root by a link, and for names of
        archives and pickles.
    """
    text = cell.text if text is None else text
    found, problem = _found(cell.table.root, text)
    if problem:
        raise UserError(f"{cell.where}: {shown(text, 200)} {problem}")
    return found


@lru_cache(maxsize=256)  # one file may hold all samples, a row each: to find it would take longer than to read a row
def _found(root: Path, text: str) -> tuple[Path, str]:
    """Returns the path without links, and what is wrong with it, if anything is. Arguments are those of `path_of`."""
    named = PurePosixPath(text)
    if named.is_absolute() or ".." in named.parts or "\0" in text:
        return root, f"is absolute or has .. in it; expected a path below {root} (--root gives another folder)"
    suffix = named.suffix.lower()
    if suffix in _ARCHIVES:
        return root, "is an archive; unpack it, and name the files in it"
    if suffix in _PICKLES:
        return root, "is a pickle by its name, which can execute code; save arrays as .npy"
    found = real_path(root / named)
    if not found.is_relative_to(root):
        return root, f"leads out of {root} by a link; copy the file there"
    return found, ""


def not_read(cell: Cell, path: Path, expected: str, error: BaseException, own: Collection[str] = ()) -> Unreadable:
    """Returns the error for a file that could not be read, after its cell.

    expected: what it should be, such as "a picture"; error: what was raised
    own: what `gmd.data.file_kind` calls files that are read, which explains nothing
    """
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unreadable(f"{cell.where}: {path}: there is no such file; expected {expected}")
    if isinstance(error, UserError):  # a folder, a pipe, a device; it names the path
        return Unreadable(f"{cell.where}: {error}")
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG):
        return Unreadable(f"{cell.where}: {path}: cannot be opened ({os.strerror(error.errno)})")
    return Unreadable(f"{cell.where}: {unreadable(path, expected, error, own)}")
