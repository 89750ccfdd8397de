"""Writes, cuts and reads `metrics.jsonl` in a run's folder, which has a line of JSON for each start, step and epoch."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from gmd.errors import UserError
from gmd.monitor.checked_records import read_records

METRICS = "metrics.jsonl"


def write_record(metrics: TextIO, record: dict) -> None:
    """Appends a line of JSON, with null for NaN and infinity. It is in the file at once, for those who look on."""
    metrics.write(json.dumps(_without_nan(record), allow_nan=False) + "\n")
    metrics.flush()


def drop_metrics_after(run: Path, epochs: int, steps: int) -> list[dict]:
    """Cuts off the lines of steps and epochs that no checkpoint holds, since these are made, and written, once more.

    Makes the file if there is none.

    Args:
        run: the run's folder.
        epochs: finished, as the checkpoint says.
        steps: finished, as the checkpoint says.

    Returns:
        The last line of a step that stays, and the lines after it.

    Raises UserError as `read_records`; the file is as it was then.
    """
    path = run / METRICS
    path.touch()
    kept = 0
    last: list[dict] = []
    for record, length in read_records(path):
        if _is_after(record, epochs, steps):
            break
        kept += length
        last = [record] if record["kind"] == "step" else [*last, record]
    # in one go, so that a kill leaves the file as it was or as it should be
    os.truncate(path, kept)
    return last


def read_metrics(path: Path) -> tuple[list[dict], list[dict]]:
    """Returns the lines of steps, and those of epochs.

    Raises UserError if no step has been recorded, or as `read_records`.
    """
    lines = [record for record, _ in read_records(path)] if path.exists() else []
    steps = [line for line in lines if line["kind"] == "step"]
    if not steps:
        raise UserError(f"{path}: no step recorded, so there is nothing to draw; train the run first")
    return steps, [line for line in lines if line["kind"] == "epoch"]


def check_metrics(run: Path, modalities: Sequence[str]) -> None:
    """Raises UserError for a line that no training of these modalities writes; a run may have none at all."""
    if (run / METRICS).exists():
        for _ in read_records(run / METRICS, modalities):
            pass


def _is_after(record: dict, epochs: int, steps: int) -> bool:
    return record.get("step", 0) > steps or (record["kind"] == "epoch" and record["epoch"] > epochs)


def _without_nan(value: object) -> object:
    """Returns the value with None for NaN and infinity, through dictionaries and lists."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
