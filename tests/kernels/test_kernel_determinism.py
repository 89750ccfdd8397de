"""The same bits from run to run and for any number of threads on one machine; an instruction set has its own."""

import os
import subprocess
import sys

import pytest
import torch

import gmd_kernels as gk
from helpers.kernel_cases import DTYPES, lay_out, make_grads, make_weights

NAMES = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
SHAPES = [(30_000, 5), (77,), (64, 33, 30), (20_001,)]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("num_objectives", [7, 15])
@pytest.mark.parametrize("layouts", [["contiguous"], ["permuted"], ["contiguous", "channels_last"]], ids=str)
def test_same_bits_for_any_number_of_threads(threads, dtype, num_objectives, layouts):
    grads = lay_out(make_grads(num_objectives, SHAPES, absent=0.1, dtype=dtype), layouts)
    weights = make_weights(len(SHAPES), num_objectives)

    def results():
        merged = gk.combine(grads, weights)
        return [gk.gram(grads), gk.gram(grads, [1, 0, 2, 1]), *(m for m in merged if m is not None)]

    threads(1)
    expected = results()
    for count in (1, 2, 3, 5):
        threads(count)
        for _ in range(2):
            assert all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True)), count


def test_same_bits_of_surgery(threads):
    grads = make_grads(7, SHAPES)
    results = []
    for count in (1, 2, 5):
        threads(count)
        results.append(gk.surgery(grads, groups=[0, 1, 0, 1], generator=torch.Generator().manual_seed(0)))
    for result in results[1:]:
        assert torch.equal(result.weights, results[0].weights)
        assert all(a is None or torch.equal(a, b) for a, b in zip(result.merged, results[0].merged, strict=True))


def test_nothing_of_one_call_is_left_for_the_next(threads):
    """Neither sums nor copies."""
    threads(1)
    bad = [[torch.full((40, 30), torch.nan)], [torch.full((30, 40), torch.nan).mT]]
    good = [[torch.ones(40, 30)], [torch.ones(30, 40).mT]]
    for _ in range(3):
        assert not gk.gram(bad).isfinite().any()
        assert torch.equal(gk.gram(good), torch.full((2, 2), 1200.0, dtype=torch.float64))
        assert torch.equal(gk.combine(good, torch.ones(2))[0], torch.full((40, 30), 2.0))


def test_an_instruction_set_that_does_not_exist_is_told():
    script = "import gmd_kernels as gk; cpu = gk.backends()['cpu']; assert not cpu.available; print(cpu.reason)"
    environment = {**os.environ, "GMD_CPU_ISA": "sse9"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "GMD_CPU_ISA: expected generic, avx2 or avx512, got sse9"
