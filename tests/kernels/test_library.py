"""torch.ops.gmd as torch sees them: schemas, fakes, torch's own checks, and the public functions while torch traces."""

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import gmd_kernels as gk
from helpers.kernel_cases import BACKENDS

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]

# name -> grads[k][p] from a function that makes random tensors
SAMPLES = {
    "shapes": lambda r: [[r(3, 5), r(17), r(), r(0), r(1, 1, 2)] for _ in range(3)],
    "absent": lambda r: [[r(3), None, None], [None, r(2), None], [r(3), r(2), None]],
    "types": lambda r: [[r(4).to(dtype) for dtype in DTYPES] for _ in range(3)],
    "channels_last": lambda r: [[r(2, 3, 4, 4).to(memory_format=torch.channels_last), r(5, 7).T] for _ in range(3)],
    "strides_differ": lambda r: [[r(4, 6)], [r(6, 4).T], [r(4, 12)[:, ::2]]],
    "expanded": lambda r: [[r(5).expand(3, 5)] for _ in range(2)],
    "one_objective": lambda r: [[r(3), r(2, 2)]],
    "fifteen_objectives": lambda r: [[r(3), r(2, 2)] for _ in range(15)],
    "nothing_but_none": lambda r: [[None, None], [None, None]],
    "no_parameters": lambda r: [[], []],
    "requires_grad": lambda r: [[r(3).requires_grad_(), r(2)] for _ in range(3)],
}


def sample(name):
    generator = torch.Generator().manual_seed(0)
    return SAMPLES[name](lambda *shape: torch.randn(shape, generator=generator))


def flat(grads):
    return [g for row in grads for g in row]


def weights_for(grads):
    shape = (len(grads[0]), len(grads))
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sample_gram(*batch, size=4):
    factors = torch.randn(*batch, size, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = gk.projection_order(size, torch.Generator().manual_seed(1))
    return factors @ factors.mT, order.expand(*batch, size, size - 1)


def assert_alike(fakes, reals):
    """Shape, type and strides; devices only of fakes, as those of meta tensors differ."""
    for fake, real in zip(tree_leaves(fakes), tree_leaves(reals), strict=True):
        assert (fake is None) == (real is None)
        if real is not None:
            assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setenv("GMD_BACKEND", request.param)


@pytest.mark.parametrize(
    ("op", "schema"),
    [
        ("gram", "gmd::gram(Tensor?[] grads, int num_objectives, int[] groups) -> Tensor"),
        ("pcgrad_weights", "gmd::pcgrad_weights(Tensor gram, Tensor order) -> Tensor"),
        ("combine", "gmd::combine(Tensor?[] grads, Tensor weights) -> Tensor[]"),
    ],
)
def test_schemas(op, schema):
    overload = getattr(torch.ops.gmd, op).default
    assert str(overload._schema) == schema
    assert {torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides} <= set(overload.tags)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_gram(name, grouped):
    grads = sample(name)
    groups = [p % 2 for p in range(len(grads[0]))] if grouped else []
    args = flat(grads), len(grads), groups
    opcheck(torch.ops.gmd.gram.default, args)
    expected = gk.gram(grads, groups or None)
    assert torch.equal(torch.ops.gmd.gram(*args), expected if expected.ndim == 3 else expected[None])


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", SAMPLES)
def test_combine(name):
    grads = sample(name)
    weights = weights_for(grads)
    opcheck(torch.ops.gmd.combine.default, (flat(grads), weights))
    merged = torch.ops.gmd.combine(flat(grads), weights)
    expected = [g for g in gk.combine(grads, weights) if g is not None]
    assert len(merged) == len(expected)
    assert all(torch.equal(m, e) for m, e in zip(merged, expected, strict=True))
    assert_alike(merged, expected)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_pcgrad_weights(batch, requires_grad):
    gram, order = sample_gram(*batch)
    gram.requires_grad_(requires_grad)
    opcheck(torch.ops.gmd.pcgrad_weights.default, (gram, order))
    weights = torch.ops.gmd.pcgrad_weights(gram, order)
    assert torch.equal(weights, gk.pcgrad_weights(gram, order))
    assert not torch.equal(weights, torch.eye(4).double().expand_as(weights)), "no conflict: this test shows nothing"


@pytest.mark.usefixtures("backend")
def test_results_require_no_grad():
    grads = sample("requires_grad")
    gram, order = sample_gram(size=3)
    assert not torch.ops.gmd.gram(flat(grads), 3, []).requires_grad
    assert not any(m.requires_grad for m in torch.ops.gmd.combine(flat(grads), weights_for(grads)))
    assert not torch.ops.gmd.pcgrad_weights(gram.requires_grad_(), order).requires_grad
    assert not gk.pcgrad_weights(gram, order).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: torch.ops.gmd.gram([torch.ones(2), torch.ones(3)], 2, []),
            r"grads\[1\]\[0\]: expected \[2\].*got \[3\]",
        ),
        (lambda: torch.ops.gmd.gram([torch.ones(2)] * 3, 2, []), r"grads: expected P for each of 2 objectives, got 3"),
        (lambda: torch.ops.gmd.gram([], 0, []), r"grads: expected P for each of 0 objectives"),
        (lambda: torch.ops.gmd.gram([torch.ones(2)] * 2, 2, [1]), r"groups\[0\]: expected an int from 0 to 0, got 1"),
        (lambda: torch.ops.gmd.combine([torch.ones(2)] * 2, torch.ones(2, 2)), r"weights: expected \[T\] = \[2\]"),
        (
            lambda: torch.ops.gmd.pcgrad_weights(torch.eye(2).double(), torch.tensor([[7], [0]])),
            r"order\[0\]: expected a permutation of \[1\], got \[7\]",
        ),
    ],
)
def test_the_ops_check_what_they_are_given(call, message):
    """Compiled code comes this way without the checks of values, and kernels trust their arguments."""
    with pytest.raises(ValueError, match=message):
        call()


def run_all(grads, weights):
    gram, order = gk.gram(grads), gk.projection_order(len(grads), device=weights.device)
    return gram, gk.combine(grads, weights), gk.pcgrad_weights(gram, order), list(gk.surgery(grads))


@pytest.mark.parametrize("name", SAMPLES)
def test_meta_tensors(name):
    grads = sample(name)
    on_meta = tree_map(lambda g: None if g is None else g.to("meta"), grads)
    there = any(g is not None for g in flat(grads))  # or else it is on the CPU, as an empty list is
    results = run_all(on_meta, weights_for(grads).to("meta" if there else "cpu"))
    assert_alike(results, run_all(grads, weights_for(grads)))
    assert all(r is None or r.is_meta == there for r in tree_leaves(results))


@pytest.mark.parametrize("name", SAMPLES)
def test_fake_tensors(name):
    grads = sample(name)
    with FakeTensorMode() as mode:
        fakes = tree_map(lambda g: None if g is None else mode.from_tensor(g), grads)
        results = run_all(fakes, mode.from_tensor(weights_for(grads)))
    assert_alike(results, run_all(grads, weights_for(grads)))
    assert all(r is None or r.device.type == "cpu" for r in tree_leaves(results))


def test_a_weighting_that_checks_values_takes_fake_tensors():
    with FakeTensorMode() as mode:
        gram, preference = mode.from_tensor(torch.eye(3).double()), mode.from_tensor(torch.ones(3))
        assert gk.weightings.upgrad(gram, preference).shape == (3,)


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_dispatch_mode_sees_the_ops():
    grads = sample("shapes")
    torch.manual_seed(0)
    expected = gk.surgery(grads)
    torch.manual_seed(0)
    with Recorder() as outer, Recorder() as inner:
        result = gk.surgery(grads)
    for recorder in (outer, inner):
        ours = [name for name in recorder.seen if name.startswith("gmd.")]
        assert ours == ["gmd.gram.default", "gmd.pcgrad_weights.default", "gmd.combine.default"]
    assert all(torch.equal(m, e) for m, e in zip(result.merged, expected.merged, strict=True))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_traces_surgery(mode):
    grads = sample("absent")
    traced = make_fx(lambda grads: gk.surgery(grads).merged, tracing_mode=mode)(grads)
    names = [str(node.target) for node in traced.graph.nodes if str(node.target).startswith("gmd.")]
    assert names == ["gmd.gram.default", "gmd.pcgrad_weights.default", "gmd.combine.default"]
    torch.manual_seed(0)
    merged = traced(grads)
    torch.manual_seed(0)
    for m, e in zip(merged, gk.surgery(grads).merged, strict=True):
        assert m is e is None or torch.equal(m, e)


def test_vmap_is_refused_by_name():
    with pytest.raises(RuntimeError, match="Batching rule not implemented for gmd::gram"):
        torch.vmap(lambda a, b: gk.gram([[a], [b]]))(torch.ones(4, 3), torch.ones(4, 3))
