"""What a launch waits for, one thing after the other: in the emulator with the same bits, and in the machine code."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import cuda_build as build
from helpers import cuda_emulator as emulator
from helpers.assertions import assert_gram
from helpers.cuda_build import Instruction, every_architecture, machine_code
from helpers.cuda_emulator import UNIT_BYTES, Plan, assert_same, combine, device, gram, order_of, recorded, weights
from helpers.kernel_cases import DTYPES, make_grads, make_weights

emulated = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))


@pytest.fixture(autouse=True)
def same_threads_every_time():
    if emulator.why_not() is None:
        emulator.seed(0)


# Which piece is whose


def assert_pieces(plan: Plan, blocks: int) -> None:
    begins = torch.tensor([d.begin for d in plan.descriptors()])
    length = plan.numbers(device(1)).length
    for b, piece in enumerate(plan.pieces(blocks)):
        ends = [length * b // blocks, length * (b + 1) // blocks]
        first = max(int(torch.searchsorted(begins, ends[0], right=True)) - 1, 0)
        assert piece.tolist() == [*ends, first, int(torch.searchsorted(begins, ends[1]))]


@emulated
@settings(deadline=None, max_examples=60)
@given(st.sampled_from([1, 2, 3, 255, 256, 257, 300, 511, 512, 513, 1000]), st.integers(1, 5), st.integers(0, 9))
def test_blocks_find_the_parameters_of_their_piece_together(parameters, blocks, seed):
    sizes = torch.randint(1, 400, (parameters,), generator=torch.Generator().manual_seed(seed)).tolist()
    assert_pieces(Plan([[torch.empty(n) for n in sizes]]), blocks)


@emulated
@pytest.mark.slow
@pytest.mark.parametrize("parameters", [65_535, 65_536, 65_537, 70_000])
def test_as_many_rounds_as_it_takes(parameters):
    one = torch.empty(1)
    assert_pieces(Plan([[one] * parameters]), 3)


@emulated
@pytest.mark.parametrize("num_objectives", [3, 17])
def test_more_groups_in_a_block_than_it_finds_beforehand(num_objectives):
    shapes = [(40 + p % 3,) for p in range(80)]
    grads = make_grads(num_objectives, shapes=shapes, absent=0.1)
    groups = [p + p // 30 for p in range(80)]  # two of them without parameters
    for blocks in (1, 2, 3):
        assert_gram(grads, gram(grads, groups, on=device(blocks)), groups)


# The same bits, in the order that stands in csrc/cuda


def sum_in_order(partials: torch.Tensor, slices: int) -> torch.Tensor:
    """[blocks, pairs]: slices of the blocks one after the other, and then the slices."""
    count, total = len(partials), torch.zeros(partials.shape[1], dtype=torch.float64)
    for s in range(slices):
        part = torch.zeros_like(total)
        for row in partials[count * s // slices : count * (s + 1) // slices]:
            part = part + row
        total = total + part
    return total


@emulated
@pytest.mark.parametrize("num_objectives", [1, 2, 7, 8, 12, 15, 16, 17, 23, 40])
@pytest.mark.parametrize("blocks", [1, 2, 7, 8, 9, 20, 37, 45])
def test_partials_are_added_up_in_one_order(num_objectives, blocks):
    grads = make_grads(num_objectives, shapes=[(blocks * 8 * 128,)], absent=0)
    workspace = emulator.Workspace()
    found = gram(grads, on=device(blocks), workspace=workspace)
    pairs = num_objectives * (num_objectives + 1) // 2
    partials = workspace.poison.reshape(-1, pairs)[:blocks]
    assert partials.isfinite().all()
    expected = sum_in_order(partials, 8 if num_objectives <= 16 else 1)
    j, i = torch.tril_indices(num_objectives, num_objectives)
    assert_same([found[i, j], found[j, i]], [expected, expected])


def project_in_order(gramian: list[list[float]], order: list[list[int]]) -> list[list[float]]:
    t, result = len(gramian), []
    for i in range(t):
        a = [float(k == i) for k in range(t)]
        for j in order[i]:
            even = odd = 0.0
            for k in range(0, t, 2):
                even += a[k] * gramian[k][j]
            for k in range(1, t, 2):
                odd += a[k] * gramian[k][j]
            if even + odd < 0 < gramian[j][j]:
                a[j] -= (even + odd) / gramian[j][j]
        result.append(a)
    return result


@emulated
@pytest.mark.parametrize("num_objectives", [1, 2, 3, 11, 15, 16, 17, 31, 32, 33, 64])
def test_padding_changes_no_bit_of_the_projections(num_objectives):
    jacobian = torch.randn(num_objectives, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gramian, order = jacobian @ jacobian.T, order_of(num_objectives)
    gramian[num_objectives // 2] = gramian[:, num_objectives // 2] = 0
    expected = torch.tensor(project_in_order(gramian.tolist(), order.tolist()), dtype=torch.float64)
    projections, merged = weights(gramian, emulator.given(order))
    total = torch.zeros(num_objectives, dtype=torch.float64)
    for row in expected:
        total = total + row
    assert_same([projections, merged[1], merged[0]], [expected, total, total / num_objectives])


# Neighbouring lanes read neighbours


def assert_neighbours(found: torch.Tensor, itemsize: int, together: int) -> None:
    """With each access, so many lanes in a row touch as many elements in a row: of 32, a line of 128 bytes of float32.

    Lanes without any access have no row."""
    assert len(found) > 0
    steps = torch.arange(together)[:, None] * itemsize
    for first in range(0, 256, together):
        by_lane = [found[found[:, 1] == first + lane, 2] for lane in range(together)]
        addresses = torch.stack(by_lane)  # of all lanes as many: the units are whole
        assert torch.equal(addresses - addresses[0], steps.expand_as(addresses))


@emulated
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_unaligned_gradients_are_read_in_lines(dtype):
    """But 16-bit ones for the tensor cores, of which four lanes have a row: these four read neighbours."""
    numel = 8 * 3 * UNIT_BYTES // dtype.itemsize
    grads = [[torch.randn(numel + 1).to(dtype)[1:]] for _ in range(5)]
    assert_neighbours(recorded(lambda: gram(grads, on=device(1))), dtype.itemsize, 4 if dtype.itemsize == 2 else 32)
    out = [torch.full((numel + 1,), torch.nan, dtype=dtype)[1:]]
    found = recorded(lambda: combine(grads, make_weights(5), out, on=device(1)))
    assert_neighbours(found, dtype.itemsize, 32)
    assert len(found) == 6 * numel


@emulated
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_element_of_a_last_unit_is_read_once(dtype):
    grads = [[torch.randn(3 * UNIT_BYTES // dtype.itemsize // 2).to(dtype)] for _ in range(2)]
    found = recorded(lambda: combine(grads, make_weights(2), on=device(1)))
    (read,) = (torch.arange(g.numel()) * g.itemsize + g.data_ptr() for g in grads[0])
    touched = found[(found[:, 2] >= read[0]) & (found[:, 2] <= read[-1]), 2].sort()[0]
    in_vectors = UNIT_BYTES // dtype.itemsize
    assert torch.equal(touched, torch.cat([read[:in_vectors][:: 16 // dtype.itemsize], read[in_vectors:]]))


# The machine code

assembled = [pytest.mark.slow, build.compiles, build.disassembled]
BARRIER, LOAD = r"BAR\..*|BAR", r"LDG(\..*)?"
FRESH = r"LDG\.E\.64\.STRONG\.GPU"


def in_code(*kernels: str):
    def decorate(test):
        for mark in [*assembled, every_architecture, pytest.mark.parametrize("kernel", kernels)]:
            test = mark(test)
        return test

    return decorate


def places(code: list[Instruction], pattern: str) -> list[int]:
    return [i for i, one in enumerate(code) if re.fullmatch(pattern, one.name)]


def number(code: list[Instruction], pattern: str) -> int:
    return len(places(code, pattern))


def loops(code: list[Instruction]) -> list[list[Instruction]]:
    """What lies between a jump backwards and its target; the inner ones of nested loops are shorter."""
    found, index = [], {one.address: i for i, one in enumerate(code)}
    for i, one in enumerate(code):
        target = re.search(r"\b0x([0-9a-f]+)$", one.operands) if one.name.startswith("BRA") else None
        if target and int(target[1], 16) < one.address:
            found.append(code[index[int(target[1], 16)] : i + 1])
    return found


def reduction(kernel: str, architecture: str) -> list[Instruction]:
    """From where the last block to arrive knows that it is the last one to the barrier behind its sums."""
    code = machine_code(kernel, architecture)
    (start,) = places(code, r"BAR\.RED\.OR.*")
    return code[start : next(i for i in places(code, BARRIER) if i > start)]


@in_code("gram", "gram_wide", "surgery", "combine")
def test_the_first_loads_do_not_wait_for_each_other(kernel, architecture):
    """P1: a count over the block, and before it each thread's one load, which no loop is around."""
    code = machine_code(kernel, architecture)
    first = places(code, BARRIER)[0]
    assert re.fullmatch(r"BAR\.RED\.POPC.*", code[first].name)
    assert number(code[:first], LOAD) == 1
    assert not any(loop[0].address < code[first].address and number(loop, LOAD) for loop in loops(code[:first]))


@in_code("gram", "gram_wide", "surgery")
def test_nothing_is_divided_between_a_partial_and_its_arrival(kernel, architecture):
    """P2: behind the last store before the fence, and in its loop, no call, no reciprocal."""
    code = machine_code(kernel, architecture)
    fence = places(code, r"MEMBAR\..*")[0]
    stores = [loop for loop in loops(code[:fence]) if number(loop, r"STG\..*")]
    begin = stores[-1][0].address
    between = [one for one in code[:fence] if one.address >= begin]
    assert number(between, r"CALL\..*|MUFU\..*") == 0


@in_code("gram", "gram_wide", "surgery")
def test_twenty_partials_are_read_at_once(kernel, architecture):
    """P3, and all of them past the first-level cache, which may hold what was there before."""
    code = reduction(kernel, architecture)
    assert number(code[: places(code, "DADD")[0]], FRESH) >= 20
    for loop in loops(code):
        assert number(loop, FRESH) == number(loop, LOAD)
    assert number(code, LOAD) == number(code, FRESH)


@in_code("surgery", "weights")
def test_a_step_of_the_projections_reads_shared_memory_at_fixed_places(kernel, architecture):
    """P4: a multiply-add for each of 16 numbers, padded; the division has some of its own."""
    code = machine_code(kernel, architecture)
    sums = [loop for loop in loops(code) if number(loop, "MUFU.RCP64H") and number(loop, r"LDS\.64") >= 33]
    step = min(sums, key=len)
    assert 33 <= number(step, r"LDS\.64") <= 35
    assert number(step, LOAD) == 0
    assert number(step, "DFMA") >= 16
    assert len(step) <= 110


@in_code("gram", "gram_wide")
def test_what_keeps_nothing_stores_nothing(kernel, architecture):
    """P5: no gradient goes from registers to shared memory. The block's piece and a parameter's descriptor do."""
    assert number(machine_code(kernel, architecture), r"STS\.128") <= 3


@in_code("surgery", "combine")
def test_weights_are_read_fresh(kernel, architecture):
    """They are float64 numbers that other blocks have written: each is multiplied out of shared memory."""
    code = machine_code(kernel, architecture)
    merging = code if kernel == "combine" else code[places(code, BARRIER)[-1] :]
    assert number(merging, FRESH) >= 1
    if kernel == "surgery":  # the flag: at the beginning, and twice where it is waited for
        assert number(code, r"LDG\.E\.STRONG\.GPU") >= 2
