"""The balancing terms of CGGM, on metrics as minibatches give them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmd.surgery._balance import LEAST, RULES, PublishedBalance, SmoothBalance

CPU = torch.device("cpu")


def history(rule, metrics):
    """[steps, M] terms of metrics [steps, M]."""
    balance = rule(metrics.shape[1], CPU)
    terms = []
    for row in metrics:
        balance.state = balance.after(row)
        terms.append(balance.terms(balance.state))
    return torch.stack(terms)


def accuracies(rates, steps, seed=0, batch=32):
    """[steps, M] of minibatches, where the accuracy rises from 1/2 towards 4/5 at those rates."""
    t = torch.arange(steps, dtype=torch.float64)[:, None]
    expected = 0.5 + 0.3 * (1 - torch.exp(-t * torch.tensor(rates, dtype=torch.float64)))
    draws = torch.rand(batch, *expected.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (draws < expected).double().mean(dim=0)


def errors(steps, seed=0, batch=32):
    """[steps, 3] metrics of a regression that has stopped to learn: minus the mean absolute error of minibatches."""
    draws = torch.randn(batch, steps, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return -draws.abs().mean(dim=0)


def test_trap_differences_of_consecutive_minibatches_are_noise():
    """Published: some modality's gradient is turned around in about half of all steps, and some are blown up."""
    metrics = errors(20_000)
    published = history(PublishedBalance, metrics)
    assert 0.4 < float((published < 0).any(dim=1).double().mean()) < 0.9
    assert published.abs().amax() > 1e4
    smooth = history(SmoothBalance, metrics[:3000])[100:]
    assert smooth.min() > 0.4
    assert smooth.max() < 0.85, "one of three: 2/3 and its noise"
    assert smooth.std(dim=0).amax() < 0.06


@pytest.mark.parametrize("seed", range(3))
def test_what_improves_faster_gets_the_smaller_term(seed):
    terms = history(SmoothBalance, accuracies([1 / 300, 1 / 1500, 0.0], 500, seed))[50:]
    fast, slow, flat = terms.mean(dim=0).tolist()
    assert fast + 0.05 < slow < flat
    assert (terms[:, 0] < terms[:, 2]).double().mean() > 0.85
    assert terms.std(dim=0).amax() < 0.1


def test_nothing_that_moves_means_equal_terms():
    for rule in RULES.values():
        for values in ([0.0, 0.0, 0.0], [0.7, -3.1, 0.123], [1.0, 1e-3, 0.0]):
            terms = history(rule, torch.tensor([values] * 30, dtype=torch.float64))
            assert torch.allclose(terms, torch.tensor(2 / 3, dtype=torch.float64), rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(-200, 200))
def test_smooth_terms_are_bounded_whatever_the_metric(num_modalities, steps, seed, exponent):
    generator = torch.Generator().manual_seed(seed)
    metrics = torch.randn(steps, num_modalities, generator=generator, dtype=torch.float64) * 10.0**exponent
    metrics[torch.rand(metrics.shape, generator=generator) < 0.1] = torch.nan
    terms = history(SmoothBalance, metrics)
    assert (terms >= -1e-12).all()
    assert (terms <= 1 + 1e-12).all()
    assert torch.allclose(terms.sum(dim=1), torch.tensor(num_modalities - 1.0, dtype=torch.float64))


def test_the_unit_of_the_metric_plays_no_part():
    metrics = errors(200)
    assert torch.allclose(history(SmoothBalance, metrics), history(SmoothBalance, metrics * 64 - 5), atol=100 * LEAST)


def test_one_step_is_no_change():
    for rule in RULES.values():
        terms = history(rule, torch.tensor([[0.9, 0.1]], dtype=torch.float64))
        assert terms.tolist() == [[pytest.approx(0.5), pytest.approx(0.5)]]


def test_published_terms_by_hand():
    metrics = torch.tensor([[0.5, 0.5, 0.5], [0.75, 0.625, 0.375], [0.625, 0.75, 0.375]], dtype=torch.float64)
    terms = history(PublishedBalance, metrics)
    assert terms[1].tolist() == pytest.approx([0.0, 0.5, 1.5])
    assert terms[2].tolist() == pytest.approx([2 / 3] * 3), "the changes add up to zero"


def test_smooth_terms_are_those_of_the_definition():
    """Averages as explicit sums, bias and all."""
    metrics = accuracies([1 / 20, 0.0], 40)
    steps = len(metrics)

    def average(values, decay):
        weights = torch.tensor([decay ** (len(values) - 1 - i) for i in range(len(values))], dtype=torch.float64)
        return (weights[:, None] * values).sum(dim=0) / weights.sum()

    deviations = torch.stack([metrics[t] - average(metrics[: t + 1], 0.95) for t in range(steps)])
    floor = 2 * math.sqrt(average(deviations.square(), 0.99).mean() * 0.05 / 1.95)
    improvements = (average(metrics, 0.95) - average(metrics, 0.99)).clamp(min=0) + floor
    expected = 1 - improvements / improvements.sum()
    assert expected[0] < 0.45, "no improvement: this test would show little"
    assert torch.allclose(history(SmoothBalance, metrics)[-1], expected, rtol=1e-9)


@pytest.mark.parametrize("rule", RULES.values())
@pytest.mark.parametrize("missing", [math.nan, math.inf])
def test_what_was_not_measured_stays_as_it_was(rule, missing):
    whole = rule(3, CPU)
    for row in accuracies([1 / 20, 1 / 50, 0.0], 10):
        whole.state = whole.after(row)
    before = whole.state.clone()
    after = whole.after(torch.tensor([0.9, missing, 0.2], dtype=torch.float64))
    assert torch.equal(after[:, 1], before[:, 1])
    assert not torch.equal(after[:, 0], before[:, 0])
    assert torch.equal(whole.state, before), "only the caller decides that the step counts"
