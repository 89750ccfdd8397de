"""Weights taken now and then: the steps between are exact combinations with the weights kept, in one ordinary pass."""

import copy
from functools import partial

import pytest
import torch

import gmd
import gmd_kernels as gk
from gmd.surgery import _schedule
from helpers.every_cases import SUBSETS, batch, close, combined, grads, losses_of, problem


@pytest.mark.parametrize("with_outputs", [False, True], ids=["losses alone", "with outputs"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("tol", [0.0, 0.3])
def test_every_step_is_the_exact_combination_with_the_weights_it_reports(with_outputs, reduction, tol):
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, reduction, torch.Generator().manual_seed(3), tol=tol, every=3)
    ages = []
    for step in range(8):
        losses, outputs = losses_of(network, *batch(step))
        expected = partial(combined, network, dict(losses))
        optimizer.zero_grad()
        report = surgeon.backward(losses, outputs if with_outputs else None, retain_graph=True)
        ages.append(report.age)
        assert report.refreshed == (report.age == 0)
        assert close(grads(network), expected(report.weights, len(losses) if reduction == "mean" else 1))
        assert report.finite
        optimizer.step()
    assert ages == [0, 1, 2, 0, 1, 2, 0, 1]
    assert not torch.allclose(report.weights, report.weights.mean()), "no pair conflicts: this test would see nothing"


@pytest.mark.parametrize("kind", ["GMD", "a surgeon with PCGrad"])
def test_weights_that_last_are_the_expectation_over_the_orders(kind):
    network, optimizer = problem()
    losses, _ = losses_of(network, *batch(0))
    generator = torch.Generator().manual_seed(0)
    if kind == "GMD":
        surgeon = gmd.GMD(optimizer, "sum", generator, every=5)
    else:
        surgeon = gmd.Surgeon(optimizer, gmd.Weighting("pcgrad", generator=generator), every=5)
    report = surgeon.backward(losses)
    many = gk.weightings.pcgrad(report.gram.expand(20_000, *report.gram.shape), torch.Generator().manual_seed(1))
    expected, deviation = many.mean(dim=0), many.std(dim=0)
    assert ((report.weights - expected).abs() <= 5 * deviation / 16**0.5 + 1e-12).all()


@pytest.mark.parametrize("weighting", ["mean", "mgda", "upgrad", "imtl_g"])
def test_any_weighting_now_and_then(weighting):
    network, optimizer = problem()
    surgeon = gmd.Surgeon(optimizer, weighting, every=4)
    for step in range(6):
        losses, outputs = losses_of(network, *batch(step))
        expected = partial(combined, network, dict(losses))
        optimizer.zero_grad()
        report = surgeon.backward(losses, outputs, retain_graph=True)
        assert close(grads(network), expected(report.weights, 1))
        assert torch.allclose(report.weights, getattr(gk.weightings, weighting)(report.gram), rtol=1e-9)
        optimizer.step()


def test_at_every_step_a_weighting_is_what_the_kernels_make_of_it():
    network, optimizer = problem()
    losses, _ = losses_of(network, *batch(0))
    rows = [
        torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
        for loss in losses.values()
    ]
    merged, gram = gk.surgery([list(row) for row in rows], gk.weightings.upgrad)
    report = gmd.Surgeon(optimizer).backward(losses)
    assert close(grads(network), merged)
    assert torch.equal(report.gram, gram)


@pytest.mark.parametrize("granularity", ["module", "tensor"])
def test_a_function_of_one_gramian_works_part_by_part(granularity):
    network, optimizer = problem()
    losses, _ = losses_of(network, *batch(0))
    surgeon = gmd.Surgeon(
        optimizer, lambda gram: gram.diagonal() / gram.trace().clamp(min=1e-9), granularity=granularity, model=network
    )
    report = surgeon.backward(losses)
    assert report.weights.shape == report.grams.shape[:2]


def test_what_was_in_grad_before_is_added_to():
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(0), every=8)
    total = None
    optimizer.zero_grad()
    for step in range(3):
        losses, outputs = losses_of(network, *batch(step))
        report = surgeon.backward(losses, outputs, retain_graph=True)
        these = combined(network, losses, report.weights, len(losses))
        total = these if total is None else [a + b for a, b in zip(total, these, strict=True)]
    assert close(grads(network), total)


def test_objectives_that_come_and_go():
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(0), every=10)
    refreshed = []
    for step, count in enumerate([6, 6, 4, 6, 4, 3, 3]):
        losses, outputs = losses_of(network, *batch(step), SUBSETS[:count])
        optimizer.zero_grad()
        report = surgeon.backward(losses, outputs, retain_graph=True)
        refreshed.append(report.refreshed)
        params = [param for param in network.parameters() if param.grad is not None]
        assert len(report.weights) == len(losses) == count
        expected = combined(network, losses, report.weights, count)
        assert close([param.grad for param in params], [g for g in expected if isinstance(g, torch.Tensor)])
    assert refreshed == [True, False, True, False, False, True, False]


@pytest.mark.parametrize("by_sample", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_same_batch_gives_the_same_gradient_at_a_refresh_and_between(reduction, by_sample):
    """With factors of the modalities' gradients, which the one pass applies at the outputs as the many do."""
    network, optimizer = problem()
    generator = torch.Generator().manual_seed(0)
    surgeon = gmd.GMD(optimizer, reduction, generator, every=2, by_sample=by_sample)
    factors, found, norms = torch.tensor([0.3, 2.0, 1.0]), [], []
    for _ in range(2):
        losses, outputs = losses_of(network, *batch(0))
        optimizer.zero_grad()
        report = surgeon.backward(losses, outputs, factors)
        found.append(grads(network))
        norms.append(report.modality["gradient norm"])
    assert not report.refreshed
    assert close(*found)
    assert norms[1].shape == norms[0].shape == (3,)


def test_weights_belong_to_names_in_whatever_order_these_come():
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(0), every=10)
    losses, _ = losses_of(network, *batch(0))
    first = dict(zip(losses, surgeon.backward(losses).weights.tolist(), strict=True))
    losses, _ = losses_of(network, *batch(1))
    turned = dict(reversed(losses.items()))
    report = surgeon.backward(turned)
    assert not report.refreshed
    assert dict(zip(turned, report.weights.tolist(), strict=True)) == first


def test_the_interval_grows_while_weights_stay_and_falls_back_when_they_move(monkeypatch):
    monkeypatch.setattr(_schedule, "LONGEST", 16)
    network, optimizer = problem()
    weights = torch.full((len(SUBSETS),), 0.2, dtype=torch.float64)
    surgeon = gmd.Surgeon(optimizer, lambda gram: weights, every="auto")
    taken_at, intervals = [], []
    for step in range(64):
        if step == 45:
            weights = weights * torch.arange(1, 7)
        report = surgeon.backward(losses_of(network, *batch(step))[0])
        if report.refreshed:
            taken_at.append(step)
            intervals.append(report.interval)
    first = _schedule.FIRST
    assert (taken_at, intervals) == ([0, 4, 12, 28, 44, 60], [first, 8, 16, 16, 16, first])


def test_parameters_of_no_optimizer_get_nothing_at_any_step():
    network, _ = problem()
    kept_out = [*network.stems["a"].parameters(), *network.head.parameters()]
    optimizer = torch.optim.SGD([*network.shared.parameters(), *network.stems["b"].parameters()], lr=0.1)
    surgeon = gmd.GMD(optimizer, every=3)
    for step in range(3):
        losses, outputs = losses_of(network, *batch(step))
        report = surgeon.backward(losses, outputs if step == 2 else None, retain_graph=True)
        assert report.refreshed == (step == 0)
        assert all(param.grad is None for param in kept_out)
        assert network.shared.weight.grad is not None


def test_optimizers_of_parts_of_a_network():
    network, _ = problem()
    parts = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (network.stems, network.shared, network.head)]
    surgeon = gmd.GMD(parts, generator=torch.Generator().manual_seed(0), every=3)
    for step in range(4):
        losses, outputs = losses_of(network, *batch(step))
        network.zero_grad()
        report = surgeon.backward(losses, outputs, retain_graph=True)
        assert close(grads(network), combined(network, losses, report.weights, len(losses)))
        for optimizer in parts:
            optimizer.step()


def test_the_interval_grows_while_all_weights_stay_zero():
    network, optimizer = problem()
    surgeon = gmd.Surgeon(optimizer, lambda gram: torch.zeros_like(gram[0]), every="auto")
    intervals = [surgeon.backward(losses_of(network, *batch(step))[0]).interval for step in range(5)]
    assert intervals == [4, 4, 4, 4, 8]


def test_a_network_that_is_unfrozen_is_taken_anew():
    network, optimizer = problem()
    network.stems["a"].requires_grad_(False)
    surgeon = gmd.GMD(optimizer, every=10)
    assert surgeon.backward(losses_of(network, *batch(0))[0]).refreshed
    assert not surgeon.backward(losses_of(network, *batch(1))[0]).refreshed
    network.stems["a"].requires_grad_(True)
    assert surgeon.backward(losses_of(network, *batch(2))[0]).refreshed


def test_weights_that_are_not_finite_leave_those_of_before():
    network, optimizer = problem()
    good = torch.full((len(SUBSETS),), 0.5, dtype=torch.float64)
    broken = False
    surgeon = gmd.Surgeon(optimizer, lambda gram: good * torch.nan if broken else good, every=2)
    reports = []
    for step in range(7):
        broken = step in (2, 3)
        losses, outputs = losses_of(network, *batch(step))
        optimizer.zero_grad()
        reports.append(surgeon.backward(losses, outputs, retain_graph=True))
        assert close(grads(network), combined(network, losses, good, 1))
    assert [report.refreshed for report in reports] == [True, False, False, False, True, False, True]
    assert [report.age for report in reports] == [0, 1, 2, 3, 0, 1, 0]
    assert [report.failures for report in reports] == [0, 0, 1, 2, 2, 2, 2]
    assert all(report.finite for report in reports)


def test_the_very_first_weights_not_finite_are_no_step():
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=4)
    x, target = batch(0)
    report = surgeon.backward(losses_of(network, x, target * torch.inf)[0])
    assert not report.finite
    assert report.failures == 1
    optimizer.zero_grad()
    report = surgeon.backward(losses_of(network, x, target)[0])
    assert report.refreshed
    assert report.finite


def test_a_gradient_that_is_not_finite_between_shows():
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=4)
    x, target = batch(0)
    assert surgeon.backward(losses_of(network, x, target)[0]).finite
    losses, _ = losses_of(network, x, target)
    losses["a"] = losses["a"] + (network.shared.weight * 0).sum().sqrt()  # 0, of an infinite slope
    optimizer.zero_grad()
    report = surgeon.backward(losses)
    assert not report.refreshed
    assert report.losses.isfinite().all()
    assert not report.finite


def test_the_gramian_of_a_part_of_the_batch():
    network, optimizer = problem()
    calls = []

    def part():
        calls.append(1)
        x, target = batch(100 + len(calls), size=2)
        return losses_of(network, x, target)

    surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(0), every=3)
    for step in range(5):
        losses, outputs = losses_of(network, *batch(step))
        optimizer.zero_grad()
        report = surgeon.backward(losses, outputs, part=part, retain_graph=True)
        assert close(grads(network), combined(network, losses, report.weights, len(losses)))
        if step == 0:
            of_part = gk.gram(
                [
                    torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
                    for loss in losses_of(network, *batch(101, size=2))[0].values()
                ]
            )
            assert torch.allclose(report.gram, of_part, rtol=1e-9)
    assert len(calls) == 2


def test_a_part_without_an_objective_of_the_batch_is_refused():
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=3)
    losses, _ = losses_of(network, *batch(0))
    with pytest.raises(ValueError, match=r"part: expected the 6 objectives of the batch, lacks 'a\+b\+c'"):
        surgeon.backward(losses, part=lambda: losses_of(network, *batch(1), SUBSETS[:5]))
    assert all(param.grad is None for param in network.parameters())


@pytest.mark.parametrize("every", [3, "auto"])
def test_a_resumed_surgeon_goes_on_bit_for_bit(every, tmp_path):
    def steps(network, optimizer, surgeon, numbers):
        for step in numbers:
            count = 4 if step % 5 == 0 else 6
            losses, outputs = losses_of(network, *batch(step), SUBSETS[:count])
            optimizer.zero_grad()
            surgeon.backward(losses, outputs)
            optimizer.step()

    network, optimizer = problem()
    generator = torch.Generator().manual_seed(0)
    surgeon = gmd.GMD(optimizer, generator=generator, every=every)
    steps(network, optimizer, surgeon, range(8))
    torch.save(surgeon.state_dict(), tmp_path / "surgeon.pt")
    other, generator_state = copy.deepcopy(network), generator.get_state()
    steps(network, optimizer, surgeon, range(8, 20))

    optimizer = torch.optim.SGD(other.parameters(), lr=0.05)
    resumed = gmd.GMD(optimizer, generator=torch.Generator(), every=every)
    resumed.generator.set_state(generator_state)
    resumed.load_state_dict(torch.load(tmp_path / "surgeon.pt", weights_only=True))
    steps(other, optimizer, resumed, range(8, 20))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_the_state_of_another_interval_is_refused():
    state = gmd.GMD(problem()[1], every=4).state_dict()
    with pytest.raises(ValueError, match="every: expected the state of every=8, got one of every=4"):
        gmd.GMD(problem()[1], every=8).load_state_dict(state)


@pytest.mark.parametrize("every", [0, -1, 2.5, True, "sometimes", None])
def test_an_interval_that_is_none(every):
    with pytest.raises(ValueError, match="every: expected a number of steps, at least 1, or 'auto'"):
        gmd.GMD(problem()[1], every=every)


@pytest.mark.parametrize("every", [2, "auto"])
@pytest.mark.parametrize("granularity", ["module", "tensor"])
def test_parts_of_the_model_cannot_have_weights_of_their_own_in_one_pass(every, granularity):
    network, optimizer = problem()
    with pytest.raises(ValueError, match=f"every: expected 1 with granularity='{granularity}'"):
        gmd.GMD(optimizer, granularity=granularity, model=network, every=every)


@pytest.mark.parametrize("first", ["list", "dict"])
def test_names_and_positions_are_not_mixed(first):
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=4)
    losses, _ = losses_of(network, *batch(0))
    given = {"list": list(losses.values()), "dict": losses}
    surgeon.backward(given.pop(first), retain_graph=True)
    [other] = given.values()
    with pytest.raises(ValueError, match=f"losses: expected a {first}, as in the calls before"):
        surgeon.backward(other)


def test_a_list_of_another_length_is_another_set():
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=4)
    assert surgeon.backward(list(losses_of(network, *batch(0))[0].values())).refreshed
    assert surgeon.backward(list(losses_of(network, *batch(1), SUBSETS[:3])[0].values())).refreshed
    assert not surgeon.backward(list(losses_of(network, *batch(2))[0].values())).refreshed


def test_sets_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(_schedule, "MOST_SETS", 2)
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=50)
    counts = [1, 2, 3, 3, 2, 1]
    found = [surgeon.backward(losses_of(network, *batch(s), SUBSETS[:n])[0]).refreshed for s, n in enumerate(counts)]
    assert found == [True, True, True, False, False, True]
    assert len(surgeon.state_dict()["schedule"]["sets"]) == 2


def test_losses_before_a_scaler_and_steps_between_are_unscaled_even_when_accumulated():
    network, optimizer = problem(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(0), scaler=scaler, every=3)
    for step in range(4):
        optimizer.zero_grad()
        total = None
        for half in range(2):
            losses, outputs = losses_of(network, *batch(2 * step + half, torch.float32))
            report = surgeon.backward(losses, outputs, retain_graph=True)
            these = combined(network, losses, report.weights.float(), len(losses))
            total = these if total is None else [a + b for a, b in zip(total, these, strict=True)]
        assert close(grads(network), total, 1e-5)
        assert report.finite
        scaler.step(optimizer)
        scaler.update()


def test_an_overflow_between_makes_the_scaler_skip_the_step():
    network, optimizer = problem(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    surgeon = gmd.GMD(optimizer, scaler=scaler, every=3)
    for step in range(2):
        x, target = batch(step, torch.float32)
        losses, outputs = losses_of(network, x, target)
        if step == 1:
            losses["a"] = losses["a"] * 1e37
        before = copy.deepcopy(network.state_dict())
        optimizer.zero_grad()
        report = surgeon.backward(losses, outputs)
        scaler.step(optimizer)
        scaler.update()
    assert not report.refreshed
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert scaler.get_scale() == 2.0**9


@pytest.mark.parametrize(("tol", "saves_passes"), [(1e-6, False), (0.9, True)])
def test_a_refresh_with_directions_frees_the_paths(tol, saves_passes):
    """Where they save nothing, there is no pass after them that would; the losses outlive the call, as in any loop."""
    network, optimizer = problem()
    surgeon = gmd.GMD(optimizer, every=2, tol=tol)
    losses, outputs = losses_of(network, *batch(0))
    report = surgeon.backward(losses, outputs)
    assert (report.squared_norm is not None) == saves_passes
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        outputs["a"].sum().backward()
