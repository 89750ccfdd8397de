"""What a backward pass reports."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Report:
    """Device tensors only: reading one on the host is the caller's decision (and, on a GPU, the caller's wait).

    Attributes:
        losses: [T], detached.
        gram: [T, T] float64, inner products of the objectives' gradients over all parameters.
        weights: [T] float64, what each objective's gradient was multiplied with for a shared parameter.
    """

    losses: Tensor
    gram: Tensor
    weights: Tensor

    @property
    def cosines(self) -> Tensor:
        """[T, T] float64, 1 on the diagonal; an objective whose gradient is zero has cosine 0 with every other."""
        norms = self.gram.diagonal().sqrt()
        cosines = self.gram / (norms[:, None] * norms[None, :]).clamp_min(torch.finfo(torch.float64).tiny)
        return cosines.fill_diagonal_(1.0)

    @property
    def conflicts(self) -> Tensor:
        """Fraction of the pairs of objectives whose gradients have a negative inner product; 0 when T = 1."""
        pairs = self.gram.shape[0] * (self.gram.shape[0] - 1)
        return (self.gram < 0).sum() / max(pairs, 1)

    @property
    def finite(self) -> Tensor:
        """False if any loss or any entry of any gradient is NaN or infinite: do not step on it."""
        values = (self.losses, self.gram.diagonal(), self.weights)
        return torch.stack([value.isfinite().all() for value in values]).all()
