"""The report that every method's `backward` returns."""

from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Report:
    """What one backward pass of a method tells: its losses, their Gramian, the weights.

    All tensors but `discarded` are on the device: reading one on the host waits for it, when the caller wants that.

    Where weights are taken now and then (`every` in Surgeon), Gramian and weights of a step between are those that were
    taken `age` steps ago.

    Attributes:
        losses: [T], detached.
        grams: [T, T] float64, inner products of the objectives' gradients over all parameters; [K, T, T] where the
            surgery went module by module or tensor by tensor.
        weights: [T] float64, what each objective's gradient was multiplied with for a shared parameter; or [K, T].
        directions: [M], how many backward passes went through the path of each output; None without outputs.
        discarded: [M] float64, the largest share of the energy (squared norm) of one objective's gradient at each
            output that was left out, at most tol^2; on the host; None without outputs.
        modality: [M] float64 each, in the order of the outputs: "gradient norm", of the mean loss at each output and
            before any factor; and what the method adds. Empty without outputs. In a step with one backward pass it is
            the norm of the weighted loss.
        squared_norm: [] float64, of what is in `.grad` afterwards; None where that is not known without a pass over it.
        refreshed: whether the weights were taken at this step.
        age: how many steps ago they were.
        interval: how many steps after that they are taken anew.
        failures: how many times so far the weights that should have been taken were not finite.
        names: [T], of the objectives, or their positions in a list; a Surgeon tells them. Over several processes, of
            all that some process has.
    """

    losses: Tensor
    grams: Tensor
    weights: Tensor
    directions: tuple[int, ...] | None = None
    discarded: Tensor | None = None
    modality: dict[str, Tensor] = field(default_factory=dict)
    squared_norm: Tensor | None = None
    refreshed: bool = True
    age: int = 0
    interval: int = 1
    failures: int = 0
    names: tuple[Hashable, ...] = ()

    @property
    def gram(self) -> Tensor:
        """Returns the Gramian over all parameters whatever the granularity, [T, T] float64."""
        return self.grams if self.grams.ndim == 2 else self.grams.sum(dim=0)

    @property
    def cosines(self) -> Tensor:
        """Cosines of the objectives' gradients, [T, T] float64: 1 on the diagonal, else 0 for a gradient of zero."""
        norms = self.gram.diagonal().sqrt()
        cosines = self.gram / (norms[:, None] * norms[None, :]).clamp_min(torch.finfo(torch.float64).tiny)
        return cosines.fill_diagonal_(1.0)

    @property
    def conflicts(self) -> Tensor:
        """Returns the fraction of pairs of objectives whose gradients have a negative inner product; 0 when T = 1.

        Where the surgery went module by module or tensor by tensor, the pairs in all of these count.
        """
        t = self.grams.shape[-1]
        pairs = self.grams.numel() // (t * t) * t * (t - 1)
        return (self.grams < 0).sum() / max(pairs, 1)

    @property
    def finite(self) -> Tensor:
        """Returns a bool scalar, False if a loss or an entry of a gradient is NaN or infinite: do not step then."""
        values = [self.losses, self.grams.diagonal(dim1=-2, dim2=-1), self.weights]
        values += [] if self.squared_norm is None else [self.squared_norm]
        return torch.stack([value.isfinite().all() for value in values]).all()
