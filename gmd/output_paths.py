"""Whether something can be written at a path: asked before any work is done, and answered with what to do."""

import errno
import os
import shutil
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


def free_bytes(path: Path) -> int:
    """Returns how much room there is for a file or folder at `path`, made or not. Raises OSError if nobody can tell."""
    return shutil.disk_usage(_nearest_folder(Path(path), str(path))).free


def _check_place(path: Path, folder: Path, option: str) -> None:
    """Raises UserError unless `folder` can be made, or written to, and `path` be the name of something."""
    if "\0" in str(path):
        raise UserError(f"{option}: a name holds a NUL byte, which no file can have; give another")
    try:
        nearest = _nearest_folder(folder, option)
        _check_lengths(path, nearest, option)
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or "a name that no file can have"
        raise UserError(f"{option}: {path}: cannot be written ({reason}); give another place") from error


def _check_lengths(path: Path, nearest: Path, option: str) -> None:
    """Raises UserError for a name, or a path, that is longer than the file system of the folder `nearest` allows."""
    most, most_of_path = (os.pathconf(nearest, name) for name in ("PC_NAME_MAX", "PC_PATH_MAX"))
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > most:
        raise UserError(f"{option}: a name of {longest} bytes, of which {most} are possible; shorten {path}")
    length = len(os.fsencode(os.path.abspath(path)))
    if length >= most_of_path:
        raise UserError(
            f"{option}: a path {length} bytes long, of which {most_of_path - 1} are possible; shorten {path}"
        )


def _nearest_folder(folder: Path, option: str) -> Path:
    """Returns the first folder that is there, of `folder` and those it lies in. Raises OSError if it cannot be seen.

    Raises UserError if there is something else in its place.
    """
    for place in (folder, *folder.parents):
        try:
            mode = os.stat(place).st_mode
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise
            if os.path.islink(place):
                raise UserError(f"{option}: {place} is a link to nothing; expected a folder") from error
            continue
        if stat.S_ISDIR(mode):
            return place
        raise UserError(f"{option}: {place} is a file; expected a folder")
    raise FileNotFoundError(errno.ENOENT, "there is no folder for it", str(folder))
