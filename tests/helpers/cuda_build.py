"""The machine code that nvcc makes of csrc/cuda, for every architecture: registers, memory and instructions."""

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


def find_nvcc() -> str | None:
    usual = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin", "nvcc")
    return shutil.which("nvcc") or (str(usual) if usual.exists() else None)


def find_cuobjdump() -> str | None:
    """CUDA's, or the one that Triton brings."""
    triton = importlib.util.find_spec("triton")
    brought = [Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump"] if triton and triton.origin else []
    return shutil.which("cuobjdump") or next((str(path) for path in brought if os.access(path, os.X_OK)), None)


NVCC, CUOBJDUMP = find_nvcc(), find_cuobjdump()
compiles = pytest.mark.skipif(NVCC is None, reason="there is no nvcc on this machine")
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


class Instruction(NamedTuple):
    address: int
    predicate: str  # as it stands there, "@P0" or "@!UP1"; empty: always
    name: str
    operands: str


@functools.cache
def machine_code(kernel: str, architecture: str) -> list[Instruction]:
    """The instructions in the order in which they lie in memory."""
    command = [CUOBJDUMP, "-sass", "-arch", architecture, compiled(kernel)[0]]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pattern = r"^\s*/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+)?\s*([A-Z][A-Z0-9_.]*)\s*([^;]*);"
    found = re.findall(pattern, text, flags=re.MULTILINE)
    code = [Instruction(int(address, 16), predicate, name, rest.strip()) for address, predicate, name, rest in found]
    assert any(one.name == "EXIT" for one in code), text[:1000]
    return code


@functools.cache
def instructions(kernel: str, architecture: str) -> Counter:
    """How often each instruction stands in the machine code."""
    return Counter(one.name for one in machine_code(kernel, architecture))


def count(found: Counter, pattern: str) -> int:
    return sum(times for name, times in found.items() if re.fullmatch(pattern, name))
