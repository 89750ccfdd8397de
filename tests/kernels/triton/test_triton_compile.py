"""The Triton kernels compiled for GPUs that are not here: nothing spills, loads are wide, products are exact."""

import json
import os
import subprocess
import sys

import pytest

from helpers.places import HELPERS

pytest.importorskip("triton", reason="torch's packages for GPUs bring Triton; here it has to be installed")

pytestmark = pytest.mark.slow

TARGETS = {
    "sm_80": ("cuda", "80", "32", "some"),
    "sm_90": ("cuda", "90", "32", "every"),
    "sm_100": ("cuda", "100", "32", "some"),
    "gfx942": ("hip", "gfx942", "64", "some"),
}
SUMS = ("gram", "moments", "products", "input")  # what they leave behind is no result of the size of what they read
OF_SUMS = ("statistics", "sums", "tables")  # a few KB
# 128 threads of a program each: of 65,536 registers at least so many programs on a multiprocessor have enough
PROGRAMS = {"input": 3, "step": 4, "sketch": 4}


@pytest.fixture(scope="module", params=TARGETS)
def compiled(request, tmp_path_factory):
    """Name of the GPU, and of each kernel what the compiled text says."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    environment.pop("TRITON_INTERPRET", None)
    script = str(HELPERS / "compile_triton.py")
    command = [sys.executable, script, *TARGETS[request.param]]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return request.param, json.loads(run.stdout)


def test_the_compiled_kernels(compiled):
    target, kernels = compiled
    assert len(kernels) == (32 + 10 * 7 + 4 * 2 + 5 if target == "sm_90" else 10 + 3 * 7 + 2 * 2 + 2)
    assert {name: facts["local"] for name, facts in kernels.items() if facts["local"]} == {}, "local memory is used"
    assert [name for name, facts in kernels.items() if facts["tf32"]] == []
    for name, facts in kernels.items():
        op, *_, alignment = name.split()
        if alignment == "aligned" and op not in OF_SUMS:
            assert facts["wide loads"], f"{name}: no gradient is loaded 16 bytes at a time"
            assert facts["wide stores"] or op in SUMS, f"{name}: no result is stored 16 bytes at a time"
        elif alignment == "unaligned" and target.startswith("sm"):
            assert not facts["wide loads"], f"{name}: something else than gradients is loaded 16 bytes at a time"
        # Triton 3.6 has no float64 products of matrices for sm_100, whose float64 units do them instead
        float64_products = op == "gram" or name.startswith("step fp64")
        assert facts["matrix units"] == (float64_products and target != "sm_100"), name


def test_programs_enough_are_on_a_multiprocessor_together(compiled):
    """Of the projector's update and of the sketch, so that some wait for memory while others compute."""
    target, kernels = compiled
    if not target.startswith("sm"):
        pytest.skip("registers are NVIDIA's here")
    found = {name: facts["registers"] for name, facts in kernels.items() if name.split()[0] in PROGRAMS}
    assert {name.split()[0] for name in found} == set(PROGRAMS)
    assert {name: n for name, n in found.items() if n * 128 * PROGRAMS[name.split()[0]] > 65536} == {}
