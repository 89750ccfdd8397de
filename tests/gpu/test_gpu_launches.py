"""How many kernels a surgery launches: one of few objectives, three where that is refused, and of the same bits."""

from functools import partial

import pytest
import torch

import gmd_kernels as gk
from gpu.launches import launched
from helpers.gpu_cases import KERNELS, needs_gpu, on_each, same_bits
from helpers.kernel_cases import make_grads

SHAPES = [(20_001,), (257, 129), (1031,)]
THREE = ["gram_kernel", "weights_kernel", "combine_kernel"]

place = on_each(*(place for place in KERNELS if place.backend == "cuda"))


def seeded():
    """On the GPU, so that the order is drawn in the kernel."""
    return torch.Generator(device="cuda").manual_seed(1)


def launches_of(grads):
    """But for those that send the table of addresses, which the result's may have changed."""
    call = partial(gk.surgery, grads, generator=seeded())
    call()
    names = launched(call)
    if not names:
        pytest.skip("torch's profiler sees no kernels on this machine")
    return [name for name in names if name != "upload_kernel"]


@pytest.mark.parametrize(
    ("num_objectives", "expected"),
    [(15, ["surgery_kernel"]), (16, ["surgery_kernel"]), (17, ["gram_wide_kernel", *THREE[1:]])],
)
def test_few_objectives_take_one_launch(place, num_objectives, expected):
    assert launches_of(place.put(make_grads(num_objectives, SHAPES, absent=0))) == expected


# Without the fixture, and so in a later part of `python -m gpu` than what is tested through one backend.
@needs_gpu
def test_where_only_a_part_of_the_device_is_ours_three_launches_give_the_same_bits(monkeypatch):
    """As many blocks as there are multiprocessors cannot be there together then: that launch is refused."""
    monkeypatch.setenv("GMD_BACKEND", "cuda")
    green = pytest.importorskip("torch.cuda.green_contexts").GreenContext
    grads = [[g.cuda() for g in row] for row in make_grads(7, SHAPES, absent=0)]
    whole = gk.surgery(grads, generator=seeded())
    torch.cuda.synchronize()
    try:
        part = green.create(num_sms=16)
    except RuntimeError as reason:
        pytest.skip(f"no part of this device by itself: {reason}")
    part.set_context()
    try:
        names = launches_of(grads)
        of_a_part = gk.surgery(grads, generator=seeded())
        torch.cuda.synchronize()
    finally:
        part.pop_context()
    assert names == THREE
    assert torch.equal(whole.weights, of_a_part.weights)
    assert same_bits(whole.merged, of_a_part.merged)
