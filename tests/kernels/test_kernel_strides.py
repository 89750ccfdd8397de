"""Gradients and results anywhere in memory: their values are what counts, and nothing else is written."""

import pytest
import torch

import gmd_kernels as gk
from helpers.assertions import assert_combined, assert_gram
from helpers.kernel_cases import DTYPES, LAYOUTS, lay_out, make_grads, make_weights

SHAPES = [(6, 5, 3, 4, 7), (40, 30), (1, 9, 1, 1), (33,), (), (0, 3), (2, 1, 600)]
NAMES = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
MIXTURES = {name: [name] for name in LAYOUTS}
MIXTURES |= {"one each": list(LAYOUTS), "two kinds": ["channels_last", "contiguous"]}
WRITABLE = [name for name in LAYOUTS if name != "negated"]


def poisoned(grads, layout):
    """Results in that layout, full of NaN."""
    columns = zip(*grads, strict=True)
    likes = [next((g for g in column if g is not None), torch.zeros(3)) for column in columns]
    return [LAYOUTS[layout](torch.full_like(like, torch.nan, memory_format=torch.contiguous_format)) for like in likes]


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("layouts", MIXTURES.values(), ids=MIXTURES)
@pytest.mark.parametrize("num_objectives", [3, 12])
def test_gradients_in_any_layout(backend, dtype, layouts, num_objectives):
    grads = lay_out(make_grads(num_objectives, SHAPES, dtype=dtype), layouts)
    assert_gram(grads, gk.gram(grads), backend=backend)
    groups = [1, 0, 2, 2, 0, 1, 0]
    assert_gram(grads, gk.gram(grads, groups), groups, backend=backend)
    weights = make_weights(len(SHAPES), num_objectives)
    assert_combined(grads, weights, gk.combine(grads, weights))


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("layout", WRITABLE)
def test_results_in_any_layout(backend, dtype, layout):
    values, weights = make_grads(4, SHAPES, dtype=dtype), make_weights(4)
    for layouts in (["contiguous"], ["channels_last"], list(LAYOUTS)):
        grads = lay_out(values, layouts)
        out = poisoned(grads, layout)
        merged = gk.combine(grads, weights, out=out)
        assert all(m is target for m, target in zip(merged, out, strict=True))
        assert_combined(grads, weights, merged)


@pytest.mark.parametrize("layouts", [["contiguous"], ["padded"], ["channels_last", "every_second"]], ids=str)
def test_nothing_is_written_beside_a_result(backend, layouts):
    grads = lay_out(make_grads(4, SHAPES, absent=0), layouts)
    larger = [torch.full([size + 2 for size in shape], torch.nan) for shape in SHAPES]
    out = [buffer[(slice(1, -1),) * buffer.ndim] for buffer in larger]
    assert_combined(grads, make_weights(4), gk.combine(grads, make_weights(4), out=out))
    for buffer, target in zip(larger, out, strict=True):
        target.fill_(torch.nan)
        assert buffer.isnan().all()


def test_agreeing_gradients_are_read_as_they_lie():
    """The same bits as of plain tensors with the same memory; a copy in another order would add up differently."""
    values = make_grads(6, [(16, 5, 8, 9, 11)], absent=0)
    grads = lay_out(values, ["channels_last"])
    memory = [[g.movedim(1, -1) for g in row] for row in grads]
    assert all(g.is_contiguous() for row in memory for g in row)
    assert torch.equal(gk.gram(grads), gk.gram(memory))
    assert not torch.equal(gk.gram(grads), gk.gram(values))
    merged = gk.combine(grads, make_weights(6))[0]
    assert merged.stride() == grads[0][0].stride()
    assert torch.equal(merged.movedim(1, -1), gk.combine(memory, make_weights(6))[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
def test_expanded_gradients(backend, dtype):
    """As of a sum: one number, or one row, in the place of all."""
    rows = make_grads(3, [(1, 7), (1, 1), (5, 1, 4)], absent=0, dtype=dtype)
    shapes = [(300, 7), (40, 30), (5, 6, 4)]
    expanded = [[g.expand(shape) for g, shape in zip(row, shapes, strict=True)] for row in rows]
    for grads in (expanded, [*expanded, *make_grads(2, shapes, absent=0, dtype=dtype)]):
        assert_gram(grads, gk.gram(grads), worst=True, backend=backend)
        weights = make_weights(len(grads))
        merged = gk.combine(grads, weights)
        assert_combined(grads, weights, merged)
        assert all(m.is_contiguous() or m.is_non_overlapping_and_dense() for m in merged)


# Results in the place of gradients


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("layouts", [[name] for name in WRITABLE] + [WRITABLE], ids=str)
@pytest.mark.parametrize("replaced", [0, 2, "another for each"])
def test_results_in_the_place_of_gradients(backend, dtype, layouts, replaced):
    """Of objective 0, of another, or of one for this parameter and of another for that."""
    shapes = [*SHAPES, (2, 20_000)]
    values, weights = make_grads(5, shapes, absent=0, dtype=dtype), make_weights(len(shapes), 5)
    grads, same = lay_out(values, layouts), lay_out(values, layouts)
    out = [grads[p % 5 if isinstance(replaced, str) else replaced][p] for p in range(len(shapes))]
    merged = gk.combine(grads, weights, out=out)
    assert all(m is target for m, target in zip(merged, out, strict=True))
    assert_combined(same, weights, merged)
    for row, before in zip(grads, same, strict=True):
        for g, untouched, target in zip(row, before, out, strict=True):
            assert g is target or torch.equal(g, untouched)


def test_a_result_without_elements_may_have_any_strides(backend):
    """Some of torch's copies of empty tensors have strides of zero."""
    grads = [[torch.ones(0).as_strided((2, 0, 1), (0, 1, 0)), torch.ones(3)]]
    merged = gk.combine(grads, torch.ones(1), out=grads[0])
    assert merged[0] is grads[0][0]
    assert merged[1].tolist() == [1, 1, 1]


def test_results_partly_given(backend):
    grads, weights = make_grads(4, absent=0), make_weights(4)
    expected = gk.combine(grads, weights)
    out = [grads[0][0], None, torch.tensor(torch.nan), None, grads[1][4], torch.full((1, 1, 1, 1, 7), torch.nan), None]
    merged = gk.combine(grads, weights, out=out)
    for m, target, value in zip(merged, out, expected, strict=True):
        assert target is None or m is target
        assert torch.equal(m, value)


def test_the_memory_behind_a_negated_gradient_may_take_the_result(backend):
    value = torch.randn(700, generator=torch.Generator().manual_seed(0))
    behind = -value
    grads = [[torch._neg_view(behind)], [torch.ones(700)]]
    merged = gk.combine(grads, torch.tensor([2.0, 1.0]), out=[behind])[0]
    assert merged is behind
    assert torch.equal(merged, 2 * value + 1)


def test_the_memory_behind_a_negated_gradient_of_another_parameter_may_not(backend):
    behind = torch.ones(3)
    with pytest.raises(ValueError, match=r"out\[0\] shares its memory with gradients of parameter 1"):
        gk.combine([[torch.ones(3), torch._neg_view(behind)]], torch.ones(1), out=[behind, None])
    assert torch.equal(behind, torch.ones(3))
