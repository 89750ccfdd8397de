"""Tables of text (csv): a row an utterance, or a row for each of its steps.

Columns: `id`; `split`, one of train, validation (or valid, val, dev) and test; `score`, a number, or `label`, a class
of any name; and for each modality columns NAME_0, NAME_1 and so on, with its features. With a column `step` an id has
several rows, its steps in the order of these numbers. Empty cells of all features of a modality mean that the
utterance, or the step, lacks it. Without rows to validate on, about a sixth of those that train are held out.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gmd.data import SPLITS
from gmd.data.sequences.checks import LONGEST_NAME, MOST_FEATURES
from gmd.data.sequences.gathered import Gathered
from gmd.data.sequences.held_out import hold_out
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import SENTIMENT_MODALITIES, SequenceData
from gmd.data.text_files import MOST_TEXT, read_utf8
from gmd.errors import UserError, shown
from gmd.names import check_names

_SPLITS = {split: split for split in SPLITS} | dict.fromkeys(("valid", "val", "dev"), "validation")
_FEATURE = re.compile(r"(.+)_(0|[1-9][0-9]{0,6})")


class _Columns(NamedTuple):
    """Where in a row things stand.

    Attributes:
        target: the column of scores or of classes; scores: whether it is the former.
        step: None where a row is an utterance.
        features: modality -> the columns of its features, in their order.
        others: the names of the columns that are not read.
    """

    id: int
    split: int
    target: int
    scores: bool
    step: int | None
    features: dict[str, list[int]]
    others: list[str]


class _Row(NamedTuple):
    """A row of the table: what it says of its utterance, and the values of the modalities that it has."""

    name: str
    split: str
    target: str
    step: float
    values: dict[str, np.ndarray]


def read_csv_table(path: Path, reading: Reading) -> SequenceData:
    """Reads a table with commas between its cells, in UTF-8.

    Raises UserError: another delimiter or encoding; columns that are absent, there twice, or not numbered from 0 on;
        a cell that is no number, or empty among others; rows of one id that differ in split or target, or, without the
        column `step`, two of them; a split that is none.
    """
    lines = _lines(path)
    columns = _columns(path, next(lines)[1])
    rows: dict[str, list[_Row]] = {}
    for number, cells in lines:
        row = _row(f"{path}: line {number}", cells, columns)
        same = rows.setdefault(row.name, [])
        if same and columns.step is None:
            raise UserError(f"{path}: line {number}: a second row of {shown(row.name, 80)}; steps need a column `step`")
        if same and (row.split, row.target) != (same[0].split, same[0].target):
            raise UserError(f"{path}: line {number}: {shown(row.name, 80)} has another split or target before it")
        same.append(row)
    return _gathered(path, rows, columns, reading)


def _gathered(path: Path, rows: dict[str, list[_Row]], columns: _Columns, reading: Reading) -> SequenceData:
    """Makes the rows of each utterance a sample. Raises UserError as `Gathered`."""
    split = {name: same[0].split for name, same in rows.items()}
    notes = [f"columns that are not read: {', '.join(columns.others[:12])}"] if columns.others else []
    if "validation" not in split.values():
        split = {name: part for part, names in hold_out(split, reading.seed).items() for name in names}
        held_out = sum(part == "validation" for part in split.values())
        notes.append(f"validation: {held_out} of the training rows are held out, drawn by seed {reading.seed}")
    classes = None if columns.scores else sorted({same[0].target for same in rows.values()})
    gathered = Gathered(path, list(columns.features))
    for name, same in rows.items():
        target = _number(path, name, same[0].target) if classes is None else classes.index(same[0].target)
        gathered.add(split[name], name, _sequences(same, columns), target)
    return gathered.data(reading, classes, notes)


def _sequences(rows: list[_Row], columns: _Columns) -> dict[str, np.ndarray]:
    """Returns the steps of an utterance, modality -> [L, F], in their order; without those that lack the modality."""
    ordered = sorted(rows, key=lambda row: row.step)
    steps = {m: [row.values[m] for row in ordered if m in row.values] for m in columns.features}
    return {m: np.stack(values) for m, values in steps.items() if values}


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of each line, the header first; empty lines are left out.

    Raises UserError for a file without lines, one that is no table, and a line of another length than the header's.
    """
    text = io.StringIO(read_utf8(path, MOST_TEXT).removeprefix("\ufeff"), newline="")
    lines = csv.reader(text, strict=True)
    width = 0
    try:
        for cells in filter(None, lines):
            if width and len(cells) != width:
                raise UserError(f"{path}: line {lines.line_num} has {len(cells)} cells, expected {width}")
            width = width or len(cells)
            yield lines.line_num, cells
    except csv.Error as error:
        raise UserError(f"{path}: line {lines.line_num} is no line of a table ({error})") from error
    if not width:
        raise UserError(f"{path}: is empty, expected a header and rows")


def _columns(path: Path, header: Sequence[str]) -> _Columns:
    """Finds the columns. Raises UserError for those that are absent, there twice, or not numbered from 0 on."""
    names = [name.strip() for name in header]
    _check_names(path, names)
    places = {name: place for place, name in enumerate(names)}
    target = "score" if "score" in places else "label"
    own = ("id", "split", "step", target)
    numbered = _numbered(path, [name for name in names if name not in own])
    features = {m: [places[f"{m}_{i}"] for i in range(size)] for m, size in numbered.items()}
    read = {place for columns in features.values() for place in columns}
    others = [shown(name, 40) for name, place in places.items() if place not in read and name not in own]
    return _Columns(
        places["id"], places["split"], places[target], target == "score", places.get("step"), features, others
    )


def _check_names(path: Path, names: list[str]) -> None:
    """Raises UserError for a header of another delimiter, with a name twice, or without what each row has to say."""
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise UserError(f"{path}: has {shown(names[0], 80)!r} for its header, expected commas between the columns")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{path}: has two columns {shown(name, 80)!r}; give each a name of its own")
        seen.add(name)
    if not {"id", "split"} <= seen or len(seen & {"score", "label"}) != 1:
        expected = "expected id, split, one of score and label, and NAME_0 and so on"
        raise UserError(f"{path}: has the columns {shown(', '.join(names), 200)}; {expected}")


def _numbered(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Returns modality -> how many columns its features have; text, audio and vision first, if they are there.

    Raises UserError if there are none, for a name that no modality can have, and for numbers that leave one out.
    """
    found: dict[str, set[int]] = {}
    for match in filter(None, map(_FEATURE.fullmatch, names)):
        found.setdefault(match[1], set()).add(int(match[2]))
    found = {m: numbers for m, numbers in found.items() if 0 in numbers}
    if not found:
        raise UserError(f"{path}: has no columns of features, expected NAME_0, NAME_1 and so on for each modality")
    check_names(f"{path}: the columns NAME_0", list(found))
    for m, numbers in found.items():
        if max(numbers) >= min(len(numbers), MOST_FEATURES):
            raise UserError(f"{path}: {m} has columns up to {m}_{max(numbers)}, but only {len(numbers)} of them")
    ordered = [*(m for m in SENTIMENT_MODALITIES if m in found), *(m for m in found if m not in SENTIMENT_MODALITIES)]
    return {m: len(found[m]) for m in ordered}


def _row(what: str, cells: Sequence[str], columns: _Columns) -> _Row:
    """Reads a row. Raises UserError for a name or a split that is none, and for cells that are no numbers.

    what: the row, for error messages
    """
    name, split, target = (cells[place].strip() for place in (columns.id, columns.split, columns.target))
    if not name or len(name) > LONGEST_NAME:
        raise UserError(f"{what}: the id has {len(name)} letters, expected 1 to {LONGEST_NAME}")
    if split.lower() not in _SPLITS:
        raise UserError(f"{what}: split is {shown(split, 40)!r}, expected one of {', '.join(SPLITS)}")
    if not target:
        raise UserError(f"{what}: {shown(name, 80)} has no score or label; leave samples without one out")
    step = _numbers(what, "step", [cells[columns.step]])[0] if columns.step is not None else 0.0
    values = {}
    for m, places in columns.features.items():
        texts = [cells[place].strip() for place in places]
        if any(texts):
            values[m] = _numbers(what, m, texts)
    return _Row(name, _SPLITS[split.lower()], target, float(step), values)


def _numbers(what: str, column: str, texts: list[str]) -> np.ndarray:
    """Returns the numbers of cells, float32. Raises UserError for the first one that is none; NaN is one."""
    try:
        return np.array(texts, np.float64).astype(np.float32)
    except (ValueError, OverflowError):
        odd = next((text for text in texts if not _is_number(text)), texts[0])
        raise UserError(f"{what}: {column} has {shown(odd, 40)!r} in it, expected a number in each cell") from None


def _number(path: Path, name: str, text: str) -> float:
    if not _is_number(text):
        raise UserError(f"{path}: the score of {shown(name, 80)} is {shown(text, 40)!r}, expected a number")
    return float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
