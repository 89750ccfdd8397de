"""What nvcc makes of the norm's CUDA kernels: how wide they read and write, what passes by the first-level cache."""

import pytest

from helpers.cuda_build import compiles, count, disassembled, every_architecture, instructions

pytestmark = [compiles, disassembled, pytest.mark.slow]

TENSORS = {"norm_moments": (1, 0), "norm_apply": (1, 1), "norm_products": (2, 0), "norm_gradient": (2, 1)}
TYPES, AHEAD = 4, 4  # accesses to each tensor that a thread has under way
every_norm_kernel = pytest.mark.parametrize("kernel", TENSORS)


@every_norm_kernel
@every_architecture
def test_16_bytes_at_a_time(kernel, architecture):
    found, (read, written) = instructions(kernel, architecture), TENSORS[kernel]
    assert count(found, r"LDG\.E\.(.*\.)?128.*") >= TYPES * AHEAD * read
    assert count(found, r"STG\.E\.(.*\.)?128.*") == TYPES * AHEAD * written


@every_norm_kernel
@every_architecture
def test_no_access_has_to_find_out_where_its_memory_is(kernel, architecture):
    assert count(instructions(kernel, architecture), r"(LD|ST)(\..*)?") == 0


@every_architecture
@pytest.mark.parametrize("kernel", ["norm_moments", "norm_products"])
def test_what_other_blocks_left_is_read_past_the_first_level_cache(kernel, architecture):
    """And the counter of those that have arrived is the only thing that is added to in memory: sums have an order."""
    found = instructions(kernel, architecture)
    assert count(found, r"LDG\.E\.64\.STRONG\.GPU.*") >= 2  # of float32 pairs and of float64
    assert count(found, r"(ATOMG?|RED)\..*") == 1
    assert count(found, r"(ATOMG|ATOM)\.E\.ADD.*STRONG\.GPU.*") == 1
    assert count(found, r"MEMBAR\.SC\.GPU.*") >= 2


@every_architecture
def test_bfloat16_is_rounded_two_at_a_time(architecture):
    for kernel in ("norm_apply", "norm_gradient"):
        assert count(instructions(kernel, architecture), r"F2FP\.BF16.*PACK_AB.*") >= AHEAD * 4
