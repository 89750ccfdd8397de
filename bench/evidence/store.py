"""The rows of finished runs: a file of JSON for each, in a folder for each code."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gmd.data.text_files import damaged, read_json

Row = dict[str, Any]
COLUMNS = frozenset(
    (
        *("task", "arm", "base", "seed", "candidate", "setting", "validation", "scores", "conflicts", "ratio"),
        *("steps", "cpu_s", "wall_s", "code"),
    )
)
AGAIN = "Delete it, and the run is made again"


class Key(NamedTuple):
    """A run: whose it is, and the place of its setting among the arm's candidates."""

    task: str
    arm: str
    seed: int
    candidate: int

    def __str__(self) -> str:
        return f"{self.task}, {self.arm}, seed {self.seed}, setting {self.candidate}"


class Store:
    """The rows of one code, below a folder of all codes.

    Attributes:
        work: the folder of all codes.
        code: the hash of this one.
    """

    def __init__(self, work: Path, code: str):
        self.work, self.code = work, code
        self.folder = work / code
        self.in_work = self.folder / ".in work"  # what runs write, until they are done

    def row(self, key: Key) -> Path:
        """Returns where a run leaves its row."""
        return self.folder / key.task / key.arm / f"seed {key.seed}, setting {key.candidate}.json"

    def traceback(self, key: Key) -> Path:
        """Returns where a run that failed leaves why."""
        return self.row(key).with_suffix(".failed.txt")

    def shared(self, task: str) -> Path:
        """Returns the folder for what all runs of a task make of its data."""
        return self.folder / task / "shared"

    def read(self) -> dict[Key, Row]:
        """Returns the rows of all finished runs. Raises UserError for a damaged file."""
        rows = {}
        for path in sorted(self.folder.glob("*/*/seed *, setting *.json")):
            row = read_row(path)
            key = Key(row["task"], row["arm"], row["seed"], row["candidate"])
            if path != self.row(key) or row["code"] != self.code:
                raise damaged(path, f"holds a run of {key}, code {row['code']}", AGAIN)
            rows[key] = row
        return rows

    def failed(self, keys: Sequence[Key]) -> set[Key]:
        """Returns those of the runs that have failed and have not been made since."""
        return {key for key in keys if self.traceback(key).exists()}

    def clear(self) -> None:
        """Removes what killed runs have left."""
        shutil.rmtree(self.in_work, ignore_errors=True)

    def others(self) -> Iterator[tuple[str, int]]:
        """Yields the other codes of which rows lie beside these, and how many rows."""
        for folder in sorted(self.work.glob("*")):
            rows = sum(1 for _ in folder.glob("*/*/seed *, setting *.json"))
            if folder != self.folder and rows:
                yield folder.name, rows


def read_row(path: Path) -> Row:
    """Returns the row in a file. Raises UserError if it holds none."""
    row = read_json(path)
    if not isinstance(row, dict) or not row.keys() >= COLUMNS:
        lacking = sorted(COLUMNS - row.keys()) if isinstance(row, dict) else sorted(COLUMNS)
        raise damaged(path, f"lacks {', '.join(lacking)}", AGAIN)
    kinds = {"task": str, "arm": str, "code": str, "seed": int, "candidate": int, "setting": dict, "scores": dict}
    wrong = [name for name, kind in kinds.items() if type(row[name]) is not kind]
    if wrong:
        raise damaged(path, f"{wrong[0]} is {json.dumps(row[wrong[0]])[:100]}", AGAIN)
    return row
