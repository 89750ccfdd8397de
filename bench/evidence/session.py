"""What one call of the command does: from the plan, the rows that are there and a budget to new rows."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

from bench.evidence.once import Order, order
from bench.evidence.plan import UNKNOWN_SECONDS, Job, ordered
from bench.evidence.store import Key, Store, read_row
from bench.evidence.task import Task
from bench.evidence.tuning import check_settings, chosen, is_tuned
from bench.measure.arms import Arm
from gmd.files import replacing

SPARE = 1.2  # times its estimate has to be left of the budget, for a run to begin
OFTEN = 60.0  # seconds between two looks at the clock, and two writings of the tables


class Crew(Protocol):
    """Those who do the runs, see `Workers`."""

    @property
    def number(self) -> int: ...

    @property
    def in_work(self) -> Sequence[Order]: ...

    @property
    def free(self) -> int: ...

    def begin(self, order: Order) -> None: ...

    def ended(self, seconds: float) -> Iterable[tuple[Order, str | None]]: ...

    def end(self) -> None: ...


class Session:
    """What is to be done, and what is done.

    Attributes:
        store: of the rows.
        tasks: those that can be read, in the order of the tables.
        rows: of all finished runs of this code.
        failed: runs that have failed in this session.
    """

    def __init__(self, store: Store, tasks: Sequence[Task], data: Path, host: Mapping[str, object], budget: float):
        """budget: processor seconds for all of it. Raises UserError for a damaged row."""
        for task in tasks:
            check_settings(task)
        self.store, self.tasks, self._data, self._host = store, tasks, data, host
        self.rows = store.read()
        self.failed: set[Key] = set()
        self._seconds = {(task.name, arm.name): self._estimate(task, arm) for task in tasks for arm in task.arms}
        self._jobs = deque(ordered(tasks, self.cost, budget))

    def _estimate(self, task: Task, arm: Arm) -> float:
        """Returns the seconds of a run: of those that were made here, else of those that the task tells."""
        here = [row["wall_s"] for key, row in self.rows.items() if (key.task, key.arm) == (task.name, arm.name)]
        if here:
            return median(here)
        return task.seconds.get(arm.name, median(task.seconds.values()) if task.seconds else UNKNOWN_SECONDS)

    @property
    def jobs(self) -> list[Job]:
        """Returns the jobs that are not done yet, in their order."""
        return [job for job in self._jobs if not self._settled(job)]

    def cost(self, job: Job) -> float:
        """Returns the processor seconds that a job takes; 0 if it is done."""
        return 0.0 if self._settled(job) else self._seconds[job.task.name, job.arm.name]

    def key(self, job: Job) -> Key | None:
        """Returns which run a job is; None while tuning has not chosen its setting."""
        candidate = job.candidate
        if candidate is None and is_tuned(job.task, job.arm, self.rows, self.failed):
            candidate = chosen(job.task, job.arm, self.rows)
        return None if candidate is None else Key(job.task.name, job.arm.name, job.seed, candidate)

    def _settled(self, job: Job) -> bool:
        """Returns whether a job is done or has failed; it has, too, where every setting of its arm has."""
        key = self.key(job)
        if key is None:
            return is_tuned(job.task, job.arm, self.rows, self.failed)
        return key in self.rows or key in self.failed

    def next(self, busy: Sequence[Key], seconds: float) -> Order | None:
        """Returns the first run that can begin and should end in so many seconds; None if there is none now.

        busy: those that are in work
        """
        while self._jobs and self._settled(self._jobs[0]):
            self._jobs.popleft()
        for job in self._jobs:
            if SPARE * self._seconds[job.task.name, job.arm.name] > seconds:
                continue
            key = self.key(job)
            if key is not None and key not in busy and not self._settled(job):
                return order(self.store, job.task, job.arm, key, self._data, self._host)
        return None

    def settle(self, order: Order, failure: str | None) -> None:
        """Takes note of a run that has ended."""
        if failure is None:
            self.rows[order.key] = read_row(order.row)
            return
        self.failed.add(order.key)
        if not order.failed.exists():  # its process could not say why
            with replacing(order.failed) as unfinished:
                unfinished.write_text(f"{failure}\n", encoding="utf-8")


def perform(
    session: Session,
    crew: Crew,
    deadline: float,
    on_end: Callable[[Order, str | None], None],
    on_look: Callable[[Sequence[Order]], None],
) -> None:
    """Has runs done until all are, or until the time is over: then those in work are left as they are.

    deadline: as `time.monotonic` has it
    on_end: is told of each run that has ended, and why it failed
    on_look: is told what is in work, whenever that has changed, and once in OFTEN seconds at least
    """
    while True:
        while crew.free:
            begun = session.next([order.key for order in crew.in_work], deadline - time.monotonic())
            if begun is None:
                break
            crew.begin(begun)
        on_look(crew.in_work)
        left = deadline - time.monotonic()
        if not crew.in_work or left <= 0:
            return
        for ended, failure in crew.ended(min(OFTEN, left)):
            session.settle(ended, failure)
            on_end(ended, failure)
