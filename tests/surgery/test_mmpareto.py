"""MMPareto against a literal float64 rendering of the published rule, and what it tells, takes and refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gmd
from gmd.surgery.mmpareto import multimodal_share, pareto_weights
from helpers.multimodal_cases import assert_equal

NAMES = ("audio", "video", "text")
GAMMA = 1.5


class Late(nn.Module):
    """An encoder and a head for each modality, and a joint head on all of them."""

    def __init__(self, names=NAMES, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.names = names
        self.encoders = nn.ModuleDict({m: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)) for m in names})
        self.heads = nn.ModuleDict({m: nn.Linear(5, 3) for m in names})
        self.joint = nn.Linear(5 * len(names), 3)
        self.double()

    def outputs(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        batch = {m: torch.randn(8, 4, generator=generator, dtype=torch.float64) for m in self.names}
        return {m: self.encoders[m](batch[m]) for m in self.names}

    def losses(self, outputs, seed=0):
        generator = torch.Generator().manual_seed(100 + seed)
        targets = [torch.randint(3, (8,), generator=generator) for _ in range(1 + len(outputs))]
        loss = nn.functional.cross_entropy
        whole = torch.cat([outputs.get(m, torch.zeros(8, 5).double()) for m in self.names], dim=1)
        losses = {"all": loss(self.joint(whole), targets[0])}
        return losses | {m: loss(self.heads[m](x), t) for (m, x), t in zip(outputs.items(), targets[1:], strict=True)}


def gradients_of(model, loss):
    """[P], zeros where the loss does not reach a parameter."""
    params = list(model.parameters())
    found = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, params, strict=True)]


def literally(model, losses, gamma=GAMMA):
    """The published loop in words: pass by pass, tensor by tensor, by the names of parameters."""
    named = dict(model.named_parameters())
    rows = {name: dict(zip(named, gradients_of(model, loss), strict=True)) for name, loss in losses.items()}
    get = lambda row, name: rows[row][name]  # noqa: E731
    merged = {name: sum(get(row, name) for row in rows) for name in named}
    for m in list(losses)[1:]:
        own = [name for name in named if name.startswith(f"encoders.{m}.")]
        g = torch.cat([get("all", name).flatten() for name in own])
        u = torch.cat([get(m, name).flatten() for name in own])
        if torch.cosine_similarity(g, u, dim=0) > 0:
            k = (0.5, 0.5)
        else:
            first = ((u @ u - g @ u) / (g - u).square().sum()).item()
            k = (first, 1 - first)
        for name in own:
            new = 2 * k[0] * get("all", name) + 2 * k[1] * get(m, name)
            diff = merged[name].norm() / new.norm()
            merged[name] = gamma * (diff * new if diff > 1 else new)
    return merged


def conflicting(model, seed):
    """Losses whose gradients conflict in some encoders: targets are random."""
    outputs = model.outputs(seed)
    return outputs, model.losses(outputs, seed)


def grads_of(model):
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("given_outputs", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_gradient_is_that_of_the_published_rule(seed, given_outputs):
    model = Late()
    outputs, losses = conflicting(model, seed)
    expected = literally(model, losses)
    surgeon = gmd.MMPareto(torch.optim.SGD(model.parameters(), lr=0.1))
    report = surgeon.backward(losses, outputs=outputs if given_outputs else None)
    for name, value in grads_of(model).items():
        assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-12), name
    assert report.grams.shape == (4, 4, 4)
    assert report.weights.shape == (4, 4)
    assert report.finite


def test_both_sides_of_the_rule_are_met_above():
    signs = set()
    for seed in range(6):
        model = Late()
        _, losses = conflicting(model, seed)
        grams = gmd.MMPareto(torch.optim.SGD(model.parameters(), lr=0.1)).backward(losses).grams
        signs |= {bool(grams[m, 0, m] > 0) for m in (1, 2, 3)}
    assert signs == {False, True}


def test_the_weights_are_of_groups_of_parameters():
    model = Late()
    _, losses = conflicting(model, 0)
    flat = torch.stack([torch.cat([g.flatten() for g in gradients_of(model, loss)]) for loss in losses.values()])
    report = gmd.MMPareto(torch.optim.SGD(model.parameters(), lr=0.1)).backward(losses)
    assert torch.allclose(report.gram, flat @ flat.T, rtol=1e-9)
    assert torch.equal(report.weights[0], torch.ones(4).double()), "heads get the sum"
    for m in (1, 2, 3):
        first, own = float(report.weights[m, 0]), float(report.weights[m, m])
        assert first + own == pytest.approx(2 * GAMMA)
        assert report.weights[m].count_nonzero() == 2
        assert first == pytest.approx(GAMMA * 2 * float(multimodal_share(*report.grams[m][[0, 0, m], [0, m, m]])))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1, 1), st.floats(-3, 3))
def test_the_share_is_that_of_the_shortest_vector_where_gradients_conflict(seed, cosine, exponent):
    generator = torch.Generator().manual_seed(seed)
    g, other = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    other = other - g * (other @ g) / (g @ g)
    u = 10**exponent * (cosine * g / g.norm() + (1 - cosine**2) ** 0.5 * other / other.norm())
    k = float(multimodal_share(g @ g, g @ u, u @ u))
    if g @ u > 0:
        assert k == 0.5
        return
    assert 0 <= k <= 1
    shortest = (k * g + (1 - k) * u).norm()
    for other_k in torch.linspace(0, 1, 21).tolist():
        assert shortest <= (other_k * g + (1 - other_k) * u).norm() * (1 + 1e-9)


def test_a_gradient_of_zero_leaves_the_other_as_published():
    """The published solver's shares there are 0.999 and 0.001; the length of the sum brings the other back."""
    zero, one = torch.zeros(()).double(), torch.ones(()).double()
    assert float(multimodal_share(zero, zero, one)) == 0.999
    assert float(multimodal_share(one, zero, zero)) == 0.001
    for gram in ([[0.0, 0.0], [0.0, 4.0]], [[4.0, 0.0], [0.0, 0.0]]):
        grams = torch.tensor([gram], dtype=torch.float64)
        _, _, weights = pareto_weights(grams, torch.tensor([1]), GAMMA)
        k = int(gram[0][0] == 0)
        assert float(weights[0, k]) == pytest.approx(GAMMA), "gamma times the gradient that is there"


def test_a_tensor_in_which_the_two_cancel_is_not_blown_up():
    """Published: its length divides the length of the sum, and is 0 or rounding: NaN, or a random direction."""
    grams = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]], [[4.0, 1.0], [1.0, 4.0]]], dtype=torch.float64)
    unequal = torch.tensor([[[4.0, -2.0], [-2.0, 1.0]], [[1.0, 0.0], [0.0, 4.0]]], dtype=torch.float64)
    for given_grams in (grams, unequal):
        _, _, weights = pareto_weights(given_grams, torch.tensor([1, 1]), GAMMA)
        assert weights.isfinite().all()
        assert weights.abs().max() < 10
    _, _, weights = pareto_weights(unequal * 1e-30, torch.tensor([1, 1]), GAMMA)
    assert torch.allclose(weights, pareto_weights(unequal, torch.tensor([1, 1]), GAMMA)[2]), "whatever the scale"


# In a loop


def test_modalities_come_and_go():
    model = Late()
    surgeon = gmd.MMPareto(torch.optim.SGD(model.parameters(), lr=0.1))
    for names in (NAMES, ("video",), ("text", "audio")):
        model.zero_grad()
        outputs = {m: x for m, x in model.outputs(3).items() if m in names}
        losses = model.losses(outputs, 3)
        expected = literally(model, losses)
        surgeon.backward(list(losses.values()))
        for name, value in grads_of(model).items():
            if value is None:
                assert any(m in name for m in NAMES if m not in names)
            else:
                assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-12)


def test_one_loss_alone_is_an_ordinary_step():
    model = Late()
    _, losses = conflicting(model, 0)
    expected = torch.autograd.grad(losses["all"], list(model.parameters()), retain_graph=True, allow_unused=True)
    gmd.MMPareto(torch.optim.SGD(model.parameters(), lr=0.1)).backward({"all": losses["all"]})
    assert_equal([p.grad for p in model.parameters()], expected)


def test_gradients_add_up():
    model = Late()
    surgeon = gmd.MMPareto(torch.optim.SGD(model.parameters(), lr=0.1))
    surgeon.backward(conflicting(model, 0)[1])
    once = {name: g.clone() for name, g in grads_of(model).items()}
    surgeon.backward(conflicting(model, 0)[1])
    assert all(torch.allclose(g, 2 * once[name]) for name, g in grads_of(model).items())


def test_the_scaler_leaves_without_a_trace_and_skips_an_overflow():
    found = []
    for scaled in (False, True):
        model = Late().float()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
        surgeon = gmd.MMPareto(optimizer, scaler=scaler if scaled else None)
        outputs = {m: model.encoders[m](torch.randn(8, 4, generator=torch.Generator().manual_seed(1))) for m in NAMES}
        losses = {"all": model.joint(torch.cat(list(outputs.values()), dim=1)).square().mean()}
        losses |= {m: (model.heads[m](x) - 1).square().mean() for m, x in outputs.items()}
        report = surgeon.backward(losses, outputs=outputs)
        found.append((report, grads_of(model)))
    (plain, expected), (report, got) = found
    assert torch.allclose(report.grams, plain.grams, rtol=1e-5, atol=1e-12)
    assert all(torch.allclose(got[name], value, rtol=1e-4, atol=1e-7) for name, value in expected.items())
    scaler.step(optimizer)
    scaler.update()
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    report = surgeon.backward([(model.joint.weight * torch.inf).sum()])
    assert not report.finite
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)
    assert scaler.get_scale() == 2.0**11


def test_factors_multiply_what_comes_before_the_outputs():
    factors = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    model = Late()
    outputs, losses = conflicting(model, 1)
    surgeon = gmd.MMPareto(torch.optim.SGD(model.parameters(), lr=0.1))
    surgeon.backward(losses, outputs=outputs)
    plain = {name: g.clone() for name, g in grads_of(model).items()}
    model.zero_grad()
    outputs, losses = conflicting(model, 1)
    report = surgeon.backward(losses, outputs=outputs, factors=factors)
    for m, factor in zip(NAMES, factors.tolist(), strict=True):
        name = f"encoders.{m}.0.weight"
        assert torch.allclose(grads_of(model)[name], factor * plain[name])
    assert torch.allclose(grads_of(model)["joint.weight"], plain["joint.weight"])
    assert set(report.modality) == {"gradient norm"}


def test_a_head_that_the_joint_loss_uses_too_is_an_encoders_part_unless_it_is_behind_the_outputs():
    """As in a mean of the modalities' own predictions."""
    grads = {}
    for given_outputs in (False, True):
        model = Late()
        outputs = model.outputs(2)
        logits = {m: model.heads[m](x) for m, x in outputs.items()}
        target = torch.arange(8) % 3
        losses = [nn.functional.cross_entropy(sum(logits.values()) / 3, target)]
        losses += [nn.functional.cross_entropy(x, target) for x in logits.values()]
        head = model.heads["text"].weight
        total = sum(torch.autograd.grad(loss, head, retain_graph=True)[0] for loss in (losses[0], losses[3]))
        surgeon = gmd.MMPareto(torch.optim.SGD(model.parameters(), lr=0.1))
        surgeon.backward(losses, outputs=outputs if given_outputs else None)
        grads[given_outputs] = (head.grad, total)
    assert torch.allclose(*grads[True])
    assert not torch.allclose(*grads[False])


@pytest.mark.parametrize("bad", [0, -1.0, float("inf"), float("nan")])
def test_a_bad_gamma_is_refused(bad):
    with pytest.raises(ValueError, match="gamma: expected a finite number above 0, got"):
        gmd.MMPareto(torch.optim.SGD(Late().parameters(), lr=0.1), gamma=bad)


def test_without_an_encoder_it_says_so_and_changes_nothing():
    shared = nn.Linear(3, 1)
    losses = [shared(torch.ones(3)).sum() * k for k in (1.0, 2.0, 3.0)]
    with pytest.raises(
        ValueError, match="losses: expected parameters that the first loss and the loss of one modality"
    ):
        gmd.MMPareto(torch.optim.SGD(shared.parameters(), lr=0.1)).backward(losses)
    assert shared.weight.grad is None


def test_a_loss_that_is_not_finite_shows():
    model = Late()
    _, losses = conflicting(model, 0)
    losses["video"] = losses["video"] * torch.nan
    assert not gmd.MMPareto(torch.optim.SGD(model.parameters(), lr=0.1)).backward(losses).finite
