"""What training needs to know of a task: its data, its network, its losses, its score."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from gmd.config import TrainConfig
from gmd.data.pairs import Pairs, Values
from gmd.data.shares import Share
from gmd.models.multimodal import MultimodalNetwork
from gmd.subsets import Subset
from gmd.surgery import Criterion
from gmd.together import Apart, in_turn, processes, rank

Network = TypeVar("Network", bound=MultimodalNetwork)
Batch = tuple[Pairs[Values], Tensor]  # the inputs of a batch, and the targets of its samples


class Validation(NamedTuple):
    """What a validation measured.

    Attributes:
        score: the one that chooses the best epoch, higher is better.
        metrics: all that was measured, by name.
    """

    score: float
    metrics: dict[str, float]


class Task(ABC, Generic[Network, Values]):
    """The data of a run, read and split, and how a network of the task learns from them.

    Attributes:
        config: the run's options, where those that the data decide have the data's values.
        steps_per_epoch: how many steps of the optimizer, each on `accumulate` batches, the last one on what is left;
            with mla, how many rounds of one for each modality.
        samples: how many samples are trained on, if each has one class and the batches say which ones they have; None
            otherwise.
        score_name: the name of the validation's score, for people.
        score_title: the score's name with what it is a mean of.
        score_limits: the lowest and the highest value that it has; None: it has no such ends.
        criterion: the loss of predictions [b, ...] and targets [b, ...].
        counted: (targets [b, ...]) -> how many things the criterion is the mean over.
        metric: how good the predictions are, without gradient; higher is better.
        score: how sure and right they are, in [0, 1], without gradient.
    """

    config: TrainConfig
    steps_per_epoch: int
    samples: int | None = None
    score_name: str
    score_title: str
    score_limits: tuple[float, float] | None = (0, 1)
    criterion: Criterion
    counted: Callable[[Tensor], int]
    metric: Criterion
    score: Criterion

    @abstractmethod
    def check(self) -> None:
        """Reads whatever of the data has not been read yet, and raises UserError if some of it cannot be used.

        A run has nothing in its folder before this has returned, but its lock.
        """

    @abstractmethod
    def described(self) -> dict:
        """Returns what `splits.json` says: the cases of each split, and what else building the network takes."""

    @abstractmethod
    def notes(self) -> list[str]:
        """Returns sentences on what the user should know of the data before training begins."""

    @abstractmethod
    def build_network(self) -> Network:
        """Builds the network on the CPU, with initial weights from torch's current random state."""

    @abstractmethod
    def batches(self, epoch: int, start: int = 0) -> Iterable[Batch[Values]]:
        """Returns the batches of an epoch but for the first `start`, which cost nothing then.

        Of several processes each gets its share of every batch, which may be empty: pairs of no sample, and no targets.
        They are the same whenever they are asked for. Nothing may be drawn from torch's own generators for them, or a
        resumed epoch would be another one.
        """

    @abstractmethod
    def to_device(self, inputs: Pairs[Values], targets: Tensor, device: torch.device) -> Batch[Values]:
        """Returns a batch on the network's device."""

    @abstractmethod
    def outputs(self, network: Network, inputs: Pairs[Values]) -> Pairs[Tensor]:
        """Runs the network and returns the float32 outputs of the modalities, at which their paths end."""

    @abstractmethod
    def predict(self, network: Network, outputs: Pairs[Tensor], subset: Subset | None) -> tuple[Tensor, list[int]]:
        """Returns predictions [b, ...] from a subset of the modalities, and the b samples that have all of it.

        subset: None takes, for every sample, all modalities that this sample has.
        """

    @abstractmethod
    def validate(self, network: Network, apart: Apart = in_turn) -> Validation:
        """Scores the network on the validation split. apart: how cases, or batches, are done one by one"""


def own_share() -> Share:
    """Returns the part of each batch that this process takes."""
    return Share(rank(), processes())
