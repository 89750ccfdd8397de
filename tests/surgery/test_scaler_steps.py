"""GradScaler keeps its state by the id of what scaler.step gets: a step that gmd's note does not reach is an error."""

import copy
import pickle

import pytest
import torch
from torch import nn

import gmd
from gmd.surgery import MeanGradient

SCALE = 2.0**16


class Plain:
    """An optimizer's wrapper that is no torch optimizer, as some libraries have them."""

    def __init__(self, inner):
        self._inner = inner

    @property
    def param_groups(self):
        return self._inner.param_groups

    def step(self):
        return self._inner.step()


class Accelerated(torch.optim.Optimizer):
    """A wrapper in the manner of accelerate's: a torch optimizer by name, which gives the inner one to the scaler."""

    def __init__(self, inner, scaler):
        self.optimizer, self.scaler = inner, scaler

    param_groups = property(lambda self: self.optimizer.param_groups)

    def step(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()


class Several:
    """A wrapper of a list."""

    def __init__(self, inner):
        self.parts = [inner]

    param_groups = property(lambda self: [group for part in self.parts for group in part.param_groups])

    def step(self):
        for part in self.parts:
            part.step()


class Slotted:
    """A wrapper without a dictionary."""

    __slots__ = "inner"  # or a tuple of names

    def __init__(self, inner):
        self.inner = inner

    param_groups = property(lambda self: self.inner.param_groups)

    def step(self):
        return self.inner.step()


class ByAnotherName(Plain):
    """A wrapper whose inner optimizer nobody finds."""

    def __init__(self, inner):
        self.__dict__["call"] = lambda: inner

    _inner = property(lambda self: self.call())


def setting(optimizer=torch.optim.SGD):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    x, y = torch.randn(8, 4), torch.randn(8, 2)
    losses = lambda: [(model(x) - y).square().mean(), (model(x) + y).square().mean()]  # noqa: E731
    return model, optimizer(model.parameters(), lr=1.0), torch.amp.GradScaler("cpu", init_scale=SCALE), losses


# each by a surgeon that is made for one backward pass and gone after it
BACKWARDS = {
    "GMD": lambda model, optimizer, scaler: lambda losses: gmd.GMD(optimizer, scaler=scaler).backward(losses),
    "MeanGradient": lambda model, optimizer, scaler: lambda losses: MeanGradient(optimizer, scaler).backward(losses),
    "MLA": lambda model, optimizer, scaler: (
        lambda losses: gmd.MLA(optimizer, model, scaler=scaler).backward(
            losses[:1], {"a": torch.ones(1, 4, requires_grad=True)}
        )
    ),
}
WRAPPERS = {
    "a class": lambda inner, scaler: Plain(inner),
    "a list": lambda inner, scaler: Several(inner),
    "two": lambda inner, scaler: Plain(Several(inner)),
    "slots": lambda inner, scaler: Slotted(inner),
    "accelerate's": Accelerated,
}


def step_size(model, before):
    return (before - model.weight.detach()).norm() / model.weight.grad.norm()


@pytest.mark.parametrize("method", BACKWARDS)
@pytest.mark.parametrize("stepped", ["inner", "wrapper"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_surgeon_of_a_wrapper_and_whatever_the_scaler_steps(method, wrapper, stepped):
    if wrapper == "accelerate's":
        stepped = "inner"  # as it gives that one to the scaler itself, see below
    model, inner, scaler, losses = setting()
    wrapped = WRAPPERS[wrapper](inner, scaler)
    before = model.weight.detach().clone()
    backward = BACKWARDS[method](model, wrapped, scaler)
    backward(losses())
    scaler.step(inner if stepped == "inner" else wrapped)
    assert step_size(model, before) == pytest.approx(1, rel=1e-5)
    scaler.update()
    assert scaler.get_scale() == SCALE


@pytest.mark.parametrize("given", ["inner", "wrapper"])
def test_a_wrapper_that_steps_the_inner_one_through_the_scaler(given):
    model, inner, scaler, losses = setting()
    wrapped = Accelerated(inner, scaler)
    surgeon = gmd.GMD(inner if given == "inner" else wrapped, scaler=scaler)
    for _ in range(2):
        inner.zero_grad()
        surgeon.backward(losses())
        before = model.weight.detach().clone()
        wrapped.step()
        assert step_size(model, before) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("method", BACKWARDS)
@pytest.mark.parametrize("wrapper", [Plain, Several, ByAnotherName])
def test_a_scaler_that_steps_what_the_surgeon_does_not_know_is_told_before_the_step(method, wrapper):
    """It would unscale what is unscaled already."""
    model, inner, scaler, losses = setting()
    before = model.weight.detach().clone()
    backward = BACKWARDS[method](model, inner, scaler)
    backward(losses())
    with pytest.raises(RuntimeError, match=rf"given to gmd, SGD, is not the one .*the scaler got {wrapper.__name__}\)"):
        scaler.step(wrapper(inner))
    assert torch.equal(model.weight.detach(), before)


@pytest.mark.parametrize("fused", [False, True])
def test_a_plain_step_past_the_scaler_is_told_before_it_is_made(fused):
    """It would be made in spite of an overflow."""
    model, optimizer, scaler, losses = setting(lambda params, lr: torch.optim.Adam(params, lr, fused=fused))
    before = model.weight.detach().clone()
    surgeon = gmd.GMD(optimizer, scaler=scaler)
    surgeon.backward(losses())
    with pytest.raises(RuntimeError, match=r"is about to be stepped otherwise than by scaler.step with it\. "):
        optimizer.step()
    assert torch.equal(model.weight.detach(), before)
    scaler.step(optimizer)
    assert not torch.equal(model.weight.detach(), before)


def test_an_update_before_the_step_is_told():
    """As by a wrapper that updates after each of several optimizers."""
    _, optimizer, scaler, losses = setting()
    surgeon = gmd.GMD(optimizer, scaler=scaler)
    surgeon.backward(losses())
    scaler.update()
    with pytest.raises(
        RuntimeError, match=r"scaler.update\(\) was called between gmd's backward and scaler.step of SGD"
    ):
        scaler.step(optimizer)


@pytest.mark.parametrize("method", BACKWARDS)
def test_a_scaler_that_is_never_updated_is_told(method):
    """After one overflow no step would ever be made."""
    model, optimizer, scaler, losses = setting()
    backward = BACKWARDS[method](model, optimizer, scaler)
    backward(losses())
    scaler.step(optimizer)
    grad = model.weight.grad.clone()
    with pytest.raises(RuntimeError, match=r"has been stepped since scaler.update\(\)"):
        backward(losses())
    assert torch.equal(model.weight.grad, grad)


# What is right, and must stay so


def test_steps_that_are_left_out_are_no_mistake():
    """By `if report.finite`, and for any other reason; and then a step without gmd."""
    model, optimizer, scaler, losses = setting()
    surgeon = gmd.GMD(optimizer, scaler=scaler)
    for factor in (1.0, torch.inf):
        surgeon.backward([factor * loss for loss in losses()])
        scaler.update()
    assert scaler.get_scale() == SCALE / 2
    optimizer.zero_grad()
    scaler.scale(losses()[0]).backward()
    scaler.step(optimizer)
    scaler.update()
    assert model.weight.isfinite().all()


def test_two_surgeons_share_a_scaler():
    """Of two optimizers, or of the same one."""
    model, optimizer, scaler, losses = setting()
    other_model, other, _, other_losses = setting(torch.optim.Adam)
    surgeons = [
        gmd.GMD(optimizer, scaler=scaler),
        MeanGradient(other, scaler=scaler),
        gmd.GMD(optimizer, scaler=scaler),
    ]
    for _ in range(2):
        for surgeon, make in zip(surgeons, (losses, other_losses, losses), strict=True):
            surgeon.backward(make())
        for each in (optimizer, other):
            scaler.step(each)
        scaler.update()
    assert model.weight.isfinite().all()
    assert other_model.weight.isfinite().all()


def test_a_scaler_that_is_off_watches_nothing():
    _, optimizer, _, losses = setting()
    surgeon = gmd.GMD(optimizer, scaler=torch.amp.GradScaler("cpu", enabled=False))
    surgeon.backward(losses())
    optimizer.step()
    assert not optimizer._optimizer_step_pre_hooks


def test_a_surgeon_that_is_gone_watches_no_longer():
    _, optimizer, scaler, losses = setting()
    surgeon = gmd.GMD(optimizer, scaler=scaler)
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    surgeon.backward(losses())
    del surgeon
    assert len(optimizer._optimizer_step_pre_hooks) == 1, "there is a step to come"
    scaler.step(optimizer)
    scaler.update()
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("method", BACKWARDS)
def test_a_wrapper_whose_inner_optimizer_cannot_be_found_is_refused(method):
    """What it steps would be stepped by the scaler without anybody noticing."""
    model, inner, scaler, losses = setting()
    with pytest.raises(TypeError, match=r"a wrapper that has one in an attribute, got ByAnotherName, .*give gmd that"):
        BACKWARDS[method](model, ByAnotherName(inner), scaler)(losses())
    gmd.GMD(ByAnotherName(inner)).backward(losses())  # without a scaler it does not matter


def test_what_is_no_scaler_is_named():
    _, optimizer, _, _ = setting()
    with pytest.raises(TypeError, match=r"scaler: expected a torch.amp.GradScaler, got float"):
        gmd.GMD(optimizer, scaler=2.0**16)


@pytest.mark.parametrize("wrapper", [None, Plain])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda things: pickle.loads(pickle.dumps(things))])
def test_a_copy_notes_and_watches_its_own_optimizer(copied, wrapper):
    """Its optimizer has another id than the one it was copied from."""
    model, optimizer, scaler, _ = setting()
    surgeon = gmd.GMD(optimizer if wrapper is None else wrapper(optimizer), scaler=scaler)
    twin, surgeon_of_twin = copied((model, surgeon))
    x, y = torch.randn(8, 4), torch.randn(8, 2)
    surgeon_of_twin.backward([(twin(x) - y).square().mean(), (twin(x) + y).square().mean()])
    before, gradient = twin.weight.detach().clone(), twin.weight.grad.clone()
    surgeon_of_twin.scaler.step(surgeon_of_twin.optimizer)
    torch.testing.assert_close(twin.weight.detach(), before - gradient)
    surgeon_of_twin.scaler.update()
    surgeon_of_twin.backward([(twin(x) - y).square().mean()])
    with pytest.raises(RuntimeError, match="is not the one that the scaler steps"):
        surgeon_of_twin.optimizer.step()
