"""The labels of a manifest as targets: classes by their numbers, or numbers."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gmd.data.manifest.inputs import Output
from gmd.data.manifest.table import Row
from gmd.errors import UserError, shown

Target = Literal["auto", "class", "number"]

SHOWN = 5  # rows or classes that a message names
MANY_CLASSES = 20  # of whole numbers, from which on they may be no classes
LARGEST = 1e18  # of a number, whose square float32 holds
_DECIMAL_COMMA = re.compile(r"^([+-]?\d*),(\d+)$")


def are_numbers(path: Path, output: str, labels: Sequence[str], target: Target) -> bool:
    """Returns whether labels are numbers rather than classes.

    labels: of all rows; "" where there is none. target: "auto": they are if all are written as numbers and at least
        one of them is no whole number
    Raises UserError if there is no label at all, and for decimal commas.
    """
    there = list(filter(None, labels))
    if not there:
        raise UserError(f"{path}: the column of {output} is empty, expected a label in each row")
    if target == "class":
        return False
    values = [_number(_DECIMAL_COMMA.sub(r"\1.\2", label)) for label in there]
    written = [value for value in values if value is not None]
    commas = list(filter(_DECIMAL_COMMA.fullmatch, there))
    if commas and len(written) == len(there):
        raise UserError(f"{path}: {output}: {shown(commas[0], 40)} is written with a comma; write numbers as 0.5")
    return target == "number" or (len(written) == len(there) and not all(map(float.is_integer, written)))


def read_targets(
    path: Path, names: Sequence[str], splits: dict[str, list[Row]], numbers: Sequence[bool]
) -> tuple[tuple[Output, ...], dict[str, list[Tensor]], list[str]]:
    """Turns labels into targets. All classes come from the training rows.

    names: of the outputs; splits: the rows of each split; numbers: whether each output is a number
    returns the outputs, split -> targets (int64 [] or float32 [] for one output, float32 [O] for several, NaN where
        there is no label), and notes for the user
    Raises UserError for a row without any label, a number that is none, a class that no training row has, and an output
        with fewer than two classes.
    """
    for split, rows in splits.items():
        _check_labelled(path, split, rows)
    outputs, notes = [], list[str]()
    for i, (name, number) in enumerate(zip(names, numbers, strict=True)):
        labels = {split: [row.labels[i] for row in rows] for split, rows in splits.items()}
        if not number:
            notes += _class_notes(name, labels)
        outputs.append(Output(name, None if number else _classes(path, name, labels["train"])))
        _check_labels(path, i, outputs[-1], splits)
    targets = {split: [_target(row, outputs) for row in rows] for split, rows in splits.items()}
    return tuple(outputs), targets, notes


def _check_labelled(path: Path, split: str, rows: Sequence[Row]) -> None:
    if empty := [row for row in rows if not any(row.labels)]:
        raise UserError(f"{path}: {len(empty)} rows of {split} have no label ({_listed(empty)}); take them out")


def _check_labels(path: Path, i: int, output: Output, splits: dict[str, list[Row]]) -> None:
    """Raises UserError for labels of output number i that are no numbers, or classes that no training row has."""
    for split, rows in splits.items():
        there = [row for row in rows if row.labels[i]]
        if output.classes is None:
            if wrong := [row for row in there if not _usable(row.labels[i])]:
                found = shown(wrong[0].labels[i], 40)
                raise UserError(
                    f"{path}: line {wrong[0].line}: {output.name} is {found!r}, expected a number between -{LARGEST:g} "
                    f"and {LARGEST:g} ({len(wrong)} such rows); --target class is for classes"
                )
            continue
        if unseen := [row for row in there if row.labels[i] not in output.classes]:
            classes = sorted({row.labels[i] for row in unseen})
            raise UserError(
                f"{path}: {output.name}: no training row has {_quoted(classes)}, which {len(unseen)} rows of {split} "
                f"have ({_listed(unseen)}); take these rows out, or give training some"
            )


def _classes(path: Path, name: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Returns the classes of the training rows: numbers in their order, or texts in that of their letters."""
    found = {label for label in labels if label}
    if len(found) < 2:
        listed = _quoted(sorted(found)) or "none"
        raise UserError(f"{path}: {name}: classes of the training rows: {listed}; expected two at least")
    values = {label: _number(label) for label in found}
    if all(value is not None and math.isfinite(value) for value in values.values()):
        return tuple(sorted(found, key=lambda label: (values[label], label)))
    return tuple(sorted(found))


def _class_notes(name: str, labels: dict[str, list[str]]) -> list[str]:
    """Returns notes on classes that are trained on and never tested, and on many classes of whole numbers."""
    counts = {split: Counter(filter(None, found)) for split, found in labels.items()}
    notes = []
    for split in ("validation", "test"):
        if absent := sorted(counts["train"].keys() - counts[split].keys()):
            notes.append(f"{name}: no row of {split} is of class {_quoted(absent)}, which training has")
    classes = counts["train"]
    if len(classes) > MANY_CLASSES and all(_number(label) is not None for label in classes):
        notes.append(f"{name}: taken for {len(classes)} classes, all numbers; --target number takes them for numbers")
    return notes


def _target(row: Row, outputs: Sequence[Output]) -> Tensor:
    values = [_value(label, output) for label, output in zip(row.labels, outputs, strict=True)]
    if len(outputs) > 1:
        return torch.tensor(values, dtype=torch.float32)
    return torch.tensor(values[0], dtype=torch.float32 if outputs[0].classes is None else torch.int64)


def _value(label: str, output: Output) -> float:
    if not label:
        return math.nan
    return float(label) if output.classes is None else output.classes.index(label)


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


def _usable(label: str) -> bool:
    value = _number(label)
    return value is not None and abs(value) <= LARGEST


def _listed(rows: Sequence[Row]) -> str:
    more = ", ..." if len(rows) > SHOWN else ""
    return ", ".join(f"line {row.line}: {shown(row.name, 40)}" for row in rows[:SHOWN]) + more


def _quoted(classes: Sequence[str]) -> str:
    more = ", ..." if len(classes) > SHOWN else ""
    return ", ".join(shown(repr(label), 40) for label in classes[:SHOWN]) + more
