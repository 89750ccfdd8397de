"""Hooks of the user's: those after accumulation run once, on what is in `.grad`; those on gradients, in each pass."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

import gmd
from gmd.surgery import MeanGradient
from gmd.surgery._delivery import add_to_grad
from helpers.multimodal_cases import Multimodal, assert_equal, batches, grads_of, losses_of, surgeon_of

DATA = batches(1)[0]


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def gmd_of(model, **options):
    surgeon_of(sgd(model), **options).backward(losses_of(model(DATA[0]), DATA[1]))


def gmd_with_outputs(model):
    outputs = model(DATA[0])
    surgeon_of(sgd(model)).backward(losses_of(outputs, DATA[1]), outputs=outputs)


def mean(model):
    MeanGradient(sgd(model)).backward(losses_of(model(DATA[0]), DATA[1]))


def mla(model):
    """A second turn, in which the projector is not the identity any more."""
    method = gmd.MLA(sgd(model), model.shared[3])
    for _ in range(2):
        model.zero_grad()
        hidden = model.shared[:3](model.private["a"](DATA[0]["a"]))
        method.backward([(model.shared[3](hidden) - DATA[1]).square().mean()], {"a": hidden})


WAYS = {"GMD": gmd_of, "outputs": gmd_with_outputs, "MeanGradient": mean, "MLA": mla}


@pytest.mark.parametrize("way", WAYS)
def test_hooks_after_accumulation_see_what_is_in_grad(way):
    plain, model = Multimodal(), Multimodal()
    WAYS[way](plain)
    seen = {}
    for name, param in model.named_parameters():
        for _ in range(2):  # a parameter may have several
            param.register_post_accumulate_grad_hook(
                lambda param, name=name: seen.setdefault(name, []).append(param.grad.clone())
            )
    WAYS[way](model)
    turns = 2 if way == "MLA" else 1
    for name, param in plain.named_parameters():
        if param.grad is None:
            assert name not in seen
        else:
            assert len(seen[name]) == 2 * turns
            assert torch.equal(seen[name][-1], param.grad)


@pytest.mark.parametrize("way", ["GMD", "outputs", "MLA"])
def test_an_optimizer_in_the_backward_pass(way):
    """It steps each parameter as soon as its gradient is there, and frees the gradient."""
    plain, model = Multimodal(), Multimodal()
    WAYS[way](plain)
    optimizers = {param: torch.optim.SGD([param], lr=0.1) for param in model.parameters()}

    def step(param):
        optimizers[param].step()
        optimizers[param].zero_grad()

    for param in model.parameters():
        param.register_post_accumulate_grad_hook(step)
    if way == "MLA":
        hidden = model.shared[:3](model.private["a"](DATA[0]["a"]))
        loss = (model.shared[3](hidden) - DATA[1]).square().mean()
        expected = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        before = [param.detach().clone() for param in model.parameters()]
        gmd.MLA(sgd(model), model.shared[3], alpha=1e6).backward([loss], {"a": hidden})  # as good as no projection
    else:
        expected, before = grads_of(plain), list(plain.parameters())
        WAYS[way](model)
    assert all(grad is None for grad in grads_of(model))
    for param, value, grad in zip(model.parameters(), before, expected, strict=True):
        step = 0.0 if grad is None else 0.1 * grad
        torch.testing.assert_close(param.detach(), value.detach() - step, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_hooks_of_the_node_at_which_a_backward_pass_ends_run_too(way):
    """As those that gather gradients over processes in several libraries."""
    model = Multimodal()
    ran = []
    nodes = [get_gradient_edge(param).node for param in model.parameters()]  # which are gone if nobody holds them
    for p, node in enumerate(nodes):
        node.register_hook(lambda *_, p=p: ran.append(p))
    WAYS[way](model)
    reached = [p for p, param in enumerate(model.parameters()) if param.grad is not None]
    assert sorted(ran) == sorted(reached * (2 if way == "MLA" else 1))


def test_hooks_on_gradients_run_in_each_pass_and_not_at_the_end():
    """Also where the parameter has one of the other kind."""
    model, plain = Multimodal(), Multimodal()
    gmd_of(plain)
    bias, calls = model.shared[3].bias, []
    bias.register_hook(lambda gradient: calls.append("gradient"))
    bias.register_post_accumulate_grad_hook(lambda param: calls.append("accumulated"))
    gmd_of(model)
    assert calls == ["gradient"] * 7 + ["accumulated"]
    assert_equal(grads_of(model), grads_of(plain))
    gmd_of(model)
    assert_equal(grads_of(model), [2 * grad for grad in grads_of(plain)])


def test_ogm_ge_refuses_hooks_after_accumulation():
    """They would run before the noise is there."""
    model = Multimodal()
    model.shared[3].bias.register_post_accumulate_grad_hook(lambda param: None)
    method = gmd.OGMGE(sgd(model), 0.1, lambda predictions, targets: 1.0)
    outputs = model(DATA[0])
    with pytest.raises(ValueError, match=r"parameter 9, \[2\], has a hook that runs when .* the noise is added later"):
        method.backward(losses_of(outputs, DATA[1]), outputs, outputs, dict.fromkeys(outputs, DATA[1]))
    assert all(grad is None for grad in grads_of(model))


def test_gradients_are_taken_over_without_a_copy():
    params = [nn.Parameter(torch.randn(5, 3)) for _ in range(4)]
    gradients = [torch.randn(5, 3) for _ in range(3)] + [None]
    places = [gradient.data_ptr() for gradient in gradients[:3]]
    add_to_grad(params, gradients, [])
    assert [param.grad.data_ptr() for param in params[:3]] == places
    assert params[3].grad is None
    assert gradients == []


def test_a_gradient_that_two_parameters_share_is_no_longer_shared():
    """autograd may give one tensor to both."""
    params = [nn.Parameter(torch.randn(3)) for _ in range(2)]
    one = torch.ones(3)
    add_to_grad(params, [one, one], [])
    params[0].grad.mul_(2)
    assert torch.equal(params[1].grad, torch.ones(3))
