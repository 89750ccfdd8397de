"""The data sets of the evidence, in the order of the tables."""

from bench.evidence.task import Task
from bench.evidence.tasks import conflict, samples, segmentation

TASKS: tuple[Task, ...] = (*segmentation.TASKS, *samples.TASKS, *conflict.TASKS)
