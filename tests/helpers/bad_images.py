"""Images that cannot be used, one for each way in which a file can harm its reader: name -> what makes it of a path."""

import gzip
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

DIM, VOX_OFFSET, EXTENSIONS = 40, 108, 348  # where they stand in a header of NIfTI-1


def header(dim: tuple[int, ...] = (), offset: float | None = None, extensions: bytes = b"") -> bytes:
    """The content of a small image whose header says something else: of its axes, and of where its voxels begin."""
    content = bytearray(nibabel.Nifti1Image(np.ones((6, 5, 4), np.int16), np.eye(4)).to_bytes())
    if dim:
        struct.pack_into(f"<{len(dim) + 1}h", content, DIM, len(dim), *dim)
    if offset is not None:
        struct.pack_into("<f", content, VOX_OFFSET, offset)
    content[EXTENSIONS : EXTENSIONS + len(extensions)] = extensions
    return bytes(content)


def packed(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def bomb(path: Path, size: int = 2**24) -> None:
    """A sound image, and zeros behind it: a thousand for each byte of the file."""
    packed(path, header() + bytes(size))


def a_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # its name may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def wrong_checksum(path: Path) -> None:
    content = bytearray(gzip.compress(header()))
    content[-6] ^= 1
    path.write_bytes(content)


BAD_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "claims 32767 voxels along each axis": (
        lambda path: packed(path, header((32767, 32767, 32767))),
        "a volume of 32767 x 32767 x 32767 voxels would take",
    ),
    "claims seven long axes": (lambda path: packed(path, header((9999,) * 7)), "9999"),
    "no voxel along an axis": (lambda path: packed(path, header((6, 0, 4))), "has shape (6, 0, 4)"),
    "fewer than no voxels": (lambda path: packed(path, header((6, -5, 4))), ""),
    "no axis": (lambda path: packed(path, header((0,))), "has shape"),
    "claims more than is there": (lambda path: packed(path, header((60, 50, 40))), "its header speaks of 240352"),
    "bomb": (bomb, "and more than 1048576 follow them"),
    "voxels far away": (lambda path: packed(path, header(offset=3e9)), "begin at byte 3e+09"),
    "voxels beyond the end": (lambda path: packed(path, header(offset=9e6)), "its header speaks of 9000"),
    "voxels nowhere": (lambda path: packed(path, header(offset=np.nan)), "NaN"),
    "extensions that lie": (
        lambda path: packed(path, header(offset=368, extensions=struct.pack("<iii", 1, 2**30, 6))),
        "cannot be read",
    ),
    "wrong checksum": (wrong_checksum, "CRC check failed"),
    "a pipe": (os.mkfifo, "is a named pipe"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "a socket": (a_socket, "is a socket"),
    "a folder": (Path.mkdir, "is a folder"),
    "links in circles": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "No such file"),
    "empty": (Path.touch, "it is empty"),
}


def spoil(path: Path, kind: str) -> None:
    """Puts a bad image in the place of a good one."""
    path.unlink()
    BAD_IMAGES[kind][0](path)
