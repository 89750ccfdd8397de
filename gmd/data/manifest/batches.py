"""Batches of samples whose files are read when they are needed, by worker processes if asked."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from gmd.data.manifest.inputs import Input, Preparation
from gmd.data.pairs import Pairs
from gmd.data.sequences.samples import Sample


class ManifestBatches:
    """The batches of an epoch, as those of `SequenceBatches`: set `epoch` and `start` before each."""

    def __init__(
        self,
        samples: Sequence[Sample],
        modalities: Sequence[str],
        inputs: Mapping[str, Input],
        preparation: Preparation,
        batch: int,
        seed: int,
        workers: int,
        training: bool,
    ):
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[Pairs, Tensor]]:
        raise NotImplementedError


def collate_cells(
    samples: Sequence[Sample], modalities: Sequence[str], inputs: Mapping[str, Input], preparation: Preparation
) -> tuple[Pairs, Tensor]:
    """Loads samples, and makes them a batch of the pairs that exist, without augmentation."""
    raise NotImplementedError
