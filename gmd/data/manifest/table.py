"""The table of a manifest: its encoding, its columns, and its rows as text."""

import csv
import io
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gmd.data.file_kind import kind_of
from gmd.data.manifest.inputs import KINDS
from gmd.data.sequences.checks import LONGEST_NAME, check_file, check_name
from gmd.data.spreadsheet_cells import unguarded
from gmd.data.text_files import MOST_TEXT
from gmd.errors import UserError, shown
from gmd.files import open_regular
from gmd.names import check_names

SPLIT_NAMES = {
    "train": "train",
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    "test": "test",
}
EXPECTED = "id, split, label and at least one of " + ", ".join(f"{kind}:NAME" for kind in KINDS)
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Column(NamedTuple):
    """A column of a modality. number: its place in the row; name: what stands above it; kind, modality: its parts."""

    number: int
    name: str
    kind: str
    modality: str


@dataclass(frozen=True)
class Columns:
    """Where things stand in a row.

    Attributes:
        id, split: numbers of columns.
        labels: name of an output -> number of its column.
        modalities: their columns, in the order of the file.
        ignored: names of the other columns.
    """

    id: int
    split: int
    labels: dict[str, int]
    modalities: tuple[Column, ...]
    ignored: tuple[str, ...]


class Row(NamedTuple):
    """A row as text.

    Attributes:
        line: where it ends in the file.
        name: its id.
        split: "train", "validation" or "test".
        labels: of each output, "" where there is none.
        cells: of each modality, "" where the sample lacks it.
    """

    line: int
    name: str
    split: str
    labels: tuple[str, ...]
    cells: tuple[str, ...]


def read_table(path: Path) -> tuple[Columns, list[Row], list[str]]:
    """Reads the rows of a manifest, and checks their form, ids and splits.

    returns the columns, the rows, and notes for the user: another delimiter, columns that are ignored
    Raises UserError: no such file, no text in UTF-8, columns that are missing, twice or of no known kind, rows of
        another length, an id twice or none, an unknown split.
    """
    check_file(path, "a manifest, a table of text (CSV)")
    text = _text(path)
    delimiter, notes = _delimiter(path, text)
    lines = _lines(path, text, delimiter)
    columns = _columns(path, next(lines)[1])
    if columns.ignored:
        notes.append(f"columns that are ignored: {', '.join(shown(name, 40) for name in columns.ignored)}")
    rows, line_of = [], dict[str, int]()
    for line, cells in lines:
        row = _row(path, columns, line, cells)
        if row.name in line_of:
            raise UserError(
                f"{path}: line {line}: the id {shown(row.name, 80)} stands in line {line_of[row.name]}, too"
            )
        line_of[row.name] = line
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: has no rows below its header, expected one for each sample")
    return columns, rows, notes


def _text(path: Path) -> str:
    """Returns the whole text. Raises UserError if it is too large, something else than a table, or not in UTF-8."""
    try:
        known = kind_of(path)
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(MOST_TEXT + 1) if size <= MOST_TEXT else b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a table of text (CSV)") from error
    if size > MOST_TEXT:
        raise UserError(f"{path}: has {size} bytes, expected a manifest of at most {MOST_TEXT}")
    advice = "save it as CSV in UTF-8"
    if content.startswith(_UTF16):
        raise UserError(f"{path}: is text in UTF-16, expected UTF-8; {advice}")
    if known and not known.startswith(("text", "a table")):
        raise UserError(f"{path}: is {known}, expected a table of text (CSV); {advice}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content[: error.start].count(b"\n") + 1, content[error.start]
        raise UserError(
            f"{path}: line {line}: the byte 0x{byte:02x} is none of UTF-8, perhaps of Latin-1 or Windows-1252; {advice}"
        ) from None
    if "\0" in text:
        raise UserError(f"{path}: line {text[: text.index(chr(0))].count(chr(10)) + 1}: holds a zero byte; {advice}")
    return text


def _delimiter(path: Path, text: str) -> tuple[str, list[str]]:
    """Returns what stands between the cells, and a note if that is no comma.

    Another sign is taken only where the header has the columns of a manifest with it, and not with commas.
    """
    header = text.split("\n", 1)[0].rstrip("\r")
    if _has_needed(header.split(",")):
        return ",", []
    for sign, called in _OTHER_DELIMITERS.items():
        if _has_needed(header.split(sign)):
            return sign, [f"{path.name}: its cells are separated by {called}, not by commas, and read so"]
        if header.count(sign) > header.count(","):
            raise UserError(
                f"{path}: its cells look separated by {called}: {shown(header, 120)}; expected commas, and {EXPECTED}"
            )
    return ",", []


def _has_needed(header: Sequence[str]) -> bool:
    return {"id", "split"} <= {cell.strip().strip('"') for cell in header}


def _lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each line, and its cells; first the header. Empty lines are left out."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    length = 0
    try:
        for cells in lines:
            if not cells:
                continue
            length = length or len(cells)
            if len(cells) != length:
                raise UserError(
                    f"{path}: line {lines.line_num} has {len(cells)} cells, expected {length} as the header"
                )
            yield lines.line_num, unguarded(cells)
    except csv.Error as error:
        raise UserError(f"{path}: line {lines.line_num} is no line of a table ({error}); mend its quotes") from error
    if not length:
        raise UserError(f"{path}: is empty, expected a header with {EXPECTED}")


def _columns(path: Path, header: list[str]) -> Columns:
    """Tells the columns by their names. Raises UserError for names that are missing, twice, or of no known kind."""
    names = [name.strip() for name in header]
    _check_header(path, names)
    labels, modalities, ignored = dict[str, int](), list[Column](), list[str]()
    for number, name in enumerate(names):
        kind, colon, rest = name.partition(":")
        if kind == "label":
            labels[rest if colon else kind] = number
        elif colon and kind in KINDS:
            modalities.append(Column(number, name, kind, rest))
        elif name not in ("id", "split"):
            ignored.append(name or f"number {number + 1}")
    _check_names(path, labels, modalities)
    return Columns(names.index("id"), names.index("split"), labels, tuple(modalities), tuple(ignored))


def _check_names(path: Path, labels: Collection[str], modalities: Sequence[Column]) -> None:
    """Raises UserError for names of outputs and modalities that are none, or twice."""
    if "label" in labels and len(labels) > 1:
        raise UserError(f"{path}: has the column label beside label:NAME; expected one of the two")
    check_names(f"{path}: columns of modalities", [column.modality for column in modalities])
    check_names(f"{path}: columns of labels", [name for name in labels if name != "label"])


def _check_header(path: Path, names: list[str]) -> None:
    """Raises UserError for names that are missing, twice, or of no known kind."""
    if twice := [name for i, name in enumerate(names) if name and name in names[:i]]:
        raise UserError(f"{path}: the column {shown(twice[0], 80)} is there twice, expected each once")
    kinds = [name.partition(":")[0] for name in names if ":" in name]
    if unknown := [kind for kind in kinds if kind not in ("label", *KINDS)]:
        raise UserError(f"{path}: a column is of kind {shown(unknown[0], 40)}, expected one of {', '.join(KINDS)}")
    needed = {"id": ["id"], "split": ["split"], "label": ["label"], "column of a modality": KINDS}
    there = {*kinds, *names}
    if missing := [what for what, any_of in needed.items() if not there.intersection(any_of)]:
        raise UserError(
            f"{path}: has no {', no '.join(missing)}; there is {shown(', '.join(names), 200)}; expected {EXPECTED}"
        )


def _row(path: Path, columns: Columns, line: int, cells: list[str]) -> Row:
    """Checks the id and the split of a row. Raises UserError."""
    name, split = cells[columns.id].strip(), cells[columns.split].strip().lower()
    if not name:
        raise UserError(f"{path}: line {line} has no id, expected a name of its own of at most {LONGEST_NAME} letters")
    check_name(name, f"{path}: line {line}")
    if split not in SPLIT_NAMES:
        raise UserError(
            f"{path}: line {line}: the split of {shown(name, 80)} is {shown(split, 80)!r}, expected one of "
            f"{', '.join(SPLIT_NAMES)}"
        )
    labels = tuple(cells[number].strip() for number in columns.labels.values())
    return Row(
        line, name, SPLIT_NAMES[split], labels, tuple(cells[column.number].strip() for column in columns.modalities)
    )
