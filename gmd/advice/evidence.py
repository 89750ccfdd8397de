"""What was measured of the methods, in a table that comes with gmd: `evidence.csv`, made from the committed results."""

import csv
from importlib import resources
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One method against another on one data set, seeds paired. Points are hundredths of the score.

    Attributes:
        data: the data set, in words.
        score: what the points are of: "Dice" or "accuracy".
        conflicts: share of the pairs of objectives in conflict, as `Conflict.share`, mean over the seeds; None where
            it was not measured.
        weakest: the skill of the modality that tells least by itself to a network trained by `enumerate`; None where it
            was not measured.
        method, against: what is compared.
        seeds: how many pairs of runs.
        mean, mean_low, mean_high: points more in the mean over the subsets, and the ends of its 95 % interval.
        full, full_low, full_high: the same with all modalities.
    """

    data: str
    score: str
    conflicts: float | None
    weakest: float | None
    method: str
    against: str
    seeds: int
    mean: float
    mean_low: float
    mean_high: float
    full: float
    full_low: float
    full_high: float


def findings() -> list[Finding]:
    """Returns the rows of the table."""
    text = resources.files("gmd.advice").joinpath("evidence.csv").read_text(encoding="utf-8")
    return [_finding(row) for row in csv.DictReader(text.splitlines())]


def _finding(row: dict[str, str]) -> Finding:
    known, words = ("conflicts", "weakest"), ("data", "score", "method", "against")
    values: dict[str, Any] = {name: float(text) for name, text in row.items() if name not in (*known, *words)}
    values |= {name: float(row[name]) if row[name] else None for name in known}
    values |= {name: row[name] for name in words} | {"seeds": int(row["seeds"])}
    return Finding(**values)
