"""torch's own view of the ops on a GPU: its checks of torch.ops.gmd, and compiled code with surgery in it."""

import warnings

import pytest
import torch
from torch.library import opcheck

import gmd_kernels as gk
from helpers.gpu_cases import KERNELS, ON_CPU, on_each, same_bits
from helpers.kernel_cases import DTYPES, make_grads, make_weights

place = on_each(ON_CPU, *KERNELS)
gpu = on_each(*KERNELS)
SHAPES = [(3, 5), (17,), (), (0,), (2, 3, 4, 4)]


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def flat(grads):
    return [g for row in grads for g in row]


def test_opcheck(place):
    """Of every type and shape, some absent."""
    values = make_grads(3, SHAPES * len(DTYPES))
    kinds = [dtype for dtype in DTYPES for _ in SHAPES]
    grads = place.put([[None if g is None else g.to(d) for g, d in zip(row, kinds, strict=True)] for row in values])
    weights = make_weights(len(kinds), 3).to(place.device)
    for groups in ([], [p % 2 for p in range(len(kinds))]):
        opcheck(torch.ops.gmd.gram.default, (flat(grads), 3, groups))
    opcheck(torch.ops.gmd.combine.default, (flat(grads), weights))
    gram, order = gk.gram(grads), gk.projection_order(3, torch.Generator().manual_seed(1)).to(place.device)
    opcheck(torch.ops.gmd.pcgrad_weights.default, (gram, order))
    assert torch.equal(torch.ops.gmd.gram(flat(grads), 3, [])[0], gram)


def surgery(grads, order):
    """The order is given: compiled code draws with torch's operations, eager code in the kernel."""
    result = gk.surgery(grads, lambda gram: gk.pcgrad_weights(gram, order).sum(dim=-2) / gram.shape[-1])
    return [*result.merged, result.gram, result.weights]


def training_step(model, x, order):
    """Losses, surgery and the descent that follows from it."""
    hidden = model(x).tanh()
    params = list(model.parameters())
    losses = [(hidden - target).square().mean() for target in (1, -1, 0.5)]
    grads = [torch.autograd.grad(loss, params, retain_graph=True) for loss in losses]
    with torch.no_grad():
        for param, merged in zip(params, surgery(grads, order), strict=False):
            param.sub_(0.1 * merged)


def given_order(place):
    return gk.projection_order(3, torch.Generator().manual_seed(1)).to(place.device)


def test_surgery_compiles_without_a_break_and_keeps_its_bits(place):
    grads, order = place.put(make_grads(3, SHAPES)), given_order(place)
    compiled = torch.compile(surgery, fullgraph=True, backend="aot_eager")
    assert same_bits(compiled(grads, order), surgery(grads, order))


def test_the_drawn_order_compiles_too(place):
    grads = place.put(make_grads(3, SHAPES))
    merged = torch.compile(lambda: gk.surgery(grads).merged, fullgraph=True, backend="aot_eager")()
    assert [m is None or m.shape for m in merged] == [m is None or m.shape for m in gk.surgery(grads).merged]


def test_surgery_through_inductor(gpu, tmp_path, monkeypatch):
    """Which fuses what is around the kernels, and must leave their arguments where they are."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    grads, order = gpu.put(make_grads(3, SHAPES)), given_order(gpu)

    def scaled(grads, order):
        doubled = [[None if g is None else 2 * g + 1 for g in row] for row in grads]
        return [None if m is None else m.sin() for m in surgery(doubled, order)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Inductor says of its own parts and of this GPU
        results = torch.compile(scaled, fullgraph=True)(grads, order)
    for m, expected in zip(results, scaled(grads, order), strict=True):
        assert (m is None) == (expected is None)
        assert m is None or torch.allclose(m, expected, rtol=1e-4, atol=1e-5)


def test_a_step_of_training_beside_a_compiled_model(place):
    """The graph breaks around torch.autograd.grad; what comes out is what eager code gives."""

    def run(step):
        torch.manual_seed(0)
        model, x = torch.nn.Linear(6, 4).to(place.device), torch.ones(3, 6, device=place.device)
        for _ in range(3):
            step(model, x, given_order(place))
        return [p.detach() for p in model.parameters()]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = run(torch.compile(training_step, backend="aot_eager"))
    for p, expected in zip(compiled, run(training_step), strict=True):
        torch.testing.assert_close(p, expected, rtol=1e-5, atol=1e-6)
