"""Nothing beyond the gradients and the result is held, however long they are; and more than 2^31 elements of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gmd_kernels as gk
from helpers.measure_memory import CASES
from helpers.places import with_tests_on_path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not keep a resettable peak of resident memory")
    command = [sys.executable, "-m", "helpers.measure_memory"]
    run = subprocess.run(command, env=with_tests_on_path(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("case", CASES)
def test_no_more_than_a_megabyte(measured, case):
    assert measured["two megabytes"]["sum"] == pytest.approx(2, abs=0.2), "this would not see what it should"
    assert measured[case]["gram"] <= 1
    assert measured[case]["combine"] <= 1


def test_tensors_cost_less_than_their_own_objects(measured):
    """What is noted of each: pointers, and the checks of `out`."""
    bytes_of_each = {op: 1e6 * extra / 15_000 for op, extra in measured["many tensors"].items()}
    assert bytes_of_each["gram"] <= 100
    assert bytes_of_each["combine"] <= 150


@pytest.mark.slow
def test_more_than_two_to_the_31_elements():
    """11 GB. An index of 32 bits would miss what lies beyond, or find it in the wrong place."""
    numel = 2**31 + 5
    places = [0, 2**31 - 1, 2**31, 2**31 + 1, numel - 1]
    grads = [[torch.zeros(numel, dtype=torch.bfloat16)] for _ in range(2)]
    grads[0][0][places] = torch.tensor([1, 2, 4, 8, 16], dtype=torch.bfloat16)
    grads[1][0][places] = torch.tensor([3, 0, -1, 5, 7], dtype=torch.bfloat16)
    assert gk.gram(grads).tolist() == [[341, 151], [151, 84]]
    merged = gk.combine(grads, torch.tensor([1.0, 2.0]), out=grads[0])[0]
    assert merged is grads[0][0]
    assert merged[places].tolist() == [7, 2, 2, 18, 30]
    merged[places] = 0
    assert not merged.view(torch.int16).any()
