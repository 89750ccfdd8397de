"""The data sets of the evidence, in the order of the tables."""

from bench.evidence.task import Task

TASKS: tuple[Task, ...] = ()
