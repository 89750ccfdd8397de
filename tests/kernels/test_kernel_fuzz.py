"""Shapes, types, layouts, scales, gaps and results of every combination, against float64."""

import os
from typing import NamedTuple
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import Phase, given, settings
from torch import Tensor

import gmd_kernels as gk
from helpers.assertions import assert_combined, assert_equal, assert_gram
from helpers.kernel_cases import BACKENDS, DTYPES, LAYOUTS

LARGEST = 40_000  # elements of one parameter: enough for two slots
PLACES = [name for name in LAYOUTS if name != "negated"]


class Parameter(NamedTuple):
    shape: tuple[int, ...]
    dtype: torch.dtype
    reached_by: list[bool]  # [T]
    layouts: list[str]  # objective k's gradient is laid out as layouts[k % len(layouts)]
    expanded: bool  # along its first dimension
    out: str | int | None  # a layout of a tensor of its own, or the objective whose gradient is overwritten


class Case(NamedTuple):
    parameters: list[Parameter]
    scales: list[float]  # [T]
    groups: list[int] | None
    weights_of_each: bool
    weights_type: torch.dtype
    seed: int


@st.composite
def shapes(draw) -> tuple[int, ...]:
    shape, most = [], draw(st.sampled_from([60, 600, LARGEST]))
    for _ in range(draw(st.integers(0, 4))):
        size = draw(st.integers(0, 40))
        shape.append(min(size, max(1, most)))
        most //= max(1, shape[-1])
    if draw(st.integers(0, 9)) == 0:
        return (LARGEST + draw(st.integers(-9, 9)),)
    return tuple(shape)


@st.composite
def parameters(draw, num_objectives: int) -> Parameter:
    layout = st.sampled_from(list(LAYOUTS))
    return Parameter(
        shape=draw(shapes()),
        dtype=draw(st.sampled_from(DTYPES)),
        reached_by=draw(
            st.one_of(
                st.just([True] * num_objectives),
                st.lists(st.booleans(), min_size=num_objectives, max_size=num_objectives),
            )
        ),
        layouts=draw(st.lists(layout, min_size=1, max_size=3)),
        expanded=draw(st.integers(0, 7)) == 0,
        out=draw(st.one_of(st.none(), st.sampled_from(PLACES), st.integers(0, num_objectives - 1))),
    )


@st.composite
def cases(draw) -> Case:
    num_objectives = draw(st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 33, 64])))
    params = draw(st.lists(parameters(num_objectives), max_size=5))
    groups = st.lists(st.integers(0, max(0, len(params) - 1)), min_size=len(params), max_size=len(params))
    exponents = st.one_of(st.just(0), st.integers(-12, 6))
    return Case(
        parameters=params,
        scales=[10.0**e for e in draw(st.lists(exponents, min_size=num_objectives, max_size=num_objectives))],
        groups=draw(st.none() | groups),
        weights_of_each=draw(st.booleans()),
        weights_type=draw(st.sampled_from([torch.float64, torch.float32])),
        seed=draw(st.integers(0, 2**16)),
    )


def gradients_of(case: Case) -> list[list[Tensor | None]]:
    generator = torch.Generator().manual_seed(case.seed)
    columns = []
    for parameter in case.parameters:
        values = torch.randn(len(case.scales), *parameter.shape, generator=generator)
        column = []
        for k, value in enumerate(values):
            scale = min(case.scales[k], 1e3) if parameter.dtype is torch.float16 else case.scales[k]
            scaled = (scale * value).to(parameter.dtype)
            laid_out = LAYOUTS[parameter.layouts[k % len(parameter.layouts)]](scaled.clone())
            if parameter.expanded and value.ndim and value.shape[0]:
                laid_out = laid_out[:1].expand(parameter.shape)
            column.append(laid_out if parameter.reached_by[k] else None)
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in case.scales]


def results_of(case: Case, grads: list[list[Tensor | None]]) -> list[Tensor | None]:
    """Full of NaN, or gradients to be overwritten."""
    results = []
    for p, parameter in enumerate(case.parameters):
        if isinstance(parameter.out, str):
            poison = torch.full(parameter.shape, torch.nan, dtype=parameter.dtype)
            results.append(LAYOUTS[parameter.out](poison))
            continue
        g = None if parameter.out is None else grads[parameter.out][p]
        writable = g is not None and not g.is_neg() and not parameter.expanded
        results.append(g if writable else None)
    return results


# Without Phase.shrink, whose every try takes a second of all backends. A failure shows the case as it was found, and a
# blob that finds it again, with the phase added, for as long as one likes.
AS_FOUND = settings(deadline=None, print_blob=True, phases=[Phase.explicit, Phase.reuse, Phase.generate])


@settings(AS_FOUND, max_examples=60)
@given(case=cases())
def test_any_gradients_on_every_backend(case):
    check_every_backend(case)


@pytest.mark.slow
@settings(AS_FOUND, max_examples=400)
@given(case=cases())
def test_many_more_gradients_on_every_backend(case):
    check_every_backend(case)


def check_every_backend(case: Case) -> None:
    """Gramian and combination of a case through each backend, against float64, and into what it asks for as result."""
    generator = torch.Generator().manual_seed(case.seed)
    shape = (len(case.parameters), len(case.scales)) if case.weights_of_each else (len(case.scales),)
    weights = torch.randn(shape, generator=generator, dtype=torch.float64).to(case.weights_type)
    for backend in BACKENDS if case.seed % 16 == 5 else [b for b in BACKENDS if b != "triton"]:  # which takes long
        grads, same = gradients_of(case), gradients_of(case)
        with patch.dict(os.environ, GMD_BACKEND=backend):
            gram = gk.gram(grads, case.groups)
            merged = gk.combine(grads, weights)
            out = results_of(case, grads)
            written = gk.combine(grads, weights, out=out)
        assert_gram(same, gram, case.groups, backend, worst=True, what=f"{backend}: gram")
        assert_equal(gram, gram.mT, f"{backend}: a Gramian and its transpose")
        assert_combined(same, weights, merged, f"{backend}: combine")
        for p, (result, target, value) in enumerate(zip(written, out, merged, strict=True)):
            in_place = target is None or result is target
            assert in_place, f"{backend}: parameter {p} is not where it was asked for"
            if value is None:
                untouched = target is None or not result.any()
                assert untouched, f"{backend}: parameter {p}, which nobody reaches"
            else:
                assert_equal(result, value, f"{backend}: parameter {p}")
