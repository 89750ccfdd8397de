"""Which setting an arm is compared with: the best of its candidates on the validation data, as many for each arm."""

from collections.abc import Collection, Mapping

from bench.evidence.plan import TUNING_SEED
from bench.evidence.store import Key, Row
from bench.evidence.task import Task
from bench.measure.arms import Arm


def candidates(task: Task, arm: Arm) -> list[Key]:
    """Returns the runs that an arm's setting is chosen from."""
    return [Key(task.name, arm.name, TUNING_SEED, place) for place in range(len(task.settings(arm)))]


def is_tuned(task: Task, arm: Arm, rows: Mapping[Key, Row], failed: Collection[Key]) -> bool:
    """Returns whether all candidates of an arm are done, or have failed."""
    return all(key in rows or key in failed for key in candidates(task, arm))


def chosen(task: Task, arm: Arm, rows: Mapping[Key, Row]) -> int | None:
    """Returns the place of the best of an arm's candidates that are done, the first of several that are equally good.

    None if there is none: a training that diverged has no score.
    """
    scores = {key.candidate: rows[key]["validation"] for key in candidates(task, arm) if key in rows}
    finite = {candidate: score for candidate, score in scores.items() if score is not None}
    return max(finite, key=finite.__getitem__, default=None)


def check_settings(task: Task) -> None:
    """Raises ValueError unless all arms of a task have as many candidates, without which the tuning is not fair."""
    counts = {arm.name: len(task.settings(arm)) for arm in task.arms}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise ValueError(f"{task.name}: expected as many settings for each arm, got {counts}")
