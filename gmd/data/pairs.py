"""The (sample, modality) pairs of a batch: only those that exist are held, and computed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from gmd.data.padded import Padded
from gmd.subsets import Subset

Values = TypeVar("Values", Tensor, Padded)


@dataclass
class Pairs(Generic[Values]):
    """The (sample, modality) pairs of a batch: for each modality present, its values and whose they are.

    A network's inputs are tensors or Padded sequences; its outputs are tensors, and only tensors can be fused.

    Attributes:
        num_samples: how many samples the batch has.
        samples: modality -> the samples that have it, ascending.
        values: modality -> [n_m, ...], of which row i belongs to sample samples[modality][i].
        numbers: [num_samples], which samples of the training set these are, where that is known.
    """

    num_samples: int
    samples: dict[str, list[int]]
    values: dict[str, Values]
    numbers: Sequence[int] | None = field(default=None, kw_only=True)

    def having(self, subset: Subset) -> list[int]:
        """Returns the numbers of the samples that have every modality of `subset`, ascending."""
        return sorted(set(range(self.num_samples)).intersection(*(self.samples.get(m, ()) for m in subset)))

    def rows(self: "Pairs[Tensor]", subset: Subset) -> tuple[list[Tensor], list[int]]:
        """Returns each modality's values, [b, ...], for the b samples that have all of `subset`, and those samples.

        Raises ValueError if there is none.
        """
        members = self.having(subset)
        if not members:
            raise ValueError(f"no sample of this batch has all of {'+'.join(subset)}")
        return [_rows(self.values[m], self.samples[m], members) for m in subset], members

    def fuse(self: "Pairs[Tensor]", subset: Subset) -> tuple[Tensor, list[int]]:
        """Returns the modalities' mean, [b, ...], for the b samples that have all of `subset`, and those samples.

        Raises ValueError if there is none.
        """
        rows, members = self.rows(subset)
        return reduce(torch.add, rows) / len(rows), members

    def fuse_present(self: "Pairs[Tensor]") -> Tensor:
        """Returns the mean over whatever modalities each sample has, [num_samples, ...].

        Raises ValueError for a sample that has none.
        """
        total = reduce(torch.add, map(self.for_every_sample, self.values))
        counts = self.present().sum(dim=1).to(total.device)
        return total / counts.view(-1, *[1] * (total.ndim - 1))

    def present(self) -> Tensor:
        """Returns which modalities of `values` each sample has: bool [num_samples, M], on the CPU.

        Raises ValueError for a sample that has none, since a mean over nothing is NaN.
        """
        present = torch.zeros(self.num_samples, len(self.values), dtype=torch.bool, device="cpu")
        for m, modality in enumerate(self.values):
            present[self.samples[modality], m] = True
        if not (some := present.any(dim=1)).all():
            raise ValueError(f"sample {int(some.int().argmin())} of this batch has no modality")
        return present

    def only(self, samples: dict[str, list[int]]) -> "Pairs[Values]":
        """Returns the pairs of these samples alone: modality -> some of those that have it, ascending."""
        values = {m: _rows(self.values[m], self.samples[m], members) for m, members in samples.items()}
        return replace(self, samples=samples, values=values)

    def of(self, samples: list[int]) -> "Pairs[Values]":
        """Returns a batch of these samples alone, ascending, which are counted anew; a modality needs one of them."""
        number = {sample: place for place, sample in enumerate(samples)}
        kept = {m: [s for s in having if s in number] for m, having in self.samples.items()}
        pairs = self.only({m: having for m, having in kept.items() if having})
        counted = {m: [number[s] for s in having] for m, having in pairs.samples.items()}
        numbers = None if self.numbers is None else [self.numbers[s] for s in samples]
        return Pairs(len(samples), counted, pairs.values, numbers=numbers)

    def for_every_sample(self: "Pairs[Tensor]", modality: str) -> Tensor:
        """Returns the modality's values, [num_samples, ...], with zeros for the samples that do not have it."""
        values, samples = self.values[modality], self.samples[modality]
        if len(samples) == self.num_samples:
            return values
        zeros = values.new_zeros(self.num_samples, *values.shape[1:])
        return zeros.index_copy(0, torch.tensor(samples, device=values.device), values)


@dataclass
class EncodedPairs(Pairs[Tensor]):
    """The outputs of a network's modalities, with the encoded steps that they are the mean of.

    Attributes:
        steps: modality -> the steps of the samples that have it, [n_m, L, d], detached.
    """

    steps: dict[str, Padded]


def nothing() -> tuple[Pairs[Any], Tensor]:
    """Returns a batch without samples, and no targets: what a process has whose part of a small batch is empty."""
    return Pairs(0, {}, {}, numbers=[]), torch.empty(0)


def samples_having(samples: Sequence[Collection[str]], modalities: Sequence[str]) -> dict[str, list[int]]:
    """Returns the numbers of the samples that have each modality, ascending; a modality that none has gets no key.

    samples: the modalities of each sample
    """
    having = {m: [s for s, present in enumerate(samples) if m in present] for m in modalities}
    return {m: members for m, members in having.items() if members}


def _rows(values: Values, samples: list[int], members: list[int]) -> Values:
    """Returns the rows of `members` in values whose rows belong to `samples`, of which they are some."""
    if samples == members:
        return values
    if isinstance(values, Padded):
        return Padded(*(_rows(part, samples, members) for part in values))
    row_of = {sample: row for row, sample in enumerate(samples)}
    return values.index_select(0, torch.tensor([row_of[s] for s in members], device=values.device))
