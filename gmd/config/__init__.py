"""What a training run is asked to do: the options of `gmd train TASK`, and `config.yaml` in its folder."""

from pathlib import Path

from gmd.config.segmentation import TrainBrats
from gmd.config.sequences import TrainDigits, TrainSentiment, TrainSequences
from gmd.config.train_config import TrainConfig, differences
from gmd.errors import UserError

TASKS: dict[str, type[TrainConfig]] = {kind.TASK: kind for kind in (TrainBrats, TrainSentiment, TrainDigits)}


def config_from_dict(values: dict, source: str | Path) -> TrainConfig:
    """Makes a configuration of the values that `to_dict` returned, whatever the task.

    Raises UserError, which names `source`, if the task is not known, or as the task's `from_dict`.
    """
    task = values.get("task") if isinstance(values, dict) else None
    if not isinstance(task, str) or task not in TASKS:
        raise UserError(
            f"{source}: its task is {task!r}, expected one of {', '.join(TASKS)}; written by another version of gmd? "
            "Train anew"
        )
    return TASKS[task].from_dict(values, source)


__all__ = [
    "TASKS",
    "TrainBrats",
    "TrainConfig",
    "TrainDigits",
    "TrainSentiment",
    "TrainSequences",
    "config_from_dict",
    "differences",
]
