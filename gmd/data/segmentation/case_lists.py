"""Lists of cases that train, validate and test, as the missing-modality field hands them around with its data."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.patients import without_grade
from gmd.data.text_files import read_utf8
from gmd.errors import UserError, shown

MOST = 2**24  # bytes of a list
_HEADERS = ("case", "data_name")  # what the first column of IM-Fuse's and of PASSION's tables is called
_SHOWN = 5  # names in a message


class Listed(NamedTuple):
    """A name in a list, and the line that it stands on, from 1 on."""

    name: str
    line: int


def read_list(path: Path, option: str) -> list[Listed]:
    """Reads the names of cases: one a line, or the first column of a table with commas.

    Blank lines count for nothing, nor does what begins with #, nor a first line `case,...` or `data_name,...`.

    option: that gave the file, for messages
    Raises UserError: a file that cannot be read or holds no name, a name that is there twice.
    """
    try:
        text = read_utf8(path, MOST).removeprefix("\ufeff")
    except FileNotFoundError as error:
        raise UserError(f"{option}: {path}: there is no such file; give a list of cases, one name a line") from error
    found: dict[str, Listed] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name = _name_in(line)
        if not name or (name in _HEADERS and not found):
            continue
        if name in found:
            first = found[name].line
            raise UserError(f"{path}: line {number}: {shown(name, 80)} stands on line {first} already; list it once")
        found[name] = Listed(name, number)
    if not found:
        raise UserError(f"{option}: {path}: holds no name of a case, expected one a line")
    return list(found.values())


def _name_in(line: str) -> str:
    """Returns the first cell of a line, "" for one without a name. Behind it may stand anything, quoted or not."""
    return "" if line.lstrip().startswith("#") else line.partition(",")[0].strip().strip('"')


class CaseFinder:
    """Finds cases by the names that lists have for them.

    A case is called as it is; or, where none is, as it is but for `HG_` or `LG_` before the name, which the field puts
    before those of BraTS 2020 and which the original names lack.
    """

    def __init__(self, names: Iterable[str]):
        """names: of the cases"""
        self._names = set(names)
        self._bare: dict[str, list[str]] = {}
        for name in sorted(self._names):
            self._bare.setdefault(without_grade(name), []).append(name)

    def find(self, name: str) -> str | None:
        """Returns the name of the case, None if there is none. Raises UserError for one that could be two cases."""
        if name in self._names:
            return name
        alike = self._bare.get(without_grade(name), [])
        if len(alike) > 1:
            raise UserError(f"{shown(name, 80)} could be {' and '.join(alike[:2])}; list the whole name")
        return alike[0] if alike else None


def listed_cases(lists: Mapping[str, Path], cases: Sequence[Case], where: str) -> dict[str, list[Case]]:
    """Returns the cases of each list, sorted by name.

    lists: an option, as `--train-list` -> its file
    cases: all that there are, each of another name
    where: they are, for messages
    Raises UserError: as `read_list`; names that no case has, or that could be two; a case that is listed twice.
    """
    by_name = {case.name: case for case in cases}
    finder = CaseFinder(by_name)
    owner: dict[str, tuple[Path, Listed]] = {}
    found: dict[str, list[Case]] = {}
    for option, path in lists.items():
        listed = read_list(path, option)
        names = [_called(finder, path, entry) for entry in listed]
        if unknown := [entry.name for entry, name in zip(listed, names, strict=True) if name is None]:
            raise UserError(_unknown(option, path, unknown, len(listed), cases, where))
        known = [name for name in names if name is not None]
        for entry, name in zip(listed, known, strict=True):
            other, before = owner.setdefault(name, (path, entry))
            if before is not entry:
                raise UserError(
                    f"{path}: line {entry.line}: {shown(entry.name, 80)} is in {other} too, on line {before.line}; a "
                    "case trains, validates or tests"
                )
        found[option] = [by_name[name] for name in sorted(known)]
    return found


def _called(finder: CaseFinder, path: Path, entry: Listed) -> str | None:
    """Returns the name of a listed case. Raises UserError, with the line, for one that could be two cases."""
    try:
        return finder.find(entry.name)
    except UserError as error:
        raise UserError(f"{path}: line {entry.line}: {error}") from error


def _unknown(option: str, path: Path, unknown: Sequence[str], listed: int, cases: Sequence[Case], where: str) -> str:
    """Returns the error message for names that no case has."""
    names, there = _first(unknown), _first([case.name for case in cases])
    return (
        f"{option}: {path}: {len(unknown)} of its {listed} names are no cases of {where}: {names}; the {len(cases)} "
        f"cases there are called {there}"
    )


def _first(names: Sequence[str]) -> str:
    """Returns the first names, with dots if there are more."""
    return ", ".join(shown(name, 80) for name in names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
