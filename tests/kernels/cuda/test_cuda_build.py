"""What nvcc makes of the CUDA kernels, for every architecture: registers, memory, and the instructions that matter."""

import pytest

from helpers.cuda_build import (
    CSRC,
    KERNELS,
    SOURCES,
    compiled,
    compiles,
    count,
    disassembled,
    every_architecture,
    every_kernel,
    instructions,
    usage,
)

# all threads of the blocks that a multiprocessor is to hold have 65,536 registers
REGISTERS = {"combine": 128, "gram": 255, "gram_wide": 255, "sketch": 128, "sketch_sum": 255, "surgery": 255}
REGISTERS |= {"upload": 255, "weights": 255}
WEIGHTINGS = ["cagrad", "fairgrad", "gradvac", "pcd", "program", "spectral", "upgrad", "upgrad_sum"]
REGISTERS |= dict.fromkeys(WEIGHTINGS, 255)
REGISTERS |= {"norm_moments": 80, "norm_apply": 80, "norm_products": 128, "norm_gradient": 128}
pytestmark = [compiles, pytest.mark.slow]


def test_every_file_is_looked_at():
    assert set(KERNELS) == set(REGISTERS)
    assert len(SOURCES) == len(list(CSRC.rglob("*.cu"))), "two files of one name"


@every_kernel
@every_architecture
def test_nothing_is_spilled(kernel, architecture):
    found = usage(kernel, architecture)
    assert (found.stack, found.spilled) == (0, 0)
    assert found.registers <= REGISTERS[kernel]


@every_kernel
def test_no_warnings(kernel):
    assert "warning" not in compiled(kernel)[1].lower()


@disassembled
@every_kernel
@every_architecture
def test_no_local_memory(kernel, architecture):
    assert count(instructions(kernel, architecture), r"(LDL|STL)(\..*)?") == 0


@disassembled
@every_architecture
@pytest.mark.parametrize("kernel", ["gram", "gram_wide", "surgery", "combine"])
def test_gradients_are_read_16_bytes_at_a_time(kernel, architecture):
    """Each of float32, bfloat16 and float16 has its own loads: 16 vectors at once in gram, 8 or 16 in combine."""
    wide = count(instructions(kernel, architecture), r"LDG\.E\..*\b128\b.*|LDG\.E\.128.*")
    assert wide >= {"gram": 3 * 3 * 16, "gram_wide": 3 * 16, "surgery": 3 * 3 * 16 + 4 * 16, "combine": 4 * 8}[kernel]


@disassembled
@every_architecture
@pytest.mark.parametrize("kernel", ["surgery", "combine"])
def test_results_are_written_16_bytes_at_a_time(kernel, architecture):
    assert count(instructions(kernel, architecture), r"STG\.E\..*\b128\b.*|STG\.E\.128.*") >= 4


@disassembled
@every_architecture
def test_surgery_keeps_gradients_in_shared_memory_16_bytes_at_a_time(architecture):
    found = instructions("surgery", architecture)
    assert count(found, r"STS\.128") >= 3 * 3 * 16
    assert count(found, r"LDS\.128") >= 3 * 8


@disassembled
@every_architecture
@pytest.mark.parametrize("kernel", ["gram", "gram_wide", "surgery", "combine", "sketch", "sketch_sum", *WEIGHTINGS])
def test_no_access_has_to_find_out_where_its_memory_is(kernel, architecture):
    """LD and ST without a letter for the kind of memory are slower, and hide from the compiler what may overlap."""
    assert count(instructions(kernel, architecture), r"(LD|ST)(\..*)?") == 0


@disassembled
@every_architecture
def test_products_of_float32_are_multiply_adds(architecture):
    """Unrolled: those of 16 and 8 rows; 4 rows and fewer are multiplied in float64, 16 bits by the tensor cores."""
    found = instructions("gram", architecture)
    fused = count(found, r"FFMA(2)?(\..*)?") + count(found, r"FFMA2(\..*)?")
    assert 4 * (136 + 2 * 36) <= fused < 1.2 * 4 * (136 + 2 * 36)


@disassembled
@every_architecture
def test_the_sketch_has_sixteen_loads_of_each_type_under_way(architecture):
    """In float32 and in float64 sums; neighbouring lanes read neighbouring elements, which begin anywhere."""
    found = instructions("sketch", architecture)
    for name, types in (("LDG.E.U16", 2), ("LDG.E", 1), ("LDG.E.64", 1)):
        assert found[name] >= 2 * 16 * types, name
