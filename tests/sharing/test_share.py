"""Tests of gmd.share: what is private, what is shared, and what each modality computes."""

import copy

import pytest
import torch
from torch import nn

import gmd
from helpers.shared_networks import MODALITIES, NORMS, Small, example, moved


@pytest.mark.parametrize("norm", NORMS)
def test_every_modality_computes_at_first_what_the_network_did(norm):
    network, x = Small(norm), example()
    for training in (False, True):
        network.train(training)
        expected = copy.deepcopy(network)(x)
        shared = gmd.share(copy.deepcopy(network), MODALITIES)
        for modality in MODALITIES:
            torch.testing.assert_close(shared(x, modality), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_gradient_reaches_what_is_shared_and_the_private_parameters_of_its_modality_only(norm):
    shared = gmd.share(Small(norm), MODALITIES)
    shared(example(), "t2").sum().backward()
    assert all(p.grad is not None for p in shared.shared_parameters() + shared.private_parameters("t2"))
    assert all(p.grad is None for m in ("t1", "flair") for p in shared.private_parameters(m))


@pytest.mark.parametrize("norm", NORMS)
def test_private_parameters_are_disjoint_and_with_the_shared_ones_they_are_all(norm):
    shared = gmd.share(Small(norm), MODALITIES)
    private = [shared.private_parameters(m) for m in MODALITIES]
    everything = shared.shared_parameters() + [p for own in private for p in own]
    assert len({id(p) for p in everything}) == len(everything)
    assert {id(p) for p in everything} == {id(p) for p in shared.parameters()}
    assert all(len(own) in (2, 4) for own in private)  # two norms: RMSNorm has a scale only
    assert len(shared.shared_parameters()) == 6


def test_shared_parameters_are_one_object_in_all_views():
    shared = gmd.share(Small(), MODALITIES)
    assert len({id(view.conv1.weight) for view in shared.views}) == 1
    assert len({id(view.norm1.weight) for view in shared.views}) == 3
    assert shared.views["t2"] is shared.views[1]


@pytest.mark.parametrize("norm", ["batch", "instance-tracked", "batch-act"])
def test_running_statistics_are_of_the_modality_that_is_called(norm):
    shared = gmd.share(Small(norm), MODALITIES)
    before = [view.norm1.running_mean.clone() for view in shared.views]
    shared(example(), "t2")
    moved_views = [not torch.equal(view.norm1.running_mean, b) for view, b in zip(shared.views, before, strict=True)]
    assert moved_views == [False, True, False]
    counted = int(norm == "batch")  # InstanceNorm counts none, nor does BatchNormAct
    assert [int(view.norm1.num_batches_tracked) for view in shared.views] == [0, counted, 0]


def test_affines_are_added_where_there_are_none_and_it_is_said_how_many():
    shared = gmd.share(Small("instance-plain"), MODALITIES)
    assert shared.added_affines == 2
    assert "2 norms" in shared.described()
    assert [p.shape for p in shared.private_parameters("t1")] == [(4,)] * 4


def test_added_affines_have_the_type_of_the_network():
    shared = gmd.share(Small("layer-plain").double(), MODALITIES)
    assert all(p.dtype == torch.float64 for p in shared.parameters())


def test_without_affine_nothing_is_private_which_is_an_error_before_anything_is_changed():
    network = Small("instance-plain")
    with pytest.raises(ValueError, match=r"network: InstanceNorm2d has no parameters; affine=True gives"):
        gmd.share(network, MODALITIES, affine=False)
    assert network.norm1.weight is None


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, x):
        return nn.functional.instance_norm(self.conv(x))


def test_a_network_whose_norms_are_functions_is_refused_unless_something_else_is_private():
    with pytest.raises(
        ValueError, match=r"network: nothing is private to a modality, as it has no module that is a nor"
    ):
        gmd.share(Functional(), MODALITIES)
    assert len(gmd.share(Functional(), MODALITIES, private="stem").private_parameters(0)) == 2


@pytest.mark.parametrize(
    ("private", "names"),
    [
        ("stem", {"conv1"}),
        (("stem", "norm"), {"conv1", "norm1", "norm2"}),
        ("last", {"last"}),
        (["last", nn.InstanceNorm2d], {"last", "norm1", "norm2"}),
        (nn.Conv2d, {"conv1", "conv2", "last"}),
        (lambda name, module: name == "norm2", {"norm2"}),
    ],
    ids=["stem", "stem-norm", "name", "name-class", "class", "function"],
)
def test_what_is_private_can_be_chosen(private, names):
    shared = gmd.share(Small(), MODALITIES, private=private)
    assert {name.rpartition(".")[0] for name in shared.ties.private} == names


def test_a_module_that_is_private_by_its_name_is_so_with_all_that_it_holds():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3))), nn.Conv2d(4, 1, 1))
    assert gmd.share(network, MODALITIES, private="0").ties.private == {
        "0.0.weight",
        "0.0.bias",
        "0.1.0.weight",
        "0.1.0.bias",
    }


@pytest.mark.parametrize(
    ("private", "error", "message"),
    [
        ("first", ValueError, r"private: got 'first', which the network has not; .*such as conv1, norm1"),
        (nn.GRU, ValueError, r"private: got GRU, which the network has not"),
        (3, TypeError, r"private: expected 'norm', 'stem', names of modules, .*got 3"),
        (int, TypeError, r"private: expected .*got <class 'int'>"),
    ],
)
def test_what_cannot_be_private_is_an_error(private, error, message):
    with pytest.raises(error, match=message):
        gmd.share(Small(), MODALITIES, private=private)


@pytest.mark.parametrize("modality", ["adc", 3, -1, True, None])
def test_a_modality_that_the_network_does_not_know_is_an_error(modality):
    shared = gmd.share(Small(), MODALITIES)
    with pytest.raises(ValueError, match=r"modality: expected t1, t2, flair, or an index below 3, got"):
        shared(example(), modality)


@pytest.mark.parametrize("modalities", ["t1", ("t1", "t1"), (), ("t1", ""), (1, 2)])
def test_names_of_modalities_have_to_be_different_names(modalities):
    with pytest.raises((TypeError, ValueError), match=r"^modalities: expected"):
        gmd.share(Small(), modalities)


def test_an_optimizer_made_before_is_told_of():
    network = Small()
    optimizer = torch.optim.AdamW(network.parameters())
    with pytest.warns(UserWarning, match=r"there is an optimizer \(AdamW\) of its parameters, which lacks the private"):
        gmd.share(network, MODALITIES)
    del optimizer


def test_another_networks_optimizer_is_not():
    other = Small()
    optimizer = torch.optim.AdamW(other.parameters())
    gmd.share(Small(), MODALITIES)  # warnings are errors in these tests
    assert optimizer.param_groups


def test_one_modality_is_enough():
    shared = gmd.share(Small(), ["t1"])
    assert len(shared.private_parameters("t1")) == 4
    assert "conv1.weight" in shared.state_dict()
    assert "norm1.weight.t1" in shared.state_dict()


def test_arguments_behind_the_modality_go_to_the_network():
    class Scaled(Small):
        def forward(self, x, factor=1.0, *, shift=0.0):
            return super().forward(x) * factor + shift

    shared = gmd.share(Scaled(), MODALITIES)
    x = example()
    torch.testing.assert_close(shared(x, "t1", 2.0, shift=1.0), 2 * shared(x, "t1") + 1)


def test_training_and_evaluation_reach_all_views():
    shared = gmd.share(Small("batch"), MODALITIES).eval()
    assert not any(view.norm1.training for view in shared.views)


def test_modalities_learn_apart_and_together():
    shared = gmd.share(Small(), MODALITIES)
    moved(shared)
    x = example()
    assert not torch.allclose(shared(x, "t1"), shared(x, "t2"))
    with torch.no_grad():
        shared.views[2].conv1.weight.zero_()
    assert not shared.views["t1"].conv1.weight.any()
