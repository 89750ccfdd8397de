"""16-bit Gramians, which the tensor cores multiply, in the emulator: see tests/helpers/cuda/tensor_core.cpp."""

import pytest
import torch

from helpers import cuda_emulator as emulator
from helpers.assertions import assert_equal, assert_gram, assert_same_bits, assert_within
from helpers.cuda_emulator import UNIT_BYTES, combine, device, given, gram, order_of, surgery, tensor_core, weights
from helpers.kernel_cases import make_grads, make_weights
from helpers.oracle import combine_error

pytestmark = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))

SHORT = [torch.bfloat16, torch.float16]
every_type = pytest.mark.parametrize("dtype", SHORT, ids=str)
every_adder = pytest.mark.parametrize("adder", ["A100", "H100"])
UNIT = 2.0**-24
BOUND = 21 * UNIT  # relative to sum_k |x_k y_k|: derived in csrc/cuda/tensor_products.cuh


@pytest.fixture(autouse=True)
def same_threads_every_time():
    emulator.seed(0)
    yield
    tensor_core("A100")


def small_integers(num_objectives, numel, dtype, seed=0):
    """[T, N], whose products and sums of so many are exact, however they are added up."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, (num_objectives, numel), generator=generator).to(dtype)


def exact(rows):
    return rows.double() @ rows.double().T


# Every element in its place


@every_type
@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 33, 49, 64])
def test_every_pair_of_elements_once(dtype, num_objectives):
    """Around what a chunk and a unit take, and more than all warps at once."""
    for numel in [1, 33, 257, 4100 if num_objectives <= 16 else 2100]:
        rows = small_integers(num_objectives, numel, dtype)
        assert_equal(gram([[row] for row in rows], on=device(2)), exact(rows), numel)


@every_type
@pytest.mark.parametrize("num_objectives", [1, 2])
def test_long_rows_of_few_objectives(dtype, num_objectives):
    """More than the window of a warp: 128 units of one row, 64 of two."""
    rows = small_integers(num_objectives, 290_000, dtype)
    assert_equal(gram([[row] for row in rows], on=device(1)), exact(rows))


@every_type
@pytest.mark.parametrize("num_objectives", [2, 7, 16, 33])
def test_unaligned_rows_and_absent_ones(dtype, num_objectives):
    rows = small_integers(num_objectives, 3001, dtype)
    rows[num_objectives // 2] = 0
    unaligned = [[torch.cat([row[:1], row])[1:]] for row in rows]
    unaligned[num_objectives // 2] = [None]
    assert_equal(gram(unaligned, on=device(2)), exact(rows))


@every_type
@pytest.mark.parametrize("num_objectives", [2, 5, 15])
@pytest.mark.parametrize("kept", [3, 45])
def test_what_surgery_keeps_is_what_it_reads_again(dtype, num_objectives, kept):
    """Slots of rows are in another order in shared memory; of the last unit, and of unaligned ones, too."""
    rows = small_integers(num_objectives, 9001, dtype)
    grads = [[row[:9000], row[1:8000].clone(), row[1:700]] for row in rows]
    needed = emulator.Plan(grads).numbers(device(1)).gram_bytes
    on, order = device(1, needed + emulator.WARPS * kept * UNIT_BYTES), given(order_of(num_objectives))
    merged, found, w = surgery(grads, order, on=on)
    expected = gram(grads, on=on)
    _, of_groups = weights(expected, order)
    separate = combine(grads, of_groups[None], on=on, groups=[0, 0, 0])
    assert_same_bits([found, w, *merged], [expected, of_groups, *separate])
    assert_equal(found, sum(exact(torch.stack(column)) for column in zip(*grads, strict=True)))


@every_type
@pytest.mark.parametrize("num_objectives", [3, 15, 40])
def test_the_bits_do_not_depend_on_the_order_of_threads(dtype, num_objectives):
    grads = make_grads(num_objectives, shapes=[(5,), (700,), (1301,), (70,)], dtype=dtype)
    found = []
    for seed in range(3):
        emulator.seed(seed)
        found.append(gram(grads, [0, 1, 0, 1], on=device(3)))
    for other in found[1:]:
        assert_same_bits(other, found[0])


# Errors


def random(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def adversarial(kind, dtype, num_objectives, numel):
    """[T, N] of a kind that is hard on sums that are cut off."""
    noise, uniform = random((num_objectives, numel), 1), random((num_objectives, numel), 2).sigmoid()
    ones = 2 - torch.finfo(dtype).eps
    if kind == "positive":
        rows = 1 + uniform
    elif kind == "all bits":
        rows = torch.full_like(noise, ones)
    elif kind == "correlated":
        rows = random(numel, 3) + 1e-2 * noise
    elif kind == "wide range":
        rows = noise * 2.0 ** (12 * (uniform - 0.5)).mul(2).round()
    elif kind == "one large":
        rows = torch.full_like(noise, 2.0**-11 * ones)
        rows[:, ::8] = 1
    elif kind == "cancelling":
        rows = noise.repeat_interleave(2, dim=1)[:, :numel]
        rows[1::2, 1::2] *= -1
    else:
        rows = noise * torch.finfo(dtype).smallest_normal * (1 if dtype is torch.float16 else 2.0**90)
        rows[:, ::3] = torch.finfo(dtype).smallest_normal * 0.3
    return rows.to(dtype)


KINDS = ["positive", "all bits", "correlated", "wide range", "one large", "cancelling", "subnormal"]


def errors(found, rows):
    """In units of what float32 may round, relative to sum_k |x_k y_k|."""
    rows = rows.double()
    return (found - rows @ rows.T).abs() / (rows.abs() @ rows.abs().T) / UNIT


@every_type
@every_adder
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_objectives", [3, 20])
def test_errors_stay_below_the_bound(dtype, adder, kind, num_objectives):
    tensor_core(adder)
    rows = adversarial(kind, dtype, num_objectives, 2090)
    found = errors(gram([[row] for row in rows], on=device(1)), rows)
    assert_within(float(found.max()) * UNIT / BOUND, what=kind)


@every_adder
def test_the_bound_is_not_a_void_one(adder):
    """These come to a quarter of it where the adder is an A100's; an H100's has a bit more and half as many blocks."""
    tensor_core(adder)
    rows = adversarial("one large", torch.float16, 15, 2090)
    worst = float(errors(gram([[row] for row in rows], on=device(1)), rows).max())
    assert worst > {"A100": 5, "H100": 1.5}[adder]


@every_type
@every_adder
@pytest.mark.parametrize("num_objectives", [4, 15, 31])
def test_random_gradients_are_as_exact_as_those_of_float32(dtype, adder, num_objectives):
    """Within 4e-7 of |g_i| |g_j|, the bound of all kernels; sums that are cut off err in one direction."""
    tensor_core(adder)
    grads = make_grads(num_objectives, shapes=[(4100,), (700,)], dtype=dtype)
    assert_gram(grads, gram(grads))


def test_sums_are_cut_off_in_the_emulator():
    """1 + 2^-24 (1 - 2^-10) in a block of products: what is below the last bit of float32 is lost, never rounded up."""
    rows = torch.zeros(1, 16, dtype=torch.float16)
    rows[0, 0], rows[0, 1] = 1, 2.0**-12 * 1.75  # whose square is 1.53 2^-23
    for adder in ("A100", "H100"):
        tensor_core(adder)
        assert float(gram([[rows[0]]])) == 1 + 2.0**-23
    rows[0, 2] = 2.0**-12 * 1.25  # 0.78 2^-23: 1 + 2.3 2^-23, but 25 bits or 26 of each: 1.5 + 0.5, or 1.5 + 0.75
    assert float(gram([[rows[0]]])) == 1 + 2 * 2.0**-23
    tensor_core("A100")
    rows[0, 3] = 2.0**-12 * 0.875  # 0.38 2^-23: nothing of it is left, or 0.25
    assert float(gram([[rows[0]]])) == 1 + 2 * 2.0**-23


# What they cannot hold


@pytest.mark.parametrize("num_objectives", [2, 15, 20, 40])
def test_rows_of_subnormal_float16_beside_ordinary_ones(num_objectives):
    """The stored exponent of such a number is up to 2^10 above its own, and hides what it is added to: each row is of
    2^-24 here, the others range from 2^15 to 1. Without float64 this would be wrong by 2^-16."""
    rows = torch.ones(num_objectives, 2000, dtype=torch.float64) + 2.0**-10
    rows[:, ::16] = 2.0**15
    rows[0] = 2.0**-24
    rows[-1] = 2.0**-24 * random(2000, 1).sign()
    rows = rows.half()
    for adder in ("A100", "H100"):
        tensor_core(adder)
        assert_gram([[row] for row in rows], gram([[row] for row in rows]), worst=True)


@pytest.mark.parametrize("num_objectives", [4, 18])
def test_rows_of_nothing_but_subnormal_float16_are_exact(num_objectives):
    rows = (random((num_objectives, 3000), 4) * 2.0**-20).half()
    assert_equal(gram([[row] for row in rows]), exact(rows))


@pytest.mark.parametrize("num_objectives", [3, 9, 18, 40])
def test_bfloat16_beyond_float32_in_some_windows_of_some_rows(num_objectives):
    rows = random((num_objectives, 9000), 5)
    rows[0, :3000] *= 2.0**-80
    rows[1, 6000:] *= 2.0**70
    rows[-1, 1000:2000] = 0
    rows[-1, 2000:] *= 2.0**-120
    grads = [[row] for row in rows.bfloat16()]
    assert_gram(grads, gram(grads, on=device(1)))


@every_type
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("num_objectives", [2, 15, 40])
def test_a_bad_element_stays_in_its_row(dtype, bad, num_objectives):
    rows = random((num_objectives, 3000), 6).to(dtype)
    rows[1, 2998] = bad
    found = gram([[row] for row in rows])
    others = torch.arange(num_objectives) != 1
    assert not found[1].isfinite().any()
    assert found[others][:, others].isfinite().all()


# One and two rows


@pytest.mark.parametrize("numel", [16_384, 70_000])
def test_one_and_two_rows_of_float32_have_the_bits_of_four(numel):
    """More units are under way at once, but they are added up as before."""
    rows = random((4, numel), 7).float()
    four = gram([[row] for row in rows], on=device(1))
    for t in (1, 2):
        assert_same_bits(gram([[row] for row in rows[:t]], on=device(1)), four[:t, :t])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *SHORT], ids=str)
@pytest.mark.parametrize("num_objectives", [1, 2])
def test_long_combinations_of_one_and_two_rows(dtype, num_objectives):
    grads = [[row] for row in random((num_objectives, 70_001), 8).to(dtype)]
    w = make_weights(num_objectives)
    assert combine_error(grads, w, combine(grads, w, on=device(1))) <= 1
    over = combine(grads, w, [grads[0][0].clone()], on=device(2))
    assert_same_bits(over, combine(grads, w, on=device(2)))
