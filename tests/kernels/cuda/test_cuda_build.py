"""What nvcc makes of the CUDA kernels, for every architecture: registers, memory, and the instructions that matter."""

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.places import ROOT

CSRC = ROOT / "csrc" / "cuda"
SOURCES = {path.stem: path for path in sorted(CSRC.rglob("*.cu"))}
KERNELS = sorted(SOURCES)
PLAIN = [path for path in CSRC.rglob("*.h") if not path.name.startswith("torch_")]
HEADERS = sorted([*CSRC.rglob("*.cuh"), *PLAIN, CSRC.parent / "both.h", CSRC.parent / "sketch_map.h"])
ARCHITECTURES = ["sm_80", "sm_90", "sm_100"]
FLAGS = ["-std=c++17", "-O3", "--resource-usage"]
FLAGS += [f"-gencode=arch={a.replace('sm', 'compute')},code={a}" for a in ARCHITECTURES]
# all threads of the blocks that a multiprocessor is to hold have 65,536 registers
REGISTERS = {"combine": 128, "gram": 255, "gram_wide": 255, "sketch": 128, "sketch_sum": 255, "surgery": 255}
REGISTERS |= {"upload": 255, "weights": 255}
WEIGHTINGS = ["cagrad", "fairgrad", "gradvac", "pcd", "program", "spectral", "upgrad", "upgrad_sum"]
REGISTERS |= dict.fromkeys(WEIGHTINGS, 255)


def find_nvcc() -> str | None:
    usual = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin", "nvcc")
    return shutil.which("nvcc") or (str(usual) if usual.exists() else None)


def find_cuobjdump() -> str | None:
    """CUDA's, or the one that Triton brings."""
    triton = importlib.util.find_spec("triton")
    brought = [Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump"] if triton and triton.origin else []
    return shutil.which("cuobjdump") or next((str(path) for path in brought if os.access(path, os.X_OK)), None)


NVCC, CUOBJDUMP = find_nvcc(), find_cuobjdump()
pytestmark = [pytest.mark.skipif(NVCC is None, reason="there is no nvcc on this machine"), pytest.mark.slow]
disassembled = pytest.mark.skipif(CUOBJDUMP is None, reason="there is no cuobjdump, of CUDA or of Triton")
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@functools.cache
def compiled(kernel: str) -> tuple[Path, str]:
    """Object file and what the assembler said; both are kept until a source changes, since it takes a while."""
    source = SOURCES[kernel]
    version = subprocess.check_output([NVCC, "--version"])
    text = b"".join(path.read_bytes() for path in [source, *HEADERS]) + version + " ".join(FLAGS).encode()
    target = ROOT / "build" / "cuda_objects" / f"{kernel}_{hashlib.sha256(text).hexdigest()[:16]}.o"
    log = target.with_suffix(".log")
    if not log.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f"{kernel}_[0-9a-f]*"):
            if re.fullmatch(rf"{kernel}_[0-9a-f]{{16}}\.(o|log)", stale.name):
                stale.unlink(missing_ok=True)
        done = subprocess.run([NVCC, *FLAGS, "-c", source, "-o", target], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        log.write_text(done.stdout + done.stderr)
    return target, log.read_text()


class Usage(NamedTuple):
    stack: int
    spilled: int
    registers: int


def usage(kernel: str, architecture: str) -> Usage:
    """Of the one kernel of a file."""
    text = compiled(kernel)[1]
    found = re.findall(
        rf"Compiling entry function '\S+' for '{architecture}'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers",
        text,
        flags=re.DOTALL,
    )
    assert len(found) == 1, text
    stack, stores, loads, registers = map(int, found[0])
    return Usage(stack, stores + loads, registers)


@functools.cache
def instructions(kernel: str, architecture: str) -> Counter:
    """How often each instruction stands in the machine code."""
    command = [CUOBJDUMP, "-sass", "-arch", architecture, compiled(kernel)[0]]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = Counter(
        re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", text, flags=re.MULTILINE)
    )
    assert found["EXIT"] > 0, text[:1000]
    return found


def count(found: Counter, pattern: str) -> int:
    return sum(times for name, times in found.items() if re.fullmatch(pattern, name))


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
def test_products_are_float32_multiply_adds(architecture):
    """Unrolled: those of 16, 8 and 4 rows, of one float32 or two 16-bit numbers in a word."""
    found = instructions("gram", architecture)
    fused = count(found, r"FFMA(2)?(\..*)?") + count(found, r"FFMA2(\..*)?")
    assert fused >= 2 * 8 * (136 + 2 * 36 + 4 * 10) + 4 * (136 + 2 * 36)
    assert count(found, r"H?MMA(\..*)?") == 0
