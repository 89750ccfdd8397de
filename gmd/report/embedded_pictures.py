"""The pictures that an evaluation has drawn, of cases and of missing modalities, embedded into the page."""

import base64
import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from gmd.errors import UserError, shown
from gmd.files import open_regular


def embed_pictures(evaluation: Path, names: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Returns the pictures there are, what each shows -> data URL, and why others cannot be shown.

    A picture adds nothing that the tables lack, so that a damaged one does not stop the report.

    evaluation: the folder of the results
    names: what a picture shows, such as "best" -> the name of its file
    """
    pictures, wrong = {}, []
    for which, name in names.items():
        path = evaluation / name
        try:
            pictures[which] = _as_url(path)
        except FileNotFoundError:  # fewer than three cases have fewer pictures, and a curve is drawn on request
            continue
        except (UserError, OSError) as error:
            wrong.append(f"{path.name} cannot be shown: {error}")
    return pictures, wrong


def _as_url(path: Path) -> str:
    """Returns a picture as WebP in a data URL: of real brains the PNG is half a megabyte, five times as much.

    Raises UserError if the file is no PNG, damaged, or takes more memory than these pictures do; OSError if it
    cannot be read.
    """
    url = io.BytesIO()
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=["PNG"]) as picture:  # of the others some call other programs
                picture.convert("RGB").save(url, "webp", quality=90)
        except (*_UNREADABLE, *_TOO_LARGE) as error:
            raise UserError(f"not a picture, or damaged ({shown(error, 200)}); make it anew by gmd evaluate") from error
    return "data:image/webp;base64," + base64.b64encode(url.getvalue()).decode()


# Pillow calls a bad checksum a syntax error, and lets errors of zlib and of numbers that do not fit through
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error, zlib.error)
_TOO_LARGE = (MemoryError, OverflowError, Image.DecompressionBombError, Image.DecompressionBombWarning)
