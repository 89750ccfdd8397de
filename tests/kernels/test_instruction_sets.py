"""The C++ kernels on each instruction set of this processor, not only on the one that they choose."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gmd_kernels import cpu_ops

pytestmark = [pytest.mark.skipif(cpu_ops._C is None, reason="installed without C++"), pytest.mark.slow]
# of each op the tests of its values, types and sizes
TESTS = {
    "test_kernel_types": "cpu",
    "test_owm_update": "cpu and (values or classes or scale or written)",
    "test_sketch": "cpu and (values or blocks_than or types_may)",
    "test_group_norm_relu": "not reference and (values or mean_far or nan_and or written or first_elements)",
}


@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512"])
def test_every_instruction_set(isa: str):
    """The choice is made once in a process: the tests once more in one of its own."""
    environment = {**os.environ, "GMD_CPU_ISA": isa}
    probe = [sys.executable, "-c", "from gmd_kernels import _C; print(_C.cpu_isa())"]
    found = subprocess.run(probe, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    if found != isa:
        assert isa != "generic"
        pytest.skip(f"this processor has no {isa}")
    if found == cpu_ops._C.cpu_isa():
        return  # as in all the other tests
    files = [str(Path(__file__).with_name(f"{name}.py")) for name in TESTS]
    chosen = " or ".join(f"({name} and {which})" for name, which in TESTS.items())
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", chosen, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    ran = {name for name in TESTS if f"{name}.py ." in done.stdout}
    assert ran == set(TESTS), f"no test of {set(TESTS) - ran} was run:\n{done.stdout[-3000:]}"
