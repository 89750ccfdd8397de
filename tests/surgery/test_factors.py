"""Factors on the gradients at the modalities' outputs, and the norms of these, in GMD and in the plain method."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_paths import NAMES, Shared, assert_equal

import gmd
from gmd.surgery import MeanGradient

FACTORS = torch.tensor([0.3, 1.7, -0.5], dtype=torch.float64)
METHODS = {
    "mean": MeanGradient,
    "gmd": lambda optimizer, **options: gmd.GMD(optimizer, generator=torch.Generator().manual_seed(4), **options),
    "gmd-compressed": lambda optimizer, **options: METHODS["gmd"](optimizer, tol=1e-6, **options),
}


class Scaled(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor: what `factors` has to come to."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


def filled(method, losses_of, factors, behind=False, scaler=None):
    """`.grad` by name and the report; with `behind` the factors are in the graph, and outputs are not spoken of."""
    model = Shared()
    surgeon = METHODS[method](torch.optim.SGD(model.named_parameters(), lr=0.1), scaler=scaler)
    outputs = model.outputs()
    if behind:
        scaled = {m: Scaled.apply(output, factor) for (m, output), factor in zip(outputs.items(), factors, strict=True)}
        report = surgeon.backward(losses_of(model, scaled))
    else:
        report = surgeon.backward(losses_of(model, outputs), outputs=outputs, factors=factors)
    return {name: p.grad for name, p in model.named_parameters()}, report


def alike(model, outputs):
    return model.alike(outputs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_everything_before_an_output_gets_its_factor_and_nothing_behind_does(method, dtype):
    factors = FACTORS.to(dtype)
    expected, plain = filled(method.removesuffix("-compressed"), alike, factors, behind=True)
    got, report = filled(method, alike, factors)
    without, _ = filled(method, alike, None)
    assert_equal(got, expected, rtol=1e-6)
    assert torch.allclose(report.gram, plain.gram, rtol=1e-6)
    for m, factor in enumerate(factors.tolist()):
        if method == "mean":  # in the others the projections change too
            assert torch.allclose(got[f"norms.{m}.weight"], factor * without[f"norms.{m}.weight"], rtol=1e-6)
    if method == "mean":
        assert torch.equal(got["head.weight"], without["head.weight"])


@pytest.mark.parametrize("method", METHODS)
def test_factors_of_one_change_nothing(method):
    expected, plain = filled(method, alike, None)
    got, report = filled(method, alike, torch.ones(3))
    assert all(torch.equal(got[name], value) for name, value in expected.items())
    assert torch.equal(report.grams, plain.grams)


@pytest.mark.parametrize("method", METHODS)
def test_the_scaler_leaves_without_a_trace(method):
    expected, plain = filled(method, alike, FACTORS)
    got, report = filled(method, alike, FACTORS, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert_equal(got, expected)
    assert torch.allclose(report.modality["gradient norm"], plain.modality["gradient norm"], rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), st.sampled_from(sorted(METHODS)))
def test_any_factors(values, method):
    factors = torch.tensor(values, dtype=torch.float64)
    expected, _ = filled(method.removesuffix("-compressed"), alike, factors, behind=True)
    got, report = filled(method, alike, factors)
    assert_equal(got, expected, rtol=1e-5)
    assert report.finite


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factors", [None, FACTORS], ids=["plain", "factors"])
def test_the_norm_at_each_output_is_that_of_the_mean_loss(method, factors):
    model = Shared()
    outputs = model.outputs()
    loss = torch.stack(model.alike(outputs)).mean()
    expected = [float(g.norm()) for g in torch.autograd.grad(loss, list(outputs.values()))]
    _, report = filled(method, alike, factors)
    norms = report.modality["gradient norm"]
    assert norms.dtype == torch.float64
    assert norms.tolist() == pytest.approx(expected, rel=1e-6)
    assert (
        METHODS[method](torch.optim.SGD(model.parameters(), lr=0.1)).backward(model.alike(model.outputs())).modality
        == {}
    )


def test_the_norms_are_in_the_order_of_the_outputs():
    model = Shared()
    outputs = model.outputs()
    backwards = {m: outputs[m] for m in reversed(NAMES)}
    report = MeanGradient(torch.optim.SGD(model.parameters(), lr=0.1)).backward(model.alike(outputs), backwards)
    _, forwards = filled("mean", alike, None)
    assert torch.equal(report.modality["gradient norm"].flip(0), forwards.modality["gradient norm"])


@pytest.mark.parametrize("method", METHODS)
def test_a_bad_factor_or_gradient_shows(method):
    _, report = filled(method, alike, torch.tensor([1.0, torch.nan, 1.0]))
    assert not report.finite
    _, report = filled(method, lambda model, outputs: [loss * torch.inf for loss in alike(model, outputs)], FACTORS * 0)
    assert not report.finite, "a factor of zero hides no NaN"


def test_the_outputs_are_left_without_hooks():
    model = Shared()
    surgeon = MeanGradient(torch.optim.SGD(model.parameters(), lr=0.1))
    outputs = model.outputs()
    losses = model.alike(outputs)
    surgeon.backward(losses, outputs=outputs, factors=FACTORS)
    assert not any(output._backward_hooks for output in outputs.values())
    with pytest.raises(RuntimeError, match="second time"):
        surgeon.backward(losses, outputs=outputs, factors=FACTORS)
    assert not any(output._backward_hooks for output in outputs.values())


def test_a_hook_of_the_users_own_runs_once_and_first():
    """In the plain method, which goes through each output once; GMD refuses it."""
    found = []
    for factors in (None, FACTORS):
        model = Shared()
        outputs = model.outputs()
        outputs["a"].register_hook(lambda gradient: gradient * 3)
        MeanGradient(torch.optim.SGD(model.parameters(), lr=0.1)).backward(model.alike(outputs), outputs, factors)
        found.append(model.norms[0].weight.grad)
    expected, _ = filled("mean", alike, None)
    assert torch.allclose(found[0], 3 * expected["norms.0.weight"])
    assert torch.allclose(found[1], 3 * FACTORS[0] * expected["norms.0.weight"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("factors", "given", "error", "message"),
    [
        (torch.ones(3), False, ValueError, "factors: expected outputs with them"),
        (torch.ones(2), True, ValueError, r"factors: expected shape \[3\], one for each output, got \[2\]"),
        (torch.ones(3, 1), True, ValueError, r"factors: expected shape \[3\]"),
        (
            torch.ones(3, dtype=torch.int64),
            True,
            TypeError,
            "factors: expected a tensor of floating point, got torch.int64",
        ),
        ([1.0, 1.0, 1.0], True, TypeError, "factors: expected a tensor of floating point, got list"),
    ],
)
def test_bad_factors_change_nothing(method, factors, given, error, message):
    model = Shared()
    outputs = model.outputs()
    surgeon = METHODS[method](torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(error, match=message):
        surgeon.backward(model.alike(outputs), outputs=outputs if given else None, factors=factors)
    assert all(p.grad is None for p in model.parameters())
