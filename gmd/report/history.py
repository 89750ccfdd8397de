"""The history of a training, read from `metrics.jsonl` line by line.

The file can be gigabytes, of which a report shows some hundred points: what is kept does not grow with it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gmd.monitor.checked_records import read_records
from gmd.monitor.dominance import NORM, RISE, rises
from gmd.monitor.metrics_file import METRICS
from gmd.report.downsampling import DownsampledSeries
from gmd.subsets import all_subsets, subset_name

POINTS, MATRICES = 500, 60
Key = tuple[str, ...]  # the name of a curve: ("loss",), ("losses", objective), ("modality", quantity, modality), ...


class Epoch(NamedTuple):
    """A finished epoch.

    Attributes:
        number: counted from 1.
        step: the number of the step that it ended with.
        validation: the score; None if it was not validated, or if the score was NaN.
        metrics: name -> value of what was validated beside the score; empty without a validation.
        seconds: how long it took, validation included.
        memory_MB: the peak of the memory.
    """

    number: int
    step: int
    validation: float | None
    metrics: dict[str, float | None]
    seconds: float | None
    memory_MB: float | None


class BestValidation(NamedTuple):
    """The highest score of a training, and the number of the epoch that has it."""

    score: float
    epoch: int


class Start(NamedTuple):
    """A start of the training, or a time that it was gone on with, as its line in the file has it."""

    device: str
    threads: int
    torch: str
    gmd: str
    parameters: int
    time: str


@dataclass
class History:
    """A training so far.

    Attributes:
        modalities: those of the network.
        columns: curve -> its place in the vectors of `curves`.
        curves: the quantities of the steps, at most POINTS means of neighbouring steps.
        cosines: between the objectives' gradients: [T * T] means of each epoch, or of as many epochs as make at most
            MATRICES means.
        objectives: [T], the names of the objectives, one of each subset; empty if no step has cosines.
        epochs: those that are finished, in order.
        starts: the start, and each time that the training was gone on with; empty if the file does not record them.
        steps: how many there are.
        skipped: how many of them have a loss or gradient that is not finite, and so changed nothing.
        paced: how many are of a surgeon that takes weights now and then.
        refreshed: at how many of these it took them.
        failures: how many times the weights that it should have taken were not finite.
        last_step: the number of the latest step.
    """

    modalities: Sequence[str]
    columns: dict[Key, int] = field(default_factory=dict)
    curves: DownsampledSeries = field(default_factory=lambda: DownsampledSeries(POINTS))
    cosines: DownsampledSeries = field(default_factory=lambda: DownsampledSeries(MATRICES))
    objectives: list[str] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    steps: int = 0
    skipped: int = 0
    paced: int = 0
    refreshed: int = 0
    failures: int = 0
    last_step: int = 0

    @property
    def finished_epochs(self) -> int:
        """Returns how many epochs are finished."""
        return self.epochs[-1].number if self.epochs else 0

    def best_validation(self) -> BestValidation | None:
        """Returns the validation of the weights in best.pt, the first with the highest score; None without a score."""
        scored = [
            BestValidation(epoch.validation, epoch.number) for epoch in self.epochs if epoch.validation is not None
        ]
        return max(scored, key=lambda validation: validation.score, default=None)

    def keys(self, *beginning: str) -> list[Key]:
        """Returns the curves whose names begin so, in the order of their first occurrence."""
        return [key for key in self.columns if key[: len(beginning)] == beginning]

    def series(self, key: Key, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
        """Returns one curve as steps [n] and means [n], float64, NaN where there is nothing.

        What is looked at only where weights are taken has no steps between.

        points: n is at most that
        """
        steps, table = self.curves.table(points)
        if self.refreshed < self.paced and key[0] in ("conflicts", "projected", "modality", NORM):
            alike = self.keys(*key[:-1]) if len(key) > 1 else [key]
            looked_at = np.isfinite(table[:, [self.columns[other] for other in alike]]).any(axis=1)
            steps, table = steps[looked_at], table[looked_at]
        return steps, table[:, self.columns[key]]

    def add(self, line: dict) -> None:
        """Takes in a line of metrics.jsonl, of any kind, as `read_records` has checked it."""
        if line["kind"] == "step":
            self._add_step(line)
        elif line["kind"] == "epoch":
            self.epochs.append(_epoch(line, self.last_step))
        elif line["kind"] == "start":
            self.starts.append(Start(**{name: line[name] for name in Start._fields}))

    def _add_step(self, line: dict) -> None:
        """Takes in the line of a step: its quantities into `curves`, its cosines into `cosines`."""
        self.steps += 1
        self.skipped += not line["finite"]
        self.last_step = int(line["step"])
        if "refreshed" in line:
            self.paced += 1
            self.refreshed += line["refreshed"]
            self.failures = line.get("failures", 0)
        found = _quantities(line, self.modalities)
        for key in found:
            self.columns.setdefault(key, len(self.columns))
        values = np.full(len(self.columns), np.nan)
        values[[self.columns[key] for key in found]] = [math.nan if v is None else v for v in found.values()]
        self.curves.add(self.last_step, values)
        if line["cosines"]:
            self._add_cosines(line)

    def _add_cosines(self, line: dict) -> None:
        """Takes in a step's matrix of cosines, each objective in its own place.

        Which objectives a step has depends on the modalities of its batch; the others' rows and columns are NaN.
        """
        self.objectives = self.objectives or [subset_name(subset) for subset in all_subsets(self.modalities)]
        names, matrix = list(line["losses"]), np.array(line["cosines"], dtype=float)
        if names != self.objectives:
            places = [self.objectives.index(name) for name in names]
            whole = np.full((len(self.objectives),) * 2, np.nan)
            whole[np.ix_(places, places)] = matrix
            matrix = whole
        self.cosines.add(int(line["epoch"]), matrix.ravel())


def read_history(run: Path, modalities: Sequence[str]) -> History:
    """Reads the history of a run that has ended, still goes on, or was killed.

    A last line that was cut short is left out; without the file the history is empty.
    Raises UserError that names the line if another one is damaged.
    """
    history, path = History(modalities), run / METRICS
    if path.exists():
        for record, _ in read_records(path, modalities):
            history.add(record)
    return history


def _epoch(line: dict, step: int) -> Epoch:
    """Returns the epoch of a line, which may lack the memory, and call the metrics `per_region` as older runs do."""
    metrics = line.get("metrics") or line.get("per_region") or {}
    return Epoch(
        int(line["epoch"]),
        step,
        _number(line.get("validation")),
        {name: _number(value) for name, value in metrics.items()},
        _number(line.get("seconds")),
        _number(line.get("memory_MB")),
    )


def _number(value: float | None) -> float | None:
    """Returns the value as a float; None stays None."""
    return None if value is None else float(value)


def _quantities(line: dict, modalities: Sequence[str]) -> Mapping[Key, float | None]:
    """Returns the quantities of a step that become curves; the line may lack the learning rate and the dominance."""
    found: dict[Key, float | None] = {
        ("loss",): line["loss"],
        ("conflicts",): line["conflicts"],
        ("lr",): line.get("lr"),
    }
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
