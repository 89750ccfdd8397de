"""The CUDA kernels of sketch_ in the emulator, against the definition in float64."""

import pytest
import torch

from helpers import cuda_emulator as emulator
from helpers.assertions import assert_same_bits, assert_within
from helpers.kernel_cases import DTYPES
from helpers.sketch_cases import FEW, SHAPES, error, make_row

pytestmark = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))

LARGER = [*SHAPES, (20_011,), (130, 70)]  # for several slices, whose blocks the threads look at in two goes


@pytest.fixture(autouse=True)
def same_threads_every_time():
    emulator.seed(0)


def sketched(row, d, dtype=torch.float32, seed=3):
    found = torch.zeros(d, dtype=dtype)
    return found, emulator.sketch(row, found, seed)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("of_sketch", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("d", [1, 7, 64, 513, 4097])
def test_values(dtype, of_sketch, d):
    """Around the buckets of a warp, 512, and of a block of threads, 4096."""
    row = make_row(dtype, SHAPES if d > 7 else FEW)
    assert_within(error(row, sketched(row, d, of_sketch)[0]))


@pytest.mark.parametrize("d", [65, 2500])
def test_slices(d):
    row = make_row(shapes=LARGER)
    found, slices = sketched(row, d)
    assert slices > 1
    assert_within(error(row, found))


def test_many_small_parameters_of_any_type():
    row = [g for dtype in DTYPES for g in make_row(dtype, [(9,), (64,), None] * 15)]
    assert_within(error(row, sketched(row, 300)[0]))


def test_it_is_added_to_what_is_there_with_the_same_bits_in_any_order_of_threads():
    row, found = make_row(shapes=LARGER), []
    for seed in (1, 2, 3):
        emulator.seed(seed)
        found.append(torch.full((100,), 2.0))
        emulator.sketch(row, found[-1], 3)
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])
    assert_within(error(row, found[0] - 2) / 10)  # the two are rounded with the rest


def test_unaligned_gradients_with_nothing_read_beside():
    around = torch.full((1003,), torch.nan)
    lying = around[1:-1].copy_(torch.randn(1001))
    assert_within(error([lying], sketched([lying], 90)[0]))


def test_nothing_to_add():
    assert not sketched([None, torch.zeros(0)], 5)[0].any()
