"""weights and surgery in the emulator, launch after launch and with threads in many orders; and the emulator itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import cuda_emulator as emulator
from helpers.assertions import assert_gram
from helpers.cuda_emulator import (
    UNIT_BYTES,
    assert_same,
    captured,
    combine,
    device,
    drawn,
    given,
    gram,
    order_of,
    surgery,
    weights,
)
from helpers.kernel_cases import DTYPES, make_grads, make_weights
from helpers.oracle import flat, gramian, merge, project
from helpers.places import ROOT

pytestmark = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))

every_type = pytest.mark.parametrize("dtype", DTYPES, ids=str)
FUSED = [1, 3, 5, 8, 15, 16]
MIXED = [(3, 5), (17,), (), (0,), (515,), (64, 33, 3), (1,), (2048,)]


@pytest.fixture(autouse=True)
def same_threads_every_time():
    emulator.seed(0)


# weights


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 7, 15, 16, 31, 33, 64])
def test_weights_give_the_projected_gradients_of_the_paper(num_objectives):
    grams, orders = [], []
    for n in range(3):
        jacobian = flat(make_grads(num_objectives, seed=n))
        grams.append(gramian(jacobian))
        orders.append(order_of(num_objectives, n))
    projections, merged = weights(torch.stack(grams), given(torch.stack(orders)))
    for n in range(3):
        jacobian = flat(make_grads(num_objectives, seed=n))
        expected = project(jacobian, orders[n])
        error = (projections[n] @ jacobian - expected).abs()
        assert (error <= 1e-9 * jacobian.abs().max() * num_objectives).all()
        assert torch.allclose(merged[n, 1], projections[n].sum(dim=0), rtol=1e-14, atol=0)
        assert torch.equal(merged[n, 0], merged[n, 1] / num_objectives)
    summed = weights(torch.stack(grams), given(torch.stack(orders)), mean=False)[1]
    assert torch.equal(summed[:, 0], merged[:, 1])
    assert torch.equal(summed[:, 1], merged[:, 1])


def test_a_gradient_of_zero_length_is_left_alone():
    found = torch.diag(torch.tensor([4.0, 0.0, 1.0], dtype=torch.float64))
    found[0, 1] = found[1, 0] = -1e-300
    projections = weights(found, given(order_of(3)))[0]
    assert torch.equal(projections[:, 1], torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))


def test_philox_is_the_published_one():
    """The known answers that come with Random123."""
    ones, pi = [2**32 - 1] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert emulator.philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert emulator.philox(ones, ones[:2]) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert emulator.philox(pi, [0xA4093822, 0x299F31D0]) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def draw(num_gramians: int, t: int, make=drawn, **arguments) -> torch.Tensor:
    gramians = torch.eye(t, dtype=torch.float64).expand(num_gramians, t, t).contiguous()
    into = torch.full((num_gramians, t, t - 1), -1)
    weights(gramians, make(**arguments, into=into))
    return into


@pytest.mark.parametrize("t", [1, 2, 7, 16, 64])
def test_a_drawn_order_is_a_permutation_of_the_others(t):
    for order in draw(3, t, seed=5, offset=8):
        for i, row in enumerate(order.tolist()):
            assert sorted(row) == [j for j in range(t) if j != i]


def test_drawn_orders_are_those_of_the_keys():
    """Row i: the others by their 64 random bits, from subsequence i T + j of the generator at offset / 4."""
    t, seed, offset = 5, 0x123456789ABCDEF, 4 * (2**32 + 7)
    order = draw(2, t, seed=seed, offset=offset)
    for n in range(2):
        for i in range(t):
            keys = {}
            for j in set(range(t)) - {i}:
                counter = [offset // 4 % 2**32, offset // 4 >> 32, n * t * t + i * t + j, 0]
                bits = emulator.philox(counter, [seed % 2**32, seed >> 32])
                keys[j] = bits[1] << 32 | bits[0]
            assert order[n, i].tolist() == sorted(keys, key=keys.get)


def test_orders_drawn_differ_by_seed_offset_row_and_gramian():
    drawn_orders = [draw(2, 12, seed=seed, offset=offset) for seed, offset in [(1, 0), (2, 0), (1, 4), (1, 8)]]
    rows = torch.cat([order.flatten(0, 1) for order in drawn_orders]).tolist()
    assert len({tuple(row) for row in rows}) == len(rows)
    assert torch.equal(drawn_orders[0], draw(2, 12, seed=1, offset=0))


def test_every_order_is_as_likely_as_any_other():
    """All 6 orders of 3 others, 800 times in 4 rows: chi-square of 5 degrees is below 30 but once in 10^5."""
    order = draw(800, 4, seed=11, offset=0)
    for i in range(4):
        _, counts = order[:, i].unique(dim=0, return_counts=True)
        assert len(counts) == 6
        assert float(((counts - 800 / 6) ** 2).sum() / (800 / 6)) < 30


def test_a_captured_generator_draws_what_lies_in_memory_at_the_launch():
    seed, offset = torch.tensor([77]), torch.tensor([12])
    first = draw(1, 9, captured, seed=seed, offset=offset, intragraph=8)
    assert torch.equal(first, draw(1, 9, seed=77, offset=20))
    offset += 40  # as torch does before a graph is replayed
    assert torch.equal(draw(1, 9, captured, seed=seed, offset=offset, intragraph=8), draw(1, 9, seed=77, offset=60))


@pytest.mark.parametrize("bad", [-1, 5, 2**40, -(2**40)])
def test_an_order_out_of_range_stays_in_bounds(bad):
    found = gramian(flat(make_grads(5)))
    order = order_of(5)
    order[:, 2] = bad
    projections = weights(found, given(order))[0]
    assert projections.isfinite().all()
    surgery(make_grads(5), given(order))


# surgery

SHARED = [emulator.H100_SHARED, 0, 2 * UNIT_BYTES, 40 * UNIT_BYTES]


def shared_for(grads, kept: int, multiprocessors: int):
    """A device whose blocks keep so many bytes of each warp's gradients, or all of an H100's."""
    needed = emulator.Plan(grads).numbers(device(multiprocessors)).gram_bytes
    return device(multiprocessors, kept if kept == emulator.H100_SHARED else needed + emulator.WARPS * kept)


def separately(grads, order, on, mean=True):
    found = gram(grads, on=on)
    _, merged = weights(found, order, mean)
    return combine(grads, merged[None], on=on, groups=[0] * len(grads[0])), found, merged


@every_type
@pytest.mark.parametrize("num_objectives", FUSED)
@pytest.mark.parametrize("kept", SHARED)
def test_surgery_has_the_bits_of_the_three_kernels(dtype, num_objectives, kept):
    grads = make_grads(num_objectives, shapes=MIXED, dtype=dtype)
    for multiprocessors in (1, 3):
        on, order = shared_for(grads, kept, multiprocessors), given(order_of(num_objectives))
        merged, found, w = surgery(grads, order, on=on)
        expected, gramian, expected_weights = separately(grads, order, on)
        assert_same([found, w, *merged], [gramian, expected_weights, *expected])


def test_surgery_of_mixed_and_unaligned_parameters():
    columns = [make_grads(15, [(3301,), (7, 5), (900,)], seed=s, dtype=dtype) for s, dtype in enumerate(DTYPES)]
    grads = [[g for row in rows for g in row] for rows in zip(*columns, strict=True)]
    for row in grads:
        row.append(torch.randn(1001)[1:])
    for kept in SHARED:
        on, order = shared_for(grads, kept, 2), given(order_of(15))
        merged, found, w = surgery(grads, order, on=on)
        expected, gramian, expected_weights = separately(grads, order, on)
        assert_same([found, w, *merged], [gramian, expected_weights, *expected])


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("num_objectives", [1, 2, 7, 15])
def test_surgery_is_that_of_the_paper(mean, num_objectives):
    grads, order = make_grads(num_objectives, shapes=MIXED), order_of(num_objectives)
    merged, found, _ = surgery(grads, given(order), mean=mean)
    assert_gram(grads, found)
    jacobian = flat(grads)
    expected = merge(grads, project(jacobian, order), "mean" if mean else "sum")
    bound = 2e-6 * jacobian.abs().max() * num_objectives
    for a, e in zip(merged, expected, strict=True):
        assert (a is None) == (e is None)
        assert a is None or a.numel() == 0 or (a.double() - e).abs().max() <= bound


def test_surgery_draws_the_order_that_it_leaves():
    grads, into = make_grads(9, shapes=MIXED), torch.full((9, 8), -1)
    merged, found, w = surgery(grads, drawn(3, 16, into))
    assert torch.equal(into, draw(1, 9, seed=3, offset=16)[0])
    expected = surgery(grads, given(into))
    assert_same([found, w, *merged], [expected[1], expected[2], *expected[0]])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_element_in_surgery_shows_on_the_diagonal(bad):
    grads = make_grads(9, shapes=MIXED, absent=0)
    grads[4][5][3, 4, 1] = bad
    found = surgery(grads, given(order_of(9)), on=device(3))[1]
    assert not found[4, 4].isfinite()
    others = torch.arange(9) != 4
    assert found[others][:, others].isfinite().all()


# Launch after launch, and threads in other orders


def test_one_workspace_serves_every_launch():
    """Counters are left ready; what an earlier launch left in the partial sums does not matter."""
    workspace = emulator.Workspace()
    for num_objectives, blocks in [(15, 3), (3, 5), (15, 1), (7, 4)]:
        grads, order = make_grads(num_objectives, shapes=MIXED), given(order_of(num_objectives))
        groups = [p % 3 for p in range(len(MIXED))]
        on = device(blocks)
        assert_gram(grads, gram(grads, groups, on, workspace), groups)
        merged, found, w = surgery(grads, order, on=on, workspace=workspace)
        expected, gramian, expected_weights = separately(grads, order, on)
        assert_same([found, w, *merged], [gramian, expected_weights, *expected])
        assert not workspace.counters[1:].any(), "the first one counts launches, the others blocks of a group"


def test_the_flag_of_surgery_may_be_at_any_count():
    workspace = emulator.Workspace()
    workspace.counters[0] = -1  # the last one before it starts anew
    grads, order = make_grads(5, shapes=MIXED), given(order_of(5))
    expected = surgery(grads, order, on=device(3))
    for count in (0, 1):
        found = surgery(grads, order, on=device(3), workspace=workspace)
        assert_same([found[1], found[2], *found[0]], [expected[1], expected[2], *expected[0]])
        assert workspace.counters[0] == count


@pytest.mark.parametrize("num_objectives", [3, 7, 15, 20])
def test_the_bits_do_not_depend_on_the_order_of_threads(num_objectives):
    grads = make_grads(num_objectives, shapes=[*MIXED, (9000,)])
    groups = [p % 4 for p in range(len(MIXED) + 1)]
    found = []
    for seed in range(6):
        emulator.seed(seed)
        results = [gram(grads, groups, on=device(3)), *combine(grads, make_weights(num_objectives), on=device(3))]
        if num_objectives <= 16:
            merged, gramian, w = surgery(grads, drawn(1, 0), on=shared_for(grads, 3 * UNIT_BYTES, 3))
            results += [*merged, gramian, w]
        found.append(results)
    for results in found[1:]:
        assert_same(results, found[0])


@pytest.mark.slow
@pytest.mark.parametrize("groups", [None, [0, 1, 1]])
def test_schedules_in_which_some_warps_are_far_ahead(groups):
    """A block must not count itself in before all of its sums are there: one schedule in thirty showed that it did."""
    grads = make_grads(15, shapes=[(1500,), (700,), (900,)], absent=0)
    expected = gram(grads, groups, on=device(3))
    for seed in range(90):
        emulator.seed(seed)
        assert_same([gram(grads, groups, on=device(3))], [expected])


# The emulator itself: what it is there to find, it finds


def test_shared_memory_beyond_the_device_is_an_error():
    grads = make_grads(3)
    with pytest.raises(RuntimeError, match="error 1"):
        surgery(grads, given(order_of(3)), on=device(2, 1 << 20))


def test_surgery_refuses_what_it_does_not_serve():
    with pytest.raises(RuntimeError, match="error 1"):
        surgery(make_grads(17), given(order_of(17)))
    with pytest.raises(RuntimeError, match="error 1"):
        surgery(make_grads(3), given(order_of(3)), on=device(2, 1000))


def test_blocks_that_never_come_are_reported():
    """A counter that was not left at zero: no block is the last one, and all wait."""
    workspace = emulator.Workspace()
    workspace.counters[1] = 7
    with pytest.raises(RuntimeError, match="waits for ever"):
        surgery(make_grads(3, shapes=MIXED), given(order_of(3)), on=device(2), workspace=workspace)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("GMD_SANITIZE") == "1", reason="these are the sanitizers at work")
def test_no_access_out_of_bounds():
    """All but the largest cases, under AddressSanitizer and UndefinedBehaviorSanitizer, in a process of its own."""

    def path_of(name):
        return subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()

    environment = {
        **os.environ,
        "GMD_SANITIZE": "1",
        "LD_PRELOAD": " ".join(map(path_of, ["libasan.so", "libubsan.so", "libstdc++.so"])),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    few = "not every_scale and not 33 and not 31 and not 64 and not likely and not schedules"
    files = sorted(Path(__file__).parent.glob("test_cuda_[est]*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", few, *files]
    done = subprocess.run([*map(str, command)], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
