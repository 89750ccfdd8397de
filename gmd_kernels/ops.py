"""The contract: what each op takes and returns, checked before any backend sees it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gmd_kernels import dispatch

Gradients = Sequence[Sequence[Tensor | None]]  # [T][P]

MAX_OBJECTIVES = 64


def gram(grads: Gradients, groups: Sequence[int] | None = None) -> Tensor:
    """Inner products of the objectives' gradients, G[i, j] = sum over parameters of <g_i, g_j>. One read of T·N.

    Args:
        grads: T sequences of P tensors or `None`s, as `torch.autograd.grad(..., allow_unused=True)` returns them; any
            floating type and strides. `None` counts as zero.
        groups: P ints 0..K-1, the group of each parameter; one Gramian for each group then.

    Returns:
        [T, T] float64 on the gradients' device; [K, T, T] with groups. A NaN or Inf in any gradient shows on the
        diagonal.

    Raises:
        ValueError, TypeError: an argument is malformed; the message names it, what came and what was expected.
    """
    device, dtypes, _ = check_grads(grads)
    num_groups = 1
    if groups is not None:
        num_groups = _check_groups(groups, len(grads[0]))
    grams = dispatch.choose(device, dtypes).gram(grads, groups or [0] * len(grads[0]), num_groups, device)
    return grams[0] if groups is None else grams


def pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    """Coefficients of the projected gradients (PCGrad, Yu et al., NeurIPS 2020, algorithm 1), from the Gramian alone.

    Args:
        gram: [T, T] float64.
        order: [T, T-1] int64, row i = the order in which gradient i meets the others, see `projection_order`.

    Returns:
        [T, T] float64 on the Gramian's device: projected gradient i = sum_k weights[i, k] * g_k. Gradient i is
        projected off each original g_j whose inner product with what is left of it is negative; a g_j of zero length
        never is.
    """
    _check_gram(gram)
    expected = (len(gram), len(gram) - 1)
    if tuple(order.shape) != expected or order.dtype != torch.int64:
        raise ValueError(f"order: expected int64 {list(expected)}, got {order.dtype} {list(order.shape)}")
    if order.device != gram.device:
        raise ValueError(f"order: expected on the Gramian's device {gram.device}, got {order.device}")
    if gram.device.type == "cpu":  # elsewhere the check would wait for the device
        _check_permutations(order)
    return dispatch.choose(gram.device, ()).pcgrad_weights(gram, order)


def projection_order(
    num_objectives: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """A random order for each objective in which to meet the others: [T, T-1] int64, row i a permutation of all but i.

    Args:
        num_objectives: T.
        generator: of any device; torch's default generator of `device` otherwise.
        device: of the result; the generator's device or the CPU otherwise.
    """
    if not 1 <= num_objectives <= MAX_OBJECTIVES:
        raise ValueError(f"num_objectives: expected 1 to {MAX_OBJECTIVES}, got {num_objectives}")
    source = generator.device if generator is not None else device or "cpu"
    device = device or source
    keys = torch.rand(num_objectives, num_objectives - 1, generator=generator, device=source)
    others = keys.to(device).argsort(dim=1)
    return others + (others >= torch.arange(num_objectives, device=device)[:, None])


def combine(grads: Gradients, weights: Tensor, out: Sequence[Tensor | None] | None = None) -> list[Tensor | None]:
    """Weighted sum of the objectives' gradients, out[p] = sum_k weights[k] * grads[k][p]. Reads T·N, writes N.

    Args:
        grads: as for `gram`.
        weights: [T], or [P, T] for weights of each parameter's own; floating, on the gradients' device.
        out: P tensors of the gradients' shapes, types and device to write into, may be `grads[0]` itself; `None`
            entries are allocated. They must not share memory with each other, nor with gradients of other parameters.

    Returns:
        P tensors, of the gradients' types and strides; `None` for a parameter that no objective reaches (zeros if `out`
        holds a tensor for it).
    """
    device, dtypes, _ = check_grads(grads)
    out = check_out(out, grads)
    rows = weights_per_parameter(weights, grads, device)
    return dispatch.choose(device, dtypes).combine(grads, rows, out)


def weights_per_parameter(weights: Tensor, grads: Gradients, device: torch.device) -> Tensor:
    """[T] or [P, T] floating -> [P, T] float64."""
    shape = (len(grads[0]), len(grads))
    if tuple(weights.shape) not in {shape, shape[1:]}:
        expected = f"[T] = {list(shape[1:])} or [P, T] = {list(shape)}"
        raise ValueError(f"weights: expected {expected}, got {list(weights.shape)}")
    if not weights.is_floating_point() or weights.device != device:
        raise ValueError(f"weights: expected floating on {device}, got {weights.dtype} on {weights.device}")
    return weights.double().expand(shape)


class Summary(NamedTuple):
    """What one reading of the gradients tells about all of them."""

    device: torch.device
    dtypes: set[torch.dtype]
    reached: list[int]  # [P], how many objectives reach each parameter


def check_grads(grads: Gradients) -> Summary:
    """Reads the list once; raises an error that names the first entry that is wrong."""
    if not 1 <= len(grads) <= MAX_OBJECTIVES:
        raise ValueError(f"grads: expected 1 to {MAX_OBJECTIVES} objectives, got {len(grads)}")
    num_params = len(grads[0])
    for k, row in enumerate(grads):
        if len(row) != num_params:
            raise ValueError(f"grads[{k}]: expected {num_params} parameters as in grads[0], got {len(row)}")
    device, dtypes, reached = None, set(), []
    for p, column in enumerate(zip(*grads, strict=True)):
        present = [g for g in column if g is not None]
        reached.append(len(present))
        if not present:
            continue
        first = present[0]
        _check_first(first, column, p, device)
        shape, dtype, device = first.shape, first.dtype, first.device
        dtypes.add(dtype)
        for g in present:  # T·P times: this loop is most of what a call costs in Python
            if not (
                isinstance(g, Tensor)
                and g.shape == shape
                and g.dtype is dtype
                and g.device == device
                and g.layout is torch.strided
            ):
                _refuse(column, p, g, first)
    return Summary(device or torch.device("cpu"), dtypes, reached)


def _check_first(g: object, column: Sequence[Tensor | None], p: int, device: torch.device | None) -> None:
    """The first gradient of a parameter says what the others must be."""
    if (
        isinstance(g, Tensor)
        and g.is_floating_point()
        and g.layout is torch.strided
        and g.device == (device or g.device)
    ):
        return
    name = f"grads[{_position(g, column)}][{p}]"
    if not isinstance(g, Tensor):
        raise TypeError(f"{name}: expected a tensor or None, got {type(g).__name__}")
    if not g.is_floating_point() or g.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor of a floating type, got {_tell_of(g)}")
    raise ValueError(f"{name}: expected on {device}, as the gradients before it, got {_tell_of(g)}")


def _refuse(column: Sequence[Tensor | None], p: int, bad: object, first: Tensor) -> None:
    name = f"grads[{_position(bad, column)}][{p}]"
    raise ValueError(f"{name}: expected {_tell_of(first)}, as the gradients before it, got {_tell_of(bad)}")


def _position(wanted: object, column: Sequence[object]) -> int:
    return next(k for k, g in enumerate(column) if g is wanted)


def _kind(g: Tensor) -> tuple:
    return g.shape, g.dtype, g.device, g.layout


def _tell_of(g: object) -> str:
    if not isinstance(g, Tensor):
        return type(g).__name__
    return f"{list(g.shape)} {g.dtype} on {g.device}, {str(g.layout).removeprefix('torch.')}"


def _check_gram(gram: Tensor) -> None:
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or gram.dtype != torch.float64:
        raise ValueError(f"gram: expected float64 [T, T], got {gram.dtype} {list(gram.shape)}")
    if not 1 <= len(gram) <= MAX_OBJECTIVES:
        raise ValueError(f"gram: expected 1 to {MAX_OBJECTIVES} objectives, got {len(gram)}")


def _check_permutations(order: Tensor) -> None:
    for i, row in enumerate(order.tolist()):
        others = [j for j in range(len(order)) if j != i]
        if sorted(row) != others:
            raise ValueError(f"order[{i}]: expected a permutation of {others}, got {row}")


def _check_groups(groups: Sequence[int], num_params: int) -> int:
    if len(groups) != num_params:
        raise ValueError(f"groups: expected {num_params} ints, one for each parameter, got {len(groups)}")
    for p, group in enumerate(groups):
        if not isinstance(group, int) or not 0 <= group < num_params:
            raise ValueError(f"groups[{p}]: expected an int from 0 to {num_params - 1}, got {group!r}")
    return max(groups, default=0) + 1


def check_out(out: Sequence[Tensor | None] | None, grads: Gradients) -> list[Tensor | None]:
    """The P results to write into, `None` where they are to be allocated."""
    if out is None:
        return [None] * len(grads[0])
    if len(out) != len(grads[0]):
        raise ValueError(f"out: expected {len(grads[0])} tensors, one for each parameter, got {len(out)}")
    spans = []
    for p, (target, *column) in enumerate(zip(out, *grads, strict=True)):
        if target is None:
            continue
        like = next((g for g in column if g is not None), target)
        if not isinstance(target, Tensor) or _kind(target) != _kind(like):
            raise ValueError(f"out[{p}]: expected {_tell_of(like)}, got {_tell_of(target)}")
        if target.requires_grad or target.is_neg():
            raise ValueError(f"out[{p}]: expected a tensor that neither requires grad nor is lazily negated")
        if any(size > 1 and stride == 0 for size, stride in zip(target.shape, target.stride(), strict=True)):
            raise ValueError(
                f"out[{p}]: overlaps itself, strides {target.stride()}; an expanded tensor holds no result"
            )
        if target.numel():
            length = 1 + sum((size - 1) * stride for size, stride in zip(target.shape, target.stride(), strict=True))
            spans.append((target.data_ptr(), target.data_ptr() + length * target.element_size(), p))
    spans.sort()
    for (_, end, p), (start, _, q) in pairwise(spans):
        if start < end:
            raise ValueError(f"out[{max(p, q)}] shares its memory with out[{min(p, q)}]: each result needs its own")
    return list(out)
