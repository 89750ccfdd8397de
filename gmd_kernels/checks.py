"""Checks of the ops' arguments other than gradients; each error says what came and what was expected."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gmd_kernels.gradients import MAX_OBJECTIVES, Gradients, tell_of


def weights_per_parameter(weights: Tensor, gradients: Gradients, num_objectives: int | None = None) -> Tensor:
    """Returns [P, T] float64 for weights [T] or [P, T] of a floating type; T as given, or the number of gradients."""
    shape = (len(gradients.reached), num_objectives or len(gradients.rows))
    if not isinstance(weights, Tensor) or tuple(weights.shape) not in (shape, shape[1:]):
        expected = f"[T] = {list(shape[1:])} or [P, T] = {list(shape)}"
        raise ValueError(f"weights: expected {expected}, got {_shape_of(weights)}")
    if not weights.is_floating_point() or weights.layout is not torch.strided or weights.device != gradients.device:
        raise ValueError(f"weights: expected floating, dense, on {gradients.device}, got {tell_of(weights)}")
    return weights.detach().double().expand(shape)


def check_mixing(mixing: Tensor | None, gradients: Gradients) -> None:
    """Raises a ValueError unless the mixing is [T, B] float64 on the CPU beside B gradients, or None."""
    if mixing is None:
        return
    num_rows = len(gradients.rows)
    if not _is_dense(mixing, torch.float64) or mixing.ndim != 2 or mixing.shape[1] != num_rows:
        raise ValueError(
            f"mixing: expected float64 [T, {num_rows}], a column for each of grads, got {_tell_of(mixing)}"
        )
    if mixing.device.type != "cpu":
        raise ValueError(f"mixing: expected on the CPU, got {mixing.device}")
    if not 1 <= len(mixing) <= MAX_OBJECTIVES:
        raise ValueError(f"mixing: expected 1 to {MAX_OBJECTIVES} objectives, got {len(mixing)}")


def check_shared(shared: Tensor | None, gradients: Gradients) -> None:
    """Raises a ValueError unless `shared` is [P] bool on the CPU, or None."""
    if shared is not None and not (_is_dense(shared, torch.bool) and shared.shape == (len(gradients.reached),)):
        raise ValueError(f"shared: expected bool [P] = [{len(gradients.reached)}], got {_tell_of(shared)}")
    if shared is not None and shared.device.type != "cpu":
        raise ValueError(f"shared: expected on the CPU, got {shared.device}")


def check_scale(scale: Tensor | float | None, gradients: Gradients) -> Tensor | float | None:
    """Returns the scale, a tensor as a scalar; raises a ValueError unless it is one number other than zero, or None."""
    if isinstance(scale, Tensor):
        if scale.numel() != 1 or not scale.is_floating_point() or scale.device != gradients.device:
            raise ValueError(f"scale: expected one floating number on {gradients.device}, got {tell_of(scale)}")
        return scale.detach().reshape(())
    if scale is not None and (not isinstance(scale, float | int) or not math.isfinite(scale) or scale == 0):
        raise ValueError(f"scale: expected a finite number other than 0, got {scale!r}")
    return scale


def check_groups(groups: Sequence[int] | None, num_params: int) -> int:
    """Returns K; raises an error unless the groups are P ints 0..K-1, or None for one group of all."""
    if groups is None:
        return 1
    if not isinstance(groups, Sequence):
        raise TypeError(f"groups: expected a sequence of ints, got {type(groups).__name__}")
    if len(groups) != num_params:
        raise ValueError(f"groups: expected {num_params} ints, one for each parameter, got {len(groups)}")
    for p, group in enumerate(groups):
        if not isinstance(group, int) or isinstance(group, bool) or not 0 <= group < num_params:
            raise ValueError(f"groups[{p}]: expected an int from 0 to {num_params - 1}, got {group!r}")
    return max(groups, default=0) + 1


def check_gram(gram: Tensor) -> None:
    """Raises a ValueError unless the Gramian is [..., T, T] float64 of 1 to 64 objectives."""
    if not _is_dense(gram, torch.float64) or gram.ndim < 2 or gram.shape[-2] != gram.shape[-1]:
        raise ValueError(f"gram: expected float64 [T, T], got {_tell_of(gram)}")
    if not 1 <= gram.shape[-1] <= MAX_OBJECTIVES:
        raise ValueError(f"gram: expected 1 to {MAX_OBJECTIVES} objectives, got {gram.shape[-1]}")


def check_order(order: Tensor, gram: Tensor) -> None:
    """Raises a ValueError unless the order is [..., T, T-1] int64 beside a [..., T, T] Gramian; reads no value."""
    check_gram(gram)
    expected = (*gram.shape[:-1], gram.shape[-1] - 1)
    if not _is_dense(order, torch.int64) or tuple(order.shape) != expected:
        raise ValueError(f"order: expected int64 {list(expected)}, got {_tell_of(order)}")
    if order.device != gram.device:
        raise ValueError(f"order: expected on the Gramian's device {gram.device}, got {order.device}")


def check_permutations(order: Tensor) -> None:
    """Raises a ValueError if a row i of the order, [..., T, T-1], is no permutation of all objectives but i."""
    t = order.shape[-2]
    first = torch.arange(t - 1, device=order.device)
    others = first + (first >= torch.arange(t, device=order.device)[:, None])
    wrong = (order.sort(dim=-1).values != others).any(dim=-1)
    if wrong.any():
        index = wrong.nonzero()[0].tolist()
        name, i = "".join(f"[{k}]" for k in index), index[-1]
        expected = [j for j in range(t) if j != i]
        raise ValueError(f"order{name}: expected a permutation of {expected}, got {order[tuple(index)].tolist()}")


def _is_dense(matrix: object, dtype: torch.dtype) -> bool:
    return isinstance(matrix, Tensor) and matrix.dtype == dtype and matrix.layout is torch.strided


def _tell_of(matrix: object) -> str:
    if not isinstance(matrix, Tensor):
        return type(matrix).__name__
    return f"{matrix.dtype} {list(matrix.shape)}" + ("" if matrix.layout is torch.strided else f", {matrix.layout}")


def _shape_of(weights: object) -> str:
    return str(list(weights.shape)) if isinstance(weights, Tensor) else type(weights).__name__
