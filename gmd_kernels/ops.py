"""The ops as users call them: arguments are checked here before any backend sees them."""

from collections.abc import Sequence

import torch.distributed as dist
from torch import Tensor

from gmd_kernels import dispatch, library
from gmd_kernels.checks import check_groups, check_order, check_permutations, weights_per_parameter
from gmd_kernels.contract import GradientKernels
from gmd_kernels.gradients import Gradients, Rows, is_traced, read
from gmd_kernels.pieces import all_reduced, gram_of_pieces, like_wholes, local_pieces, pieces_of, refuse_dtensors
from gmd_kernels.results import check_out


def gram(grads: Rows, groups: Sequence[int] | None = None, *, reduce: "dist.ProcessGroup | None" = None) -> Tensor:
    """Computes the Gramian of the objectives' gradients, G[i, j] = <g_i, g_j> over all parameters; reads T·N elements.

    Args:
        grads: T sequences of P tensors or `None`s, as `torch.autograd.grad(..., allow_unused=True)` returns them; any
            floating type, which may differ between parameters, and any strides. `None` counts as zero.
        groups: P ints 0..K-1, the group of each parameter; one Gramian for each group then.
        reduce: a process group, all of whose processes call this. The gradients are then the pieces of them that this
            process has, and Gramians are added up by one all-reduce. DTensors are read where they lie, copies of a
            piece count once, and plain tensors beside them are copies on all processes.

    Returns:
        [T, T] float64 on the gradients' device; [K, T, T] with groups. A NaN or Inf in any gradient shows on the
        diagonal.

    Raises:
        ValueError, TypeError: an argument is malformed; the message names it, what came and what was expected.
    """
    pieces = None if reduce is None else pieces_of(grads, reduce)
    gradients = read(grads if pieces is None else pieces.rows)
    num_groups = check_groups(groups, len(gradients.reached))
    kernels = backend_for(gradients)
    if pieces is None or reduce is None:
        grams = kernels.gram(gradients, groups or [], num_groups)
    else:
        grams, _ = all_reduced(gram_of_pieces(kernels, gradients, groups or [], num_groups, pieces.copies), reduce)
    return grams[0] if groups is None else grams


def pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    """Finds the projected gradients' weights from the Gramian alone (PCGrad, Yu et al., NeurIPS 2020, algorithm 1).

    Args:
        gram: [..., T, T] float64.
        order: [..., T, T-1] int64, row i = the order in which gradient i meets the others, see `projection_order`.

    Returns:
        [..., T, T] float64 on the Gramian's device: projected gradient i = sum_k weights[i, k] * g_k. Gradient i is
        projected off each original g_j whose inner product with what is left of it is negative; a g_j of zero length
        never is.

    Raises:
        ValueError: another type, shape or device. On the CPU also an order that is no permutation; elsewhere that
            check would wait for the device.
    """
    check_order(order, gram)
    if gram.device.type == "cpu" and not is_traced(gram):  # elsewhere the check would wait for the device
        check_permutations(order)
    return project(gram, order)


def project(gram: Tensor, order: Tensor) -> Tensor:
    """Does what `pcgrad_weights` does, without its checks."""
    kernels: GradientKernels = library if is_traced(gram, order) else dispatch.choose_for_gram(gram)
    return kernels.pcgrad_weights(gram, order)


def combine(grads: Rows, weights: Tensor, out: Sequence[Tensor | None] | None = None) -> list[Tensor | None]:
    """Combines the objectives' gradients; reads T·N elements, writes N.

    `out[p] = sum_k weights[k] * grads[k][p]` for each parameter p.

    Args:
        grads: as for `gram`; DTensors of one placement for each parameter are combined where they lie.
        weights: [T], or [P, T] for weights of each parameter's own; floating, on the gradients' device.
        out: P tensors of the gradients' shapes, types and device to write into; `None` entries are allocated. They may
            be gradients, `grads[0]` for instance, each of its own parameter; otherwise they share memory with none.

    Returns:
        P tensors, of the gradients' types and strides; `None` for a parameter that no objective reaches (zeros if `out`
        holds a tensor for it).

    Raises:
        ValueError, TypeError: an argument is malformed; the message names it, what came and what was expected.
            Nothing is written then.
    """
    gradients = read(grads)
    if gradients.traced and (pieces := local_pieces(gradients)) is not None:
        return like_wholes(combine(pieces.rows, weights, out), pieces.wholes)
    out = check_out(out, gradients)
    return backend_for(gradients).combine(gradients, weights_per_parameter(weights, gradients), out)


def backend_for(gradients: Gradients) -> GradientKernels:
    """Returns the kernels that the pipeline calls: torch's own ops while torch traces, the chosen backend otherwise.

    Raises a TypeError for DTensors, which have to come as the pieces that this process has.
    """
    if gradients.traced:
        refuse_dtensors(gradients)
        return library
    return dispatch.choose(gradients)
