"""Whatever is wrong with a file of somebody else becomes an error that names it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gmd.data.file_kind import unreadable
from gmd.data.segmentation.image_files import is_npy
from gmd.errors import UserError


class NoRoom(MemoryError):
    """No memory is left to read a file, which the message names."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever a reader of other people's bytes raises inside the block into a UserError that names the file.

    nibabel and what it is built on have dozens of error classes for files that are cut off, damaged, or something else.
    Raises NoRoom if there is no memory for the file.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise NoRoom(f"{path}: no memory is left to read it") from error
    except Exception as error:
        own = ("a single array of numpy (.npy)",) if is_npy(path) else ("a NIfTI image", "compressed by gzip")
        expected = "an array of numpy" if is_npy(path) else "a NIfTI image"
        raise UserError(unreadable(path, expected, error, own)) from error
