"""Tests of gmd.share with what looks at, cuts or repeats the forward pass: checkpoints, compilers, closures, GMD."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gmd
from helpers.shared_networks import MODALITIES, Small, example, moved


class Checkpointed(Small):
    def forward(self, x):
        x = checkpoint(self.block1, x, use_reentrant=False)
        return self.last(checkpoint(self.block2, x, use_reentrant=False))


class Switch(nn.Module):
    """The other way to share: a norm that looks up which modality it is the turn of. Wrong under checkpoints."""

    turn = 0

    def __init__(self, norm):
        super().__init__()
        self.norms = nn.ModuleList(copy.deepcopy(norm) for _ in MODALITIES)

    def forward(self, x):
        return self.norms[Switch.turn](x)


def gradients_of_all(network, call) -> dict:
    """Returns the gradients of the convolutions' weights, all modalities forward before the one backward pass."""
    network.zero_grad()
    sum((index + 1) * call(index).square().sum() for index in range(len(MODALITIES))).backward()
    own = network.views[0] if isinstance(network, gmd.Shared) else network
    return {name: getattr(own, name).weight.grad.clone() for name in ("conv1", "conv2", "last")}


def test_checkpointed_blocks_have_the_gradients_of_plain_ones_to_the_bit():
    plain, x = gmd.share(Small("group"), MODALITIES), example()
    moved(plain)
    checkpointed = gmd.share(Checkpointed("group"), MODALITIES)
    checkpointed.load_state_dict(plain.state_dict())
    expected = gradients_of_all(plain, lambda index: plain(x, index))
    got = gradients_of_all(checkpointed, lambda index: checkpointed(x, index))
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_a_switch_of_norms_has_other_gradients_under_checkpoints_which_is_why_there_are_views():
    plain = gmd.share(Small("group"), MODALITIES)
    moved(plain)
    x = example()
    expected = gradients_of_all(plain, lambda index: plain(x, index))
    switched = Checkpointed("group")
    switched.load_state_dict(plain.views[0].state_dict())
    for name in ("norm1", "norm2"):
        switch = Switch(getattr(switched, name))
        for norm, view in zip(switch.norms, plain.views, strict=True):
            norm.load_state_dict(getattr(view, name).state_dict())
        setattr(switched, name, switch)

    def call(index):
        Switch.turn = index
        return switched(x)

    got = gradients_of_all(switched, call)
    assert (got["conv1"] - expected["conv1"]).norm() > 0.05 * expected["conv1"].norm()


def test_views_compiled_one_by_one_share_a_graph_and_leave_no_gradient_in_absent_modalities():
    shared, x = gmd.share(Small("group"), MODALITIES), example()
    moved(shared)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    expected = [shared(x, index) for index in range(3)]
    torch._dynamo.reset()
    compiled = [torch.compile(view, backend=backend) for view in shared.views]
    outputs = [view(x) for view in compiled]
    torch.testing.assert_close(outputs, expected)
    assert len(graphs) == 1
    outputs[1].sum().backward()
    assert all(p.grad is None for p in shared.private_parameters("t1"))
    assert all(p.grad is not None for p in shared.private_parameters("t2"))


@pytest.mark.slow
def test_the_whole_compiles_too():
    shared, x = gmd.share(Small("group"), MODALITIES), example()
    torch._dynamo.reset()
    compiled = torch.compile(shared, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close([compiled(x, m) for m in MODALITIES], [shared(x, m) for m in MODALITIES])


class Closure(Small):
    def __init__(self):
        super().__init__("group")
        self.normed = lambda x: self.norm2(self.conv2(x)).relu()

    def forward(self, x):
        return self.last(self.normed(self.block1(x)))


def test_a_function_that_holds_a_norm_is_found_at_the_first_training_step():
    shared, x = gmd.share(Closure(), MODALITIES), example()
    shared(x, "t1")
    with pytest.raises(RuntimeError, match=r"t2 uses norm2\.\w+ of t1: the network keeps a function"):
        shared(x, "t2")


def test_what_reaches_a_view_through_its_input_is_not_taken_for_its_own():
    shared = gmd.share(
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.InstanceNorm2d(2, affine=True), nn.Conv2d(2, 1, 1)), MODALITIES
    )
    shared(shared(example(), "t1"), "t2").sum().backward()


def test_function_transforms_go_through():
    shared, x = gmd.share(Small("group"), MODALITIES), example()
    values = torch.func.vmap(lambda picture: shared(picture[None], "t2")[0])(x)
    torch.testing.assert_close(values, shared(x, "t2"))


def test_tied_weights_aliases_lists_and_parametrizations_are_shared_as_they_are():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)])
            self.convs[2].weight = self.convs[1].weight  # tied
            nn.utils.parametrizations.weight_norm(self.convs[0])
            self.norm = nn.InstanceNorm2d(4, affine=True)
            self.all_modules = nn.Sequential(self.convs[1], self.norm, nn.ReLU())  # the same modules again
            self.kept = [self.norm]  # which torch does not know of

        def forward(self, x):
            return self.kept[0](self.convs[2](self.all_modules(self.convs[0](x))))

    shared, x = gmd.share(Odd(), MODALITIES), example()
    for modality in MODALITIES:
        shared(x, modality).square().sum().backward()
    for view in shared.views:
        assert view.norm is view.all_modules[1] is view.kept[0]
        assert view.convs[2].weight is view.convs[1].weight is shared.views[0].convs[1].weight
        assert (
            view.convs[0].parametrizations.weight.original0
            is shared.views[0].convs[0].parametrizations.weight.original0
        )
    assert len(shared.private_parameters("t2")) == 2
    assert all(p.grad is not None for p in shared.parameters())


def test_channels_last_is_kept_by_all_views():
    shared = gmd.share(Small(), MODALITIES).to(memory_format=torch.channels_last)
    assert shared(example().to(memory_format=torch.channels_last), "flair").is_contiguous(
        memory_format=torch.channels_last
    )
    assert len({id(view.conv1.weight) for view in shared.views}) == 1


@pytest.mark.parametrize("checkpointed", [False, True])
def test_gmd_merges_through_outputs_what_it_merges_without(checkpointed):
    kind = Checkpointed if checkpointed else Small
    grads = []
    for given in (False, True):
        torch.manual_seed(0)
        shared = gmd.share(kind("group").double(), MODALITIES)
        surgeon = gmd.GMD(torch.optim.SGD(shared.parameters(), lr=0.1), generator=torch.Generator().manual_seed(3))
        outputs = {m: shared(example(index, torch.float64), m) for index, m in enumerate(MODALITIES[:2])}
        subsets = [("t1",), ("t2",), ("t1", "t2")]
        losses = [(sum(outputs[m] for m in s) / len(s) - i).square().mean() for i, s in enumerate(subsets)]
        surgeon.backward(losses, outputs=outputs if given else None)
        grads.append({name: p.grad for name, p in shared.named_parameters()})
        assert all(p.grad is None for p in shared.private_parameters("flair"))
    torch.testing.assert_close(grads[0], grads[1])


def test_a_layer_in_all_views_is_one_module_of_a_surgeon_that_treats_each_by_itself():
    torch.manual_seed(0)
    shared = gmd.share(Small("group"), MODALITIES)
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.1)
    surgeon = gmd.GMD(optimizer, granularity="module", model=shared)
    losses = [shared(example(index), m).square().mean() for index, m in enumerate(MODALITIES[:2])]
    report = surgeon.backward(losses)
    assert report.grams.shape == (3 + 3 * 2, 2, 2)  # layers of all, and two norms of each modality
