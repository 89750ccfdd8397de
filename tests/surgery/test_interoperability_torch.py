"""gmd.GMD and what people do in torch: accumulation, checkpointing, parameter groups, closures, compiled models."""

from functools import partial

import pytest
import torch
import torch._functorch.config as functorch_config
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import gmd
from gmd.surgery import MeanGradient
from helpers.multimodal_cases import (
    NAMES,
    Multimodal,
    assert_equal,
    batches,
    grads_of,
    losses_of,
    merged_of,
    surgeon_of,
)

DATA = batches(4)
SURGEONS = {
    "GMD": gmd.GMD,
    "MeanGradient": MeanGradient,
    "MLA": lambda optimizer: gmd.MLA(optimizer, nn.Linear(6, 2)),
    "OGMGE": lambda optimizer: gmd.OGMGE(optimizer, 0.1, score=None),
    "CGGM": lambda optimizer: gmd.CGGM(optimizer, nn.Linear(6, 2), None, None, NAMES),
}


# Accumulation


@pytest.mark.parametrize("scaled", [False, True], ids=["float32", "scaler"])
def test_backward_passes_add_up_to_the_sum_of_the_merged_gradients(scaled):
    """With a scaler too, as `.grad` never has its scale in it; the step is then one of all of them."""
    model = Multimodal()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    surgeon = surgeon_of(optimizer, scaler=scaler)
    expected = []
    for x, target in DATA:
        optimizer.zero_grad()
        surgeon.backward(losses_of(model(x), target))
        expected.append(grads_of(model))
    expected = [sum(of_one) for of_one in zip(*expected, strict=True)]
    scaler.update()

    optimizer.zero_grad()
    surgeon.generator.manual_seed(4)
    for x, target in DATA:
        surgeon.backward(losses_of(model(x), target))
    assert_equal(grads_of(model), expected)

    before = [param.detach().clone() for param in model.parameters()]
    scaler.step(optimizer)
    for param, value, grad in zip(model.parameters(), before, expected, strict=True):
        torch.testing.assert_close(param.detach(), value - 0.1 * grad, rtol=1e-6, atol=1e-7)


def test_losses_divided_by_the_number_of_passes_give_the_mean_of_the_merged_gradients():
    model, divided = Multimodal(), Multimodal()
    for factor, network in ((1, model), (1 / len(DATA), divided)):
        surgeon = surgeon_of(torch.optim.SGD(network.parameters(), lr=0.1))
        for x, target in DATA:
            surgeon.backward([loss * factor for loss in losses_of(network(x), target)])
    assert_equal(grads_of(divided), [g / len(DATA) for g in grads_of(model)])


# Checkpointing


CHECKPOINTED = {"losses": {}, "outputs": {"given": True}, "tol": {"given": True, "tol": 0.2}}


@pytest.mark.parametrize("way", CHECKPOINTED)
def test_checkpointing_changes_no_bit(way):
    calls = []

    def body(function, x):
        calls.append(len(x))
        return function(x)

    expected = merged_of(Multimodal(body), DATA[0], **CHECKPOINTED[way])
    without, calls[:] = len(calls), []
    got = merged_of(Multimodal(partial(checkpoint, body, use_reentrant=False)), DATA[0], **CHECKPOINTED[way])
    assert_equal(got, expected)
    assert len(calls) > without, "nothing was computed anew: this test would show nothing"


@pytest.mark.parametrize("way", CHECKPOINTED)
@pytest.mark.parametrize("first_layers", ["trained", "frozen"])
def test_reentrant_checkpointing_is_refused(way, first_layers):
    """torch refuses it where something before the checkpoint is trained; else it says nothing and gives None."""
    model = Multimodal(partial(checkpoint, use_reentrant=True))
    x, target = DATA[0]
    if first_layers == "frozen":
        model.private.requires_grad_(False)
        x = {name: value.clone().requires_grad_() for name, value in x.items()}  # or nothing would have a gradient
    with pytest.raises(ValueError, match=r"checkpointed with use_reentrant=True, which hides.* use_reentrant=False"):
        merged_of(model, (x, target), **CHECKPOINTED[way])
    assert all(grad is None for grad in grads_of(model))


def test_the_mean_gradient_takes_reentrant_checkpointing():
    """It makes one ordinary backward pass."""
    grads = []
    for model in (Multimodal(), Multimodal(partial(checkpoint, use_reentrant=True))):
        MeanGradient(torch.optim.SGD(model.parameters(), lr=0.1)).backward(losses_of(model(DATA[0][0]), DATA[0][1]))
        grads.append(grads_of(model))
    assert_equal(*grads)


# Parameter groups


def test_parameter_groups_take_part_in_one_surgery_and_keep_their_options():
    model, other = Multimodal(), Multimodal()
    groups = [
        {"params": model.private.parameters(), "lr": 0.5},
        {"params": model.shared[1].parameters(), "lr": 0.0},
        {"params": model.shared[3].parameters(), "weight_decay": 0.1},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    surgeon_of(optimizer).backward(losses_of(model(DATA[0][0]), DATA[0][1]))
    optimizer.step()

    assert_equal(grads_of(model), merged_of(other, DATA[0]))
    for name, param in model.named_parameters():
        lr, decay = (0.5, 0) if name.startswith("private") else (0.0, 0) if name.startswith("shared.1") else (0.1, 0.1)
        expected = before[name] - lr * (param.grad + decay * before[name])
        torch.testing.assert_close(param.detach(), expected, rtol=1e-6, atol=1e-7)


def test_a_group_that_is_added_later_takes_part_from_then_on():
    model, whole = Multimodal(), Multimodal()
    model.private.requires_grad_(False)  # frozen at first, as in fine-tuning
    optimizer = torch.optim.SGD(model.shared.parameters(), lr=0.1)
    surgeon = surgeon_of(optimizer)
    surgeon.backward(losses_of(model(DATA[0][0]), DATA[0][1]))
    assert all(param.grad is None for param in model.private.parameters())
    assert all(param.grad is not None for param in model.shared.parameters())

    model.private.requires_grad_(True)
    optimizer.add_param_group({"params": model.private.parameters(), "lr": 0.01})
    optimizer.zero_grad()
    surgeon.generator.manual_seed(4)
    surgeon.backward(losses_of(model(DATA[0][0]), DATA[0][1]))
    for got, expected in zip(grads_of(model), merged_of(whole, DATA[0]), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)  # groups decide the order of the sums


def test_parameters_of_no_group_are_left_alone_and_take_no_part():
    """Unlike with Tensor.backward, which fills `.grad` of every leaf."""
    model, frozen = Multimodal(), Multimodal()
    frozen.private.requires_grad_(False)
    surgeon_of(torch.optim.SGD(model.shared.parameters(), lr=0.1)).backward(losses_of(model(DATA[0][0]), DATA[0][1]))
    assert_equal(grads_of(model), merged_of(frozen, DATA[0]))


# Optimizers that take a closure


@pytest.mark.parametrize("name", SURGEONS)
def test_lbfgs_is_refused_with_a_reason(name):
    optimizer = torch.optim.LBFGS(Multimodal().parameters())
    with pytest.raises(TypeError, match=r"LBFGS evaluates its closure several times .* such as SGD or AdamW; or LBFGS"):
        SURGEONS[name](optimizer)


@pytest.mark.parametrize("name", SURGEONS)
def test_what_is_no_optimizer_is_named(name):
    with pytest.raises(TypeError, match="optimizer: expected a torch optimizer, got Multimodal"):
        SURGEONS[name](Multimodal())


class SharpnessAware(torch.optim.SGD):
    """Steps with the gradient that it finds a little uphill (Foret et al., ICLR 2021): two closures in a step."""

    def step(self, closure):
        params = [param for group in self.param_groups for param in group["params"]]
        with torch.enable_grad():
            closure()
        uphill = [0.05 * param.grad.clone() for param in params]
        with torch.no_grad():
            torch._foreach_add_(params, uphill)
            with torch.enable_grad():
                loss = closure()
            torch._foreach_sub_(params, uphill)
        super().step()
        return loss


@pytest.mark.parametrize("make", [torch.optim.SGD, SharpnessAware])
def test_other_closures_work(make):
    """torch's own optimizers call theirs once, before they step."""
    model, expected = Multimodal(), Multimodal()
    x, target = DATA[0]
    optimizer = make(model.parameters(), lr=0.1)
    surgeon = surgeon_of(optimizer)

    def closure():
        optimizer.zero_grad()
        return surgeon.backward(losses_of(model(x), target)).losses.mean()

    loss = optimizer.step(closure)

    surgeon = surgeon_of(torch.optim.SGD(expected.parameters(), lr=0.1))
    params = list(expected.parameters())
    start = [param.detach().clone() for param in params]
    for _ in range(2 if make is SharpnessAware else 1):
        value = surgeon.backward(losses_of(expected(x), target)).losses.mean()
        grads = grads_of(expected)
        with torch.no_grad():
            for param, origin, grad in zip(params, start, grads, strict=True):
                param.copy_(origin + 0.05 * grad)
                param.grad = None
    assert loss == value
    for param, origin, grad in zip(model.parameters(), start, grads, strict=True):
        torch.testing.assert_close(param.detach(), origin - 0.1 * grad, rtol=1e-5, atol=1e-6)


# Compiled models


@pytest.fixture
def graphs():
    """What dynamo has compiled, with the backend that leaves it as it is."""
    torch.compiler.reset()
    yield CompileCounterWithBackend("aot_eager")
    torch.compiler.reset()


def compiled_by_modules(backend):
    model = Multimodal()
    model.shared = torch.compile(model.shared, backend=backend)  # its own compile() does nothing, as it is torch's
    for name in NAMES:
        model.private[name] = torch.compile(model.private[name], backend=backend)
    return model


def compiled_as_a_whole(backend):
    model = Multimodal()
    model.compile(backend=backend)
    return model


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # dynamo asks what goes into a graph
@pytest.mark.parametrize("make", [compiled_as_a_whole, compiled_by_modules])
def test_a_compiled_model_and_batches_of_any_size(graphs, make):
    """Of which the second makes the shapes dynamic."""
    model, compiled = Multimodal(), make(graphs)
    with functorch_config.patch(donated_buffer=False):
        for rows, given in ((8, False), (5, False), (12, True), (8, True)):
            [batch] = batches(1, rows)
            model.zero_grad()
            compiled.zero_grad()
            # as a whole it gives zeros, not None, where an objective does not reach: with "sum" it makes no difference
            expected = merged_of(model, batch, given, reduction="sum")
            for a, b in zip(merged_of(compiled, batch, given, reduction="sum"), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert graphs.frame_count >= 2, "one of any size at least: this test would show nothing"


def test_dynamic_shapes_with_donated_buffers_are_told_of(graphs):
    """Their backward pass is compiled with the forward pass, before anyone knows that there will be several."""
    model = compiled_as_a_whole(graphs)
    merged_of(model, batches(1, 8)[0])
    model.zero_grad()
    with pytest.raises(RuntimeError, match=r"as soon as its shapes are dynamic.*donated_buffer = False"):
        merged_of(model, batches(1, 5)[0])
    assert all(grad is None for grad in grads_of(model))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # dynamo asks what goes into a graph
@pytest.mark.parametrize("make", [compiled_as_a_whole, compiled_by_modules])
def test_a_compiled_model_between_two_refreshes(graphs, make):
    """Sizes that are new in a step between compile a backward pass there, which the next refresh repeats."""
    model, compiled = Multimodal(), make(graphs)
    with functorch_config.patch(donated_buffer=False):
        surgeons = [
            gmd.GMD(torch.optim.SGD(net.parameters(), lr=0.1), "sum", torch.Generator().manual_seed(4), every=3)
            for net in (model, compiled)
        ]
        for step, rows in enumerate((8, 8, 5, 5, 12, 8, 3)):
            [(x, target)] = batches(1, rows)
            reports = []
            for net, surgeon in zip((model, compiled), surgeons, strict=True):
                net.zero_grad()
                outputs = net(x)
                reports.append(surgeon.backward(losses_of(outputs, target), outputs=outputs if step % 2 else None))
            assert [report.refreshed for report in reports] == [step % 3 == 0] * 2
            for a, b in zip(grads_of(compiled), grads_of(model), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
