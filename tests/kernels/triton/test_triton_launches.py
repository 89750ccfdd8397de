"""How many launches a call takes on Triton's way, without a GPU: the host's time for small tensors."""

import json
import os
import subprocess
import sys

import pytest

from helpers.places import HELPERS, ROOT

pytest.importorskip("triton", reason="torch's packages for GPUs bring Triton; here it has to be installed")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def launches() -> dict[str, dict[str, list[str]]]:
    """Of each op, the names of Triton's kernels and of torch's operations."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HELPERS.parent)])}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, str(HELPERS / "triton_launches.py")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


def test_the_norm(launches):
    assert launches["norm"]["triton"] == ["_moments_kernel", "_statistics_kernel", "_apply_kernel"]
    names = ["_products_kernel", "_sums_kernel", "_tables_kernel", "_gradient_kernel"]
    assert launches["norm, backward"] == {"triton": names, "torch": []}


def test_the_projector(launches):
    """Two launches of ours; alpha is a float64 number in memory, since Triton narrows what it is given."""
    assert launches["owm_update_"] == {"triton": ["_input_kernel", "_update_kernel"], "torch": ["aten::fill_"]}


def test_the_sketch(launches):
    """One launch for each type of gradients, and the slices' sums by torch: nothing is sent to the device again."""
    assert launches["sketch_"]["triton"] == ["_sketch_kernel"]
    assert set(launches["sketch_"]["torch"]) - {"aten::fill_"} == {"aten::add_", "aten::sum"}, "the CPU's sum fills"


def test_outside_of_triton_the_norm_goes_by_cpp(launches):
    assert launches["norm in C++"].endswith("CppNode<gmd::(anonymous namespace)::GroupNormReLU>")
