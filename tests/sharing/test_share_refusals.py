"""Tests of networks that gmd.share refuses, each with what to do instead, before anything is changed."""

import pytest
import torch
from torch import nn

import gmd
from helpers.shared_networks import MODALITIES, Small, example


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"network: expected a torch.nn.Module, got function"):
        gmd.share(lambda x: x, MODALITIES)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_scripts_are_refused_whole_and_in_parts():
    script = torch.jit.trace(Small("group"), example())
    with pytest.raises(TypeError, match=r"network: is a script, of which no second view can be made"):
        gmd.share(script, MODALITIES)
    with pytest.raises(TypeError, match=r"network: its module 0 is a script"):
        gmd.share(nn.Sequential(script, nn.BatchNorm2d(3)), MODALITIES)


def test_compiled_networks_are_refused():
    message = r"network: was compiled; share the network first, then compile shared.views\[m\] one by one"
    with pytest.raises(TypeError, match=message):
        gmd.share(torch.compile(Small(), backend="eager"), MODALITIES)
    network = Small()
    network.compile(backend="eager")
    with pytest.raises(TypeError, match=message):
        gmd.share(network, MODALITIES)


def test_networks_spread_over_devices_are_refused():
    with pytest.raises(TypeError, match=r"network: is spread over devices; share the network first"):
        gmd.share(nn.DataParallel(Small()), MODALITIES)


def test_a_shared_network_is_refused():
    with pytest.raises(TypeError, match=r"network: is shared already"):
        gmd.share(gmd.share(Small(), MODALITIES), MODALITIES)


def test_a_network_without_sizes_yet_is_refused():
    network = nn.Sequential(nn.LazyConv2d(3, 1), nn.LazyBatchNorm2d())
    with pytest.raises(
        ValueError, match=r"network: 0\.weight has no size yet; call the network once before it is shared"
    ):
        gmd.share(network, MODALITIES)
    network(example())
    gmd.share(network, MODALITIES)


class Keeps(Small):
    def forward(self, x):
        self.kept = self.block1(x)
        return self.last(self.block2(self.kept))


def test_a_network_that_keeps_an_activation_is_refused_after_its_first_forward_pass():
    network = Keeps("instance-plain")
    network(example())
    with pytest.raises(ValueError, match=r"network: no view of it can be made.*keeps an activation, share it before"):
        gmd.share(network, MODALITIES)
    assert network.norm1.weight is None
    network.kept = None
    gmd.share(network, MODALITIES)
