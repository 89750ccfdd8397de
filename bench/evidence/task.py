"""What the evidence is made of: data sets, on which arms are trained and scored one network at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench.measure.arms import Arm

Options = Mapping[str, Any]  # of a training: their names -> values, as JSON has them


class Request(NamedTuple):
    """One network that is to be trained.

    Attributes:
        arm: the training.
        setting: the options that were tuned, or are tried now, learning rate and weight decay among them.
        seed: of the split of the data, the initial weights, and the order: what arms share within a seed.
        data: the folder of all data sets.
        folder: a folder of this run's own, empty.
        shared: a folder of this task's, for what all its runs make of the data; written atomically.
    """

    arm: Arm
    setting: Options
    seed: int
    data: Path
    folder: Path
    shared: Path


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        validation: the mean over the subsets on the validation data, by which settings are chosen; higher is better.
        scores: on the test data: a subset's name, as `gmd.subsets.subset_name` has it -> score in [0, 1], more is
            better.
        conflicts: share of the pairs of objectives whose gradients conflict, the mean over the steps at which they were
            compared; None where a step has one gradient only.
        ratio: the longest gradient of an objective by the shortest, geometric mean over these steps; None as above.
        steps: of the optimizer.
        cpu_s: processor seconds of the training; of `gmd train` with reading and validation, without the scoring.
    """

    validation: float
    scores: Mapping[str, float]
    conflicts: float | None
    ratio: float | None
    steps: int
    cpu_s: float


@dataclass(frozen=True)
class Task:
    """A data set, or one cell of the generated ones, and what is trained on it.

    Attributes:
        name: in files and tables: lower case, words joined by `-`.
        title: in the tables.
        modalities: their names, in the order of subsets.
        score: what the scores are, in words: "Dice, mean of WT, TC and ET".
        arms: all trainings; an arm's `base` names the one that it is compared with besides `enumerate`.
        settings: an arm -> the candidates of its tuning, as many for each arm.
        run: trains and scores one network. It writes into `folder` and `shared` only, and is a function at the top of a
            module, or a partial of one: it is sent to other processes.
        lacking: the folder of all data sets -> why this one cannot be read there, in a line; None if it can.
        seeds: how many are wanted.
        seconds: an arm's name -> processor seconds that a run takes, measured; for the plan.
        group: tasks of one group are cells of one picture, such as those of the knob.
        knob: of a generated task: what was set, by name, such as {"angle": 90, "ratio": 10}.
    """

    name: str
    title: str
    modalities: tuple[str, ...]
    score: str
    arms: tuple[Arm, ...]
    settings: Callable[[Arm], Sequence[Options]]
    run: Callable[[Request], Outcome]
    lacking: Callable[[Path], str | None]
    seeds: int
    seconds: Mapping[str, float]
    group: str = ""
    knob: Mapping[str, float] = field(default_factory=dict)
