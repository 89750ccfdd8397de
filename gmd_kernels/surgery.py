"""The pipeline: gradients -> Gramian -> weights -> one gradient.

Without a weighting the pipeline is GMD (Wang et al., AAAI 2024): each objective's gradient is projected off those that
it conflicts with, in a random order (PCGrad, Yu et al., NeurIPS 2020). A parameter that every objective reaches is
shared and gets the mean of the projected gradients, or their sum with reduction="sum"; any other is private and gets
their sum. An objective reaches a parameter by any gradient, one of zeros included; by None it does not.

With groups, the surgery of each group of parameters, of a module for instance, is one by itself. All groups together
still take two passes over the gradients, and a weighting sees one group's Gramian at a time.

With a mixing matrix the given gradients are not the objectives' own, but B others that these are combinations of. Their
Gramian is mixed instead, and so are the weights: no objective's gradient is ever made. With a scale the given gradients
are too large by that factor, as those of a loss that torch.amp.GradScaler has scaled. Gramian and result are not. With
a process group to reduce over, the given gradients are this process's pieces of them, and only their Gramian travels.
Weights are then those of the group's first process, and an objective reaches what it reaches on any process.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from gmd_kernels.checks import check_groups, check_mixing, check_scale, check_shared, weights_per_parameter
from gmd_kernels.contract import GradientKernels, WholeSurgery
from gmd_kernels.gradients import Gradients, Rows, read
from gmd_kernels.ops import backend_for
from gmd_kernels.pieces import Pieces, all_reduced, gram_of_pieces, like_wholes, of_the_first, pieces_of
from gmd_kernels.results import check_out
from gmd_kernels.uploads import upload
from gmd_kernels.weightings import check_reduction, pcgrad

Weighting = Callable[[Tensor], Tensor]


class Surgery(tuple[list[Tensor | None], Tensor]):
    """The result of `surgery`; it unpacks as `merged, gram = surgery(grads)`.

    Attributes:
        merged: P tensors, `None` for a parameter that no objective reaches.
        gram: [T, T] float64, of the objectives before the surgery; [K, T, T] with groups.
        weights: [T] float64, what each objective's gradient was multiplied with for a shared parameter; [K, T] with
            groups.
    """

    merged: list[Tensor | None]
    gram: Tensor
    weights: Tensor

    def __new__(cls, merged: list[Tensor | None], gram: Tensor, weights: Tensor) -> "Surgery":
        self = super().__new__(cls, (merged, gram))
        self.merged, self.gram, self.weights = merged, gram, weights
        return self

    def __getnewargs__(self) -> tuple[list[Tensor | None], Tensor, Tensor]:  # for copies and pickles
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
    reduce: "dist.ProcessGroup | None" = None,
) -> Surgery:
    """Merges T objectives' gradients by GMD (Wang et al., AAAI 2024) or a weighting; reads them twice, writes once.

    Args:
        grads: T sequences of P tensors or `None`s, see `gram`; B of them with `mixing`.
        weighting: Gramian [T, T] float64 -> weights [T] or [P, T], as `gmd_kernels.weightings`; None: GMD, AAAI 2024.
        groups: P ints 0..K-1, the group of each parameter; the surgery of each group is one by itself.
        reduction: "mean" or "sum", what GMD makes of the projected gradients of a shared parameter.
        generator: source of GMD's projection order; torch's default generator otherwise, as inside torch.compile.
        out: P tensors or `None`s to write into, see `combine`.
        mixing: [T, B] float64 on the CPU. Objective t's gradient is sum_b mixing[t, b] * grads[b].
        shared: [P] bool on the CPU, GMD's shared parameters; by default those that every one of `grads` reaches.
        scale: a number other than 0, or one in a tensor on the gradients' device: what the gradients are too large by.
        reduce: a process group, see `gram`. What is merged are this process's pieces, DTensors where gradients are.

    Raises ValueError or TypeError for a malformed argument, which the message tells; nothing is written then.
    """
    _check_gmd_options(weighting, reduction, generator, shared)
    pieces, gradients = _read(grads, reduce)
    out, num_groups = check_out(out, gradients), check_groups(groups, len(gradients.reached))
    scale, backend = _check_relation(mixing, shared, scale, gradients), backend_for(gradients)
    if (at_once := _at_once(backend, weighting, mixing, shared, scale, reduce)) is not None:
        whole = at_once(gradients, groups or [], num_groups, reduction, generator, out)
        return Surgery(*whole) if groups is not None else Surgery(whole[0], whole[1][0], whole[2][0])
    weigh = _weighing(weighting, shared, reduction, generator, groups, reduce)
    grams = _grams(backend, gradients, groups or [], num_groups, pieces, reduce)
    found = _in_steps(backend, gradients, groups, *grams, mixing, scale, weigh, out)
    return found if pieces is None else Surgery(like_wholes(found.merged, pieces.wholes), found.gram, found.weights)


def _weighing(
    weighting: Weighting | None,
    shared: Tensor | None,
    reduction: str,
    generator: torch.Generator | None,
    groups: Sequence[int] | None,
    reduce: "dist.ProcessGroup | None",
) -> Callable[[Tensor | None, Tensor], tuple[Tensor, Tensor]]:
    """Returns what finds weights, of (which parameters all gradients reach, the Gramian)."""
    if weighting is None:
        return partial(_gmd_weights, shared, reduction, generator, groups, reduce)
    return partial(_weights, weighting, groups, reduce)


def _read(grads: Rows, reduce: "dist.ProcessGroup | None") -> tuple[Pieces | None, Gradients]:
    """Reads the gradients, or this process's pieces of them."""
    pieces = None if reduce is None else pieces_of(grads, reduce)
    return pieces, read(grads if pieces is None else pieces.rows)


def _at_once(backend: GradientKernels, *options: object) -> WholeSurgery | None:
    """Returns the backend's function for all of GMD, if it has one, and no option asks for more than that."""
    whole: WholeSurgery | None = getattr(backend, "surgery", None)
    return whole if all(option is None for option in options) else None


def _grams(
    backend: GradientKernels,
    gradients: Gradients,
    groups: Sequence[int],
    num_groups: int,
    pieces: Pieces | None,
    reduce: "dist.ProcessGroup | None",
) -> tuple[Tensor, Tensor | None]:
    """Returns the Gramians, [K, T, T], and which parameters all gradients reach, [P]; None if that is every one.

    Over several processes both are those of all; a gradient reaches a parameter if it does on one of them.
    """
    if pieces is None or reduce is None:
        return backend.gram(gradients, groups, num_groups), _reached_by_all(gradients)
    there = torch.tensor([[g is not None for g in row] for row in gradients.rows], device=gradients.device)
    grams = gram_of_pieces(backend, gradients, groups, num_groups, pieces.copies)
    grams, joined = all_reduced(grams, reduce, there)
    assert joined is not None, "what was asked for"
    return grams, joined.all(dim=0)


def _check_gmd_options(
    weighting: Weighting | None, reduction: str, generator: torch.Generator | None, shared: Tensor | None
) -> None:
    """Raises a ValueError for a reduction that GMD does not have, and for options of GMD's beside a weighting."""
    check_reduction(reduction)
    if weighting is not None and (reduction != "mean" or generator is not None):
        raise ValueError("reduction and generator belong to GMD: give them to the weighting instead")
    if weighting is not None and shared is not None:
        raise ValueError("shared belongs to GMD: a weighting's weights are for every parameter alike")


def _check_relation(
    mixing: Tensor | None, shared: Tensor | None, scale: Tensor | float | None, gradients: Gradients
) -> Tensor | float | None:
    """Checks what relates the given gradients to the objectives; returns the scale, a tensor as a scalar."""
    check_mixing(mixing, gradients)
    check_shared(shared, gradients)
    return check_scale(scale, gradients)


def _in_steps(
    backend: GradientKernels,
    gradients: Gradients,
    groups: Sequence[int] | None,
    grams: Tensor,
    reached: Tensor | None,
    mixing: Tensor | None,
    scale: Tensor | float | None,
    weigh: Callable[[Tensor | None, Tensor], tuple[Tensor, Tensor]],
    out: list[Tensor | None],
) -> Surgery:
    """From the given gradients' Gramians to the combination; `weigh` comes between, see `_gmd_weights`.

    reached: [P] bool, which parameters all given gradients reach; None if that is every parameter
    """
    if mixing is not None:
        mixing = upload(mixing.contiguous(), gradients.device)
        grams = mixing @ grams @ mixing.T
        grams = (grams + grams.mT) / 2  # which rounding leaves not quite symmetric
    if scale is not None:
        grams = grams / scale / scale
    gram = grams[0] if groups is None else grams
    weights, per_parameter = weigh(reached, gram)
    per_parameter = weights_per_parameter(per_parameter, gradients, gram.shape[-1])
    if mixing is not None:
        per_parameter = per_parameter @ mixing
    if scale is not None:
        per_parameter = per_parameter / scale
    return Surgery(backend.combine(gradients, per_parameter, out), gram, weights)


def _weights(
    weighting: Weighting,
    groups: Sequence[int] | None,
    reduce: "dist.ProcessGroup | None",
    reached: Tensor | None,
    gram: Tensor,
) -> tuple[Tensor, Tensor]:
    """Returns the weighting's weights, [T] or [K, T], and the same for each parameter, [T] or [P, T]."""
    if gram.ndim == 2 or _is_batched(weighting):
        weights = weighting(gram)
    else:
        weights = torch.stack([weighting(one) for one in gram])
    weights = weights if reduce is None else of_the_first(weights, reduce)
    return weights, weights if groups is None else weights[_on(weights.device, groups)]


def _is_batched(weighting: Weighting) -> bool:
    """Returns whether a weighting takes [K, T, T]; of a `functools.partial`, its function tells."""
    batched: bool = getattr(getattr(weighting, "func", weighting), "batched", False)
    return batched


def _gmd_weights(
    shared: Tensor | None,
    reduction: str,
    generator: torch.Generator | None,
    groups: Sequence[int] | None,
    reduce: "dist.ProcessGroup | None",
    reached: Tensor | None,
    gram: Tensor,
) -> tuple[Tensor, Tensor]:
    """Returns GMD's weights for shared parameters, [T] or [K, T], and those for each parameter, [T] or [P, T]."""
    total = pcgrad(gram, generator)
    total = total if reduce is None else of_the_first(total, reduce)
    weights = total / gram.shape[-1] if reduction == "mean" else total
    of_shared, of_private = weights, total
    if groups is not None:
        index = _on(total.device, groups)
        of_shared, of_private = weights[index], total[index]
    shared = reached if shared is None else shared
    if reduction == "sum" or shared is None:
        return weights, of_shared
    if shared.device != total.device:
        shared = upload(shared.long(), total.device).bool()
    return weights, torch.where(shared[:, None], of_shared, of_private)


def _reached_by_all(gradients: Gradients) -> Tensor | None:
    """Returns [P] bool on the CPU: which parameters all given gradients reach; None if that is every parameter."""
    shared = [count == len(gradients.rows) for count in gradients.reached]
    return None if all(shared) else torch.tensor(shared, device="cpu")


def _on(device: torch.device, numbers: Sequence[int]) -> Tensor:
    return upload(torch.tensor(numbers, dtype=torch.int64, device="cpu"), device)
