"""torch.compile: of the kernels' functions, of a training step with surgery in it, and of the model beside surgery.

Most go through "aot_eager", which traces as "inductor" does and then runs torch's own kernels: the same bits as eager.
"""

import copy
import pickle
import warnings

import pytest
import torch
import torch._dynamo.config as dynamo_config
import torch._functorch.config as functorch_config
import torch._inductor.config as inductor_config
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._pytree import tree_leaves

import gmd
import gmd_kernels as gk

GROUPS = [0, 1, 0, 1]


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def inductor(tmp_path_factory):
    """Inductor with an empty cache of its own; what it finds out about the compiler is found out before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # parts of torch use older parts
        torch.compile(lambda x: x + 1)(torch.ones(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


def make_grads(num_objectives=3, seed=0):
    """Four parameters, conflicts for certain; one is reached by two objectives only, one is in channels_last."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for k in range(num_objectives):
        row = [torch.randn(shape, generator=generator) for shape in [(3, 5), (17,), (), (2, 3, 4, 4)]]
        row = [(-1) ** k + g for g in row]
        row[3] = row[3].to(memory_format=torch.channels_last)
        rows.append([row[0], None if k == 1 else row[1], *row[2:]])
    return rows


def assert_same(actual, expected, **tolerance):
    for a, e in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        assert (a is None) == (e is None)
        if a is not None:
            torch.testing.assert_close(a, e, **(tolerance or {"rtol": 0, "atol": 0}))
            assert a.stride() == e.stride()


def seeded(function, *args):
    torch.manual_seed(3)
    return function(*args)


def parts(surgery):
    return surgery.merged, surgery.gram, surgery.weights


WEIGHTS = torch.tensor([0.2, 0.3, -0.5])
PER_PARAMETER = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

FUNCTIONS = {
    "gram": lambda grads: gk.gram(grads),
    "gram, groups": lambda grads: gk.gram(grads, GROUPS),
    "combine": lambda grads: gk.combine(grads, WEIGHTS),
    "combine, per parameter": lambda grads: gk.combine(grads, PER_PARAMETER),
    "pcgrad_weights": lambda grads: gk.pcgrad_weights(gk.gram(grads), gk.projection_order(3)),
    "surgery": lambda grads: parts(gk.surgery(grads)),
    "surgery, sum": lambda grads: parts(gk.surgery(grads, reduction="sum")),
    "surgery, groups": lambda grads: parts(gk.surgery(grads, groups=GROUPS)),
    "surgery, weighting": lambda grads: parts(gk.surgery(grads, gk.weightings.mean)),
    "surgery, weighting, groups": lambda grads: parts(gk.surgery(grads, gk.weightings.mean, groups=GROUPS)),
    "surgery, own weighting": lambda grads: parts(gk.surgery(grads, lambda gram: 1 / gram.diagonal().sqrt())),
    "surgery, unpacked": lambda grads: [part for part in gk.surgery(grads)],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_compile_without_a_break(name):
    """And GMD's random order is the one of eager code from the same seed."""
    compiled = torch.compile(FUNCTIONS[name], fullgraph=True, backend="aot_eager")
    grads = make_grads()
    assert_same(seeded(compiled, grads), seeded(FUNCTIONS[name], grads))


@pytest.mark.parametrize("num_objectives", [1, 15])
def test_one_and_fifteen_objectives(num_objectives):
    function, grads = FUNCTIONS["surgery"], make_grads(num_objectives)
    assert_same(seeded(torch.compile(function, fullgraph=True, backend="aot_eager"), grads), seeded(function, grads))


def test_results_go_where_the_caller_wants_them():
    def function(grads, out):
        return gk.surgery(grads, gk.weightings.mean, out=out).merged

    def make_out():
        return [torch.full((3, 5), 7.0), None, *(torch.full_like(g, 7.0) for g in make_grads()[0][2:])]

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    grads, out = make_grads(), make_out()
    merged = compiled(grads, out)
    assert_same(merged, function(grads, make_out()))
    assert all(m is o for m, o in zip(merged, out, strict=True) if o is not None)

    grads = make_grads()  # the first objective's gradients, overwritten
    assert_same(compiled(grads, grads[0]), function(make_grads(), None))
    assert_same(grads[0], function(make_grads(), None))

    compiled = torch.compile(lambda *args: gk.combine(*args), fullgraph=True, backend="aot_eager")
    zeros = compiled([[None], [None]], torch.ones(2), [torch.ones(2)])
    assert_same(zeros, [torch.zeros(2)])  # no objective reaches it


def test_what_surgery_returns_survives():
    grads = make_grads()
    result = torch.compile(lambda grads: gk.surgery(grads, gk.weightings.mean), fullgraph=True, backend="aot_eager")(
        grads
    )
    expected = gk.surgery(grads, gk.weightings.mean)
    for one in (result, copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert isinstance(one, gk.Surgery)
        assert_same(parts(one), parts(expected))
        merged, gram = one
        assert merged is one.merged
        assert gram is one.gram
        assert len(one) == 2


def test_training_step():
    def step(grads, params, lr):
        merged = gk.surgery(grads).merged
        with torch.no_grad():
            for param, g in zip(params, merged, strict=True):
                param.sub_(lr * g)

    def run(function):
        params = [nn.Parameter(torch.ones_like(g)) for g in make_grads()[0]]
        torch.manual_seed(3)
        for seed in range(3):
            function(make_grads(seed=seed), params, 0.1)
        return params

    assert_same(run(torch.compile(step, fullgraph=True, backend="aot_eager")), run(step))


def test_gradients_that_require_grad_leave_no_graph_behind():
    grads = [[g if g is None else g.requires_grad_() for g in row] for row in make_grads()]
    compiled = torch.compile(FUNCTIONS["surgery"], fullgraph=True, backend="aot_eager")
    assert not any(r.requires_grad for r in tree_leaves(compiled(grads)) if r is not None)


def test_new_values_compile_nothing_anew():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    function = torch.compile(FUNCTIONS["surgery"], fullgraph=True, backend=backend)
    for seed in range(3):
        assert_same(seeded(function, make_grads(seed=seed)), seeded(FUNCTIONS["surgery"], make_grads(seed=seed)))
    assert len(compiled) == 1


def test_shapes_that_change():
    function = FUNCTIONS["surgery"]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for size in (3, 5, 8):
        grads = [[torch.randn(size, 2), torch.randn(4)] for _ in range(3)]
        assert_same(seeded(compiled, grads), seeded(function, grads))


ONES = [[torch.ones(2)], [torch.ones(2)]]
messages_of_traced_code = pytest.mark.skipif(torch.__version__ < "2.13", reason="torch 2.8 drops their text")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gk.gram([]), "grads: expected 1 to 64 objectives, got 0"),
        (
            lambda: gk.gram([torch.ones(2)]),
            r"grads\[0\]: expected a sequence of tensors or None, got \[2\] torch.float32",
        ),
        (lambda: gk.gram([[torch.ones(2)], []]), r"grads\[1\]: expected 1 parameters as in grads\[0\], got 0"),
        (lambda: gk.gram([[torch.ones(2)], ["g"]]), r"grads\[1\]\[0\]: expected a tensor or None, got str"),
        (lambda: gk.gram([[torch.ones(2)], [torch.ones(3)]]), r"grads\[1\]\[0\]: expected \[2\].*got \[3\]"),
        (lambda: gk.gram([[torch.ones(2)], [torch.ones(2).int()]]), r"grads\[1\]\[0\]: expected .* floating type"),
        (lambda: gk.gram(ONES, [1]), r"groups\[0\]: expected an int from 0 to 0, got 1"),
        (lambda: gk.combine(ONES, torch.ones(3)), r"weights: expected \[T\] = \[2\]"),
        (lambda: gk.combine(ONES, torch.ones(2), []), r"out: expected 1 tensors"),
        (lambda: gk.combine(ONES, torch.ones(2), [torch.ones(3)]), r"out\[0\]: expected \[2\].*got \[3\]"),
        (lambda: gk.pcgrad_weights(torch.eye(3).double(), gk.projection_order(4)), r"order: expected int64 \[3, 2\]"),
        (lambda: gk.surgery(ONES, reduction="max"), "reduction: expected 'mean' or 'sum'"),
    ],
)
@pytest.mark.parametrize("fullgraph", [False, pytest.param(True, marks=messages_of_traced_code)])
def test_errors_keep_their_message(call, message, fullgraph):
    with pytest.raises(Exception, match=message):
        torch.compile(call, fullgraph=fullgraph, backend="aot_eager")()


def test_an_order_that_is_no_permutation_is_found_when_it_runs():
    compiled = torch.compile(gk.pcgrad_weights, fullgraph=True, backend="aot_eager")
    gram = torch.eye(3).double()
    compiled(gram, gk.projection_order(3))
    with pytest.raises(ValueError, match=r"order\[1\]: expected a permutation of \[0, 2\], got \[0, 99\]"):
        compiled(gram, torch.tensor([[1, 2], [0, 99], [0, 1]]))


def with_generator(grads, generator):
    return parts(gk.surgery(grads, generator=generator))


@messages_of_traced_code
def test_a_generator_is_refused_by_name():
    with pytest.raises(Exception, match=r"generator: torch\.compile cannot trace one; leave it out and seed torch's"):
        torch.compile(with_generator, fullgraph=True, backend="aot_eager")(make_grads(), torch.Generator())


def test_a_generator_works_where_the_graph_may_break():
    grads = make_grads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        actual = torch.compile(with_generator, backend="aot_eager")(grads, torch.Generator().manual_seed(5))
    assert_same(actual, with_generator(grads, torch.Generator().manual_seed(5)))


@pytest.mark.slow
@pytest.mark.usefixtures("inductor")
def test_inductor_leaves_strides_and_order_as_they_are():
    """Gradients that come about inside the compiled function: Inductor is free to lay those out as it likes."""

    def function(x, y):
        grads = [[x * (k + 1.5) - k, (y - k).relu()] for k in range(3)]
        return parts(gk.surgery(grads))

    x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    y = torch.randn(5, 7).T
    with inductor_config.patch(fallback_random=True):
        actual = seeded(torch.compile(function, fullgraph=True), x, y)
    assert_same(actual, seeded(function, x, y), rtol=1e-5, atol=1e-6)


# The model


class ThreeHeads(nn.Module):
    """A shared trunk of two layers and a private head for each of three objectives."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(16, 1) for _ in range(3))

    def forward(self, x):
        h = self.trunk(x)
        return [head(h) for head in self.heads]


X = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randn(3, 32, 1, generator=torch.Generator().manual_seed(1))


def losses_of(forward):
    return [(prediction - y).square().mean() for prediction, y in zip(forward(X), Y, strict=True)]


def merged_of(model, forward, reduction="sum"):
    """.grad of every parameter after GMD on the model's losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    report = gmd.GMD(optimizer, reduction, torch.Generator().manual_seed(1)).backward(losses_of(forward))
    assert report.conflicts > 0, "no conflict: this test would show nothing"
    return [p.grad for p in model.parameters()]


def ordinary_pass(model, forward):
    sum(losses_of(forward)).backward()
    model.zero_grad()


def uncompiled(reduction="sum"):
    model = ThreeHeads()
    return merged_of(model, model, reduction)


def test_a_compiled_model_just_works():
    model = ThreeHeads()
    compiled = torch.compile(model, backend="aot_eager")
    for _ in range(2):
        assert_same(merged_of(model, compiled), uncompiled())


def test_an_ordinary_backward_pass_before_is_told_of_and_the_option_helps():
    model = ThreeHeads()
    compiled = torch.compile(model, backend="aot_eager")
    ordinary_pass(model, compiled)
    with pytest.raises(RuntimeError, match=r"set `torch._functorch.config.donated_buffer = False`.*cache_key_tag"):
        merged_of(model, compiled)
    assert all(p.grad is None for p in model.parameters())

    torch.compiler.reset()
    with functorch_config.patch(donated_buffer=False):
        ordinary_pass(model, compiled)
        assert_same(merged_of(model, compiled), uncompiled())


def assert_uncompiled(grads):
    for g, e in zip(grads, uncompiled(), strict=True):
        torch.testing.assert_close(g, e, rtol=1e-4, atol=1e-6)


def next_process():
    """A model compiled anew, but for what Inductor's files hold."""
    torch.compiler.reset()
    model = ThreeHeads()
    return model, torch.compile(model)


@pytest.fixture
def ordinary_pass_in_the_cache(inductor):
    ordinary_pass(*next_process())


@pytest.mark.slow
@pytest.mark.usefixtures("ordinary_pass_in_the_cache")
@pytest.mark.parametrize("option", ["donated_buffer", "enable_autograd_cache"])
def test_inductors_cache_of_ordinary_backward_passes_does_no_harm(option):
    """Such a pass overwrites what later ones need. The error does not come where AOTAutograd has compiled anew."""
    with functorch_config.patch({option: False}):
        assert_uncompiled(merged_of(*next_process()))


@pytest.mark.slow
@pytest.mark.usefixtures("ordinary_pass_in_the_cache")
def test_an_ordinary_backward_pass_in_the_cache_is_told_of_and_the_options_help():
    with pytest.raises(
        RuntimeError, match=r"was compiled so for an ordinary backward pass, in this process or, cached"
    ):
        merged_of(*next_process())
    with functorch_config.patch(donated_buffer=False), torch.compiler.config.patch(cache_key_tag="several losses"):
        model, compiled = next_process()
        ordinary_pass(model, compiled)
        assert_uncompiled(merged_of(model, compiled))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # dynamo asks what goes into a graph
def test_private_modules_compiled_by_themselves_stay_private():
    model = ThreeHeads()
    counter = CompileCounterWithBackend("aot_eager")
    model.trunk = torch.compile(model.trunk, backend=counter)  # module.compile() does nothing for torch's own modules
    model.heads = nn.ModuleList(torch.compile(head, backend=counter) for head in model.heads)
    assert_same(merged_of(model, model, "mean"), uncompiled("mean"))
    assert counter.frame_count >= 2, "nothing was compiled: this test would show nothing"


def test_trap_a_graph_compiled_as_a_whole_gives_zeros_instead_of_none():
    """So that private parameters count as shared, and reduction="mean" divides their gradients by T."""
    model = ThreeHeads()
    grads = merged_of(model, torch.compile(model, backend="aot_eager"), "mean")
    for name, g, e in zip(dict(model.named_parameters()), grads, uncompiled("mean"), strict=True):
        torch.testing.assert_close(3 * g if name.startswith("heads") else g, e)


@pytest.mark.skipif(not hasattr(dynamo_config, "trace_autograd_ops"), reason="this torch traces no autograd.grad")
def test_a_whole_training_step_compiles_without_a_break():
    def step(model, params):
        losses = losses_of(model)
        grads = [torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True) for loss in losses]
        merged = gk.surgery(grads).merged
        with torch.no_grad():
            for param, g in zip(params, merged, strict=True):
                param.sub_(0.1 * g)
        return [loss.detach() for loss in losses]

    def run(function):
        model = ThreeHeads()
        params = list(model.parameters())
        torch.manual_seed(3)
        return [function(model, params) for _ in range(3)], params

    with dynamo_config.patch(trace_autograd_ops=True):
        actual = run(torch.compile(step, fullgraph=True, backend="aot_eager"))
    assert_same(actual, run(step))


@pytest.mark.slow
def test_surgeon_inside_a_compiled_step_breaks_the_graph_and_works():
    def step(model, surgeon):
        return surgeon.backward(losses_of(model)).weights

    def run(function):
        model = ThreeHeads()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        weights = function(model, gmd.GMD(optimizer, "sum", torch.Generator().manual_seed(1)))
        return weights, [p.grad for p in model.parameters()]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        actual = run(torch.compile(step, backend="aot_eager"))
    assert_same(actual, run(step))


def test_a_step_of_one_direction_leaves_room_for_one_of_several():
    """The first pass through a compiled path decides whether there can ever be two in a step."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    compiled = torch.compile(net, backend="aot_eager")
    surgeon = gmd.GMD(torch.optim.SGD(net.parameters(), lr=0.1), tol=1e-3)
    x, targets = torch.randn(2, 8, 4), torch.randn(2, 8, 3)
    for mix, directions in (([(1, 0), (2, 0), (3, 0)], (1, 1)), ([(1, 1), (2, 0), (1, 2)], (2, 2))):
        weights = [a * targets[0] + b * targets[1] for a, b in mix]
        outputs = [compiled(v) for v in x]
        report = surgeon.backward([((outputs[0] + outputs[1]) * w).sum() for w in weights], outputs)
        assert report.directions == directions
        plain = [torch.autograd.grad(((net(x[0]) + net(x[1])) * w).sum(), [*net.parameters()]) for w in weights]
        assert torch.allclose(report.gram, gk.gram(plain), rtol=1e-4)
