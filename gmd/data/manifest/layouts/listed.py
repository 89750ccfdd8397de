"""Samples as a list of a data set names them, and what the readers of such lists share.

Everything in a list comes from somebody else: a name becomes the name of a file, so it may not lead anywhere else.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gmd.data.file_kind import other_kind
from gmd.data.text_files import brief, read_utf8
from gmd.errors import UserError, shown

Part = Literal["train", "dev", "test"]  # the list that a sample stands in
Groups = Mapping[str, str]

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # NUL, as UTF-16 has it, and what stands for bytes that are no UTF-8
_NO_NAME = re.compile("[\0-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Listed:
    """A sample as a list names it, before its files are looked for."""

    name: str  # unique in the data set
    label: str
    part: Part
    where: str  # file and line, for messages
    groups: Groups = field(default_factory=dict)  # what it shares with other samples: {"speaker": "1001"}
    fields: Mapping[str, str] = field(default_factory=dict)  # what the places of its files are made of, and its text


def text_of(path: Path) -> str:
    """Returns the text of a list, without a byte-order mark.

    Raises UserError for a file that is no text in UTF-8, with the line, and as `read_utf8`.
    """
    text = read_utf8(path, errors="surrogateescape").removeprefix("\ufeff")
    if other := _NO_TEXT.search(text):
        number = text.count("\n", 0, other.start()) + 1
        raise UserError(f"{path}:{number}: is no text in UTF-8{other_kind(path)}; save it as UTF-8")
    return text


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yields `file:number` and the text of each line that is not empty, without spaces around it.

    Raises UserError as `text_of`.
    """
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if line := line.strip():
            yield f"{path}:{number}", line


def cells_of(where: str, line: str, count: int, expected: str) -> list[str]:
    """Returns the cells of a line that commas separate, without spaces around them. Raises UserError for another count.

    expected: what the line should look like
    """
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) == count:
        return cells
    other = next((sign for sign in (";", "\t", "|", " ") if line.count(sign) == count - 1), None)
    hint = f"; it is separated by {other!r}, expected commas" if other else ""
    raise UserError(f"{where}: got {brief(line)}, expected {expected}{hint}")


def checked_name(where: str, name: object) -> str:
    """Returns a name that is the name of a file and no path. Raises UserError for anything else."""
    if not isinstance(name, str) or not name or name in (".", "..") or re.search(r"[/\\]", name):
        raise UserError(f"{where}: got the name {brief(name)}, expected the name of a file, without / and ..")
    if _NO_NAME.search(name):
        raise UserError(f"{where}: got the name {brief(name)}, which no file can have")
    return name


def checked_path(where: str, path: object) -> str:
    """Returns a path that stays below the folder of the data set. Raises UserError for anything else."""
    parts = path.split("/") if isinstance(path, str) else [""]
    if not all(parts) or ".." in parts or _NO_NAME.search(str(path)) or "\\" in str(path):
        raise UserError(f"{where}: got the path {brief(path)}, expected one below the data set's folder, without ..")
    return "/".join(part for part in parts if part != ".")


def checked_label(where: str, label: object, known: Collection[str]) -> str:
    """Returns a label that is one of those known. Raises UserError, which lists them, for anything else."""
    if not isinstance(label, str) or label not in known:
        raise UserError(f"{where}: got the label {brief(label)}, expected one of {', '.join(known)}")
    return label


def without_doubles(samples: Iterable[Listed]) -> tuple[list[Listed], int]:
    """Returns the samples, each once, and how many lines said again what another line had said.

    Raises UserError for a name that stands in two lists, or in one with two labels.
    """
    first: dict[str, Listed] = {}
    again = 0
    for sample in samples:
        other = first.setdefault(sample.name, sample)
        if other is sample:
            continue
        if other.part != sample.part:
            raise UserError(
                f"{sample.where}: {shown(sample.name, 80)} is in {other.where} too; a sample can train or test, not "
                "both: take one of the lines away"
            )
        if other.label != sample.label:
            raise UserError(
                f"{sample.where}: {shown(sample.name, 80)} is {shown(sample.label, 40)} here and "
                f"{shown(other.label, 40)} in {other.where}; take one of the lines away"
            )
        again += 1
    return list(first.values()), again
