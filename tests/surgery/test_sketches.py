"""keep="sketches": Gramian and weights from a few thousand numbers of each gradient, and one pass that is exact."""

import copy
from functools import partial

import pytest
import torch

import gmd
import gmd_kernels as gk
from bench.measure.memory import allocated_peak
from gmd.surgery._sketches import gram_error
from helpers.every_cases import SUBSETS, batch, close, combined, grads, losses_of, problem

MANY = 100_000  # more numbers than the network has: parameters collide hardly ever


def surgeon_of(optimizer, kind, **options):
    if kind == "gmd":
        return gmd.GMD(optimizer, generator=torch.Generator().manual_seed(3), keep="sketches", **options)
    return gmd.Surgeon(optimizer, kind, keep="sketches", **options)


@pytest.mark.parametrize("kind", ["gmd", "upgrad"])
@pytest.mark.parametrize("with_outputs", [False, True], ids=["losses alone", "with outputs"])
@pytest.mark.parametrize("every", [1, 3])
def test_every_step_is_the_exact_combination_with_the_weights_it_reports(kind, with_outputs, every):
    network, optimizer = problem()
    surgeon = surgeon_of(optimizer, kind, sketch_size=64, every=every)
    for step in range(5):
        losses, outputs = losses_of(network, *batch(step))
        optimizer.zero_grad()
        report = surgeon.backward(losses, outputs if with_outputs else None, retain_graph=True)
        merged = combined(network, losses, report.weights, len(losses) if kind == "gmd" else 1)
        assert close(grads(network), merged)
        assert report.age == step % every
        assert report.finite
        optimizer.step()


def test_the_gramian_is_that_of_sketches_with_the_number_of_the_step_as_seed():
    network, optimizer = problem()
    surgeon = surgeon_of(optimizer, "upgrad", sketch_size=50)
    for step in (1, 2):
        losses, _ = losses_of(network, *batch(step))
        sketches = torch.zeros(len(losses), 50, dtype=torch.float64)
        for sketch, loss in zip(sketches, losses.values(), strict=True):
            row = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
            gk.sketch_(sketch, row, seed=step)
        optimizer.zero_grad()
        report = surgeon.backward(losses)
        torch.testing.assert_close(report.gram, sketches @ sketches.T, rtol=1e-12, atol=0)
        assert torch.equal(report.gram_error, gram_error(report.gram, 50))
        torch.testing.assert_close(report.weights, gk.weightings.upgrad(report.gram))


@pytest.mark.parametrize("kind", ["gmd", "mgda"])
def test_long_sketches_give_the_weights_of_the_gradients(kind):
    network, optimizer = problem()
    losses, _ = losses_of(network, *batch(0))
    exact = gmd.Surgeon(optimizer, "pcgrad" if kind == "gmd" else kind).backward(losses, retain_graph=True)
    sketched = surgeon_of(optimizer, kind, sketch_size=MANY).backward(losses)
    assert ((sketched.gram - exact.gram).abs() <= 5 * sketched.gram_error + 1e-12).all()
    assert (sketched.gram_error <= 0.01 * exact.gram.diagonal().max()).all()


def test_the_error_that_is_reported_is_that_over_seeds():
    network, optimizer = problem()
    losses, _ = losses_of(network, *batch(0))
    exact = gmd.Surgeon(optimizer, "mean").backward(losses, retain_graph=True).gram
    surgeon = surgeon_of(optimizer, "mean", sketch_size=16)
    grams = torch.stack([surgeon.backward(losses, retain_graph=True).gram for _ in range(200)])
    found = (grams - exact).square().mean(dim=0).sqrt()
    ratio = found / gram_error(exact, 16)
    assert ((grams.mean(dim=0) - exact).abs() <= 5 * found / 200**0.5).all()
    assert 0.6 <= ratio.min() <= ratio.max() <= 1.15  # blocks of 16 elements lack their own collisions


def test_gradients_that_are_kept_have_no_error_to_report():
    network, optimizer = problem()
    assert gmd.GMD(optimizer).backward(losses_of(network, *batch(0))[0]).gram_error is None


def test_factors_are_in_gramian_and_gradient():
    network, optimizer = problem()
    losses, outputs = losses_of(network, *batch(0))
    factors = torch.tensor([1.0, 0.0, 2.0])
    exact = gmd.Surgeon(optimizer, "mean").backward(losses, outputs, factors, retain_graph=True)
    expected = grads(network)
    optimizer.zero_grad()
    report = surgeon_of(optimizer, "mean", sketch_size=MANY).backward(losses, outputs, factors)
    assert close(grads(network), expected)
    assert ((report.gram - exact.gram).abs() <= 5 * report.gram_error + 1e-12).all()
    torch.testing.assert_close(report.modality["gradient norm"], exact.modality["gradient norm"])


def test_a_part_of_the_batch_gives_the_weights():
    network, optimizer = problem()
    surgeon = surgeon_of(optimizer, "gmd", sketch_size=64)
    losses, _ = losses_of(network, *batch(0))
    other = losses_of(network, *batch(1))[0]
    report = surgeon.backward(losses, part=lambda: (other, None), retain_graph=True)
    assert close(grads(network), combined(network, losses, report.weights, len(losses)))


def test_resumed_with_the_same_bits():
    """Sketches go on with the seed of the next step."""
    network, optimizer = problem()
    surgeon = surgeon_of(optimizer, "gmd", sketch_size=32, every=2)

    def run(network, optimizer, surgeon, steps):
        for step in steps:
            optimizer.zero_grad()
            surgeon.backward(losses_of(network, *batch(step))[0])
            optimizer.step()
        return [param.detach().clone() for param in network.parameters()]

    run(network, optimizer, surgeon, range(3))
    state = copy.deepcopy((network.state_dict(), surgeon.state_dict(), surgeon.generator.get_state()))
    expected = run(network, optimizer, surgeon, range(3, 8))
    network, optimizer = problem()
    network.load_state_dict(state[0])
    surgeon = surgeon_of(optimizer, "gmd", sketch_size=32, every=2)
    surgeon.load_state_dict(state[1])
    surgeon.generator.set_state(state[2])
    found = run(network, optimizer, surgeon, range(3, 8))
    assert all(map(torch.equal, found, expected))


def test_a_scaler_sees_unscaled_gradients_and_overflows():
    network, optimizer = problem(dtype=torch.float32)
    losses, _ = losses_of(network, *batch(0, torch.float32))
    plain = surgeon_of(optimizer, "upgrad", sketch_size=64).backward(losses, retain_graph=True)
    expected = grads(network)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    surgeon = surgeon_of(optimizer, "upgrad", sketch_size=64, scaler=scaler)
    optimizer.zero_grad()
    report = surgeon.backward(losses)
    torch.testing.assert_close(report.gram, plain.gram, rtol=1e-5, atol=1e-9)
    assert close(grads(network), expected, 1e-5)
    before = [param.detach().clone() for param in network.parameters()]
    scaler.step(optimizer)
    scaler.update()
    assert not all(map(torch.equal, before, network.parameters()))
    optimizer.zero_grad()
    before = [param.detach().clone() for param in network.parameters()]
    losses, _ = losses_of(network, *batch(1, torch.float32))
    losses["a"] = losses["a"] * torch.inf
    report = surgeon.backward(losses)
    scaler.step(optimizer)
    scaler.update()
    assert all(map(torch.equal, before, network.parameters()))
    assert scaler.get_scale() == 512
    assert report.failures == 1


def test_objectives_may_come_and_go():
    network, optimizer = problem()
    surgeon = surgeon_of(optimizer, "gmd", sketch_size=64)
    for step, subsets in enumerate((SUBSETS, SUBSETS[:2], SUBSETS[3:])):
        losses, _ = losses_of(network, *batch(step), subsets)
        optimizer.zero_grad()
        network.zero_grad()
        report = surgeon.backward(losses, retain_graph=True)
        assert report.gram.shape == (len(subsets),) * 2


@pytest.mark.parametrize("every", [1, 2])
def test_the_memory_of_one_gradient(every):
    """What torch allocates in the pass: the gradient that is made, the sketches, and little of the passes' own."""
    network = torch.nn.Sequential(*(torch.nn.Linear(300, 300) for _ in range(6)))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    x, numbers, t, d = torch.randn(4, 300), sum(param.numel() for param in network.parameters()), 6, 2048
    peaks = {}
    for keep in ("gradients", "sketches"):
        surgeon = gmd.Surgeon(optimizer, "upgrad", keep=keep, sketch_size=d, every=every)
        for _ in range(2):
            optimizer.zero_grad()
            losses = list((network(x) - 1).square().unflatten(1, (t, -1)).mean(dim=(0, 2)))
            peaks[keep] = allocated_peak(partial(surgeon.backward, losses))
    assert peaks["sketches"] <= 1.05 * 4e-6 * (numbers + t * d)
    assert peaks["gradients"] >= (3 if every == 1 else 0.9) * 4e-6 * numbers


BAD = {
    "keep": ({"keep": "all"}, "keep: expected 'gradients' or 'sketches', got 'all'"),
    "a size of zero": ({"keep": "sketches", "sketch_size": 0}, "sketch_size: expected 1 to"),
    "a size that is none": ({"keep": "sketches", "sketch_size": 1.5}, "sketch_size: expected an int, got float"),
    "tol": ({"keep": "sketches", "tol": 0.1}, "tol: expected 0, got 0.1: with keep='sketches'"),
    "granularity": ({"keep": "sketches", "granularity": "tensor"}, "granularity: expected 'model', got 'tensor'"),
    "by_sample": ({"keep": "sketches", "by_sample": True}, "by_sample: expected False: with keep='sketches'"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    options, message = BAD[name]
    for make in (gmd.GMD, gmd.Surgeon):
        with pytest.raises((ValueError, TypeError), match=f"^{message}"):
            make(problem()[1], **options)
