"""What can be learnt, each with its data, network, losses and score: segmentation, and sequences of any kind."""

from gmd.config import TrainBrats, TrainConfig, TrainSequences
from gmd.training.tasks.task import Task, Validation


def open_task(config: TrainConfig) -> Task:
    """Finds or reads the data of a run. Raises UserError for data that cannot be used."""
    # each brings libraries of its own, which take a while to import
    if isinstance(config, TrainBrats):
        from gmd.training.tasks.segmentation import BratsTask

        return BratsTask(config)
    from gmd.training.tasks.sequences import SequenceTask

    assert isinstance(config, TrainSequences)  # all other tasks are on sequences
    return SequenceTask(config)


__all__ = ["Task", "Validation", "open_task"]
