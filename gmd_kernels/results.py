"""Checks of the tensors that a caller wants results written into: whether that can be done without harm."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gmd_kernels.gradients import _C, Gradients, first_tensor, is_wrapped, tell_of


def check_out(out: Sequence[Tensor | None] | None, gradients: Gradients) -> list[Tensor | None]:
    """Returns the P results to write into, `None` where they are to be allocated; raises an error if one is unfit."""
    num_params = len(gradients.reached)
    if out is None:
        return [None] * num_params
    _check_list(out, num_params)
    for p, (target, *column) in enumerate(zip(out, *gradients.rows, strict=True)):
        if target is not None:
            like = first_tensor(column)
            _check_one(f"out[{p}]", target, target if like is None else like, gradients.device)
    if not gradients.traced:  # functional graphs have no memory to share
        _check_memory(out, gradients)
    return list(out)


def _check_list(out: object, num_params: int) -> None:
    if isinstance(out, Tensor) or not isinstance(out, Sequence):
        raise TypeError(f"out: expected a sequence of tensors or None, got {tell_of(out)}")
    if len(out) != num_params:
        raise ValueError(f"out: expected {num_params} tensors, one for each parameter, got {len(out)}")


def _check_one(name: str, target: object, like: Tensor, device: torch.device) -> None:
    """Raises an error unless a result is an ordinary tensor of the gradient's kind, and can be written to in place."""
    if not isinstance(target, Tensor) or _kind(target) != _kind(like) or target.device != device:
        raise ValueError(f"{name}: expected {tell_of(like)}, got {tell_of(target)}")
    eager = not torch.compiler.is_compiling()
    if eager and (target._is_zerotensor() or is_wrapped(target) > is_wrapped(like)):
        raise ValueError(f"{name}: expected an ordinary tensor, got one without memory of its own")
    if target.requires_grad or (eager and target.is_neg()):
        raise ValueError(f"{name}: expected a tensor that neither requires grad nor is lazily negated")
    if target.numel() and _is_expanded(target):
        raise ValueError(f"{name}: overlaps itself, strides {target.stride()}; an expanded tensor holds no result")


def _kind(g: Tensor) -> tuple[torch.Size, torch.dtype, torch.device, torch.layout]:
    return g.shape, g.dtype, g.device, g.layout


def _is_expanded(g: Tensor) -> bool:
    """Returns whether a dimension of several elements has a stride of zero."""
    return any(size > 1 and stride == 0 for size, stride in zip(g.shape, g.stride(), strict=True))


def _check_memory(out: Sequence[Tensor | None], gradients: Gradients) -> None:
    """Raises a ValueError unless results lie apart from each other, and from gradients that they do not replace."""
    given = [(p, target) for p, target in enumerate(out) if target is not None]
    for p, target in given:
        if not target.is_contiguous() and overlaps_itself(target):
            raise ValueError(f"out[{p}]: overlaps itself, {list(target.shape)} with strides {target.stride()}")
    results = sorted(span(target, p) for p, target in given if target.numel())
    for (_, end, p), (start, _, q) in pairwise(results):
        if start < end:
            raise ValueError(f"out[{max(p, q)}] shares its memory with out[{min(p, q)}]: each result needs its own")
    if results:
        _check_against_gradients(out, results, gradients)


def _check_against_gradients(
    out: Sequence[Tensor | None], results: list[tuple[int, int, int]], gradients: Gradients
) -> None:
    """Raises a ValueError if a result, by its span in memory, lies on a gradient other than one it replaces."""
    spans, targets = spans_of(gradients), torch.tensor(results, device="cpu")
    nearest = (torch.searchsorted(targets[:, 0].contiguous(), spans[:, 1].contiguous()) - 1).clamp_(min=0)
    nearest = targets[nearest]  # the last result that begins before the gradient ends
    overlap = (nearest[:, 0] < spans[:, 1]) & (spans[:, 0] < nearest[:, 1])
    same = (nearest == spans).all(dim=1)
    for p, q in torch.stack([nearest[:, 2], spans[:, 2]], dim=1)[overlap & ~same].tolist():
        raise ValueError(
            f"out[{p}] shares its memory with gradients of parameter {q}: it would overwrite what is still needed"
        )
    for p in set(spans[same][:, 2].tolist()):
        target = out[p]
        assert target is not None, "a result of this parameter lies where one of its gradients does"
        _check_strides(p, target, gradients)


def _check_strides(p: int, target: Tensor, gradients: Gradients) -> None:
    """Raises a ValueError if a result lies where a gradient of its parameter does, in another order of elements."""
    for k, row in enumerate(gradients.rows):
        g = row[p]
        if g is not None and g.data_ptr() == target.data_ptr() and g.stride() != target.stride():
            raise ValueError(f"out[{p}] shares its memory with grads[{k}][{p}], whose strides are others")


def overlaps_itself(g: Tensor) -> bool:
    """Returns whether elements of a tensor may share a place.

    They do not if each stride, from the shortest on, steps over all that the strides before it reach.
    """
    reach = 0
    for stride, size in sorted(zip(g.stride(), g.shape, strict=True)):
        if size > 1 and stride <= reach:
            return True
        reach += (size - 1) * stride
    return False


def spans_of(gradients: Gradients) -> Tensor:
    """Returns the gradients' spans, [tensors, 3] int64: first address, address behind the last element, parameter."""
    if _C is not None and gradients.native is not None and not gradients.native.copied:
        return _C.spans(gradients.native)
    found = [span(g, p) for row in gradients.rows for p, g in enumerate(row) if g is not None and g.numel()]
    return torch.tensor(found, dtype=torch.int64, device="cpu").view(-1, 3)


def span(g: Tensor, p: int) -> tuple[int, int, int]:
    """Returns a tensor's first address, the address behind its last element, and the number given with it."""
    elements = 1 + sum((size - 1) * stride for size, stride in zip(g.shape, g.stride(), strict=True))
    return g.data_ptr(), g.data_ptr() + elements * g.element_size(), p
