"""Which gmd has written a run: those of later versions are refused, since nobody here knows what they mean."""

import re
from pathlib import Path

from gmd import __version__
from gmd.data.text_files import read_json
from gmd.errors import UserError, shown

MARK = "gmd_run.json"  # in a run's folder
MOST_BYTES = 4096  # of a mark

_NUMBERS = re.compile(r"(\d{1,6})\.(\d{1,6})(?:[.\s+a-z-].*)?", re.ASCII | re.DOTALL)


def check_made_by(path: Path, version: object) -> None:
    """Raises UserError for a version later than this one, which a file says it was written by.

    What comes behind the second number does not count: patches read each other's runs. A text that is no
    version says nothing, and is for others to refuse.

    path: of the file
    """
    theirs, ours = _numbers(version), _numbers(__version__)
    if theirs is not None and ours is not None and theirs > ours:
        raise UserError(
            f"{path}: written by gmd {shown(version, 40)}, and this is gmd {__version__}, which does not read runs of "
            "later versions; use it with that gmd, or a later one"
        )


def check_run_made_by(run: Path) -> None:
    """Raises UserError if the mark of a run's folder is of a later version; says nothing of a mark that is none."""
    try:
        mark = read_json(run / MARK, MOST_BYTES)
    except (UserError, OSError):
        return  # of an earlier version, or damaged: not needed to read the run
    if isinstance(mark, dict):
        check_made_by(run / MARK, mark.get("gmd"))


def _numbers(version: object) -> tuple[int, int] | None:
    found = _NUMBERS.fullmatch(version) if isinstance(version, str) else None
    return None if found is None else (int(found[1]), int(found[2]))
