"""What can be learnt, each with its data, network, losses and score: segmentation, sequences, files of a manifest."""

from typing import TYPE_CHECKING

from gmd.config import TrainBrats, TrainClassify, TrainConfig, TrainSamples, TrainSequences
from gmd.training.tasks.task import Task, Validation

if TYPE_CHECKING:
    from gmd.training.tasks.samples import SampleData


def open_task(config: TrainConfig) -> Task:
    """Finds or reads the data of a run. Raises UserError for data that cannot be used."""
    # each brings libraries of its own, which take a while to import
    if isinstance(config, TrainBrats):
        from gmd.training.tasks.segmentation import BratsTask

        return BratsTask(config)
    if isinstance(config, TrainClassify):
        from gmd.training.tasks.classification import ClassifyTask

        return ClassifyTask(config)
    from gmd.training.tasks.sequences import SequenceTask

    assert isinstance(config, TrainSequences)  # all other tasks are on sequences
    return SequenceTask(config)


def read_samples(config: TrainSamples) -> "SampleData":
    """Reads the samples of a run, as its task does. Raises UserError for data that cannot be used."""
    if isinstance(config, TrainClassify):
        from gmd.training.tasks import classification

        return classification.sample_data(config)
    from gmd.training.tasks import sequences

    assert isinstance(config, TrainSequences)
    return sequences.sample_data(config)


__all__ = ["Task", "Validation", "open_task", "read_samples"]
