"""Assertions on tensors that fail with a few numbers.

pytest explains a plain `assert f(tensors) <= 1` with everything that went into it, as text, and Hypothesis keeps each
explanation: of a few thousand gradients that is gigabytes and minutes. These raise one short line instead.
"""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from helpers.oracle import combine_error, gram_error

SHOWN = 3  # differences


def assert_gram(
    grads: Sequence[Sequence[Tensor | None]],
    gram: Tensor,
    groups: Sequence[int] | None = None,
    backend: str = "cpu",
    worst: bool = False,
    what: object = "gram",
) -> None:
    """Within the bounds, see `oracle.gram_error`."""
    __tracebackhide__ = True
    assert_within(gram_error(grads, gram, groups, backend, worst), what=what)


def assert_combined(
    grads: Sequence[Sequence[Tensor | None]],
    weights: Tensor,
    merged: Sequence[Tensor | None],
    what: object = "combine",
) -> None:
    """Within the bounds, see `oracle.combine_error`."""
    __tracebackhide__ = True
    assert_within(combine_error(grads, weights, merged), what=what)


def assert_within(*errors: float, what: object = "the results") -> None:
    """Each at most 1, in units of what it may be; NaN is not."""
    __tracebackhide__ = True
    if not all(error <= 1 for error in errors):
        raise AssertionError(f"{what}: off by {', '.join(f'{error:.4g}' for error in errors)} times the bound")


def assert_same_bits(
    first: Tensor | Sequence | None, second: Tensor | Sequence | None, what: object = "the results"
) -> None:
    """Shapes, types and every bit, NaN and the sign of zero included; tensors or None, in sequences of any depth."""
    __tracebackhide__ = True
    for place, difference in islice(_differences(first, second, ""), 1):
        raise AssertionError(f"{what}{place}: {difference}")


def assert_equal(first: Tensor, second: Tensor, what: object = "the results") -> None:
    """As torch.equal has it: -0.0 is 0.0, and NaN equals nothing."""
    __tracebackhide__ = True
    difference = _kinds(first, second) or _where(first, second, first != second)
    if difference:
        raise AssertionError(f"{what}: {difference}")


def _differences(first, second, place: str):
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        difference = _kinds(first, second) or _where(first, second, _bits(first) != _bits(second))
        if difference:
            yield place, difference
    elif first is None or second is None or isinstance(first, Tensor) or isinstance(second, Tensor):
        if first is not second:
            yield place, f"{_name(first)} and {_name(second)}"
    elif len(first) != len(second):
        yield place, f"{len(first)} and {len(second)} of them"
    else:
        for k, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from _differences(one, other, f"{place}[{k}]")


def _kinds(first: Tensor, second: Tensor) -> str:
    if (first.shape, first.dtype) == (second.shape, second.dtype):
        return ""
    return f"{_name(first)} and {_name(second)}"


def _name(value: Tensor | None) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return "None" if value is None else type(value).__name__


def _bits(tensor: Tensor) -> Tensor:
    """[*shape], or [*shape, 2] of a complex one."""
    tensor = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.resolve_neg().contiguous().view(integer)


def _where(first: Tensor, second: Tensor, differ: Tensor) -> str:
    places = differ.nonzero()
    if not len(places):
        return ""
    shown = [
        f"{place}: {first[tuple(place)].item()!r} and {second[tuple(place)].item()!r}"
        for place in places[:SHOWN].tolist()
    ]
    return f"{len(places)} of {first.numel()} differ, the first at {', '.join(shown)}"
