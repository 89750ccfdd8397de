"""Pictures: files that Pillow reads, or folders of frames, checked by their headers and decoded when needed."""

import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gmd.data.manifest.cells import Cell, Unreadable
from gmd.data.manifest.files import not_read, path_of
from gmd.errors import UserError
from gmd.files import open_regular, real_path

# not all that Pillow knows: some of the others start programs
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
LEAST_PART = 0.5  # of a picture's area, that a random crop keeps
MOST_ASPECT = 4 / 3  # of a random crop's sides to each other, before it becomes a square
_EXPECTED = f"a picture ({', '.join(FORMATS)})"
_OWN = ("a PNG picture", "a JPEG picture")
_END_OF_JPEG, _TAIL = b"\xff\xd9", 2**16
# what Pillow raises for files that are damaged, cut off, or of another kind
_UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError, OverflowError, RuntimeError),
    *(MemoryError, struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
)


class Crop(NamedTuple):
    """A part of a picture, and whether it is mirrored.

    Attributes:
        area: of the picture's area; aspect: the logarithm of width / height, of the part.
        right, down: where it lies, 0: at the left and at the top, 1: at the other end.
    """

    area: float
    aspect: float
    right: float
    down: float
    mirrored: bool


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Makes Pillow's warning of a picture of too many pixels an error, inside the block. Not for threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def check_image(cell: Cell) -> int:
    """Checks the headers of a cell's pictures, to be called inside of `bombs_refused`. Returns the bytes of its files.

    Raises Unreadable for a picture that is missing, damaged as far as can be seen without decoding it, or too large;
        UserError for a path that may not be.
    """
    return sum(_check(cell, path) for path in _pictures(cell))


def load_image(cell: Cell, frames: int, size: int, augment: bool, rng: np.random.Generator | None) -> Tensor:
    """Decodes a cell's pictures, upright and in RGB, over white where they are transparent.

    frames: K: of a folder, the middle ones of K equal parts, or one at random of each; a single picture is repeated
    size: of the square that is cut out of the middle, as large as the shorter side, and then resized
    augment: whether a random part is taken in its place, and mirrored or not, the same of all frames; needs `rng`
    rng: of a training sample; None: nothing is random
    returns float32 [K, 3, size, size] in [0, 1]
    Raises Unreadable for a picture that cannot be decoded.
    """
    paths = _pictures(cell)
    chosen = [paths[i] for i in _chosen(len(paths), frames, rng)] if len(paths) > 1 else paths
    crop = _random_crop(rng) if augment and rng is not None else None
    with bombs_refused():
        pictures = [_decoded(cell, path, size, crop) for path in chosen]
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(255)
    return stacked.contiguous() if len(chosen) == frames else stacked.repeat(frames, 1, 1, 1)


def _pictures(cell: Cell) -> list[Path]:
    """Returns the picture that a cell names, or those in the folder that it names, in the natural order of names."""
    path = path_of(cell)
    if not path.is_dir():
        return [path]
    try:
        names = [name for name in os.listdir(path) if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    except OSError as error:
        raise not_read(cell, path, "a folder of pictures", error) from error
    if not names:
        raise Unreadable(f"{cell.where}: {path}: is a folder without pictures ({' '.join(SUFFIXES)})")
    return [_inside(cell, path / name) for name in sorted(names, key=_natural)]


def _inside(cell: Cell, path: Path) -> Path:
    """Returns a picture of a folder. Raises UserError if it is a link that leads out of the root."""
    if path.is_symlink() and not real_path(path).is_relative_to(cell.table.root):
        raise UserError(f"{cell.where}: {path} leads out of {cell.table.root} by a link; copy the file there")
    return path


def _natural(name: str) -> list[tuple[int, str]]:
    """Returns what to sort names by so that frame 10 comes after frame 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _chosen(count: int, frames: int, rng: np.random.Generator | None) -> list[int]:
    """Returns the number of a picture in each of `frames` equal parts of `count`: the middle one, or a random one."""
    within = np.full(frames, 0.5) if rng is None else rng.random(frames)
    return [min(int(place), count - 1) for place in (np.arange(frames) + within) * (count / frames)]


def _check(cell: Cell, path: Path) -> int:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            with Image.open(file, formats=FORMATS) as picture:
                if picture.mode == "F":
                    raise Unreadable(f"{cell.where}: {path}: has floating-point pixels, expected 8 or 16 bits")
                if picture.format in ("JPEG", "MPO"):
                    _check_end(picture, file, size)
                else:
                    picture.verify()
        return size
    except Unreadable:
        raise
    except _UNREADABLE as error:
        raise not_read(cell, path, _EXPECTED, error, _OWN) from error


def _check_end(picture: Image.Image, file: BinaryIO, size: int) -> None:
    """Decodes a JPEG if the sign of its end is missing, of which `verify` sees nothing. Raises what Pillow does."""
    place = file.tell()
    file.seek(max(0, size - _TAIL))
    complete = _END_OF_JPEG in file.read()
    file.seek(place)
    if not complete:
        picture.load()


def _decoded(cell: Cell, path: Path, size: int, crop: Crop | None) -> np.ndarray:
    """Returns a picture as uint8 [size, size, 3]."""
    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as picture:
            picture.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded smaller, which takes a part of the time
            upright = _in_rgb(_upright(picture))
            box = _middle(upright.size) if crop is None else _box(upright.size, crop)
            resized = upright.resize((size, size), Image.Resampling.BILINEAR, box)
            pixels = np.asarray(resized)
    except _UNREADABLE as error:
        raise not_read(cell, path, _EXPECTED, error, _OWN) from error
    return pixels[:, ::-1] if crop is not None and crop.mirrored else pixels


def _upright(picture: Image.Image) -> Image.Image:
    """Returns a picture as its camera was held; where its notes (EXIF) are damaged, as it is."""
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except _UNREADABLE:
        return picture


def _in_rgb(picture: Image.Image) -> Image.Image:
    """Returns a picture in 8 bits of red, green and blue."""
    if picture.mode.startswith("I"):  # of 16 bits, of which Pillow's own conversion would cut off what is above 255
        pixels = np.asarray(picture)
        return Image.fromarray((pixels.clip(0, 2**16 - 1) // 256).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        opaque = picture.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    return picture.convert("RGB")


def _middle(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Returns the square in the middle that is as large as the shorter side: left, upper, right, lower."""
    width, height = size
    side = min(size)
    left, upper = (width - side) / 2, (height - side) / 2
    return left, upper, left + side, upper + side


def _random_crop(rng: np.random.Generator) -> Crop:
    area, aspect = rng.uniform(LEAST_PART, 1), rng.uniform(-np.log(MOST_ASPECT), np.log(MOST_ASPECT))
    right, down, mirrored = rng.random(3)
    return Crop(area, aspect, right, down, bool(mirrored < 0.5))


def _box(size: tuple[int, int], crop: Crop) -> tuple[float, float, float, float]:
    """Returns left, upper, right and lower of a crop of a picture, kept inside of it."""
    width, height = size
    side, stretch = np.sqrt(crop.area * width * height), np.exp(crop.aspect / 2)
    across, down = min(width, side * stretch), min(height, side / stretch)
    left, upper = crop.right * (width - across), crop.down * (height - down)
    return left, upper, left + across, upper + down
