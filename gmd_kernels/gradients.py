"""Reads the gradients that a user holds in lists, once: checks them, and notes what the ops need to know of all."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gmd_kernels import native
from gmd_kernels.native import Native

if TYPE_CHECKING:
    from gmd_kernels._C import Gradients as NativeGradients

_C: Native | None = native.compiled

MAX_OBJECTIVES = 64

Rows = Sequence[Sequence[Tensor | None]]  # [T][P]


class Gradients(NamedTuple):
    """The gradients of T objectives for P parameters, and what one reading tells of all of them.

    Attributes:
        rows: the gradients as they came, [T][P].
        device: the device that all gradients are on; the CPU if there is none.
        dtypes: the types of all gradients; empty while torch.compile traces.
        reached: [P], how many objectives reach each parameter.
        native: the same gradients as C++ reads them; None without the C++ part, and if any of them is unusual.
        traced: whether torch is tracing (torch.compile, fake tensors): then only its own ops may touch the gradients.
    """

    rows: Rows
    device: torch.device
    dtypes: frozenset[torch.dtype]
    reached: Sequence[int]
    native: "NativeGradients | None" = None
    traced: bool = False


def read(rows: Rows) -> Gradients:
    """Reads the lists once; raises a TypeError or ValueError that names the first entry that is wrong."""
    if torch.compiler.is_compiling():  # what each tensor is the ops' fakes check, which is quicker than to trace it
        check_lists(rows)
        first = first_tensor(g for row in rows for g in row)
        device = torch.device("cpu") if first is None else first.device
        return Gradients(rows, device, frozenset(), _count(rows), traced=True)
    native = None if _C is None or torch._C._len_torch_dispatch_stack() > 0 else _C.read(rows)
    if native is None:
        gradients = check(rows)
        if _C is None or gradients.traced:
            return gradients
        native = _C.read([list(row) for row in rows])  # other sequences than lists and tuples
        if native is None:
            return gradients
    return Gradients(rows, native.device, frozenset(native.dtypes), native.reached, native)


def check(rows: Rows) -> Gradients:
    """Reads the lists in Python, as `read`: without the C++ part, for unusual gradients, and to say what is wrong."""
    check_lists(rows)
    device: torch.device | None = None
    dtypes, traced = set(), is_traced()
    for p, column in enumerate(zip(*rows, strict=True)):
        first = first_tensor(column)
        if first is None:
            continue
        dtypes.add(first.dtype)
        for k, g in enumerate(column):
            if g is not None:
                _check_one(f"grads[{k}][{p}]", g, first, device)
                device = g.device
                traced = traced or is_wrapped(g)
    return Gradients(rows, device or torch.device("cpu"), frozenset(dtypes), _count(rows), traced=traced)


def check_lists(rows: object) -> None:
    """Raises an error unless there are T sequences of P tensors or `None`s, whatever the tensors are."""
    if isinstance(rows, Tensor) or not isinstance(rows, Sequence):
        raise TypeError(f"grads: expected a sequence of sequences, got {tell_of(rows)}")
    if not 1 <= len(rows) <= MAX_OBJECTIVES:
        raise ValueError(f"grads: expected 1 to {MAX_OBJECTIVES} objectives, got {len(rows)}")
    for k, row in enumerate(rows):
        if isinstance(row, Tensor) or not isinstance(row, Sequence):
            raise TypeError(f"grads[{k}]: expected a sequence of tensors or None, got {tell_of(row)}")
        if len(row) != len(rows[0]):
            raise ValueError(f"grads[{k}]: expected {len(rows[0])} parameters as in grads[0], got {len(row)}")
        for p, g in enumerate(row):
            if g is not None and not isinstance(g, Tensor):
                raise TypeError(f"grads[{k}][{p}]: expected a tensor or None, got {type(g).__name__}")


def _check_one(name: str, g: Tensor, first: Tensor, device: torch.device | None) -> None:
    """Raises an error if a gradient differs from the first one of its parameter, or in device from those before."""
    if g.is_nested:  # has no shape to tell of
        raise TypeError(f"{name}: expected a dense tensor, got a nested one")
    if not g.is_floating_point() or g.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor of a floating type, got {tell_of(g)}")
    if (g.shape, g.dtype) != (first.shape, first.dtype):
        raise ValueError(f"{name}: expected {tell_of(first)}, as the gradients before it, got {tell_of(g)}")
    if device is not None and g.device != device:
        raise ValueError(f"{name}: expected on {device}, as the gradients before it, got {tell_of(g)}")


def first_tensor(column: Iterable[Tensor | None]) -> Tensor | None:
    """Returns the first that is there of a parameter's gradients; None if no objective reaches it."""
    for g in column:
        if g is not None:
            return g
    return None


def _count(rows: Rows) -> list[int]:
    return [sum(g is not None for g in column) for column in zip(*rows, strict=True)]


def is_traced(*tensors: Tensor) -> bool:
    """Returns whether torch is tracing (torch.compile, a mode that sees every op) or has wrapped one of the tensors."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
        return True
    return any(map(is_wrapped, tensors))


def is_readable(tensor: Tensor) -> bool:
    """Returns whether values of a tensor can be read without waiting: it is on the CPU, and torch is not tracing."""
    return tensor.device.type == "cpu" and not is_traced(tensor)


def is_wrapped(g: Tensor) -> bool:
    """Returns whether a tensor has no memory behind it, or something of torch's around it that has to see every op."""
    wrapped = type(g).__torch_dispatch__ is not Tensor.__torch_dispatch__
    return wrapped or g.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(g)


def tell_of(g: object) -> str:
    """Returns a tensor's shape, type, device and layout, for messages; the name of the type for anything else."""
    if not isinstance(g, Tensor):
        return type(g).__name__
    return f"{list(g.shape)} {g.dtype} on {g.device}, {str(g.layout).removeprefix('torch.')}"
