"""The lines of `metrics.jsonl`, as anybody may have written them: each is checked before its numbers are used."""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path

from gmd.data.text_files import LARGEST, brief, damaged, expect, parse_json
from gmd.errors import UserError, shown
from gmd.files import open_regular
from gmd.subsets import all_subsets, subset_name

MOST_LINE = 2**24  # bytes; a step with the cosines of 63 objectives has 40,000


def read_records(path: Path, modalities: Sequence[str] | None = None) -> Iterator[tuple[dict, int]]:
    """Reads the lines of a `metrics.jsonl` one by one, of which there can be gigabytes.

    A last line without an end, which a kill or a full disk has cut short, is left out.

    Args:
        path: of the file.
        modalities: those of the run, which the lines must be about; None: those that the lines name.

    Yields each line's record, and how many bytes it has in the file.
    Raises UserError, which names the line, for one that no training writes; FileNotFoundError.
    """
    check = RecordCheck(modalities)
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(MOST_LINE):
                number += 1
                if not line.endswith(b"\n") and len(line) < MOST_LINE:
                    return
                yield check.checked(line), len(line)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend that, or restore it from a copy") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        reason = f"line {number}: not a line that gmd train writes ({shown(error, 200)})"
        raise damaged(path, reason, "Restore it from a copy, or take the line out") from error


class RecordCheck:
    """What the lines of a file have to be, each by itself and after those before it.

    Args:
        modalities: those of the run; None: any.
    """

    def __init__(self, modalities: Sequence[str] | None):
        self._modalities = None if modalities is None else set(modalities)
        self._names = None if modalities is None else {*map(subset_name, all_subsets(modalities)), "mean"}
        self._last = {"step": 0, "epoch": 0}

    def checked(self, line: bytes) -> dict:
        """Returns the record of a line. Raises ValueError, which says what is wrong with it."""
        record = parse_json(line)
        kind = str(record.get("kind")) if isinstance(record, dict) else ""
        expect(kind in ("start", "step", "epoch"), "line", record, "a start, a step or an epoch")
        assert isinstance(record, dict)
        if kind == "start":
            _check_start(record)
        else:
            self._check_order(record, kind)
            (self._check_step if kind == "step" else _check_epoch)(record)
        return record

    def _check_order(self, record: dict, kind: str) -> None:
        """Steps and epochs are counted: those of two trainings that write into one file are not."""
        for name in {"epoch", kind}:
            expect(_is_count(record.get(name)) and record[name] > 0, name, record.get(name), "a number from 1 on")
        number, before = record[kind], self._last[kind]
        expect(number > before, kind, number, f"more than {before}, which is before it")
        self._last[kind] = number

    def _check_step(self, record: dict) -> None:
        losses, finite = record.get("losses"), record.get("finite")
        expect(isinstance(finite, bool), "finite", finite, "true or false")
        self._check_numbers(losses, "losses", self._names)
        assert isinstance(losses, dict)
        known = [*losses.values(), record.get("loss")]
        expect(len(losses) > 0 and not (finite and None in known), "losses", losses, "numbers, as it is finite")
        for name in ("loss", "conflicts"):
            expect(name in record, name, "nothing", "a number or null")
        for name in ("loss", "conflicts", "lr", "scale", "norm"):
            _check_number(record.get(name), name)
        _check_cosines(record.get("cosines"), len(losses))
        expect(isinstance(record.get("refreshed", True), bool), "refreshed", record.get("refreshed"), "true or false")
        for name in ("age", "failures"):
            expect(_is_count(record.get(name, 0)), name, record.get(name), "a number from 0 on")
        if record.get("dominance") is not None:
            self._check_dominance(record["dominance"])

    def _check_dominance(self, dominance: object) -> None:
        keys = ("norms", "weights", "projected", "modality")
        whole = isinstance(dominance, dict) and all(key in dominance for key in keys)
        expect(whole, "dominance", dominance, ", ".join(keys))
        assert isinstance(dominance, dict)
        self._check_numbers(dominance["norms"], "dominance, norms", self._names)
        if dominance["weights"] is not None:
            self._check_numbers(dominance["weights"], "dominance, weights", self._names)
        _check_number(dominance["projected"], "dominance, projected")
        quantities = dominance["modality"]
        expect(isinstance(quantities, dict), "dominance, modality", quantities, "quantities of modalities")
        for name, values in quantities.items():
            self._check_numbers(values, f"dominance, {brief(name)}", self._modalities)

    @staticmethod
    def _check_numbers(values: object, name: str, known: Collection[str] | None) -> None:
        expect(isinstance(values, dict), name, values, "numbers by name")
        assert isinstance(values, dict)
        if known is not None and (odd := [key for key in values if key not in known]):
            expect(False, name, odd[0], f"names of the run's modalities, {brief(sorted(known, key=len))}")
        expect(_are_numbers(values.values()), name, values, "numbers")


def _check_start(record: dict) -> None:
    for name in ("device", "torch", "gmd", "time"):
        expect(isinstance(record.get(name), str), name, record.get(name), "a text")
    for name in ("epoch", "step", "threads", "parameters"):
        expect(_is_count(record.get(name)), name, record.get(name), "a number from 0 on")


def _check_epoch(record: dict) -> None:
    expect("validation" in record, "validation", "nothing", "a number or null")
    for name in ("validation", "seconds", "memory_MB"):
        _check_number(record.get(name), name)
    for name in ("metrics", "per_region"):  # as older runs call them
        if record.get(name) is not None:
            RecordCheck._check_numbers(record[name], name, None)
    expect(_is_count(record.get("skipped", 0)), "skipped", record.get("skipped"), "a number from 0 on")


def _check_cosines(cosines: object, count: int) -> None:
    """cosines: [T][T] for the `count` losses of the step; None if they were not compared"""
    if cosines is None:
        return
    square = isinstance(cosines, list) and all(isinstance(row, list) and len(row) == count for row in cosines)
    good = square and len(cosines) == count and _are_numbers(chain.from_iterable(cosines))  # type: ignore[arg-type]
    expect(good, "cosines", cosines, f"{count} x {count} numbers, as there are losses")


def _check_number(value: object, name: str) -> None:
    expect(_are_numbers([value]), name, value, "a number")


def _are_numbers(values: Collection[object] | Iterator[object]) -> bool:
    """Returns whether all values are numbers, or None, which stands for NaN and infinity."""
    return all(value is None or (type(value) in (int, float) and abs(value) < LARGEST) for value in values)  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
