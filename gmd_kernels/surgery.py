"""The pipeline: gradients -> Gramian -> weights -> one gradient."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gmd_kernels.checks import check_groups, check_mixing, check_scale, check_shared, weights_per_parameter
from gmd_kernels.gradients import Gradients, Rows, read
from gmd_kernels.ops import backend_for
from gmd_kernels.results import check_out
from gmd_kernels.uploads import upload
from gmd_kernels.weightings import check_reduction, pcgrad

Weighting = Callable[[Tensor], Tensor]


class Surgery(tuple):
    """What `surgery` returns; unpacks as `merged, gram = surgery(grads)`.

    Attributes:
        merged: P tensors, `None` for a parameter that no objective reaches.
        gram: [T, T] float64, of the objectives before the surgery; [K, T, T] with groups.
        weights: [T] float64, what each objective's gradient was multiplied with for a shared parameter; [K, T] with
            groups.
    """

    def __new__(cls, merged: list[Tensor | None], gram: Tensor, weights: Tensor):
        self = super().__new__(cls, (merged, gram))
        self.merged, self.gram, self.weights = merged, gram, weights
        return self

    def __getnewargs__(self):  # for copies and pickles
        return self.merged, self.gram, self.weights


def surgery(
    grads: Rows,
    weighting: Weighting | None = None,
    *,
    groups: Sequence[int] | None = None,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
    out: Sequence[Tensor | None] | None = None,
    mixing: Tensor | None = None,
    shared: Tensor | None = None,
    scale: Tensor | float | None = None,
) -> Surgery:
    """One gradient from those of T objectives: reads them twice, writes the result once.

    Without a `weighting` this is GMD (Wang et al., AAAI 2024): PCGrad in a random order; a parameter that every
    objective reaches (shared) gets the mean of the projected gradients, or their sum with reduction="sum"; any other
    (private) their sum.

    Args:
        grads: T sequences of P tensors or `None`s, see `gram`; B of them with `mixing`.
        weighting: Gramian [T, T] float64 -> weights [T], or [P, T]; used for every parameter alike. One of
            `gmd_kernels.weightings`, or any callable.
        groups: P ints 0..K-1, the group of each parameter, a module's for instance: the surgery of each group by
            itself, in the same two passes. A weighting sees one group's Gramian at a time.
        reduction: "mean" or "sum", for shared parameters; GMD only.
        generator: source of GMD's projection order; torch's default generator otherwise, as inside torch.compile.
        out: see `combine`.
        mixing: [T, B] float64 on the CPU, for gradients that are known as combinations of B others: `grads` holds
            those, and objective t's gradient is sum_b mixing[t, b] * grads[b]. No objective's gradient is ever made.
        shared: [P] bool on the CPU, which parameters are shared, for GMD. By default those that every one of `grads`
            reaches: an objective reaches a parameter by any gradient, one of zeros included; by None it does not.
        scale: what the gradients are too large by, as those of a loss that torch.amp.GradScaler has scaled: a number
            other than zero, or a tensor of one on the gradients' device. Gramian and result are without it.

    Returns:
        The merged gradients and the Gramian, as a pair; with the weights, see `Surgery`.

    Raises:
        ValueError, TypeError: an argument is malformed; the message names it, what came and what was expected.
            Nothing is written then.
    """
    check_reduction(reduction)
    if weighting is not None and (reduction != "mean" or generator is not None):
        raise ValueError("reduction and generator belong to GMD: give them to the weighting instead")
    if weighting is not None and shared is not None:
        raise ValueError("shared belongs to GMD: a weighting's weights are for every parameter alike")
    gradients = read(grads)
    out = check_out(out, gradients)
    num_groups = check_groups(groups, len(gradients.reached))
    check_mixing(mixing, gradients)
    check_shared(shared, gradients)
    scale = check_scale(scale, gradients)
    backend = backend_for(gradients)

    plain = mixing is None and shared is None and scale is None
    if weighting is None and plain and hasattr(backend, "surgery"):  # all of GMD in one call
        merged, grams, weights = backend.surgery(gradients, groups or [], num_groups, reduction, generator, out)
        return Surgery(merged, *(grams, weights) if groups is not None else (grams[0], weights[0]))
    shared = _shared(gradients) if shared is None else shared
    grams = backend.gram(gradients, groups or [], num_groups)
    if mixing is not None:
        mixing = upload(mixing.contiguous(), gradients.device)
        grams = mixing @ grams @ mixing.T
        grams = (grams + grams.mT) / 2  # which rounding leaves not quite symmetric
    if scale is not None:
        grams = grams / scale / scale
    gram = grams[0] if groups is None else grams
    if weighting is None:
        weights, per_parameter = _gmd_weights(gram, shared, groups, reduction, generator)
    else:
        weights = _weights(weighting, gram)
        per_parameter = weights if groups is None else weights[_on(weights.device, groups)]
    per_parameter = weights_per_parameter(per_parameter, gradients, gram.shape[-1])
    if mixing is not None:
        per_parameter = per_parameter @ mixing
    if scale is not None:
        per_parameter = per_parameter / scale
    return Surgery(backend.combine(gradients, per_parameter, out), gram, weights)


def _weights(weighting: Weighting, gram: Tensor) -> Tensor:
    """[T] of one Gramian, [K, T] of K."""
    if gram.ndim == 2 or _is_batched(weighting):
        return weighting(gram)
    return torch.stack([weighting(one) for one in gram])


def _is_batched(weighting: Weighting) -> bool:
    """Whether it takes [K, T, T]; of `functools.partial`, its function tells."""
    return getattr(getattr(weighting, "func", weighting), "batched", False)


def _shared(gradients: Gradients) -> Tensor | None:
    """[P] bool on the CPU: which parameters every row reaches; None if all are."""
    shared = [count == len(gradients.rows) for count in gradients.reached]
    return None if all(shared) else torch.tensor(shared, device="cpu")


def _gmd_weights(
    gram: Tensor,
    shared: Tensor | None,
    groups: Sequence[int] | None,
    reduction: str,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """For shared parameters, [T] or [K, T], and for each parameter, [T] or [P, T]."""
    total = pcgrad(gram, generator)
    weights = total / gram.shape[-1] if reduction == "mean" else total
    of_shared, of_private = weights, total
    if groups is not None:
        index = _on(total.device, groups)
        of_shared, of_private = weights[index], total[index]
    if reduction == "sum" or shared is None:
        return weights, of_shared
    return weights, torch.where(upload(shared.long(), total.device).bool()[:, None], of_shared, of_private)


def _on(device: torch.device, numbers: Sequence[int]) -> Tensor:
    return upload(torch.tensor(numbers, dtype=torch.int64, device="cpu"), device)
