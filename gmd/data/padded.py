"""Puts sequences of different lengths into one tensor, padded with zeros."""

from typing import NamedTuple

import torch
from torch import Tensor


class Padded(NamedTuple):
    """n sequences of up to L steps, in one tensor.

    Attributes:
        values: [n, L, F] float, or [n, L] int64 of tokens, zeros from each sequence's length on.
        lengths: [n] int64, at least 1 and at most L.
    """

    values: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """Returns a mask, bool [n, L]: True where there is a step, False where there is padding."""
        return torch.arange(self.values.shape[1], device=self.values.device) < self.lengths[:, None]

    def to(self, device: torch.device) -> "Padded":
        """Returns the sequences on another device."""
        return Padded(self.values.to(device), self.lengths.to(device))


def pad(sequences: list[Tensor]) -> Padded:
    """Pads n tensors, [L_i, F] or [L_i], with zeros to the length of the longest.

    Raises ValueError for no tensors, or for one without a step: attention to nothing is NaN.
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    if not len(lengths) or not lengths.all():
        raise ValueError(f"sequences: expected some, each of at least one step, got lengths {lengths.tolist()}")
    return Padded(torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True), lengths)
