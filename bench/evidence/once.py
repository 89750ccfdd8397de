"""One run: a network is trained and scored, and leaves its row, or why it failed."""

import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.evidence.plan import TUNING_SEED
from bench.evidence.store import Key, Row, Store
from bench.evidence.task import Outcome, Request, Task
from bench.measure.arms import Arm
from gmd.data.text_files import write_json
from gmd.files import replacing
from gmd.subsets import all_subsets, subset_name


class Order(NamedTuple):
    """What a process is asked to do: a run, and where it leaves what.

    Attributes:
        run: of the task.
        request: its own folder is made when the run begins.
        subsets: the names of those that are to be scored.
        head: the columns that are known before.
        tail: the columns of the machine.
        row: the file for the row.
        failed: the file for a traceback.
        in_work: a folder for the run's own folder.
    """

    key: Key
    run: Callable[[Request], Outcome]
    request: Request
    subsets: tuple[str, ...]
    head: Row
    tail: Mapping[str, object]
    row: Path
    failed: Path
    in_work: Path


def order(store: Store, task: Task, arm: Arm, key: Key, data: Path, host: Mapping[str, object]) -> Order:
    """Returns the order for a run of a task."""
    setting = dict(task.settings(arm)[key.candidate])
    head = {**key._asdict(), "base": arm.base, "setting": setting}
    request = Request(arm, setting, key.seed, data, store.in_work, store.shared(task.name))
    subsets = tuple(map(subset_name, all_subsets(task.modalities)))
    tail = {"code": store.code, **host}
    return Order(key, task.run, request, subsets, head, tail, store.row(key), store.traceback(key), store.in_work)


def fulfil(order: Order) -> str | None:
    """Does a run. Returns None and leaves a row, or leaves a traceback and returns its last line."""
    order.in_work.mkdir(parents=True, exist_ok=True)
    order.request.shared.mkdir(parents=True, exist_ok=True)
    try:
        start = time.monotonic()
        with TemporaryDirectory(dir=order.in_work, ignore_cleanup_errors=True) as folder:
            outcome = order.run(order.request._replace(folder=Path(folder)))
        if order.key.seed < TUNING_SEED:
            check(outcome, order.subsets)
        found: Row = {name: finite_or_none(value) for name, value in asdict(outcome).items() if name != "scores"}
        found["scores"] = {name: finite_or_none(score) for name, score in outcome.scores.items()}
        write_json(order.row, order.head | found | {"wall_s": time.monotonic() - start} | dict(order.tail))
    except Exception as error:
        with replacing(order.failed) as unfinished:
            unfinished.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        return f"{type(error).__name__}: {error}"
    order.failed.unlink(missing_ok=True)
    return None


def check(outcome: Outcome, subsets: tuple[str, ...]) -> None:
    """Raises ValueError unless there is a score in [0, 1] for each subset, and for nothing else."""
    if set(outcome.scores) != set(subsets):
        raise ValueError(f"expected scores of {', '.join(subsets)}, got {', '.join(outcome.scores)}")
    for name, score in outcome.scores.items():
        if not 0 <= score <= 1:
            raise ValueError(f"the score of {name} is {score}, expected one in [0, 1]")


def finite_or_none(value: float | None) -> float | None:
    """Returns a number as JSON has it: those of a training that diverged are none."""
    return value if value is not None and math.isfinite(value) else None
