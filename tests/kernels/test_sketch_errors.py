"""What sketch_ refuses, with the name of what is wrong, before anything is written."""

import re

import pytest
import torch
import torch.distributed as dist

import gmd_kernels as gk
from helpers.sketch_cases import make_row

GOOD = torch.ones(8)
MEMORY = torch.zeros(16)
BAD = {
    "a list": ([0.0], [GOOD], 0, "sketch: expected float32 or float64 [d], got list"),
    "16 bits": (torch.zeros(4).half(), [GOOD], 0, "sketch: expected float32 or float64 [d], got [4] torch.float16"),
    "integers": (torch.zeros(4).int(), [GOOD], 0, "sketch: expected float32 or float64 [d], got [4] torch.int32"),
    "two dimensions": (torch.zeros(2, 4), [GOOD], 0, "sketch: expected [d] with d from 1 to 2147483647, got [2, 4]"),
    "no buckets": (torch.zeros(0), [GOOD], 0, "sketch: expected [d] with d from 1 to 2147483647, got [0]"),
    "sparse": (torch.zeros(4).to_sparse(), [GOOD], 0, "sketch: expected [d] with d from 1"),
    "strides": (torch.zeros(8)[::2], [GOOD], 0, "sketch: expected contiguous memory, got strides (2,)"),
    "negated": (torch._neg_view(torch.zeros(4)), [GOOD], 0, "sketch: expected contiguous memory"),
    "a leaf": (torch.zeros(4, requires_grad=True), [GOOD], 0, "sketch: expected a tensor that requires no grad"),
    "overlap": (MEMORY[:8], [GOOD, MEMORY[7:]], 0, "sketch shares its memory with grads[1]"),
    "device": (torch.zeros(4, device="meta"), [GOOD], 0, "sketch: expected on cpu, as the gradients, got [4]"),
    "one tensor": (torch.zeros(4), GOOD, 0, "grads: expected a sequence of tensors or None, got [8] torch.float32"),
    "no list": (torch.zeros(4), 1, 0, "grads: expected a sequence of tensors or None, got int"),
    "numbers": (torch.zeros(4), [1.0], 0, "grads[0]: expected a tensor or None, got float"),
    "integer gradients": (torch.zeros(4), [GOOD.int()], 0, "grads[0]: expected a dense tensor of a floating type"),
    "a float seed": (torch.zeros(4), [GOOD], 1.0, "seed: expected an int, got float"),
    "a bool seed": (torch.zeros(4), [GOOD], True, "seed: expected an int, got bool"),
    "below zero": (torch.zeros(4), [GOOD], -1, "seed: expected 0 to 2^63 - 1, got -1"),
    "beyond 63 bits": (torch.zeros(4), [GOOD], 2**63, f"seed: expected 0 to 2^63 - 1, got {2**63}"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    sketch, grads, seed, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match="^" + re.escape(message)):
        gk.sketch_(sketch, grads, seed)
    assert not MEMORY.any()
    if isinstance(sketch, torch.Tensor) and sketch.layout is torch.strided and not sketch.is_meta:
        assert not sketch.any()


def test_a_dtensor_is_refused():
    """Which of its elements are here, and where a replica is counted, is for the caller to say."""
    from torch.distributed.tensor import Replicate, distribute_tensor, init_device_mesh

    dist.init_process_group("fake", rank=0, world_size=2)
    try:
        g = distribute_tensor(torch.ones(4), init_device_mesh("cpu", (2,)), [Replicate()], src_data_rank=None)
        with pytest.raises(TypeError, match=r"grads\[1\]: expected plain tensors, got a DTensor"):
            gk.sketch_(torch.zeros(4), [None, g], 0)
    finally:
        dist.destroy_process_group()


def test_a_tensor_without_memory_of_its_own():
    with pytest.raises(ValueError, match="sketch: expected an ordinary tensor"):
        gk.sketch_(torch._efficientzerotensor(4), make_row(), 0)
