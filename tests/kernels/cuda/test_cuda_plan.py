"""The host's side of the CUDA kernels: the table of descriptors, and how large the launches are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import cuda_emulator as emulator
from helpers.cuda_emulator import TYPES, UNIT_BYTES, WARPS, Device, Plan

pytestmark = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))

H100, A100, RTX = Device(132, 232448), Device(108, 166912), Device(46, 101376)
DEVICES = [H100, A100, RTX]


def ceil(a: int, b: int) -> int:
    return -(-a // b)


def of_shape(numel: int, dtype=torch.float32, address: int = 4096):
    """A gradient that is planned with and never read: nothing lies there."""

    class Gradient:
        def __init__(self):
            self.dtype = dtype

        def data_ptr(self):
            return address

        def numel(self):
            return numel

        def is_contiguous(self):
            return True

    return Gradient()


def plan_of(sizes, counts, t, groups=None, dtypes=None, results=True):
    """A plan of made-up gradients: parameter p is reached by the first counts[p] objectives."""
    dtypes = dtypes or [torch.float32] * len(sizes)
    columns = list(zip(sizes, dtypes, strict=True))
    grads = [[of_shape(*c) if k < n else None for c, n in zip(columns, counts, strict=True)] for k in range(t)]
    return Plan(grads, groups, [of_shape(*c) for c in columns] if results else None)


@st.composite
def parameters(draw):
    t, p = draw(st.integers(1, 64)), draw(st.integers(0, 30))
    sizes = draw(st.lists(st.sampled_from([0, 1, 127, 128, 129, 1000, 5000, 2**20 + 1, 2**33]), min_size=p, max_size=p))
    counts = draw(st.lists(st.integers(0, t), min_size=p, max_size=p))
    groups = draw(st.lists(st.integers(0, 5), min_size=p, max_size=p))
    dtypes = draw(st.lists(st.sampled_from(list(TYPES)), min_size=p, max_size=p))
    return sizes, counts, t, groups, dtypes, draw(st.booleans())


@settings(deadline=None, max_examples=150)
@given(parameters())
def test_the_line_has_every_parameter_with_work_once_group_after_group(made):
    sizes, counts, _, groups, dtypes, results = made
    plan = plan_of(*made)
    found = plan.descriptors()
    expected = [p for p, size in enumerate(sizes) if size > 0 and (counts[p] > 0 or results)]
    # without results nothing tells the size and the type of a parameter that nobody reaches
    assert [d.index for d in found] == sorted(expected, key=lambda p: groups[p])
    begin = units = 0
    for d in found:
        assert (d.begin, d.turn) == (begin, units % WARPS)
        assert (d.numel, d.count, d.group) == (sizes[d.index], counts[d.index], groups[d.index])
        assert d.type == TYPES[dtypes[d.index]]
        assert d.units == ceil(d.numel * dtypes[d.index].itemsize, UNIT_BYTES)
        begin, units = begin + d.units * (d.count + 1), units + d.units
    numbers = plan.numbers(H100)
    assert (numbers.length, numbers.units, numbers.descriptors) == (begin, units, len(found))


@settings(deadline=None, max_examples=100)
@given(parameters(), st.sampled_from([1, 2, 7, 132, 1000]))
def test_the_pieces_of_the_blocks_are_all_of_the_line(made, multiprocessors):
    """Each unit begins in the piece of one block, and no piece is longer than the others by more than one place."""
    plan = plan_of(*made)
    numbers, lib = plan.numbers(Device(multiprocessors, 0)), emulator.library()
    blocks, length = numbers.gram_blocks, numbers.length
    assert 1 <= blocks <= multiprocessors
    begins = [lib.place_begin(length, blocks, b) for b in range(blocks + 1)]
    assert (begins[0], begins[-1]) == (0, length)
    assert begins == [length * b // blocks for b in range(blocks + 1)]
    for d in plan.descriptors():
        for place in (d.begin, d.begin + (d.units - 1) * (d.count + 1)):
            block = lib.place_block(length, blocks, place)
            assert begins[block] <= place < begins[block + 1]


def test_sizes_beyond_32_bits():
    plan = plan_of([2**40, 3, 2**36 + 5], [2, 1, 2], 2)
    first, _, last = plan.descriptors()
    assert last.begin == 3 * first.units + 2
    assert first.units == 2**33
    length = plan.numbers(H100).length
    assert length == 3 * 2**33 + 2 + 3 * last.units
    lib = emulator.library()
    for place in (0, 1, length // 2, length - 1):
        block = lib.place_block(length, 132, place)
        assert lib.place_begin(length, 132, block) <= place < lib.place_begin(length, 132, block + 1)


def test_places_where_a_double_is_too_coarse():
    lib, length = emulator.library(), 2**62 + 12345
    for block in (1, 66, 131):
        begin = lib.place_begin(length, 132, block)
        assert lib.place_block(length, 132, begin) == block
        assert lib.place_block(length, 132, begin - 1) == block - 1


def test_the_table_does_not_grow_with_the_elements():
    small, large = plan_of([100] * 50, [15] * 50, 15), plan_of([2**30] * 50, [15] * 50, 15)
    assert small.numbers(H100).words == large.numbers(H100).words
    assert large.numbers(H100).words <= 50 * (6 + 15 + 2) + 2


def test_equal_gradients_make_equal_words():
    """What is uploaded only when it differs must not differ in bytes that nobody set."""
    first, second = (plan_of([100, 7, 5000], [3, 1, 2], 3).words() for _ in range(2))
    assert first == second
    assert first != plan_of([100, 7, 5001], [3, 1, 2], 3).words()


def test_alignment_is_that_of_all_gradients_and_the_result():
    for addresses in [(4096, 4112, 4128), (4096, 4104, 4128), (4096, 4112, 4132)]:
        one, other, result = (of_shape(100, address=address) for address in addresses)
        (found,) = Plan([[one], [other]], None, [result]).descriptors()
        assert found.aligned == all(address % 16 == 0 for address in addresses)


def test_what_is_shared():
    found = plan_of([10, 10, 10], [3, 2, 0], 3).descriptors()
    assert [d.is_shared for d in found] == [True, False, False]


@pytest.mark.parametrize("on", DEVICES, ids=["H100", "A100", "RTX"])
@pytest.mark.parametrize("t", range(1, 65))
def test_no_launch_has_more_shared_memory_than_there_is(on, t):
    numbers = plan_of([2**20], [t], t).numbers(on)
    assert numbers.gram_bytes <= 48 << 10 if t <= 16 else numbers.gram_bytes <= 96 << 10
    assert numbers.gram_bytes <= on.shared_bytes
    assert numbers.fits == (t <= 16)
    if numbers.fits:
        assert numbers.gram_bytes <= numbers.surgery_bytes <= on.shared_bytes
        assert numbers.bytes_per_warp % UNIT_BYTES == 0
        assert on.shared_bytes - numbers.surgery_bytes < WARPS * UNIT_BYTES, "room for more"


def test_an_h100_keeps_nearly_all_of_its_shared_memory_for_gradients():
    numbers = plan_of([2**20], [15], 15).numbers(H100)
    assert 132 * WARPS * numbers.bytes_per_warp >= 27.5e6


def test_what_surgery_does_not_serve():
    assert not plan_of([0], [3], 3).numbers(H100).fits
    assert not plan_of([10, 10], [3, 3], 3, [0, 1]).numbers(H100).fits
    assert not plan_of([10], [17], 17).numbers(H100).fits
    assert not plan_of([10], [3], 3).numbers(Device(10, 4096)).fits


def test_every_warp_has_a_unit_before_there_is_another_block():
    sizes = {1: 1, 8 * 128: 1, 15 * 128: 1, 16 * 128: 2, 1000 * 128: 125, 2**24: 132}
    for numel, blocks in sizes.items():
        assert plan_of([numel], [3], 3).numbers(H100).gram_blocks == blocks
    numbers = plan_of([2**24], [3], 3, results=False).numbers(H100)
    assert numbers.combine_blocks == 264
    assert numbers.partials == (132 + 1) * 6
    assert numbers.counters == 2
