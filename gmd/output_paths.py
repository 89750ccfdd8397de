"""Whether something can be written at a path: asked before any work is done, and answered with what to do."""

import os
import stat
import tempfile
from pathlib import Path

from gmd.errors import UserError
from gmd.files import check_regular


def check_file(path: Path, option: str) -> None:
    """Raises UserError unless a file can be written at `path`: a new one, or in the place of a file or a link to one.

    Folders that are not there yet are made later. Nothing is written, and nothing that is there is opened.

    option: what gives the path, for the message, as in "--out"
    """
    path = Path(path)
    _check_place(path, path.parent, option)
    if os.path.exists(path):  # a link to nothing is replaced
        try:
            check_regular(path)
        except UserError as error:
            raise UserError(f"{option}: {error}") from error


def check_folder(path: Path, option: str) -> None:
    """Raises UserError unless `path` is a folder that can be written to, or can become one.

    option: what gives the path, for the message, as in "--out"
    """
    _check_place(Path(path), Path(path), option)


def _check_place(path: Path, folder: Path, option: str) -> None:
    """Raises UserError unless `folder` can be made, or written to, and `path` be the name of something."""
    if "\0" in str(path):
        raise UserError(f"{option}: a name holds a NUL byte, which no file can have; give another")
    try:
        nearest = _nearest_folder(folder, option)
        most = os.pathconf(nearest, "PC_NAME_MAX")
        if long := next((part for part in path.parts if len(os.fsencode(part)) > most), None):
            raise UserError(f"{option}: {path}: a name of {len(os.fsencode(long))} bytes, of which {most} are possible")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or "a name that no file can have"
        raise UserError(f"{option}: {path}: cannot be written ({reason}); give another place") from error


def _nearest_folder(folder: Path, option: str) -> Path:
    """Returns the first folder that is there, of `folder` and those it lies in. Raises OSError if it cannot be seen.

    Raises UserError if there is something else in its place.
    """
    for place in (folder, *folder.parents):
        try:
            mode = os.stat(place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(place):
                raise UserError(f"{option}: {place} is a link to nothing; expected a folder") from None
            continue
        if stat.S_ISDIR(mode):
            return place
        raise UserError(f"{option}: {place} is a file; expected a folder")
    raise FileNotFoundError(2, "there is no folder for it", str(folder))
