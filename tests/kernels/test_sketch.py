"""sketch_ against its definition in float64: values, types, memory, what is not finite, threads."""

from itertools import pairwise

import pytest
import torch

import gmd_kernels as gk
from gmd_kernels import cpu_ops, dispatch, gradients, native
from helpers.assertions import assert_same_bits, assert_within
from helpers.kernel_cases import DTYPES, LAYOUTS
from helpers.sketch_cases import BUCKETS, FEW, SHAPES, error, make_row, sketched

pytestmark = pytest.mark.usefixtures("one_thread")
each_type = pytest.mark.parametrize("dtype", DTYPES, ids=str)
of_sketch = pytest.mark.parametrize("of_sketch", [torch.float32, torch.float64], ids=str)


@pytest.mark.usefixtures("backend")
@each_type
@of_sketch
@pytest.mark.parametrize("d", BUCKETS)
def test_values(d, of_sketch, dtype):
    row = make_row(dtype, SHAPES if d > 7 else FEW)
    found = sketched(row, d, dtype=of_sketch)
    assert_within(error(row, found))
    assert found.any()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 - 1])
def test_every_seed(seed):
    row = make_row()
    assert_within(error(row, sketched(row, 100, seed), seed))


@pytest.mark.usefixtures("backend")
def test_types_may_differ_between_parameters():
    row = [g for dtype in DTYPES for g in make_row(dtype)]
    for of_sketch in (torch.float32, torch.float64):
        assert_within(error(row, sketched(row, 300, dtype=of_sketch)))


@pytest.mark.usefixtures("backend")
def test_more_blocks_than_are_added_at_a_time():
    row = make_row(shapes=[(20, 51), (30,), (2345,)])
    for d in (64, 97, 300):
        assert_within(error(row, sketched(row, d)))


@pytest.mark.usefixtures("backend")
def test_it_is_added_to_what_is_there():
    row = make_row()
    sketch = torch.full((100,), 2.0)
    gk.sketch_(sketch, row, 3)
    torch.testing.assert_close(sketch, 2 + sketched(row, 100))


@pytest.mark.usefixtures("backend")
def test_nothing_to_add():
    for row in ([], [None, None], [torch.zeros(0)]):
        assert not sketched(row, 5).any()


@pytest.mark.usefixtures("backend")
def test_it_is_linear():
    """Also where the strides of two gradients of one parameter differ."""
    first, second = make_row(torch.float64, [(31, 40), (7,)], 1), make_row(torch.float64, [(31, 40), (7,)], 2)
    both = [2 * a - b for a, b in zip(first, second, strict=True)]
    second[0] = LAYOUTS["permuted"](second[0])
    apart = 2 * sketched(first, 90, dtype=torch.float64) - sketched(second, 90, dtype=torch.float64)
    torch.testing.assert_close(sketched(both, 90, dtype=torch.float64), apart)


def test_an_absent_gradient_keeps_its_place():
    row = make_row(shapes=[(40,), (50,), (60,)])
    zeros = [row[0], torch.zeros(50), row[2]]
    assert_same_bits(sketched([row[0], None, row[2]], 64), sketched(zeros, 64))
    assert not torch.equal(sketched([row[0], row[2]], 64), sketched(zeros, 64))


def test_another_seed_is_another_map():
    row = make_row()
    maps = [sketched(row, 1000, seed) for seed in (0, 1, 2)]
    assert all(not torch.equal(a, b) for a, b in pairwise(maps))


def test_a_block_meets_no_bucket_twice():
    """So a single parameter of at most d elements keeps its length."""
    g = torch.randn(500, dtype=torch.float64)
    found = sketched([g], 500, dtype=torch.float64)
    assert_same_bits(found.abs().sort().values, g.abs().sort().values)


# Memory


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "contiguous"])
def test_any_strides(name):
    row = make_row(shapes=[(6, 5, 4), (33,), (3, 2, 4, 4)])
    expected = sketched(row, 50)
    assert_same_bits(sketched([LAYOUTS[name](g) for g in row], 50), expected)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("d", [5, 65, 300])
def test_nothing_beside_is_read_or_written(d):
    row = make_row(shapes=[(200,), (63,), (129,)])
    expected = sketched(row, d)
    memory, around = torch.full((d + 128,), 7.0), [torch.full((g.numel() + 128,), torch.nan) for g in row]
    lying = [space[64:-64].copy_(g) for space, g in zip(around, row, strict=True)]
    gk.sketch_(memory[64:-64].zero_(), lying, 3)
    assert_same_bits(memory[64:-64].clone(), expected)
    assert memory[:64].eq(7).all()
    assert memory[-64:].eq(7).all()
    assert all(space[:64].isnan().all() and space[-64:].isnan().all() for space in around)


@pytest.mark.usefixtures("backend")
def test_new_memory_is_not_taken_for_zeros(monkeypatch):
    row = make_row()
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        assert_within(error(row, sketched(row, 100)))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("backend")
def test_autograd_is_told_and_not_asked():
    sketch, leaf = torch.ones(5), torch.ones(5, requires_grad=True)
    used = (leaf * sketch).sum()
    gk.sketch_(sketch, [leaf * 2], 0)
    assert not sketch.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        used.backward()
    with torch.inference_mode():
        assert_same_bits(sketched([torch.ones(5)], 7), sketched([torch.ones(5)], 7))


# What is not finite


@pytest.mark.usefixtures("backend")
@each_type
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_element_shows_in_its_bucket(dtype, bad):
    row = make_row(dtype)
    row[2][517] = bad
    found = sketched(row, 5000)
    assert (~found.isfinite()).sum() == 1


@pytest.mark.usefixtures("backend")
def test_what_float32_cannot_hold_is_infinite():
    assert sketched([torch.full((3,), 1e300, dtype=torch.float64)], 8).isinf().sum() == 3


# Threads, instruction sets, who serves it


@each_type
@pytest.mark.parametrize("d", [1, 100, 4096])
def test_same_bits_for_any_number_of_threads_and_in_plain_pytorch(dtype, d, monkeypatch):
    row, results = make_row(dtype, [(60, 1000), (77,), None, (9, 9, 9), (30_000,)] if d > 1 else [(3000,)]), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(sketched(row, d))
    torch.set_num_threads(1)
    monkeypatch.setenv("GMD_BACKEND", "reference")
    results.append(sketched(row, d))
    for other in results[1:]:
        assert_same_bits(other, results[0])


def test_the_cpu_is_served_by_cpp(monkeypatch):
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    assert dispatch.choose(gradients.read([[torch.ones(3)]])) is cpu_ops


def test_without_the_compiled_part_there_is_a_warning(monkeypatch):
    row = make_row()
    expected = sketched(row, 100)
    monkeypatch.setattr(gradients, "_C", None)
    monkeypatch.setattr(native, "compiled", None)
    dispatch._find_cpu.cache_clear()
    try:
        with pytest.warns(gk.FallbackWarning, match="slow PyTorch reference"):
            found = sketched(row, 100)
    finally:
        monkeypatch.undo()
        dispatch._find_cpu.cache_clear()
    assert_same_bits(found, expected)
