"""Tests of a shared network's state: each tensor once, under names that a person knows; copies stay shared."""

import copy
import io
import pickle

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

import gmd
from helpers.shared_networks import MODALITIES, NORMS, Small, example, moved


def is_shared(shared: gmd.Shared) -> bool:
    """Returns whether every tensor that is not private is one object in all views."""
    views = [{**dict(v.named_parameters()), **dict(v.named_buffers())} for v in shared.views]
    same = {name for name in views[0] if len({id(view[name]) for view in views}) == 1}
    return {name for name in views[0] if name not in same} == set(shared.ties.private)


@pytest.fixture
def shared() -> gmd.Shared:
    shared = gmd.share(Small("batch"), MODALITIES)
    moved(shared)
    for index, modality in enumerate(MODALITIES):
        shared(example(index), modality)
    return shared.eval()


def fresh(norm: str = "batch") -> gmd.Shared:
    return gmd.share(Small(norm), MODALITIES).eval()


def test_names_are_those_of_the_plain_network_and_of_the_modality(shared):
    names = set(shared.state_dict())
    assert {"conv1.weight", "norm1.weight.t1", "norm1.running_mean.flair", "last.bias"} < names
    assert len(names) == 6 + 3 * 2 * 5
    assert not [name for name in names if "views" in name]


@pytest.mark.parametrize("norm", NORMS)
def test_a_state_loads_again(norm):
    one = gmd.share(Small(norm), MODALITIES)
    moved(one)
    other = fresh(norm)
    other.load_state_dict(one.state_dict())
    assert is_shared(other)
    one.eval()
    assert all(torch.equal(other(example(), m), one(example(), m)) for m in MODALITIES)


def test_a_state_within_that_of_a_larger_module_loads_again(shared):
    whole, other = nn.Sequential(nn.Identity(), shared), nn.Sequential(nn.Identity(), fresh())
    assert "1.norm1.weight.t1" in whole.state_dict()
    other.load_state_dict(whole.state_dict())
    assert torch.equal(other[1](example(), 2), shared(example(), 2))


def test_loading_by_assignment_ties_again(shared):
    other = fresh()
    other.load_state_dict({name: value.clone() for name, value in shared.state_dict().items()}, assign=True)
    assert is_shared(other)
    assert torch.equal(other(example(), 1), shared(example(), 1))


def test_safetensors_writes_it(shared):
    other = fresh()
    other.load_state_dict(load(save(shared.state_dict())))
    assert torch.equal(other(example(), 1), shared(example(), 1))


def test_torch_saves_it_and_loads_weights_only(shared):
    file = io.BytesIO()
    torch.save(shared.state_dict(), file)
    file.seek(0)
    other = fresh()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(example(), 1), shared(example(), 1))


def test_the_plain_networks_state_loads_and_every_modality_gets_its_norms():
    network = Small("batch")
    moved(network)
    network(example())
    network.eval()
    other = fresh()
    other.load_state_dict(network.state_dict())
    assert all(torch.equal(other(example(), m), network(example())) for m in MODALITIES)
    assert is_shared(other)


def test_what_is_missing_or_unexpected_is_told_by_its_name_in_the_state_once(shared):
    state = shared.state_dict()
    del state["conv1.weight"], state["norm1.weight.t2"]
    state["conv3.weight"] = torch.ones(1)
    told = fresh().load_state_dict(state, strict=False)
    assert told.missing_keys == ["conv1.weight", "norm1.weight.t2"]
    assert told.unexpected_keys == ["conv3.weight"]
    with pytest.raises(RuntimeError, match=r"conv3\.weight"):
        fresh().load_state_dict(state)


def test_aliases_are_written_once():
    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 3, 1), nn.InstanceNorm2d(3, affine=True)
            self.all_modules = nn.Sequential(self.conv, self.norm)

        def forward(self, x):
            return self.all_modules(x)

    plain = Aliased()
    moved(plain)
    shared = gmd.share(Aliased(), MODALITIES)
    assert len(shared.state_dict()) == 2 + 3 * 2
    shared.load_state_dict(plain.state_dict())  # which has every tensor twice
    torch.testing.assert_close(shared(example(), "t2"), plain(example()))
    other = gmd.share(Aliased(), MODALITIES)
    other.load_state_dict(shared.state_dict(), assign=True)
    assert other.views[2].norm.weight is other.views[2].all_modules[1].weight
    torch.testing.assert_close(other(example(), "t2"), plain(example()))


class Buffered(Small):
    """Has a floating buffer that is shared, and one that is not saved, and state that is no tensor."""

    def __init__(self):
        super().__init__("group")
        self.register_buffer("scale", torch.full((1,), 2.0))
        self.register_buffer("unsaved", torch.ones(1), persistent=False)
        self.note = "new"

    def forward(self, x):
        return super().forward(x) * self.scale * self.unsaved

    def get_extra_state(self):
        return {"note": self.note}

    def set_extra_state(self, state):
        self.note = state["note"]


def test_shared_buffers_stay_one_object_when_the_network_moves():
    shared = gmd.share(Buffered(), MODALITIES).double()
    assert is_shared(shared)
    assert shared.views[1].scale.dtype == torch.float64
    assert len({id(view.scale) for view in shared.views}) == 1
    assert len({id(view.unsaved) for view in shared.views}) == 1


def test_the_meta_device_and_back_keep_what_is_shared():
    shared = gmd.share(Buffered(), MODALITIES).to("meta").to_empty(device="cpu")
    assert is_shared(shared)


def test_extra_state_and_unsaved_buffers():
    shared = gmd.share(Buffered(), MODALITIES)
    shared.views["t2"].note = "old"
    state = shared.state_dict()
    assert "unsaved" not in state
    other = gmd.share(Buffered(), MODALITIES)
    other.load_state_dict(state)
    assert [view.note for view in other.views] == ["new", "old", "new"]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda shared: pickle.loads(pickle.dumps(shared))], ids=["copy", "pickle"]
)
def test_copies_keep_what_is_shared(shared, copied):
    other = copied(shared)
    assert is_shared(other)
    assert torch.equal(other(example(), 1), shared(example(), 1))
    assert not {id(p) for p in other.parameters()} & {id(p) for p in shared.parameters()}
    other.load_state_dict(shared.state_dict())


def test_norms_converted_for_several_processes_keep_what_is_shared(shared):
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(shared)
    assert isinstance(converted.views["t2"].norm1, nn.SyncBatchNorm)
    assert is_shared(converted)
    assert set(converted.state_dict()) == set(fresh().state_dict())
    assert len(converted.private_parameters("t2")) == 4


def test_frozen_parameters_stay_frozen():
    network = Small("group")
    network.conv1.weight.requires_grad_(False)
    shared = gmd.share(network, MODALITIES)
    assert not any(view.conv1.weight.requires_grad for view in shared.views)


def test_hooks_of_before_are_on_every_view():
    network, seen = Small("group"), []
    network.norm1.register_forward_hook(lambda module, args, output: seen.append(module))
    shared = gmd.share(network, MODALITIES)
    for modality in MODALITIES:
        shared(example(), modality)
    assert seen == [view.norm1 for view in shared.views]


def test_names_of_modalities_may_have_dots_as_those_of_data_sets_have():
    shared = gmd.share(Small(), ("t1", "t1.5", "5"))
    moved(shared)
    state = shared.state_dict()
    assert {"norm1.weight.t1", "norm1.weight.t1.5", "norm1.weight.5"} <= state.keys()
    again = gmd.share(Small(), ("t1", "t1.5", "5"))
    again.load_state_dict(state)
    for modality in again.modalities:
        torch.testing.assert_close(again(example(), modality), shared(example(), modality), rtol=0, atol=0)
