"""`gmd advise`: which method to try next, from what a training shows and what was measured of the methods."""

from pathlib import Path

from gmd.advice.evidence import findings
from gmd.advice.rules import advise_on
from gmd.advice.seen import look_at
from gmd.advice.text import lines_of


def advise(run: Path) -> list[str]:
    """Returns the lines that `gmd advise` prints of a run, finished or not, evaluated or not.

    Raises UserError for a folder that is no run, and for damaged files.
    """
    seen = look_at(Path(run))
    return lines_of(seen, advise_on(seen, findings()))
