"""Runs by the commands that users have: `gmd train` and `gmd evaluate`, called in this process.

What a training was like is read from its `metrics.jsonl`. The network that is scored is that of the best validation.
"""

import csv
import json
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import NamedTuple

from bench.evidence.task import Outcome, Request
from bench.measure.sentiment import call_gmd
from gmd.monitor.metrics_file import METRICS


class Trained(NamedTuple):
    """A finished run: its folder, and the processor seconds of `gmd train`, reading and validating included."""

    run: Path
    cpu_s: float


def train(request: Request, task: str, options: Mapping[str, object]) -> Trained:
    """Trains by `gmd train TASK` with these options, those of the arm and those of the setting."""
    run = request.folder / "run"
    given = {**options, **request.arm.options, **request.setting, "seed": request.seed, "device": "cpu", "out": run}
    start = time.process_time()  # not the clock: others may have the processor meanwhile
    call_gmd("train", task, *command_line(given))
    return Trained(run, time.process_time() - start)


def command_line(options: Mapping[str, object]) -> list[str]:
    """Returns options as words: {"batch": 8, "no_check": True} as --batch 8 --no-check; None is left out."""
    words = []
    for name, value in options.items():
        values = value if isinstance(value, tuple) else () if value is True else (value,)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def outcome(trained: Trained, scores: Mapping[str, float]) -> Outcome:
    """Returns what a run came to, with its scores on the test data."""
    records = read_metrics(trained.run)
    steps = [record for record in records if record["kind"] == "step"]
    validations = [record["validation"] for record in records if record.get("validation") is not None]
    compared = [step for step in steps if step["conflicts"] is not None]
    return Outcome(
        max(validations),
        scores,
        fmean(step["conflicts"] for step in compared) if compared else None,
        geometric_mean(_ratio(step["dominance"]["norms"].values()) for step in compared) if compared else None,
        len(steps),
        trained.cpu_s,
    )


def read_metrics(run: Path) -> list[dict]:
    """Returns the lines of a run's `metrics.jsonl`."""
    return [json.loads(line) for line in (run / METRICS).read_text(encoding="utf-8").splitlines()]


def _ratio(norms: Collection[float]) -> float:
    """Returns the longest gradient of an objective by the shortest; one of zero counts as 1e-6 of the longest."""
    longest = max(norms)
    return longest / max(min(norms), 1e-6 * longest) if longest else 1.0


def evaluate(trained: Trained, column: str) -> Outcome:
    """Scores by `gmd evaluate`: a column of its table of subsets, in [0, 1]."""
    call_gmd("evaluate", str(trained.run))
    with open(trained.run / "evaluation" / "table.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return outcome(trained, {row["subset"]: float(row[column]) for row in rows if row["subset"] != "mean"})
