"""The pictures that an evaluation has drawn, of cases and of missing modalities, embedded into the page."""

import base64
import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from gmd.errors import UserError, shown
from gmd.files import open_regular

LEGIBLE = 61  # pixels of the page for an inch of a picture: its letters, of 13 points, are 11 pixels high then
DPI = 110  # of a picture that does not say how many its inch has


class EmbeddedPicture(NamedTuple):
    """A picture as the page has it, with all of its pixels.

    Attributes:
        url: the picture as a data URL.
        width, height: in its own pixels.
        least: the width, in pixels of the page, below which its letters are too small to be read.
    """

    url: str
    width: int
    height: int
    least: int


def embed_pictures(evaluation: Path, names: Mapping[str, str]) -> tuple[dict[str, EmbeddedPicture], list[str]]:
    """Returns the pictures there are, what each shows -> picture, and why others cannot be shown.

    A picture adds nothing that the tables lack, so that a damaged one does not stop the report.

    evaluation: the folder of the results
    names: what a picture shows, such as "best" -> the name of its file
    """
    pictures, wrong = {}, []
    for which, name in names.items():
        path = evaluation / name
        try:
            pictures[which] = _embedded(path)
        except FileNotFoundError:  # fewer than three cases have fewer pictures, and a curve is drawn on request
            continue
        except (UserError, OSError) as error:
            wrong.append(f"{path.name} cannot be shown: {error}")
    return pictures, wrong


def _embedded(path: Path) -> EmbeddedPicture:
    """Returns a picture as WebP without loss.

    Raises UserError if the file is no PNG, damaged, or takes more memory than these pictures do; OSError if it
    cannot be read.
    """
    webp = io.BytesIO()
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=["PNG"]) as picture:  # of the others some call other programs
                width, height = picture.size
                inches = width / max(1.0, picture.info.get("dpi", (DPI, DPI))[0])
                # for `lossless`, quality and method are how long it tries
                picture.convert("RGB").save(webp, "webp", lossless=True, quality=50, method=2)
        except (*_UNREADABLE, *_TOO_LARGE) as error:
            raise UserError(f"not a picture, or damaged ({shown(error, 200)}); make it anew by gmd evaluate") from error
    url = "data:image/webp;base64," + base64.b64encode(webp.getvalue()).decode()
    return EmbeddedPicture(url, width, height, min(width, round(LEGIBLE * inches)))


# Pillow calls a bad checksum a syntax error, and lets errors of zlib and of numbers that do not fit through
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error, zlib.error)
_TOO_LARGE = (MemoryError, OverflowError, Image.DecompressionBombError, Image.DecompressionBombWarning)
