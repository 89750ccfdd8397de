"""The pictures of cases that an evaluation has drawn, embedded into the page."""

import base64
import io
from pathlib import Path

from PIL import Image

from gmd.errors import UserError

WHICH = ("best", "median", "worst")


def embed_case_pictures(evaluation: Path) -> dict[str, str]:
    """Returns the pictures there are: "best", "median", "worst" -> data URL. Raises UserError if a file is no picture.

    evaluation: the folder of the results
    """
    paths = {which: evaluation / f"case_{which}.png" for which in WHICH}
    return {which: _as_url(path) for which, path in paths.items() if path.exists()}


def _as_url(path: Path) -> str:
    """Returns a picture as WebP in a data URL: of real brains the PNG is half a megabyte, five times as much."""
    file = io.BytesIO()
    try:
        with Image.open(path) as picture:
            picture.convert("RGB").save(file, "webp", quality=90)
    except (OSError, SyntaxError) as error:  # Pillow calls a bad checksum a syntax error
        raise UserError(f"{path}: not a picture, or damaged ({error}); make it anew by gmd evaluate") from error
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
