"""The sign of gmd in the images that it writes. By it nothing that somebody else made, or corrected, is written over.

It stands in the header's description, `gmd 0123456789abcdef: segmentation`, where the number is a checksum of the
voxels as they are stored. So a segmentation that was corrected by hand is told from one that can be made again.
"""

import gzip
import hashlib
import math
import re
import zlib
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import BinaryIO

import nibabel

from gmd.errors import UserError
from gmd.files import open_regular

_SIGN = re.compile(rb"gmd ([0-9a-f]{16}): ")
_HEADERS = (nibabel.Nifti1Header, nibabel.Nifti2Header)
_LONGEST_HEADER = nibabel.Nifti2Header.sizeof_hdr
_CHUNK = 2**20  # bytes
_FARTHEST = 2**24  # bytes of a file before its voxels; header and extensions have some hundreds
_GZIP = b"\x1f\x8b"


class Origin(Enum):
    """Where a file comes from: `OURS` as gmd wrote it; `CHANGED` since; `DAMAGED`, which cannot be read to its end."""

    ABSENT, OURS, CHANGED, DAMAGED, FOREIGN = range(5)


def signed(content: bytes) -> bytes:
    """Returns a NIfTI file's content, uncompressed, with the sign before what the header's description says."""
    header = _header_of(content)
    assert header is not None
    sign = f"gmd {_checksum(content[int(header['vox_offset']) :]).hexdigest()}: ".encode("ascii")
    header["descrip"] = (sign + bytes(header["descrip"]).rstrip(b"\0"))[:79]
    return header.binaryblock + content[len(header.binaryblock) :]


def check_replaceable(paths: Sequence[Path]) -> None:
    """Raises UserError for a file that is there and that gmd cannot make again: somebody else's, or a corrected one."""
    for path in paths:
        _check_not(path, origin_of(path), (Origin.FOREIGN, Origin.CHANGED))


def is_done(paths: Sequence[Path]) -> bool:
    """Returns whether all of the files are there, whole, written by gmd, and perhaps corrected since.

    Raises UserError for a file that gmd has not written; and if some are to be made again, for one that was corrected.
    """
    origins = {path: origin_of(path) for path in paths}
    done = all(origin in (Origin.OURS, Origin.CHANGED) for origin in origins.values())
    for path, origin in origins.items():
        _check_not(path, origin, (Origin.FOREIGN,) if done else (Origin.FOREIGN, Origin.CHANGED))
    return done


def _check_not(path: Path, origin: Origin, kept: Sequence[Origin]) -> None:
    """Raises UserError if a file comes from where those come from that are kept."""
    if origin in kept:
        what = "was changed since gmd wrote it" if origin is Origin.CHANGED else "is not an image that gmd has written"
        raise UserError(f"{path}: is there already and {what}; delete it if nobody needs it, or give another name")


def origin_of(path: Path) -> Origin:
    """Returns where a file comes from. Raises UserError for what is no file, or cannot be read."""
    try:
        if not path.exists():
            return Origin.ABSENT
        with open_regular(path) as file:
            return _origin_of(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be looked at ({error.strerror}); give another name") from error


def _origin_of(file: BinaryIO) -> Origin:
    """Returns where an open file comes from. Nothing of it stays in memory, whatever size it claims."""
    head = file.read(_CHUNK)
    compressed = head.startswith(_GZIP)
    try:
        # not by GzipFile, which may look so far ahead that it comes upon damage
        header = _header_of(zlib.decompressobj(wbits=31).decompress(head, _LONGEST_HEADER) if compressed else head)
    except zlib.error:
        return Origin.FOREIGN
    if header is None or not (sign := _SIGN.match(bytes(header["descrip"]))):
        return Origin.FOREIGN
    try:
        file.seek(0)
        checksum = _checksum_in(gzip.GzipFile(fileobj=file) if compressed else file, header)
    except (zlib.error, EOFError, gzip.BadGzipFile):
        return Origin.DAMAGED
    return Origin.OURS if checksum.encode("ascii") == sign[1] else Origin.CHANGED


def _checksum_in(file: BinaryIO | gzip.GzipFile, header: nibabel.Nifti1Header) -> str:
    """Returns the checksum of the voxels in a file. Raises EOFError if they are fewer than the header says."""
    offset = float(header["vox_offset"])
    axes = header["dim"].tolist()
    left = math.prod(axes[1 : axes[0] + 1]) * int(header["bitpix"]) // 8
    if not 0 <= offset < _FARTHEST:
        raise EOFError
    file.seek(int(offset))
    checksum = _checksum(b"")
    while left > 0:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise EOFError
        checksum.update(chunk)
        left -= len(chunk)
    checksum.update(file.read(_CHUNK))  # nothing; gzip looks at its own checksum where a file ends
    return checksum.hexdigest()


def _checksum(voxels: bytes) -> "hashlib.blake2b":
    return hashlib.blake2b(voxels, digest_size=8)


def _header_of(content: bytes) -> nibabel.Nifti1Header | None:
    """Returns the header that bytes begin with, unchecked; None if they begin with something else."""
    kind = next((kind for kind in _HEADERS if kind.may_contain_header(content)), None)
    return None if kind is None else kind(content[: kind.sizeof_hdr], check=False)
