"""A library of matrix products like none that there is, so that tests do not hang on the one of the machine at hand."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ALIGNED = 64  # bytes, as torch allocates


class AnyOrder(TorchDispatchMode):
    """Inside it torch's products of matrices and vectors add up one term after another, from either end.

    Libraries choose the order by the block of the result, by strides and by how memory is aligned: MKL on processors
    with AVX-512 gives rows @ rows.T whose two triangles differ in their last bits. Here the terms of entries below the
    diagonal are added from the last to the first, and so are all where an operand is strided or lies unaligned.
    """

    def __torch_dispatch__(self, op: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if op is torch.ops.aten.mm.default:
            return _product(*args)
        if op is torch.ops.aten.mv.default:
            return _product(args[0], args[1][:, None], lies_elsewhere(args[1]))[:, 0]
        if op is torch.ops.aten.dot.default:
            return _product(args[0][None], args[1][:, None], any(map(lies_elsewhere, args)))[0, 0]
        return op(*args, **(kwargs or {}))


def _product(left: Tensor, right: Tensor, backwards: bool = False) -> Tensor:
    """[m, n] x [n, k] -> [m, k]"""
    n = left.shape[1]
    if backwards or any(lies_elsewhere(side) and lies_elsewhere(side.mT) for side in (left, right)):
        return _chain(left, right, reversed(range(n)))
    return _chain(left, right, range(n)).triu() + _chain(left, right, reversed(range(n))).tril(-1)


def _chain(left: Tensor, right: Tensor, order: Iterable[int]) -> Tensor:
    total = left.new_zeros(len(left), right.shape[1])
    for k in order:
        total += left[:, k, None] * right[None, k]
    return total


def lies_elsewhere(tensor: Tensor) -> bool:
    """Than a tensor of torch's own would."""
    return not tensor.is_contiguous() or tensor.data_ptr() % ALIGNED != 0
