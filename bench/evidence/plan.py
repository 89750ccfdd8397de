"""Which networks are to be trained, and in which order: so that a short run has whole tables, of fewer tasks."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bench.evidence.task import Task
from bench.measure.arms import Arm

TUNING_SEED = 1000  # of all candidates; seeds of the tables are below it
MIN_SEEDS = 3  # of every task, before any has more
UNKNOWN_SECONDS = 60.0  # of a run that nobody has measured


class Job(NamedTuple):
    """One network that is wanted.

    Attributes:
        candidate: the place of its setting among the arm's; None: the one that tuning will have chosen.
    """

    task: Task
    arm: Arm
    seed: int
    candidate: int | None


Cost = Callable[[Job], float]  # processor seconds; 0: it is done


def round_of(task: Task, number: int) -> list[Job]:
    """Returns the jobs of a task in one round: the tuning of all its arms in round 0, then one seed in each."""
    if number == 0:
        return [Job(task, arm, TUNING_SEED, k) for arm in task.arms for k in range(len(task.settings(arm)))]
    return [Job(task, arm, number - 1, None) for arm in task.arms]


def ordered(tasks: Sequence[Task], cost: Cost, budget: float) -> list[Job]:
    """Returns all jobs in the order in which they are done.

    First come tuning and MIN_SEEDS seeds, task by task: of those tasks that fit into what is left of the budget, then
    of the others, as far as they get. Then come further seeds, one of all tasks before the next.

    cost: processor seconds of a job
    budget: processor seconds for all that is not done
    """
    whole: list[Task] = []
    rest: list[Task] = []
    for task in tasks:
        needed = sum(map(cost, _rounds([task], 0, MIN_SEEDS + 1)))
        if needed <= budget:
            whole.append(task)
            budget -= needed
        else:
            rest.append(task)
    most = 1 + max((task.seeds for task in tasks), default=0)
    first = [job for task in (*whole, *rest) for job in _rounds([task], 0, MIN_SEEDS + 1)]
    return [*first, *_rounds(tasks, MIN_SEEDS + 1, most)]


def _rounds(tasks: Sequence[Task], first: int, end: int) -> Iterator[Job]:
    """Yields the jobs of these rounds, all tasks in one round before the next round."""
    for number in range(first, end):
        for task in tasks:
            if number <= task.seeds:
                yield from round_of(task, number)


def left_out(jobs: Sequence[Job], cost: Cost, budget: float) -> list[Job]:
    """Returns the jobs that a budget is too small for, if each takes what it costs; and those that wait for these."""
    left: list[Job] = []
    untuned: set[tuple[str, str]] = set()
    for job in jobs:
        needed, arm = cost(job), (job.task.name, job.arm.name)
        if needed > budget or (job.candidate is None and arm in untuned):
            left.append(job)
            if job.candidate is not None:
                untuned.add(arm)
        else:
            budget -= needed
    return left


def told(jobs: Sequence[Job]) -> list[str]:
    """Returns what of the tuning and which seeds these jobs are: a line for each task, cells of a group that lack the
    same being one."""
    names: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys(job.task.name for job in jobs):
        of_task = [job for job in jobs if job.task.name == name]
        names.setdefault((of_task[0].task.group or name, _told(of_task)), []).append(name)
    return [f"{_several(first, cells)}: {parts}" for (first, parts), cells in names.items()]


def _told(jobs: Sequence[Job]) -> str:
    """Returns what the jobs of one task are, in words."""
    tuning = sum(job.candidate is not None for job in jobs)
    parts = [f"{tuning} runs of the tuning"] if tuning else []
    lacking: dict[tuple[str, ...], list[str]] = {}  # the arms that a seed lacks -> such seeds
    for seed in sorted({job.seed for job in jobs if job.candidate is None}):
        lacking.setdefault(tuple(job.arm.name for job in jobs if job.seed == seed), []).append(str(seed))
    for arms, seeds in lacking.items():
        some = "" if len(arms) == len(jobs[0].task.arms) else f" of {', '.join(arms)}"
        parts.append(f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}{some}")
    return "; ".join(parts)


def _several(name: str, cells: Sequence[str]) -> str:
    """Returns the name of one task, or that of a group and how many of its cells are meant."""
    return cells[0] if len(cells) == 1 else f"{name}, {len(cells)} cells"
