"""Surgery in the life of a GPU: nothing waits or allocates, graphs are captured, streams and devices are any."""

import contextlib
import gc
import warnings
from collections import Counter

import pytest
import torch
from torch import nn

import gmd
import gmd_kernels as gk
from helpers.gpu_cases import KERNELS, ON_CPU, home, needs_gpu, on_each, opposed, same_bits
from helpers.gramians import WEIGHTINGS
from helpers.kernel_cases import make_grads
from helpers.oracle import combine_error, gram_error

SHAPES = [(20_001,), (3, 5), (0,), (), (257, 129), (1031,)]

place = on_each(ON_CPU, *KERNELS)
gpu = on_each(*KERNELS)  # what there is on a GPU alone


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class TwoHeads(nn.Module):
    """A trunk that two losses share, and a head of its own for each. Two gradients have one order: no chance in it."""

    def __init__(self, device):
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.heads = nn.Linear(30, 40), nn.ModuleList(nn.Linear(40, 5) for _ in range(2))
        self.to(device)

    def losses(self, x):
        hidden = self.trunk(x).tanh()
        return [(head(hidden) - sign).square().mean() for head, sign in zip(self.heads, (1, -1), strict=True)]


def training(place, granularity="model"):
    """A model, its input, and one step of training with surgery."""
    model, x = TwoHeads(place.device), torch.randn(16, 30, generator=seeded(1)).to(place.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    surgeon = gmd.GMD(optimizer, granularity=granularity, model=model)

    def step():
        optimizer.zero_grad()
        report = surgeon.backward(model.losses(x))
        optimizer.step()
        return report

    return model, x, step


@contextlib.contextmanager
def no_waiting(place):
    """An error wherever torch would wait for the GPU."""
    if place.device == "cpu":
        yield
        return
    torch.cuda.synchronize()
    _on_waiting("error")
    try:
        yield
    finally:
        _on_waiting("default")


def _on_waiting(mode):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the mode a prototype
        torch.cuda.set_sync_debug_mode(mode)


@needs_gpu
def test_waiting_would_be_noticed():
    with no_waiting(KERNELS[0]), pytest.raises(RuntimeError, match="synchroniz"):
        torch.ones(1, device="cuda").item()


OPS = {
    "gram": lambda grads, weights: gk.gram(grads),
    "gram, groups": lambda grads, weights: gk.gram(grads, [0, 1, 0, 2, 1, 0]),
    "combine": lambda grads, weights: gk.combine(grads, weights),
    "combine, out": lambda grads, weights: gk.combine(grads, weights, out=[torch.empty_like(g) for g in grads[0]]),
    "surgery": lambda grads, weights: gk.surgery(grads),
    "surgery, sum": lambda grads, weights: gk.surgery(grads, reduction="sum"),
    "surgery, groups": lambda grads, weights: gk.surgery(grads, groups=[0, 1, 0, 2, 1, 0]),
    "surgery, out": lambda grads, weights: gk.surgery(grads, out=[torch.empty_like(g) for g in grads[0]]),
    "rescale_": lambda grads, weights: gk.rescale_(grads[0], 1.0, max_norm=1e6),
    "pcgrad": lambda grads, weights: gk.surgery(grads, gk.weightings.pcgrad),
    **{name: lambda grads, weights, w=w: gk.surgery(grads, w) for name, w in WEIGHTINGS.items() if name != "gradvac"},
    "gradvac": lambda grads, weights: gk.surgery(
        grads, lambda gram: gk.weightings.gradvac(gram, torch.zeros_like(gram))
    ),
    "upgrad, groups": lambda grads, weights: gk.surgery(grads, gk.weightings.upgrad, groups=[0, 1, 0, 2, 1, 0]),
}


@pytest.mark.parametrize("num_objectives", [7, 20])
@pytest.mark.parametrize("name", OPS)
def test_nothing_waits_for_the_device(place, name, num_objectives):
    """Some parameters are private; the second call has gradients elsewhere."""
    values = make_grads(num_objectives, SHAPES)
    values[0] = [torch.ones(shape) if g is None else g for g, shape in zip(values[0], SHAPES, strict=True)]
    grads, others = place.put(values), place.put(values)
    weights = torch.ones(num_objectives, device=place.device)
    OPS[name](grads, weights)
    with no_waiting(place):
        OPS[name](grads, weights)
        OPS[name](others, weights)


@pytest.mark.parametrize("granularity", ["model", "module", "tensor"])
def test_a_training_step_does_not_wait(place, granularity):
    _, _, step = training(place, granularity)
    for _ in range(2):
        step()
    with no_waiting(place):
        report = step()
        values = report.cosines, report.conflicts, report.finite
    assert bool(values[2])


# Memory


def memory_after(calls, call):
    for _ in range(calls):
        call()
    torch.cuda.synchronize()
    stats = torch.cuda.memory_stats()
    torch.cuda.reset_peak_memory_stats()
    names = "reserved_bytes.all.current", "allocated_bytes.all.current", "allocation.all.current", "num_alloc_retries"
    return {name: stats[name] for name in names}, stats["allocation.all.allocated"]


@pytest.mark.parametrize("num_objectives", [7, 15])
def test_nothing_stays_allocated_and_little_is_in_between(gpu, num_objectives):
    """Where the result lies over the first gradients: sums of blocks and tables, whatever the gradients' size."""
    grads = gpu.put(make_grads(num_objectives, [(4_000_003,), (333, 77), (11,)], absent=0))

    def call():
        gk.surgery(grads, out=grads[0])

    gc.collect()  # what failed tests have left behind would be freed in between
    first, allocated = memory_after(3, call)
    second, allocated_then = memory_after(10, call)
    third, allocated_at_last = memory_after(10, call)
    assert first == second == third
    assert allocated_at_last - allocated_then == allocated_then - allocated <= 10 * 20
    call()
    assert torch.cuda.max_memory_allocated() - third["allocated_bytes.all.current"] <= 4 * 2**20


def test_more_than_two_to_the_31_elements(gpu):
    """13 GB. An index of 32 bits would miss what lies beyond, or find it in the wrong place."""
    if torch.cuda.mem_get_info()[0] < 16e9:
        pytest.skip("less than 16 GB of the GPU's memory are free")
    numel = 2**31 + 5
    places = [0, 2**31 - 1, 2**31, 2**31 + 1, numel - 1]
    grads = [[torch.zeros(numel, dtype=torch.bfloat16, device="cuda")] for _ in range(2)]
    grads[0][0][places] = torch.tensor([1, 2, 4, 8, 16], dtype=torch.bfloat16, device="cuda")
    grads[1][0][places] = torch.tensor([3, 0, -1, 5, 7], dtype=torch.bfloat16, device="cuda")
    assert gk.gram(grads).tolist() == [[341, 151], [151, 84]]
    assert gk.surgery(grads, reduction="sum").merged[0][places].tolist() == [4, 2, 3, 13, 23]
    merged = gk.combine(grads, torch.tensor([1.0, 2.0], device="cuda"), out=grads[0])[0]
    assert merged is grads[0][0]
    assert merged[places].tolist() == [7, 2, 2, 18, 30]
    merged[places] = 0
    assert not merged.view(torch.int16).any()


# CUDA graphs


def captured(call):
    """A graph of one call, after a few on a stream of their own, and what the captured call returned."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return graph, result


def refill(grads, seed):
    """Other values in the same places."""
    generator = seeded(seed)
    for row in grads:
        for g in row:
            g.copy_(torch.randn(g.shape, generator=generator))


def frozen_order(place, num_objectives):
    order = gk.projection_order(num_objectives, seeded(5)).to(place.device)
    return lambda gram: gk.pcgrad_weights(gram, order).sum(dim=-2) / num_objectives


@pytest.mark.parametrize("num_objectives", [3, 15, 20])
def test_a_captured_surgery_follows_the_gradients(gpu, num_objectives):
    """Nobody else's calls in between disturb it."""
    grads = gpu.put(make_grads(num_objectives, SHAPES, absent=0))
    others = gpu.put(make_grads(num_objectives, [(1000,), (77,)], absent=0, seed=1))
    weighting = frozen_order(gpu, num_objectives)
    graph, result = captured(lambda: gk.surgery(grads, weighting))
    for seed in range(5):
        refill(grads, seed)
        gk.surgery(others, weighting)
        graph.replay()
        expected = gk.surgery(grads, weighting)
        assert torch.equal(result.gram, expected.gram)
        assert torch.equal(result.weights, expected.weights)
        assert same_bits(result.merged, expected.merged)


@pytest.mark.parametrize("num_objectives", [3, 15, 20])
def test_a_graph_keeps_the_order_that_a_generator_on_the_cpu_gave_it(gpu, num_objectives):
    if gpu.backend != "cuda":
        pytest.skip("Triton's order comes in a copy from the CPU that waits; the C++ kernels' comes in their arguments")
    grads = gpu.put(make_grads(num_objectives, SHAPES, absent=0))
    generator = seeded(0)

    def call():
        generator.manual_seed(6)
        return gk.surgery(grads, generator=generator)

    graph, result = captured(call)
    for seed in range(3):
        refill(grads, seed)
        graph.replay()
        expected = call()
        assert torch.equal(result.weights, expected.weights)
        assert same_bits(result.merged, expected.merged)


@pytest.mark.parametrize("own", [False, True], ids=["default generator", "own generator"])
def test_every_replay_draws_an_order_of_its_own(gpu, own):
    grads, calls = gpu.put(opposed((40,), (7,))), 400
    generator = torch.Generator("cuda").manual_seed(1) if own else None
    graph = torch.cuda.CUDAGraph()
    for _ in range(3):
        gk.surgery(grads, generator=generator)
    torch.cuda.synchronize()
    if own:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        result = gk.surgery(grads, generator=generator)
    seen = []
    for _ in range(calls):
        graph.replay()
        seen.append(tuple(result.weights.tolist()))
    counts = Counter(seen)
    assert len(counts) == 8, counts
    assert sum((count - calls / 8) ** 2 / (calls / 8) for count in counts.values()) < 40, counts


def test_two_graphs_and_eager_calls_share_nothing(gpu):
    """Each in its turn, in any order: tables, sums of blocks and counters of one are none of the other's."""
    sets = [gpu.put(make_grads(5, [(n,), (9, 4)], absent=0, seed=n)) for n in (300, 50_000)]
    weighting = frozen_order(gpu, 5)
    graphs = [captured(lambda grads=grads: gk.surgery(grads, weighting)) for grads in sets]
    expected = [gk.surgery(grads, weighting) for grads in sets]
    for k in (0, 1, 1, 0, 0, 1):
        graph, result = graphs[k]
        for m in result.merged:
            m.fill_(torch.nan)
        graph.replay()
        gk.surgery(sets[1 - k], weighting)
        assert same_bits(result.merged, expected[k].merged)


def test_a_whole_training_step_is_captured(gpu):
    model, x, step = training(gpu)
    twin, twins_x, twins_step = training(gpu)
    batches = [torch.randn(16, 30, generator=seeded(k)) for k in range(7)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for batch in batches[:3]:
            x.copy_(batch)
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for batch in batches[3:]:  # what is captured is not run: the first replay is the fourth step
        x.copy_(batch)
        graph.replay()
    for batch in batches:
        twins_x.copy_(batch)
        twins_step()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


# Streams and devices


def test_work_is_queued_on_the_current_stream(gpu):
    """The gradients get their values late, on a stream of their own: kernels elsewhere would read what was before."""
    values = make_grads(7, SHAPES, absent=0)
    sources, grads = gpu.put(values), gpu.put([[torch.full_like(g, 7.0) for g in row] for row in values])
    weighting = frozen_order(gpu, 7)
    expected = gk.surgery(sources, weighting)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        for row, source in zip(grads, sources, strict=True):
            torch._foreach_copy_(row, source)
        result = gk.surgery(grads, weighting)
        gram, merged = result.gram, result.merged
    side.synchronize()
    assert torch.equal(gram, expected.gram)
    assert same_bits(merged, expected.merged)


def test_streams_at_work_at_the_same_time_do_not_disturb_each_other(gpu):
    weighting = frozen_order(gpu, 7)
    sets = [gpu.put(make_grads(7, SHAPES, absent=0, seed=seed)) for seed in range(4)]
    expected = [gk.surgery(grads, weighting) for grads in sets]
    streams = [torch.cuda.Stream() for _ in sets]
    torch.cuda.synchronize()
    results = []
    for _ in range(20):
        for grads, stream in zip(sets, streams, strict=True):
            with torch.cuda.stream(stream):
                results.append(gk.surgery(grads, weighting))
    torch.cuda.synchronize()
    for k, result in enumerate(results):
        assert torch.equal(result.gram, expected[k % 4].gram)
        assert same_bits(result.merged, expected[k % 4].merged)


def test_gradients_on_a_device_that_is_not_the_current_one(gpu):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU in this machine")
    values, second = make_grads(7, SHAPES), torch.device("cuda", 1)
    grads = [[None if g is None else g.to(second) for g in row] for row in values]
    with torch.cuda.device(0):
        result = gk.surgery(grads, gk.weightings.mean)
        assert torch.cuda.current_device() == 0
    assert {m.device for m in (*result.merged, result.gram) if m is not None} == {second}
    assert gram_error(values, home(result.gram)) <= 1
    assert combine_error(values, home(result.weights), home(result.merged)) <= 1
    here = torch.ones(2, device="cuda:0")
    with pytest.raises(ValueError, match=r"grads\[1\]\[0\]: expected on cuda:0, .*got .* on cuda:1"):
        gk.gram([[here], [here.to(second)]])
