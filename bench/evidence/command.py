"""The command `python -m bench.evidence`: options, what it says, and when it writes."""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from bench.evidence.code import code_hash
from bench.evidence.once import Order
from bench.evidence.plan import MIN_SEEDS, TUNING_SEED, left_out, told
from bench.evidence.session import OFTEN, Crew, Session, perform
from bench.evidence.store import Store
from bench.evidence.tables import write_tables
from bench.evidence.task import Task
from bench.evidence.workers import Workers
from bench.measure.files import RESULTS
from bench.measure.host import ROOT, host_columns
from gmd.errors import UserError
from gmd.output_paths import check_folder
from gmd.printing import say
from gmd.training.run_lock import locked

WORK = ROOT / "runs" / "evidence"
HOUR = 3600.0  # seconds
STOPPED = 130  # the exit status of what a user interrupts
PROGRAM = "python -m bench.evidence"


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the options."""
    found = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    found.add_argument("--data", type=Path, required=True, help="folder of all data sets")
    found.add_argument("--hours", type=float, default=2.0, help="no run goes on for longer than this from now")
    found.add_argument("--tasks", nargs="+", metavar="NAME", help="data sets, or groups of them; all by default")
    found.add_argument("--arms", nargs="+", metavar="NAME", help="all by default")
    found.add_argument("--seeds", type=int, help="of each task; as many as it wants by default")
    found.add_argument("--work", type=Path, default=WORK, help="folder of the rows of finished runs")
    found.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables and pictures")
    found.add_argument("--plan", action="store_true", help="say what would be run, and do nothing")
    return found


def evidence(
    arguments: Sequence[str] | None,
    registered: Sequence[Task],
    draw: Callable[[Path], Sequence[Path]],
    crew: Callable[[], Crew] = Workers,
) -> int:
    """Runs the command. Returns its exit status: 0, 1 if a run failed, 2 for a mistake of the user's.

    registered: all tasks that there are
    draw: makes the pictures from the tables in a folder, and what else comes of them; returns the files
    crew: makes those who do the runs
    """
    options = parser().parse_args(arguments)
    try:
        tasks = selected(options, registered)
        store = Store(options.work.resolve(), code_hash())
        if options.plan:
            return _plan(options, tasks, store, crew())
        with locked(store.folder):
            store.clear()
            return _run(options, registered, tasks, store, draw, crew())
    except UserError as error:
        say(*str(error).split("\n"), error=True)
        return 2


def selected(options: argparse.Namespace, registered: Sequence[Task]) -> list[Task]:
    """Returns the tasks that were asked for, with the arms and seeds that were asked for, and whose data are there.

    Says which are left out. Raises UserError for options that nothing can be done with.
    """
    _checked(options, registered)
    asked = [task for task in registered if not options.tasks or {task.name, task.group} & {*options.tasks}]
    wanted = [task for task in (_narrowed(task, options.arms, options.seeds) for task in asked) if task.arms]
    lacking = {task.name: reason for task in wanted if (reason := task.lacking(options.data))}
    say(*(f"skipped: {name}: {reason}" for name, reason in lacking.items()))
    if len(lacking) == len(wanted):
        raise UserError(
            "nothing to do: no task that was asked for has its data and such arms", sorted(lacking.values())
        )
    return [task for task in wanted if task.name not in lacking]


def _checked(options: argparse.Namespace, registered: Sequence[Task]) -> None:
    """Raises UserError for numbers, folders and names that nothing can be done with."""
    if not (math.isfinite(options.hours) and options.hours > 0):
        raise UserError(f"--hours: got {options.hours}, expected more than 0")
    if options.seeds is not None and not 1 <= options.seeds < TUNING_SEED:
        raise UserError(f"--seeds: got {options.seeds}, expected 1 to {TUNING_SEED - 1}")
    if not options.data.is_dir():
        raise UserError(f"--data: {options.data}: expected the folder of all data sets, there is none")
    check_folder(options.work, "--work")
    check_folder(options.out, "--out")
    names = {name for task in registered for name in (task.name, task.group) if name}
    _known("--tasks", options.tasks, names)
    _known("--arms", options.arms, {arm.name for task in registered for arm in task.arms})


def _narrowed(task: Task, arms: Sequence[str] | None, seeds: int | None) -> Task:
    """Returns a task with these arms and this number of seeds; None: all."""
    kept = tuple(arm for arm in task.arms if arms is None or arm.name in arms)
    return replace(task, arms=kept, seeds=task.seeds if seeds is None else seeds)


def _known(option: str, given: Sequence[str] | None, names: set[str]) -> None:
    unknown = [name for name in given or () if name not in names]
    if unknown:
        raise UserError(f"{option}: there is no {unknown[0]}", [f"expected of: {', '.join(sorted(names))}"])


def _plan(options: argparse.Namespace, tasks: Sequence[Task], store: Store, crew: Crew) -> int:
    """Says what would be run and what is done."""
    _open(options, tasks, store, crew)
    return 0


def _open(options: argparse.Namespace, tasks: Sequence[Task], store: Store, crew: Crew) -> Session:
    """Reads what is there, and says what is to be done and what the budget leaves out."""
    for code, rows in store.others():
        say(f"{store.work / code}: {rows} rows of another version of the code, not used")
    budget = options.hours * HOUR * crew.number
    host = host_columns() | {"threads": 1}
    session = Session(store, tasks, options.data.resolve(), host, budget)
    say(f"code {store.code}; rows in {store.folder}; {crew.number} processes, {options.hours:g} hours")
    jobs = session.jobs
    for name in dict.fromkeys(task.group or task.name for task in tasks):
        of_name = [job for job in jobs if name in (job.task.group, job.task.name)]
        runs = sum(_runs(task) for task in tasks if name in (task.group, task.name))
        minutes = sum(map(session.cost, of_name)) / 60
        say(f"{name}: {runs - len(of_name)} of {runs} runs are done; {minutes:.1f} processor minutes to go")
    hours = sum(map(session.cost, jobs)) / crew.number / HOUR
    say(f"all: {len(jobs)} runs to go, {hours:.2f} hours on {crew.number} processes")
    if left := left_out(jobs, session.cost, budget):
        say(f"{options.hours:g} hours are too few for {len(left)} of these; they would be left out:", *told(left))
        if any(job.candidate is not None or job.seed < MIN_SEEDS for job in left):
            say(f"so some tables would have fewer than {MIN_SEEDS} seeds: give more --hours, or call it again")
    return session


def _runs(task: Task) -> int:
    """Returns how many runs a task is."""
    return len(task.arms) * (len(task.settings(task.arms[0])) + task.seeds)


def _run(
    options: argparse.Namespace,
    registered: Sequence[Task],
    tasks: Sequence[Task],
    store: Store,
    draw: Callable[[Path], Sequence[Path]],
    crew: Crew,
) -> int:
    """Does the runs, and writes the tables now and then and the pictures at the end."""
    deadline = time.monotonic() + options.hours * HOUR
    session = _open(options, tasks, store, crew)
    told_of = _Told(session, registered, options.out)
    try:
        perform(session, crew, deadline, told_of.ended, told_of.looked)
    except KeyboardInterrupt:
        say("stopped; what was in work is lost, the same command goes on with the rest", error=True)
        return STOPPED
    finally:
        crew.end()
        store.clear()
        told_of.bar.close()
        written = write_tables(options.out, registered, session.rows, store)
    if left := session.jobs:
        say(f"not done within {options.hours:g} hours; the same command goes on:", *told(left))
    if written:
        say(*written, *draw(options.out))
    if session.failed:
        say(f"{len(session.failed)} runs failed: why is in {store.folder}/*/*/*.failed.txt", error=True)
    return 1 if session.failed else 0


class _Told:
    """What is shown while runs are done: a bar, a line for each that failed; and the tables, once in a minute."""

    def __init__(self, session: Session, registered: Sequence[Task], out: Path):
        self._session, self._registered, self._out = session, registered, out
        self._written = time.monotonic()
        self.bar = tqdm(total=len(session.jobs), desc="evidence", unit="run")

    def ended(self, order: Order, failure: str | None) -> None:
        """Is told of each run that has ended."""
        self.bar.update()
        if failure is not None:
            say(f"failed: {order.key}: {failure}; {order.failed}", error=True)

    def looked(self, in_work: Sequence[Order]) -> None:
        """Is told what is in work."""
        told = " | ".join(f"{order.key.task} {order.key.arm}" for order in in_work)
        self.bar.set_description(told or "evidence", refresh=False)
        if time.monotonic() - self._written >= OFTEN:
            write_tables(self._out, self._registered, self._session.rows, self._session.store)
            self._written = time.monotonic()
