"""What a training run is asked to do: the options of `gmd train TASK`, and `config.yaml` in its folder."""

from pathlib import Path

from gmd.config.classification import TrainClassify
from gmd.config.segmentation import TrainBrats
from gmd.config.sequences import TrainAnySequences, TrainDigits, TrainSamples, TrainSentiment, TrainSequences
from gmd.config.train_config import TrainConfig, differences
from gmd.data.text_files import brief
from gmd.errors import UserError

_KINDS: tuple[type[TrainConfig], ...] = (TrainBrats, TrainAnySequences, TrainSentiment, TrainDigits, TrainClassify)
TASKS: dict[str, type[TrainConfig]] = {kind.TASK: kind for kind in _KINDS}


def config_from_dict(values: dict, source: str | Path) -> TrainConfig:
    """Makes a configuration of the values that `to_dict` returned, whatever the task, and checks it.

    Its device need not be there: a run may come from another machine.
    Raises UserError, which names `source`, if the task is not known, or as the task's `from_dict` and `check_values`.
    """
    task = values.get("task") if isinstance(values, dict) else None
    if not isinstance(task, str) or task not in TASKS:
        raise UserError(
            f"{source}: its task is {brief(task)}, expected one of {', '.join(TASKS)}; written by another version of "
            "gmd? Train anew"
        )
    config = TASKS[task].from_dict(values, source)
    try:
        config.check_values()
    except UserError as error:
        first, *more = str(error).split("\n")
        raise UserError(f"{source}: {first}; mend it, or restore it from a copy", more) from error
    return config


__all__ = [
    "TASKS",
    "TrainAnySequences",
    "TrainBrats",
    "TrainClassify",
    "TrainConfig",
    "TrainDigits",
    "TrainSamples",
    "TrainSentiment",
    "TrainSequences",
    "config_from_dict",
    "differences",
]
