"""Text files with a form, JSON, YAML and CSV, as anybody may have written them: a run's, or a user's own.

What comes back holds plain values only. JSON and YAML hold no number beyond 64 bits, no key twice, nothing that grows
when it is read; what they should hold is for the caller to check.
"""

import csv
import io
import json
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from gmd.data.file_kind import other_kind
from gmd.data.spreadsheet_cells import unguarded
from gmd.errors import UserError, shown
from gmd.files import open_regular, replacing

MOST_TEXT = 2**28  # bytes of a text file; no table or list that gmd writes comes near
EVALUATE_AGAIN = "Evaluate the run again"  # advice on a damaged file of an evaluation
MOST_YAML = 2**20  # bytes of a file of YAML: the parser is slow, and options have some thousand
LARGEST = 1e50  # of a number that is measured, more than any norm or distance; sums and squares of less are finite
_MOST_INTEGER = 2**63
_OF_TABLES = ("a table of text (CSV)", "empty")


def damaged(path: Path, what: str, advice: str = "Restore it from a copy") -> UserError:
    """Returns the error for a file of a run that does not hold what gmd writes there.

    what: is wrong, with the place if there is one
    """
    return UserError(f"{path}: {what}; damaged, or written by another tool? {advice}")


def brief(value: object) -> str:
    """Returns a value from a file for a message: of long or deep ones the beginning."""
    return shown(reprlib.repr(value), 100)


def expect(good: bool, name: str, got: object, expected: str) -> None:
    """Raises ValueError if a value from a file is not good: its name, what it is, and what was expected."""
    if not good:
        raise ValueError(f"{name}: got {brief(got)}, expected {expected}")


def read_json(path: Path, most: int = MOST_TEXT) -> object:
    """Reads a file of JSON.

    most: bytes that it may have
    Raises UserError if it is no regular file, cannot be read, or does not hold JSON; FileNotFoundError.
    """
    try:
        return parse_json(read_utf8(path, most))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise damaged(path, f"not valid JSON ({shown(error, 200)}){other_kind(path, own=('JSON',))}") from error


def write_json(path: Path, values: object) -> None:
    """Writes a file of JSON, whole or not at all, see `replacing`. Raises OSError if it cannot be written."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def parse_json(text: str | bytes) -> object:
    """Returns the value of a text in JSON, in UTF-8.

    Raises ValueError for anything else, and for NaN, infinity, numbers beyond 64 bits, a key that is given twice and
    nesting that the parser cannot follow.
    """
    text = text if isinstance(text, str) else text.decode("utf-8")
    try:
        return _JSON.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def parse_yaml(text: str) -> Any:
    """Returns the value of a text in YAML.

    Raises ValueError, of one line, for anything else, for aliases, which make a short text a huge value, for a key that
    is given twice, numbers beyond 64 bits and nesting that the parser cannot follow.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    # what PyYAML's own constructors raise for tags whose text is none: !!int "", !!bool x, a month 13
    except (yaml.YAMLError, IndexError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def read_csv(
    path: Path,
    columns: Sequence[str] | None = None,
    advice: str = EVALUATE_AGAIN,
    further: Callable[[str], bool] = lambda column: False,
) -> Iterator[tuple[int, list[str]]]:
    """Reads a table line by line: the number of each line in the file, and its cells; first its header.

    columns: what the header has to be; by default anything that is not empty
    advice: what to do about a table that is damaged
    further: whether a column of some name may stand behind these, once
    Raises UserError as `read_json`, if the header is another one, or if a line has more or fewer cells than it;
    FileNotFoundError.
    """
    expected = f", expected {', '.join(columns)}" if columns is not None else ""
    text = io.StringIO(read_utf8(path, errors="surrogateescape"), newline="")
    lines = csv.reader(text, strict=True)
    header: list[str] = []
    try:
        for cells in map(unguarded, lines):
            if not header and not _is_header(cells, columns, further):
                got = shown(", ".join(cells), 200)
                raise damaged(path, f"has the columns {got}{expected}{other_kind(path, _OF_TABLES)}", advice)
            header = header or cells
            if len(cells) != len(header):
                raise damaged(path, f"line {lines.line_num} has {len(cells)} cells, expected {len(header)}", advice)
            yield lines.line_num, cells
    except csv.Error as error:
        raise damaged(path, f"line {lines.line_num} is no line of a table ({error})", advice) from error
    if not header:
        raise damaged(path, f"has no columns{expected}", advice)


def _is_header(cells: Sequence[str], columns: Sequence[str] | None, further: Callable[[str], bool]) -> bool:
    """Returns whether the first line of a table is the one that is expected, see `read_csv`."""
    if columns is None:
        return bool(cells)
    first, more = cells[: len(columns)], cells[len(columns) :]
    return list(first) == list(columns) and all(map(further, more)) and len(set(more)) == len(more)


def read_utf8(path: Path, most: int = MOST_TEXT, errors: str = "strict") -> str:
    """Reads a text in UTF-8.

    most: bytes that it may have; errors: what to do with others, as in `bytes.decode`
    Raises UserError if it is no regular file, larger, not UTF-8, or cannot be read; FileNotFoundError.
    """
    try:
        with open_regular(path) as file:
            # by its size first: what is far too long is not read at all
            content = None if os.fstat(file.fileno()).st_size > most else file.read(most + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend that, or restore it from a copy") from error
    if content is None or len(content) > most:
        raise damaged(path, f"has more than {most} bytes, far more than such a file has{other_kind(path)}")
    try:
        return content.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise damaged(path, f"is no text in UTF-8 ({error}){other_kind(path)}") from error


def _integer(text: str) -> int:
    # the length first: Python refuses to convert thousands of digits, with another error
    if len(text) > 20 or not -_MOST_INTEGER <= (value := int(text)) < _MOST_INTEGER:
        raise ValueError(f"a number of {len(text)} digits, beyond 64 bits")
    return value


def _number(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{shown(text, 40)} is beyond 64 bits")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"key {brief(_first_twice(key for key, _ in pairs))} is given twice")
    return values


def _first_twice(keys: Iterable[str]) -> str | None:
    """Returns the first key that was there before; None if all differ."""
    seen: set[str] = set()
    return next((key for key in keys if key in seen or seen.add(key)), None)  # type: ignore[func-returns-value]


_JSON = json.JSONDecoder(
    parse_int=_integer, parse_float=_number, parse_constant=_no_constant, object_pairs_hook=_distinct
)


class _Loader(yaml.SafeLoader):
    """Plain values only, as yaml.SafeLoader; and none that a few letters make huge."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name) is not read here; write out what it stands for")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        twice = _first_twice(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice is not None:
            raise yaml.YAMLError(f"key {brief(twice)} is given twice; give it once")
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = super().construct_yaml_int(node) if len(node.value) < 100 else _MOST_INTEGER
        if not -_MOST_INTEGER <= value < _MOST_INTEGER:
            raise yaml.YAMLError(f"the number {shown(node.value, 40)} is beyond 64 bits")
        return int(value)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
