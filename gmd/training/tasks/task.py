"""What training needs to know of a task: its data, its network, its losses, its score."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gmd.config import TrainConfig
from gmd.data.pairs import Pairs
from gmd.subsets import Subset
from gmd.surgery import Criterion

Batch = tuple[Pairs, Tensor]


class Validation(NamedTuple):
    """score: the one that chooses the best epoch, higher is better; metrics: all, by name."""

    score: float
    metrics: dict[str, float]


class Task(ABC):
    """The data of a run, read and split.

    Attributes:
        config: the run's, with what the data say pinned down.
        steps_per_epoch: optimizer steps, of mla rounds of them.
        score_name: of the validation's score, for people.
        score_title: the same with what it is a mean of.
        criterion: the loss of predictions [b, ...] and targets [b, ...].
        metric: how good the predictions are, without gradient; higher is better.
        score: how sure and right they are, in [0, 1], without gradient.
    """

    config: TrainConfig
    steps_per_epoch: int
    score_name: str
    score_title: str
    criterion: Criterion
    metric: Criterion
    score: Criterion

    @abstractmethod
    def described(self) -> dict:
        """For `splits.json`: the cases of each split, and what building the network takes besides the configuration."""

    @abstractmethod
    def notes(self) -> list[str]:
        """What the user should know of the data before training begins."""

    @abstractmethod
    def build_network(self) -> nn.Module:
        """With torch's current random state, on the CPU."""

    @abstractmethod
    def batches(self, epoch: int, start: int = 0) -> Iterable[Batch]:
        """Of one epoch: the same whenever it is asked for; without the first `start`, which cost nothing then.

        Nothing may be drawn from torch's own generator, or a resumed epoch is another one.
        """

    @abstractmethod
    def to_device(self, inputs: Pairs, targets: Tensor, device: torch.device) -> Batch: ...

    @abstractmethod
    def outputs(self, network: nn.Module, inputs: Pairs) -> Pairs:
        """float32 outputs of the modalities, at which their paths end."""

    @abstractmethod
    def predict(self, network: nn.Module, outputs: Pairs, subset: Subset | None) -> tuple[Tensor, list[int]]:
        """Predictions [b, ...] from a subset of the modalities and the b samples that have it; None: what each has."""

    @abstractmethod
    def validate(self, network: nn.Module) -> Validation: ...
