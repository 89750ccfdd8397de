"""A list of optimizers around one network, and graphs that are kept for another backward pass."""

from functools import partial

import pytest
import torch
from torch import nn

import gmd
from gmd.surgery import MeanGradient
from helpers.cggm_cases import Run
from helpers.multimodal_cases import NAMES, Multimodal, assert_equal, batches, grads_of, losses_of, surgeon_of

DATA = batches(2)


def optimizers_of(model: Multimodal) -> list[torch.optim.Optimizer]:
    return [
        torch.optim.SGD(model.private.parameters(), lr=0.1),
        torch.optim.Adam(model.shared.named_parameters(), lr=0.01),
    ]


def one_of(model: Multimodal) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def one_score(predictions, targets):
    return torch.ones(())


def ogm_ge(optimizer, **options):
    return gmd.OGMGE(optimizer, 0.1, one_score, generator=torch.Generator().manual_seed(3), **options)


# each: (model, optimizer or several) -> what makes a backward pass of (outputs, target)
def by_surgeon(make, model, optimizer):
    surgeon = make(optimizer)
    return lambda outputs, target, **options: surgeon.backward(losses_of(outputs, target), outputs=outputs, **options)


def by_ogm_ge(model, optimizer):
    method = ogm_ge(optimizer)
    return lambda outputs, target, **options: method.backward(
        losses_of(outputs, target), outputs, outputs, dict.fromkeys(outputs, target), **options
    )


def by_mla(model, optimizer):
    """The turn of modality a, whose rows go into the last layer."""
    method = gmd.MLA(optimizer, model.shared[3])

    def backward(outputs, target, **options):
        loss = (outputs["a"] - target).square().mean()
        rows = {"a": torch.ones(1, 6, requires_grad=True)}
        return method.backward([loss], rows, **options)

    return backward


WAYS = {
    "GMD": partial(by_surgeon, surgeon_of),
    "tol": partial(by_surgeon, partial(surgeon_of, tol=0.1)),
    "MeanGradient": partial(by_surgeon, MeanGradient),
    "OGMGE": by_ogm_ge,
    "MLA": by_mla,
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_one_surgery_and_each_optimizer_steps_by_itself(way):
    grads = []
    for make in (one_of, optimizers_of):
        model = Multimodal()
        x, target = DATA[0]
        optimizer = make(model)
        WAYS[way](model, optimizer)(model(x), target)
        grads.append(grads_of(model))
    assert_equal(*grads)
    before = [param.detach().clone() for param in model.parameters()]
    for each in optimizer:
        each.step()
    assert not any(
        torch.equal(a, b) for a, b, g in zip(before, model.parameters(), grads[1], strict=True) if g is not None
    )


def test_cggm_takes_them_too():
    grads = []
    for several in (False, True):
        run = Run()
        params = list(run.network.parameters())
        optimizers = [torch.optim.SGD(part, lr=0.1) for part in (params[:3], params[3:])] if several else run.optimizer
        surgeon = surgeon_of(optimizers)
        torch.manual_seed(7)
        method = gmd.CGGM(optimizers, run.network.head, run.criterion, one_score, NAMES, surgeon=surgeon)
        method.backward(*run.forward(0))
        grads.append(grads_of(run.network))
    assert_equal(*grads)
    with pytest.raises(ValueError, match="surgeon: expected one of the same optimizer, got one of another"):
        gmd.CGGM(optimizers[:1], run.network.head, run.criterion, one_score, NAMES, surgeon=surgeon)


@pytest.mark.parametrize("granularity", ["module", "tensor"])
def test_modules_are_those_of_all_optimizers(granularity):
    grads = []
    for several in (False, True):
        model = Multimodal()
        parts = [torch.optim.SGD(part.named_parameters(prefix), 0.1) for prefix, part in model.named_children()]
        optimizer = parts if several else one_of(model)
        surgeon = surgeon_of(optimizer, granularity=granularity, model=None if several else model)
        surgeon.backward(losses_of(model(DATA[0][0]), DATA[0][1]))
        grads.append(grads_of(model))
    assert_equal(*grads)


def test_modules_of_the_same_name_in_two_optimizers_are_two():
    """Each made from a part of the network, which has its own names."""
    model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    surgeon = gmd.GMD([torch.optim.SGD(part.named_parameters()) for part in model], granularity="module")
    value = model[1](model[0](DATA[0][0]["a"]))
    report = surgeon.backward([value.square().mean(), (value - 1).square().mean()])
    assert report.grams.shape == (2, 2, 2)


def test_the_scaler_is_told_of_each_of_them():
    model = Multimodal()
    optimizers = optimizers_of(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    surgeon = surgeon_of(optimizers, scaler=scaler)
    for factor, scale in ((1.0, 8.0), (torch.inf, 4.0)):
        before = [param.detach().clone() for param in model.parameters()]
        for optimizer in optimizers:
            optimizer.zero_grad()
        surgeon.backward([factor * loss for loss in losses_of(model(DATA[0][0]), DATA[0][1])])
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == scale
        stays = [torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
        assert not any(stays) if factor == 1 else all(stays)
    surgeon.backward(losses_of(model(DATA[0][0]), DATA[0][1]))
    scaler.step(optimizers[0])
    with pytest.raises(RuntimeError, match="scaler: the optimizer given to gmd, Adam, is not the one that the scaler"):
        optimizers[1].step()


def test_a_parameter_of_two_optimizers_is_named():
    model = Multimodal()
    first, second = torch.optim.SGD(model.private.parameters()), torch.optim.SGD(model.shared.parameters())
    second.add_param_group({"params": [model.private["b"].bias]})
    message = r"optimizer\[1\]: parameter 4, \[6\], is in optimizer\[0\] too, expected each parameter in one"
    with pytest.raises(ValueError, match=message):
        gmd.GMD([first, second])


def test_a_parameter_that_comes_into_a_second_one_later_is_named():
    model = Multimodal()
    first, second = optimizers_of(model)
    surgeon = surgeon_of([first, second])
    second.add_param_group({"params": [model.private["b"].bias], "param_names": ["twice"]})
    with pytest.raises(ValueError, match=r"optimizer\[1\]: parameter 4, \[6\], is in optimizer\[0\] too"):
        surgeon.backward(losses_of(model(DATA[0][0]), DATA[0][1]))
    assert all(grad is None for grad in grads_of(model))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], ValueError, "optimizer: expected a torch optimizer or several, got an empty list"),
        ([None], TypeError, r"optimizer\[0\]: expected a torch optimizer, got NoneType"),
        ({"encoder": None}, TypeError, "optimizer: expected a torch optimizer, got dict"),
    ],
)
def test_what_are_no_optimizers_is_named(given, error, message):
    for make in (gmd.GMD, MeanGradient, ogm_ge, lambda optimizer: gmd.MLA(optimizer, nn.Linear(6, 2))):
        with pytest.raises(error, match=message):
            make(given)


def test_lbfgs_inside_a_list_or_a_wrapper_is_refused():
    class Wrapper:
        def __init__(self, inner):
            self.inner, self.param_groups = inner, inner.param_groups

    lbfgs = torch.optim.LBFGS(Multimodal().parameters())
    for given in ([lbfgs], Wrapper(lbfgs)):
        with pytest.raises(TypeError, match="LBFGS evaluates its closure several times"):
            gmd.GMD(given)


def test_a_parameter_that_an_optimizer_has_twice_gets_its_gradient_once():
    """torch warns of it and goes on."""
    model, once = nn.Linear(4, 2), nn.Linear(4, 2)
    once.load_state_dict(model.state_dict())
    with pytest.warns(UserWarning, match="duplicate parameters"):
        twice = torch.optim.SGD([model.weight, model.weight, model.bias], lr=0.1)
    x = DATA[0][0]["a"]
    gmd.GMD(twice).backward([model(x).square().mean()])
    once(x).square().mean().backward()
    torch.testing.assert_close(model.weight.grad, once.weight.grad)


# Graphs that are kept


@pytest.mark.parametrize("way", WAYS)
def test_a_graph_is_kept_for_another_backward_pass(way):
    fresh, model = Multimodal(), Multimodal()
    x, target = DATA[0]
    for network, retained in ((fresh, False), (model, True)):
        backward = WAYS[way](network, one_of(network))
        outputs = network(x)
        for retain_graph in (retained, False):
            backward(outputs, target, retain_graph=retain_graph)
            outputs = outputs if retained else network(x)
    assert_equal(grads_of(model), grads_of(fresh))
    with pytest.raises(RuntimeError, match="second time"):
        backward(outputs, target)


def test_a_surgeon_for_each_of_two_optimizers():
    model = Multimodal()
    first, second = optimizers_of(model)
    losses = losses_of(model(DATA[0][0]), DATA[0][1])
    gmd.GMD(first).backward(losses, retain_graph=True)
    assert all(param.grad is None for param in model.shared.parameters())
    gmd.GMD(second).backward(losses)
    assert not any(grad is None for grad in grads_of(model))


def test_cggm_keeps_the_graph():
    run = Run()
    given = run.forward(0)
    run.method.backward(*given, retain_graph=True)
    before = [param.grad.clone() for param in run.network.parameters()]
    run.method.backward(*given)
    assert not any(torch.equal(a, b) for a, b in zip(before, grads_of(run.network), strict=True))
