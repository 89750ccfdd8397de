"""The weightings on a GPU: what they are on the CPU, in a launch or two each, waiting for nothing."""

import functools
import warnings
from collections import Counter

import pytest
import torch

from gmd_kernels import weightings
from helpers.gpu_cases import KERNELS, ON_CPU, REFERENCE, home, needs_gpu, on_each
from helpers.gramians import KINDS, distance, make_gram, make_jacobian

place = on_each(ON_CPU, *KERNELS, REFERENCE)
CUDA = KERNELS[0]
cuda = on_each(CUDA)

DONE_BY_KERNELS = {
    "imtl_g": weightings.imtl_g,
    "config": weightings.config,
    "aligned_mtl": weightings.aligned_mtl,
    "aligned_mtl, median": functools.partial(weightings.aligned_mtl, scale_mode="median"),
    "aligned_mtl, rmse": functools.partial(weightings.aligned_mtl, scale_mode="rmse"),
    "mgda": weightings.mgda,
    "nash_mtl": weightings.nash_mtl,
    "nash_mtl, max_norm": functools.partial(weightings.nash_mtl, max_norm=1.0),
    "upgrad": weightings.upgrad,
    "dualproj": weightings.dualproj,
    "cagrad": weightings.cagrad,
    "cagrad, c=2": functools.partial(weightings.cagrad, c=2.0),
    "pcd": weightings.pcd,
    "fairgrad": weightings.fairgrad,
    "fairgrad, alpha=8": functools.partial(weightings.fairgrad, alpha=8.0),
}
every_weighting = pytest.mark.parametrize("name", DONE_BY_KERNELS)


@every_weighting
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_cpu(place, monkeypatch, name, kind):
    sizes = [1, 2, 3, 8] if place.device == "cpu" else [1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 63, 64]
    if place in (REFERENCE, KERNELS[1]):  # in torch: thousands of launches
        sizes = [2, 7]
    for num_objectives in sizes:
        jacobian = make_jacobian(num_objectives, kind)
        gram = jacobian @ jacobian.T
        there = DONE_BY_KERNELS[name](gram.to(place.device))
        assert there.device.type == place.device
        with monkeypatch.context() as patch:
            patch.setenv("GMD_BACKEND", "reference")
            assert distance(jacobian, home(there), DONE_BY_KERNELS[name](gram)) <= 1e-6


@every_weighting
def test_many_gramians_are_one_by_one_with_the_same_bits_every_time(cuda, name):
    grams = torch.stack([make_gram(6, kind, seed) for seed in range(50) for kind in [*KINDS, "dependent"]])
    grams[3] = 0
    grams[5, 1, 2] = torch.nan
    grams = grams.to(cuda.device).reshape(50, 5, 6, 6).transpose(0, 1)
    weights = DONE_BY_KERNELS[name](grams)
    one_by_one = torch.stack([torch.stack([DONE_BY_KERNELS[name](gram) for gram in row]) for row in grams])
    for again in (one_by_one, *(DONE_BY_KERNELS[name](grams) for _ in range(5))):
        torch.testing.assert_close(again, weights, rtol=0, atol=0, equal_nan=True)
    assert weights[0, 1].isnan().all()
    assert int(weights.isnan().sum()) == 6


def no_waiting(call):
    """Calls; an error wherever torch would wait for the GPU."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the mode a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            return call()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@every_weighting
@pytest.mark.parametrize("num_objectives", [7, 64])
def test_nothing_waits_and_a_graph_follows_the_gramian(cuda, name, num_objectives):
    gram, weighting = make_gram(num_objectives, "conflicting").to(cuda.device), DONE_BY_KERNELS[name]
    expected = no_waiting(lambda: weighting(gram))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        weights = weighting(gram)
    graph.replay()
    assert torch.equal(weights, expected)
    gram.copy_(make_gram(num_objectives, "random", seed=1))
    graph.replay()
    assert torch.equal(weights, weighting(gram))


def launches_of(call):
    """What torch's profiler saw of kernels, by name; none where it may not look."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        torch.cuda.synchronize()
    on_device = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return Counter(event.name for event in on_device if not event.name.startswith("Mem"))


@needs_gpu
@pytest.mark.parametrize("name", [*DONE_BY_KERNELS, "gradvac"])
def test_launches(cuda, name):
    gram = make_gram(15, "conflicting").to(cuda.device)
    call = functools.partial(DONE_BY_KERNELS.get(name, weightings.gradvac), gram)
    if name == "gradvac":
        call = functools.partial(call, torch.zeros_like(gram))
    call()
    found = launches_of(call)
    if not found:
        pytest.skip("torch's profiler sees no kernel on this machine")
    assert sum(found.values()) <= (20 if name == "gradvac" else 10), found  # torch sorts its order in several
    assert any("gmd" in kernel for kernel in found), found


# What is updated in place


def test_pcds_averages(place):
    ours, theirs = torch.zeros(4, 2, 5, dtype=torch.float64, device=place.device), torch.zeros(4, 2, 5).double()
    wide = torch.zeros(4, 2, 7, dtype=torch.float64, device=place.device)
    for step in range(3):
        grams = torch.stack([make_gram(5, kind, step) for kind in KINDS])
        expected = weightings.pcd(grams, 2, 0.05, theirs) if place.device != "cpu" else None
        found = weightings.pcd(grams.to(place.device), 2, 0.05, ours)
        assert torch.equal(weightings.pcd(grams.to(place.device), 2, 0.05, wide[..., 1:-1]), found)
        if expected is not None:
            assert torch.allclose(home(found), expected, rtol=1e-6)
            assert torch.allclose(home(ours), theirs, rtol=1e-12)
    assert torch.equal(wide[..., 1:-1], ours)
    assert not wide[..., 0].any()


@needs_gpu
@pytest.mark.parametrize("num_objectives", [2, 15, 64])
def test_gradvacs_averages(cuda, num_objectives):
    ours, theirs = (torch.full((num_objectives, num_objectives), 0.2, dtype=torch.float64) for _ in range(2))
    ours = ours.to(cuda.device)
    for step in range(3):
        gram = make_gram(num_objectives, "conflicting", step)
        seeded = [torch.Generator().manual_seed(step) for _ in range(2)]
        found = weightings.gradvac(gram.to(cuda.device), ours, 0.3, seeded[0])
        assert torch.allclose(home(found), weightings.gradvac(gram, theirs, 0.3, seeded[1]), rtol=1e-8)
        assert torch.allclose(home(ours), theirs, rtol=1e-8, atol=1e-12)
