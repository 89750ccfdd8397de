"""What a report says in words and figures: the state of the run, what it cost, how it was configured, on which data."""

import shlex
from collections.abc import Sequence
from dataclasses import MISSING, fields
from statistics import median
from typing import NamedTuple

from gmd.config import TrainConfig
from gmd.config.train_config import words
from gmd.report.curves import best_validation
from gmd.report.history import History

NOT_RECORDED = "not recorded"
SPLITS = ("train", "validation", "test")


class Fact(NamedTuple):
    name: str
    value: str


class Option(NamedTuple):
    """`changed`: differs from the default, or has none."""

    name: str
    value: str
    changed: bool


class Split(NamedTuple):
    """The cases or samples of one split; `patients` is None where the run does not say whose they are."""

    name: str
    names: Sequence[str]
    patients: int | None


def state(history: History, config: TrainConfig) -> str:
    """How far the training is, and what to do if that is not to the end."""
    done = history.epochs[-1]["epoch"] if history.epochs else 0
    skipped = f" {history.skipped} of {history.steps} steps were skipped: not finite." if history.skipped else ""
    if done >= config.epochs:
        return f"Trained for all {done} epochs.{skipped}"
    if _out_of_patience(history, config):
        return f"Ended by --patience {config.patience} after {done} of {config.epochs} epochs.{skipped}"
    return (
        f"{done} of {config.epochs} epochs are finished: the training goes on, or was interrupted. In that case "
        f"add --resume to the command below.{skipped}"
    )


def _out_of_patience(history: History, config: TrainConfig) -> bool:
    """As many validations since the best one, or at all if none was a number: NaN is None here, but has metrics."""
    best = best_validation(history.epochs)
    validated = [e for e in history.epochs if e["metrics"] or e["validation"] is not None]
    since = [e for e in validated if best is None or e["epoch"] > best["epoch"]]
    return config.patience is not None and len(since) >= config.patience


def resources(history: History) -> list[Fact]:
    """Of the whole training; what older runs did not record is said to be so."""
    seconds = [epoch["seconds"] for epoch in history.epochs if epoch["seconds"] is not None]
    memory = [epoch["memory_MB"] for epoch in history.epochs if epoch["memory_MB"] is not None]
    start = history.starts[-1] if history.starts else {}
    per_epoch = history.epochs[-1]["step"] / len(history.epochs) if history.epochs else 0
    step = f"{median(seconds) / per_epoch:.3g} s" if seconds and per_epoch else NOT_RECORDED
    # of a process the peak is never reset: that of a fold is also that of the folds before it
    of_what = " of the process" if start.get("device", "").startswith("CPU") else ""
    known = {
        "Time of all epochs": duration(sum(seconds)) if seconds else NOT_RECORDED,
        "Median epoch": duration(median(seconds)) if seconds else NOT_RECORDED,
        "Median epoch, per step": step,
        "Peak memory": f"{max(memory):,.0f} MB{of_what}" if memory else NOT_RECORDED,
        "Device": start.get("device", NOT_RECORDED),
        "Threads": start.get("threads", NOT_RECORDED),
        "Parameters": f"{start['parameters']:,}" if start else NOT_RECORDED,
        "Versions": f"gmd {start['gmd']}, torch {start['torch']}" if start else NOT_RECORDED,
        "Started": start_times(history) or NOT_RECORDED,
    }
    return [Fact(name, str(value)) for name, value in known.items()]


def start_times(history: History) -> str:
    first, *again = [line["time"] for line in history.starts] or [""]
    return first + "".join(f"; gone on with {time}" for time in again)


def duration(seconds: float) -> str:
    """Two units at most, as one would say it."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def options(config: TrainConfig) -> list[Option]:
    """All of them, those that differ from their defaults first."""
    found = [Option(f.name, _told(getattr(config, f.name)), _changed(config, f)) for f in fields(config)]
    return sorted(found, key=lambda option: not option.changed)


def command(config: TrainConfig) -> str:
    """The line that makes this run again: only what differs from the defaults."""
    parts = ["gmd", "train", config.TASK]
    for field in fields(config):
        value = getattr(config, field.name)
        if not _changed(config, field) or field.name == "resume":
            continue
        parts.append(f"--{field.name.replace('_', '-')}")
        parts += [] if value is True else map(str, value) if isinstance(value, tuple) else [str(value)]
    return shlex.join(parts)


def _told(value: object) -> str:
    named = {None: "not set", (): "none", True: "yes", False: "no"}
    return named[value] if isinstance(value, bool) or value in (None, ()) else words(value)


def _changed(config: TrainConfig, field) -> bool:
    return field.default is MISSING or getattr(config, field.name) != field.default


def splits(described: dict) -> list[Split]:
    """From what a run's splits.json says."""
    return [_split(name, described[name]) for name in SPLITS]


def _split(name: str, members: Sequence[dict]) -> Split:
    patients = {member.get("patient") for member in members}
    return Split(name, [member["name"] for member in members], None if None in patients else len(patients))


def data_facts(described: dict) -> list[Fact]:
    """Where the data are, which fold this is, and what the readers said of them."""
    known = [Fact("Data", described["data"])]
    if described.get("folds") is not None:
        known.append(Fact("Fold", f"{described['fold']} of {described['folds']}, counted from 0"))
    about = described.get("about") or {}
    if "features" in about:
        known.append(Fact("Features", ", ".join(f"{m} {size}" for m, size in about["features"].items())))
    if about.get("classes"):
        known.append(Fact("Classes", ", ".join(map(str, about["classes"]))))
    return known + [Fact("Note", note) for note in described.get("notes", ())]
