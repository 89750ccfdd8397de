"""The pictures of cases that an evaluation has drawn, small enough for a page."""

import base64
import io
from pathlib import Path

from PIL import Image

from gmd.errors import UserError

WHICH = ("best", "median", "worst")


def case_pictures(evaluation: Path) -> dict[str, str]:
    """Which case -> data URL, of those that are there. Raises UserError if one is no picture."""
    paths = {which: evaluation / f"case_{which}.png" for which in WHICH}
    return {which: _as_url(path) for which, path in paths.items() if path.exists()}


def _as_url(path: Path) -> str:
    """As WebP: of real brains a PNG is half a megabyte, five times as much."""
    file = io.BytesIO()
    try:
        with Image.open(path) as picture:
            picture.convert("RGB").save(file, "webp", quality=90)
    except (OSError, SyntaxError) as error:  # Pillow calls a bad checksum a syntax error
        raise UserError(f"{path}: not a picture, or damaged ({error}); make it anew by gmd evaluate") from error
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
