"""The pipeline: gradients -> Gramian -> weights -> one gradient."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gmd_kernels import dispatch
from gmd_kernels.ops import Gradients, check_grads, check_out, weights_per_parameter
from gmd_kernels.weightings import check_reduction, pcgrad


class Surgery(tuple):
    """What `surgery` returns; unpacks as `merged, gram = surgery(grads)`.

    Attributes:
        merged: P tensors, `None` for a parameter that no objective reaches.
        gram: [T, T] float64, before the surgery.
        weights: [T] float64, what each objective's gradient was multiplied with for a shared parameter.
    """

    def __new__(cls, merged: list[Tensor | None], gram: Tensor, weights: Tensor):
        self = super().__new__(cls, (merged, gram))
        self.merged, self.gram, self.weights = merged, gram, weights
        return self


def surgery(
    grads: Gradients,
    weighting: Callable[[Tensor], Tensor] | None = None,
    *,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
    out: Sequence[Tensor | None] | None = None,
) -> Surgery:
    """One gradient from those of T objectives.

    Without a `weighting` this is GMD (Wang et al., AAAI 2024): PCGrad in a random order; a parameter that every
    objective reaches (shared) gets the mean of the projected gradients, or their sum with reduction="sum"; any other
    (private) their sum.

    Args:
        grads: T sequences of P tensors or `None`s, see `gram`.
        weighting: Gramian [T, T] float64 -> weights [T], or [P, T]; used for every parameter alike.
        reduction: "mean" or "sum", for shared parameters; GMD only.
        generator: source of GMD's projection order; torch's default generator otherwise.
        out: see `combine`.
    """
    check_reduction(reduction)
    if weighting is not None and (reduction != "mean" or generator is not None):
        raise ValueError("reduction and generator belong to GMD: give them to the weighting instead")
    device, dtypes, reached = check_grads(grads)
    out = check_out(out, grads)
    backend = dispatch.choose(device, dtypes)

    gram = backend.gram(grads, [0] * len(grads[0]), 1, device)[0]
    if weighting is not None:
        weights = per_parameter = weighting(gram)
    else:
        total = pcgrad(gram, generator)
        weights = total / len(grads) if reduction == "mean" else total
        # an objective reaches a parameter by any gradient, one of zeros included; by None it does not
        shared = torch.tensor([count == len(grads) for count in reached], dtype=torch.bool, device=device)
        per_parameter = torch.where(shared[:, None], weights, total)
    rows = weights_per_parameter(per_parameter, grads, device)
    return Surgery(backend.combine(grads, rows, out), gram, weights)
