"""What `metrics.jsonl` tells, read line by line: it can be gigabytes, of which a report shows some hundred points."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gmd.errors import UserError
from gmd.monitor.dominance import NORM, RISE, rises
from gmd.monitor.metrics_file import METRICS
from gmd.report.downsampling import Thinned
from gmd.subsets import all_subsets, subset_name

POINTS, MATRICES = 500, 60
STARTED = ("device", "threads", "torch", "gmd", "parameters", "time")  # what a line of the start says
Key = tuple[str, ...]  # ("loss",), ("losses", objective), ("modality", quantity, modality), ...


@dataclass
class History:
    """A training so far.

    Attributes:
        modalities: that the network has.
        columns: what is where in `curves`.
        curves: of the steps, at most POINTS means.
        cosines: of the objectives' gradients, [T * T] means of each epoch, or of as many as make at most MATRICES.
        objectives: [T] their names, of all subsets; empty without cosines.
        epochs: the lines of finished epochs, each with the "step" that it ended with.
        starts: the lines of the start and of each time that it was gone on with; none in runs of before these were.
        steps, skipped: how many; those with a loss or gradient that is not finite are skipped.
        last_step: the number of the latest one.
    """

    modalities: Sequence[str]
    columns: dict[Key, int] = field(default_factory=dict)
    curves: Thinned = field(default_factory=lambda: Thinned(POINTS))
    cosines: Thinned = field(default_factory=lambda: Thinned(MATRICES))
    objectives: list[str] = field(default_factory=list)
    epochs: list[dict] = field(default_factory=list)
    starts: list[dict] = field(default_factory=list)
    steps: int = 0
    skipped: int = 0
    last_step: int = 0

    def keys(self, *beginning: str) -> list[Key]:
        """Those that occur, in the order of their first occurrence."""
        return [key for key in self.columns if key[: len(beginning)] == beginning]

    def series(self, key: Key, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
        """Steps [n] and means [n] of one quantity, NaN where there is nothing."""
        steps, table = self.curves.table(points)
        return steps, table[:, self.columns[key]]

    def add(self, line: dict) -> None:
        """A line of metrics.jsonl, of any kind. Raises KeyError, TypeError or ValueError if it is not one."""
        if line["kind"] == "step":
            self._add_step(line)
        elif line["kind"] == "epoch":
            self.epochs.append(_epoch(line) | {"step": self.last_step})
        elif line["kind"] == "start":
            self.starts.append({name: line[name] for name in STARTED})

    def _add_step(self, line: dict) -> None:
        self.steps += 1
        self.skipped += not line["finite"]
        self.last_step = int(line["step"])
        found = _quantities(line, self.modalities)
        for key in found:
            self.columns.setdefault(key, len(self.columns))
        values = np.full(len(self.columns), np.nan)
        values[[self.columns[key] for key in found]] = [math.nan if v is None else v for v in found.values()]
        self.curves.add(self.last_step, values)
        if line["cosines"]:
            self._add_cosines(line)

    def _add_cosines(self, line: dict) -> None:
        """Which objectives a step has depends on its batch: each goes to its own place by its name."""
        self.objectives = self.objectives or [subset_name(subset) for subset in all_subsets(self.modalities)]
        names, matrix = list(line["losses"]), np.array(line["cosines"], dtype=float)
        if matrix.shape != (len(names),) * 2:
            raise ValueError(f"{len(names)} losses, but cosines {list(matrix.shape)}")
        if names != self.objectives:
            places = [self.objectives.index(name) for name in names]
            whole = np.full((len(self.objectives),) * 2, np.nan)
            whole[np.ix_(places, places)] = matrix
            matrix = whole
        self.cosines.add(int(line["epoch"]), matrix.ravel())


def read_history(run: Path, modalities: Sequence[str]) -> History:
    """Of a run that has ended, still goes on, or was killed: a last line that was cut short is left out.

    Raises UserError that names the line if another one is damaged.
    """
    history, path = History(modalities), run / METRICS
    if not path.exists():
        return history
    with open(path, "rb") as file:
        for number, text in enumerate(file, start=1):
            try:
                history.add(json.loads(text))
            except (ValueError, KeyError, TypeError) as error:
                if not text.endswith(b"\n"):
                    break
                raise UserError(
                    f"{path}, line {number}: not a line that gmd train writes ({type(error).__name__}: {error}); "
                    "restore the file from a copy, or take the line out"
                ) from error
    return history


def _epoch(line: dict) -> dict:
    """What a report tells of an epoch. Older runs have no memory, and call the metrics per_region."""
    numbers = {name: line.get(name) for name in ("validation", "seconds", "memory_MB")}
    metrics = line.get("metrics") or line.get("per_region") or {}
    return {"epoch": int(line["epoch"]), "metrics": _floats(metrics)} | _floats(numbers)


def _floats(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else float(value) for name, value in values.items()}


def _quantities(line: dict, modalities: Sequence[str]) -> Mapping[Key, float | None]:
    """What of a step goes into curves. Runs of before there was a monitor have no dominance, older ones no rate."""
    found = {("loss",): line["loss"], ("conflicts",): line["conflicts"], ("lr",): line.get("lr")}
    found |= {("losses", name): value for name, value in line["losses"].items()}
    if not line["finite"]:
        return found
    missed = rises(line, modalities) if len(modalities) > 1 else {}
    found |= {("modality", RISE, m): value for m, value in missed.items()}
    dominance = line.get("dominance")
    if not dominance:
        return found
    for quantity, values in dominance["modality"].items():
        found |= {("modality", quantity, m): value for m, value in values.items()}
    together = dominance["norms"].keys() & {subset_name(tuple(modalities)), "mean"}
    found |= {(NORM, name): dominance["norms"][name] for name in together}
    return found | {("projected",): dominance["projected"]}
