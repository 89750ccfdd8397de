"""`python -m bench.evidence --data FOLDER`: every method on every data set, tuned alike, as long as `--hours` allows.

A finished run leaves its row in a file of its own and is not made again, so that this can be stopped at any time. Runs
of one seed are paired: the same split of the data, initial weights and order. The tables and pictures of
docs/evidence.md are made at the end, of what is there.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.evidence.command import evidence
from bench.evidence.tasks import TASKS
from bench.measure.files import RESULTS
from bench.tables import evidence_figures, readme


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit status."""
    return evidence(arguments, TASKS, finish)


def finish(out: Path) -> list[Path]:
    """Draws the pictures of the tables in a folder; of the committed ones, the pages too. Returns the files."""
    pictures = evidence_figures.draw_all(out)
    return pictures + readme.write_all() if out.resolve() == RESULTS else pictures


if __name__ == "__main__":
    sys.exit(main())
