"""Backward passes modality by modality: what they must give is what one pass for each loss gives."""

import gc
import weakref
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gmd
from gmd.subsets import all_subsets
from gmd.surgery._paths import path_gradients

NAMES = ("a", "b", "c")
SUBSETS = all_subsets(NAMES)
TARGETS = torch.randn(10, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Shared(nn.Module):
    """A shared layer, a norm for each modality, and a head behind the fusion."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 6)
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in NAMES)
        self.head = nn.Linear(6, 5)
        self.double()

    def outputs(self, x=None):
        x = torch.randn(3, 10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) if x is None else x
        return {name: norm(self.layer(v).tanh()) for name, norm, v in zip(NAMES, self.norms, x, strict=True)}

    def together(self):
        """All modalities in one batch, cut apart at the end; a scale that all use, computed once."""
        x = torch.randn(3, 10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        scale = self.layer.bias.exp().mean()
        hidden = (self.layer(x).tanh() * scale).unbind()
        return {name: norm(h) for name, norm, h in zip(NAMES, self.norms, hidden, strict=True)}

    def losses(self, outputs, fuse=None, head=True):
        """Of every subset, every second one turned around: so that there are conflicts."""
        fuse = fuse or mean
        values = [fuse([outputs[m] for m in subset]) for subset in SUBSETS]
        return [
            (-1) ** k * ((self.head(value) if head else value[:, :5]) - (k + 1) * TARGETS).square().mean()
            for k, value in enumerate(values)
        ]

    def alike(self, outputs, fuse=None, head=True):
        """The same, but linear and of two directions only, so that they compress without a loss."""
        fuse = fuse or mean
        values = [fuse([outputs[m] for m in subset]) for subset in SUBSETS]
        values = [self.head(value) if head else value[:, :5] for value in values]
        return [(value * (a * TARGETS + b * TARGETS.flip(0))).sum() for value, (a, b) in zip(values, MIX, strict=True)]


MIX = torch.randn(len(SUBSETS), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))


def mean(members):
    return sum(members) / len(members)


def attention(members):
    stacked = torch.stack(members)
    return (stacked.softmax(dim=0) * stacked).sum(dim=0)


def merged(model, losses, outputs=None, **options):
    """Gradients that GMD fills in, the same projection order every time, and the report."""
    model.zero_grad()
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(4), **options)
    report = surgeon.backward(losses, outputs=outputs)
    return {name: p.grad for name, p in model.named_parameters()}, report


def assert_equal(got, expected, rtol=1e-9):
    for name, value in expected.items():
        assert (got[name] is None) == (value is None), name
        if value is not None:
            assert (got[name] - value).norm() <= rtol * (value.norm() + 1e-3), name


@pytest.mark.parametrize("granularity", ["model", "module", "tensor"])
@pytest.mark.parametrize("head", [True, False], ids=["head", "no-head"])
@pytest.mark.parametrize("fuse", [mean, attention])
def test_outputs_change_nothing(fuse, head, granularity):
    model = Shared()
    expected, plain = merged(model, model.losses(model.outputs(), fuse, head), granularity=granularity)
    outputs = model.outputs()
    got, report = merged(model, model.losses(outputs, fuse, head), outputs, granularity=granularity)
    assert plain.conflicts > 0.1, "no conflict: this test would show nothing"
    assert_equal(got, expected)
    assert torch.allclose(report.grams, plain.grams, rtol=1e-9, atol=1e-12)
    assert torch.equal(report.losses, plain.losses)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("granularity", ["model", "module", "tensor"])
@pytest.mark.parametrize("head", [True, False], ids=["head", "no-head"])
@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "plain"])
def test_compression_changes_nothing_where_nothing_is_discarded(scaled, head, granularity, reduction):
    model = Shared()
    options = {"granularity": granularity, "reduction": reduction}
    expected, plain = merged(model, model.alike(model.outputs(), head=head), **options)
    outputs = model.outputs()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
    got, report = merged(model, model.alike(outputs, head=head), outputs, tol=1e-6, scaler=scaler, **options)
    assert report.directions == (2, 2, 2), "of 4: nothing was compressed"
    assert plain.conflicts > 0.1, "no conflict: this test would show nothing"
    assert_equal(got, expected, rtol=1e-6)
    assert (report.grams - plain.grams).abs().max() <= 1e-6 * plain.grams.abs().max()


def test_compression_under_attention_keeps_its_bound():
    """Whatever the fusion, no more is discarded than may be."""
    model = Shared()
    outputs = model.outputs()
    _, report = merged(model, model.alike(outputs, attention), outputs, tol=0.3)
    assert sum(report.directions) < 12
    assert (report.discarded <= 0.09).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1), st.floats(0.0, 0.9))
def test_any_linear_fusion(num_objectives, num_outputs, seed, tol):
    """Random weights, many of them zero: each objective's error stays within tol of its own cotangents."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    param = draw(6).requires_grad_()
    fusion = draw(num_objectives, num_outputs) * (draw(num_objectives, num_outputs) > 0)
    fusion[0] = 1.0
    mixers, directions = [draw(6, 6) for _ in range(num_outputs)], draw(num_objectives, 6)

    def losses(outputs):
        return [
            sum(w * o for w, o in zip(row, outputs, strict=True) if w or k == 0) @ d
            for k, (row, d) in enumerate(zip(fusion, directions, strict=True))
            if row.any()
        ]

    outputs = [mixer @ param for mixer in mixers]
    plain = [torch.autograd.grad(loss, param, retain_graph=True)[0] for loss in losses(outputs)]
    basis = path_gradients(losses(outputs), outputs, [param], tol)
    rows = torch.stack([row[0] for row in basis.rows])
    got = rows if basis.mixing is None else basis.mixing @ rows
    assert (basis.discarded <= tol**2).all()
    stretch = torch.stack([torch.linalg.matrix_norm(mixer, 2) for mixer in mixers])
    there = fusion.any(dim=1)
    reach = (fusion[there].abs() @ stretch) * directions[there].norm(dim=1)  # [T], how long its gradient may be
    assert ((got - torch.stack(plain)).norm(dim=1) <= (tol + 1e-7) * reach).all()


def test_as_many_passes_as_there_are_directions():
    model = Shared()
    outputs = model.outputs()
    passes = dict.fromkeys(NAMES, 0)
    for name, norm in zip(NAMES, model.norms, strict=True):
        norm.weight.register_hook(lambda _, name=name: passes.update({name: passes[name] + 1}))
    _, report = merged(model, model.alike(outputs), outputs, tol=1e-6)
    assert report.directions == (2, 2, 2)
    assert passes == {"a": 2, "b": 2, "c": 2}
    assert (report.discarded < 1e-12).all()


def test_exact_passes_are_those_of_the_subsets():
    model = Shared()
    outputs = model.outputs()
    passes = []
    model.layer.weight.register_hook(passes.append)
    _, report = merged(model, model.losses(outputs), outputs)
    assert report.directions == (4, 4, 4)
    assert len(passes) == 12, "3 modalities, each in 4 of the 7 subsets"
    assert report.discarded.tolist() == [0, 0, 0]


def _with(losses, k, factor):
    losses[k] = factor * losses[k]
    return losses


class Buffer(torch.autograd.Function):
    """The identity; remembers, weakly, what the graph holds."""

    held: ClassVar = []

    @staticmethod
    def forward(ctx, x):
        ctx.saved = x.clone()
        Buffer.held.append(weakref.ref(ctx.saved))
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@pytest.mark.parametrize("tol", [0.0, 0.5])
def test_each_path_is_freed_before_the_next_ones_turn(tol):
    model = Shared()
    alive = []
    outputs = model.outputs()
    for name, norm in zip(NAMES, model.norms, strict=True):
        norm.weight.register_hook(lambda _, name=name: alive.append((name, _usable(outputs))))
    merged(model, model.losses(outputs), outputs, tol=tol)
    seen = dict(reversed(alive))  # in the first pass through each path
    assert seen["a"][1:] == [True, True]
    assert (seen["b"][0], seen["b"][2]) == (False, True)
    assert seen["c"][:2] == [False, False]


def _usable(outputs):
    """Which paths still have their buffers: a node that has been freed does not give them out."""
    found = []
    for output in outputs.values():
        try:
            found.append(output.grad_fn._saved_input is not None)
        except RuntimeError:
            found.append(False)
    return found


def test_autocasts_copies_of_parameters_keep_no_path():
    """One cast of the shared layer serves all modalities; it saves nothing, so the paths are freed all the same."""
    model = Shared().float()
    x = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.outputs(x)
    losses = model.losses({name: output.float() for name, output in outputs.items()}, head=False)
    alive = []
    model.norms[2].weight.register_hook(lambda _: alive.append(_usable(outputs)))
    merged(model, [loss.float() for loss in losses], outputs)
    assert alive[0][:2] == [False, False]


def test_paths_that_share_a_part_keep_it_until_the_last():
    model = Shared()
    expected, _ = merged(model, model.alike(model.together()))
    for tol, passes in ((0.0, 12), (1e-6, 6)):
        outputs = model.together()
        got, report = merged(model, model.alike(outputs), outputs, tol=tol)
        assert sum(report.directions) == passes
        assert_equal(got, expected, rtol=1e-6)


def _then_an_ordinary_pass(model, losses, outputs, tol, checked=None):
    """The basis, whether each path is whole after its passes, and the gradients of a weighted sum of the losses."""
    params = list(model.parameters())
    basis = path_gradients(losses, list(outputs.values()), params, tol, checked=checked, retain_graph=True)
    assert all(param.grad is None for param in params)
    whole = _usable(outputs)
    weighted(losses).backward()
    return basis, whole, {name: param.grad for name, param in model.named_parameters()}


def weighted(losses):
    return torch.stack([k * loss for k, loss in enumerate(losses, start=1)]).sum()


def first_column(model, outputs):
    """Of which all gradients in a row are multiples: one pass by sample serves all."""
    return [sum(outputs[m] for m in subset)[:, 0].square().sum() for subset in SUBSETS]


@pytest.mark.parametrize(
    ("make", "tol", "checked", "passes"),
    [(Shared.alike, 0.0, None, 12), (Shared.alike, 1e-6, None, 6), (first_column, 0.0, set(), 3)],
    ids=["exact", "directions", "by-sample"],
)
def test_a_retained_graph_serves_an_ordinary_pass_too(make, tol, checked, passes):
    model, expected = Shared(), Shared()
    weighted(make(expected, expected.outputs())).backward()
    outputs = model.outputs()
    basis, whole, got = _then_an_ordinary_pass(model, make(model, outputs), outputs, tol, checked)
    assert whole == [True] * 3
    assert sum(basis.directions) == passes
    assert_equal(got, {name: param.grad for name, param in expected.named_parameters()})
    assert _usable(outputs) == [False] * 3, "the ordinary pass frees what is left"


@pytest.mark.parametrize("tol", [0.0, 1e-6])
def test_a_retained_graph_of_paths_that_share_parts(tol):
    model, expected = Shared(), Shared()
    weighted(expected.alike(expected.together())).backward()
    outputs = model.together()
    _, _, got = _then_an_ordinary_pass(model, model.alike(outputs), outputs, tol)
    assert_equal(got, {name: param.grad for name, param in expected.named_parameters()})


@pytest.mark.parametrize("tol", [0.0, 1e-6])
def test_a_retained_graph_of_compiled_paths(tol):
    """The passes for the rows come first, as their backward graph is the one that may be gone through again."""
    model, expected = Shared(), Shared()
    weighted(expected.alike(expected.outputs())).backward()
    torch.compiler.reset()
    model.layer = torch.compile(model.layer, backend="aot_eager")
    for refreshed in (True, False, True):
        model.zero_grad()
        outputs = model.outputs()
        losses = model.alike(outputs)
        if refreshed:
            _, _, got = _then_an_ordinary_pass(model, losses, outputs, tol)
        else:
            weighted(losses).backward()
            got = {name: param.grad for name, param in model.named_parameters()}
        plain = {name.replace("_orig_mod.", ""): grad for name, grad in got.items()}
        assert_equal(plain, {name: param.grad for name, param in expected.named_parameters()})
    torch.compiler.reset()


def test_one_tensor_given_to_two_parameters_is_not_added_to():
    """Autograd gives both terms of a sum the same gradient tensor."""
    params = nn.ParameterList(torch.ones(3, dtype=torch.float64) for _ in range(2))

    def setting():
        outputs = [(params[0] + params[1]) * (m + 1) for m in range(3)]
        return [sum(outputs[m] * (k + 1) for m in range(3)).sum() for k in range(4)], outputs

    losses, outputs = setting()
    rows = path_gradients(losses, outputs, list(params)).rows
    for k, row in enumerate(rows):
        assert row[0].tolist() == row[1].tolist() == [6.0 * (k + 1)] * 3


def test_a_modality_that_is_nobodys_is_an_error_and_others_reach_their_own():
    model = Shared()
    outputs = model.outputs()
    only_two = [loss for loss, subset in zip(model.losses(outputs), SUBSETS, strict=True) if "c" not in subset]
    with pytest.raises(ValueError, match=r"outputs\[2\]: no loss was computed from it"):
        merged(model, only_two, outputs)
    outputs = model.outputs()
    only_two = [loss for loss, subset in zip(model.losses(outputs), SUBSETS, strict=True) if "c" not in subset]
    got, report = merged(model, only_two, {m: outputs[m] for m in "ab"})
    assert got["norms.2.weight"] is None
    assert report.directions == (2, 2)


def test_objectives_without_gradient_stay_objectives():
    """Loss times zero: a gradient of zeros, which is none that is absent, so what all reach stays shared."""
    model = Shared()
    results = []
    for use_outputs, tol in ((False, 0.0), (True, 0.0), (True, 1e-9)):
        outputs = model.outputs()
        losses = _with(model.losses(outputs), 1, 0.0)
        results.append(merged(model, losses, outputs if use_outputs else None, tol=tol))
    for got, report in results[1:]:
        assert_equal(got, results[0][0])
        assert float(report.conflicts) == pytest.approx(float(results[0][1].conflicts))


def test_a_bad_objective_is_named_by_the_gramian_compressed_or_not():
    for tol in (0.0, 0.1):
        model = Shared()
        outputs = model.outputs()
        _, report = merged(model, _with(model.losses(outputs), 3, torch.inf), outputs, tol=tol)
        assert not report.finite
        assert report.gram.diagonal().isfinite().logical_not().nonzero().tolist() == [[3]]


def test_what_is_refused_leaves_gradients_alone():
    model = Shared()
    outputs = model.outputs()
    losses = model.losses(outputs)
    detached = {name: output.detach() for name, output in outputs.items()}
    cases = [
        (losses, [*outputs.values(), outputs["a"]], "one of them twice"),
        (losses, [*outputs.values(), outputs["a"].square()], "no loss was computed from it"),
        (losses, detached, r"outputs\['a'\] does not require grad"),
        (losses, {"a": 1.0}, r"outputs\['a'\]: expected a tensor, got float"),
        (losses, {}, "at least one modality, got none"),
        ([loss + model.layer.weight.square().sum() for loss in losses], outputs, "otherwise than through them"),
        ([loss + outputs["a"].square().sum() for loss in losses], [*outputs.values()][1:], "otherwise than through"),
    ]
    for given_losses, given_outputs, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            merged(model, given_losses, given_outputs)
        assert all(p.grad is None for p in model.parameters())
    nested = [outputs["a"], outputs["a"].square() + outputs["b"]]
    with pytest.raises(ValueError, match=r"outputs\[1\]: it was computed from outputs\[0\]"):
        merged(model, [nested[0].sum() + nested[1].sum()], nested)
    for tol in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="tol: expected a relative error"):
            gmd.GMD(torch.optim.SGD(model.parameters(), lr=0.1), tol=tol)
    merged(model, losses, outputs)  # the graph is whole after all of that


def test_frozen_parameters_get_none():
    model = Shared()
    model.layer.bias.requires_grad_(False)
    model.head.weight.requires_grad_(False)
    expected, _ = merged(model, model.alike(model.outputs()))
    outputs = model.outputs()
    got, report = merged(model, model.alike(outputs), outputs, tol=1e-6)
    assert report.directions == (2, 2, 2)
    assert got["layer.bias"] is None
    assert got["head.weight"] is None
    assert_equal(got, expected, rtol=1e-6)


class Undefined(torch.autograd.Function):
    """A loss whose gradient is none at all."""

    @staticmethod
    def forward(ctx, x):
        return x.sum()

    @staticmethod
    def backward(ctx, gradient):
        return None


@pytest.mark.parametrize("tol", [0.0, 0.5])
def test_an_output_without_any_gradient_is_passed_over(tol):
    model = Shared()
    outputs = model.outputs()
    losses = [model.alike(outputs)[0] + Undefined.apply(outputs["c"]), *model.alike(outputs)[:1]]
    got, report = merged(model, losses, {m: outputs[m] for m in "ac"}, tol=tol)
    assert report.directions[1] == 0
    assert got["norms.2.weight"] is None
    assert got["norms.0.weight"] is not None


@pytest.mark.parametrize("tol", [0.0, 1e-6])
def test_another_default_device_changes_nothing(tol):
    model = Shared()
    expected, _ = merged(model, model.alike(model.outputs()))
    outputs = model.outputs()
    losses = model.alike(outputs)
    with torch.device("meta"):
        got, report = merged(model, losses, outputs, tol=tol)
    assert report.discarded.device.type == "cpu"
    assert_equal(got, expected, rtol=1e-6)


def test_a_hook_that_would_run_twice_is_refused():
    model = Shared()
    outputs = model.outputs()
    outputs["b"].register_hook(lambda g: g / 2)
    with pytest.raises(ValueError, match=r"outputs\['b'\] has a hook, which would run twice"):
        merged(model, model.losses(outputs), outputs)


def test_nothing_of_the_graph_outlives_the_step():
    model = Shared()
    outputs = {name: Buffer.apply(output) for name, output in model.outputs().items()}
    losses = model.losses(outputs)
    surgeon = gmd.GMD(torch.optim.SGD(model.parameters(), lr=0.1))
    report = surgeon.backward(losses, outputs)
    del outputs, losses
    gc.collect()
    assert [held() for held in Buffer.held] == [None] * 3
    assert report.finite
