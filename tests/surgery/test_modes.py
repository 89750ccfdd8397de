"""backward inside the modes of its caller: gradients off, inference, autocast, the engine on one thread."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

import gmd
from gmd.surgery import MeanGradient
from helpers.assertions import assert_same_bits
from helpers.cggm_cases import Run
from helpers.multimodal_cases import Multimodal, batches, grads_of, losses_of, surgeon_of

DATA = batches(1)[0]


@contextmanager
def two_modes():
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        yield


MODES = {
    "no_grad": torch.no_grad,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "inference_mode": torch.inference_mode,
    "one thread": lambda: torch.autograd.set_multithreading_enabled(False),
    "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "float16": lambda: torch.autocast("cpu", torch.float16),
    "autocast and no_grad": two_modes,
}


def backward_of(way):
    """Returns what makes a backward pass inside a mode, and then what came of it."""
    if way == "CGGM":
        run = Run(lr=0.1)
        given = run.forward(0)
        return lambda: run.method.backward(*given), lambda report: [
            report.gram,
            grads_of(run.network),
            flat(run.state()[2]),
        ]
    model = Multimodal()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    outputs = model(DATA[0])
    losses = losses_of(outputs, DATA[1])
    targets = dict.fromkeys(outputs, DATA[1])
    score = lambda predictions, targets: (predictions @ targets.T).sigmoid().mean()  # noqa: E731
    hidden = model.private["a"](DATA[0]["a"])
    calls = {
        "GMD": lambda: surgeon_of(optimizer).backward(losses),
        "outputs": lambda: surgeon_of(optimizer, by_sample=True).backward(losses, outputs=outputs),
        "tol": lambda: surgeon_of(optimizer, tol=0.1).backward(losses, outputs=outputs),
        "MeanGradient": lambda: MeanGradient(optimizer).backward(losses, outputs=outputs),
        "MLA": lambda: gmd.MLA(optimizer, model.shared[3]).backward(losses[:1], {"a": hidden}),
        "OGMGE": lambda: gmd.OGMGE(optimizer, 0.1, score, torch.Generator().manual_seed(3)).backward(
            losses, outputs, {m: x.detach() for m, x in outputs.items()}, targets
        ),
    }
    return calls[way], lambda report: [report.gram, grads_of(model)]


def flat(state):
    if isinstance(state, dict):
        return [part for value in state.values() for part in flat(value)]
    if isinstance(state, list):
        return [part for value in state for part in flat(value)]
    return [state] if isinstance(state, torch.Tensor) else []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["GMD", "outputs", "tol", "MeanGradient", "MLA", "OGMGE", "CGGM"])
def test_the_result_is_the_same_to_the_bit(way, mode):
    inside, found_inside = backward_of(way)
    outside, found_outside = backward_of(way)
    expected = found_outside(outside())
    before = torch.is_grad_enabled()
    with MODES[mode]():
        report = inside()
        assert torch.is_grad_enabled() == (mode in ("one thread", "bfloat16", "float16"))
        assert torch.is_autocast_enabled("cpu") == (mode in ("bfloat16", "float16", "autocast and no_grad"))
    assert torch.is_grad_enabled() == before
    got = found_inside(report)
    assert_same_bits(got, expected)
    assert not any(grad.is_inference() for grad in got[1] if grad is not None)


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_losses_that_were_computed_without_gradients_are_named(mode):
    model = nn.Linear(4, 2)
    with MODES[mode]():
        losses = [model(DATA[0]["a"]).mean()]
        with pytest.raises(
            ValueError, match=r"losses\[0\] does not require grad: .* under torch.no_grad\(\) or torch.inf"
        ):
            gmd.GMD(torch.optim.SGD(model.parameters())).backward(losses)


def test_inside_the_step_of_an_optimizer():
    """Decorated as torch decorates those of its own."""
    model = Multimodal()

    class Surgical(torch.optim.SGD):
        @torch.no_grad()
        def step(self, losses):
            surgeon_of(self).backward(losses)
            super().step()

    before = [param.detach().clone() for param in model.parameters()]
    Surgical(model.parameters(), lr=0.1).step(losses_of(model(DATA[0]), DATA[1]))
    for param, value in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(param.detach(), value - 0.1 * param.grad)
