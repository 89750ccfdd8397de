"""`metrics.jsonl` in a run's folder: a line of JSON for each start, step and epoch."""

import json
import math
from pathlib import Path
from typing import TextIO

from gmd.errors import UserError

METRICS = "metrics.jsonl"


def write_record(metrics: TextIO, record: dict) -> None:
    """One line of JSON, where NaN and infinity are null; in the file at once, for those who look on."""
    metrics.write(json.dumps(_without_nan(record), allow_nan=False) + "\n")
    metrics.flush()


def drop_metrics_after(run: Path, epochs: int, steps: int) -> list[dict]:
    """Cuts off the lines of steps and epochs that no checkpoint holds: they are made, and written, once more.

    epochs, steps: finished, as the checkpoint says.
    returns the last line of a step that stays, and those after it.
    """
    path = run / METRICS
    path.touch()
    kept, last = 0, []
    with open(path, "rb+") as file:
        for line in file:
            record = _read_line(line)
            if (
                record is None
                or record.get("step", 0) > steps
                or (record["kind"] == "epoch" and record["epoch"] > epochs)
            ):
                break
            kept += len(line)
            last = [record] if record["kind"] == "step" else [*last, record]
        # in one go, so that a kill leaves the file as it was or as it should be
        file.truncate(kept)
    return last


def read_metrics(path: Path) -> tuple[list[dict], list[dict]]:
    """The lines of steps, and those of epochs."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    if not steps:
        raise UserError(f"{path}: no step recorded, so there is nothing to draw; train the run first")
    return steps, [line for line in lines if line["kind"] == "epoch"]


def _read_line(line: bytes) -> dict | None:
    """None if a kill or a full disk has cut it short; it belongs to what no checkpoint holds then."""
    return json.loads(line) if line.endswith(b"\n") else None


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
