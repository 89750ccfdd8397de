"""The CSV files of the evidence, from the rows that are there: `bench.tables.evidence` reads them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean

from bench.evidence.plan import TUNING_SEED
from bench.evidence.store import Key, Row, Store
from bench.evidence.task import Task
from bench.evidence.tuning import candidates, chosen, is_tuned
from bench.measure.arms import Arm
from bench.measure.files import write_csv
from gmd.subsets import subset_name

RUNS, SUBSETS, TUNING, TASKS = (f"evidence{name}.csv" for name in ("", "_subsets", "_tuning", "_tasks"))
COUNTED = ("conflicts", "ratio", "steps", "cpu_s")
NOT_OF_THE_HOST = frozenset(("validation", "scores", "candidate", "wall_s"))


def write_tables(out: Path, tasks: Sequence[Task], rows: Mapping[Key, Row], store: Store) -> list[Path]:
    """Writes what is there of all tasks, in their order, if anything is. Returns the files that were written."""
    finals = list(chain.from_iterable(_finals(task, rows, store) for task in tasks))
    there = {row["task"] for row in finals}
    tables = {
        RUNS: [_run(row, tasks) for row in finals],
        SUBSETS: list(chain.from_iterable(map(_subsets, finals))),
        TUNING: list(chain.from_iterable(_tuning(task, rows, store) for task in tasks)),
        TASKS: [_task(task) for task in tasks if task.name in there],
    }
    written = {out / name: table for name, table in tables.items() if table}
    for path, table in written.items():
        write_csv(path, table, {})
    return list(written)


def _finals(task: Task, rows: Mapping[Key, Row], store: Store) -> Iterator[Row]:
    """Yields the rows of a task with the settings that tuning has chosen, a whole seed before the next."""
    settings = {arm.name: _chosen(task, arm, rows, store) for arm in task.arms}
    for seed in sorted({key.seed for key in rows if key.task == task.name and key.seed < TUNING_SEED}):
        for arm, candidate in settings.items():
            if candidate is not None and (key := Key(task.name, arm, seed, candidate)) in rows:
                yield rows[key]


def _chosen(task: Task, arm: Arm, rows: Mapping[Key, Row], store: Store) -> int | None:
    failed = store.failed([key for key in candidates(task, arm) if key not in rows])
    return chosen(task, arm, rows) if is_tuned(task, arm, rows, failed) else None


def _run(row: Row, tasks: Sequence[Task]) -> Row:
    """Returns a row of the table of runs."""
    [task] = (task for task in tasks if task.name == row["task"])
    scores = row["scores"]
    worst = min(scores, key=scores.__getitem__)
    head = {name: row[name] for name in ("task", "arm", "base", "seed")} | {"setting": json.dumps(row["setting"])}
    summary = {"mean": fmean(scores.values()), "worst": scores[worst], "full": scores[subset_name(task.modalities)]}
    rest = {name: value for name, value in row.items() if name not in head and name not in NOT_OF_THE_HOST}
    counted = {name: rest.pop(name) for name in COUNTED}
    return head | summary | {"worst_subset": worst} | counted | rest


def _subsets(row: Row) -> Iterator[Row]:
    """Yields a row for each subset of the modalities."""
    head = {name: row[name] for name in ("task", "arm", "seed")}
    yield from (head | {"subset": subset, "score": score} for subset, score in row["scores"].items())


def _tuning(task: Task, rows: Mapping[Key, Row], store: Store) -> Iterator[Row]:
    """Yields a row for each candidate of each arm that is done."""
    for arm in task.arms:
        best = _chosen(task, arm, rows, store)
        for key in (key for key in candidates(task, arm) if key in rows):
            row = rows[key]
            head = {name: row[name] for name in ("task", "arm", "seed", "candidate")}
            found = {"setting": json.dumps(row["setting"]), "validation": row["validation"]}
            yield head | found | {"chosen": key.candidate == best} | {n: row[n] for n in (*COUNTED, "code")}


def _task(task: Task) -> Row:
    """Returns what the tables have to know of a task."""
    return {
        "task": task.name,
        "title": task.title,
        "group": task.group,
        "knob": json.dumps(dict(task.knob)),
        "modalities": subset_name(task.modalities),
        "score": task.score,
        "settings": len(task.settings(task.arms[0])),
        "seeds": task.seeds,
    }
