"""What `--data` gives: a word for pictures that need no files, or a path, told by what is there."""

from pathlib import Path

from examples.images import built_in, cifar, folders
from examples.images.pictures import PictureSet
from gmd.errors import UserError

BUILT_IN = {"digits": built_in.digits, "generated": built_in.generated}


def read(data: str) -> PictureSet:
    """Reads pictures. Raises UserError if there is nothing, or what is there is of no kind that is known."""
    if data in BUILT_IN:
        return BUILT_IN[data]()
    path = Path(data)
    if path.is_dir():
        found = cifar.layout_of(path)
        return cifar.read_cifar(*found) if found else folders.read_folders(path)
    if path.is_file():
        return cifar.read_archive(path)
    raise UserError(
        f"--data: {data}: there is nothing; expected a folder of pictures, CIFAR's .tar.gz, or one of "
        f"{', '.join(BUILT_IN)}"
    )
