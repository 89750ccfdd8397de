"""nnU-Net's network in the views of the channels: what is there is fused, by what it sees or by what it is told."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from gmd.errors import UserError
from gmd.models.conv import Conv3d
from gmd.nnunet.network import SubsetNetwork
from helpers.nnunet_toy import ALL, Toy, everywhere, toy_data, toy_network


def alone(network: SubsetNetwork, data: torch.Tensor, channel: int, row: int) -> list[torch.Tensor]:
    return network.shared(data[row : row + 1, channel : channel + 1], f"channel{channel}")


def mean_of(network: SubsetNetwork, data: torch.Tensor, channels: list[int], row: int) -> list[torch.Tensor]:
    scales = zip(*(alone(network, data, channel, row) for channel in channels), strict=True)
    return [sum(of_scale) / len(channels) for of_scale in scales]


def assert_rows(network: SubsetNetwork, data: torch.Tensor, expected: dict[int, list[int]]) -> None:
    """Checks that each row of the batch is the mean over these channels, at both resolutions."""
    fused = network(data)
    for row, channels in expected.items():
        for got, value in zip(fused, mean_of(network, data, channels, row), strict=True):
            torch.testing.assert_close(got[row : row + 1], value, rtol=1e-12, atol=1e-12)


def test_a_channel_of_zeros_is_left_out():
    data = toy_data()
    data[:, 2] = 0
    assert_rows(toy_network(), data, {0: [0, 1, 3], 1: [0, 1, 3]})


def test_each_row_of_a_batch_has_a_subset_of_its_own():
    data = toy_data(rows=3)
    data[0, 1:] = 0
    data[1, 0] = 0
    assert_rows(toy_network(), data, {0: [0], 1: [1, 2, 3], 2: [0, 1, 2, 3]})


def test_another_constant_than_zero_is_left_out_too():
    data = toy_data()
    data[0, 3] = -1.25
    assert_rows(toy_network(), data, {0: [0, 1, 2], 1: [0, 1, 2, 3]})


def test_where_nothing_varies_every_channel_counts():
    data = toy_data()
    data[1] = 0
    network = toy_network()
    assert_rows(network, data, {0: [0, 1, 2, 3], 1: [0, 1, 2, 3]})
    assert all(scale.isfinite().all() for scale in network(data))


def test_what_no_row_has_is_not_computed():
    network = toy_network()
    data = toy_data()
    data[:, 1] = 0
    sum(scale.sum() for scale in network(data)).backward()
    has = [view.norm.weight.grad is not None for view in network.views()]
    assert has == [True, False, True, True]


@pytest.mark.parametrize("channels", [3, 5])
def test_another_number_of_channels_is_refused(channels):
    """nnU-Net gives a case without the file of a channel as one with fewer channels, those behind moved up."""
    with pytest.raises(UserError, match=r"expected \[B, 4, \.\.\.\].*gmd nnunet predict"):
        toy_network()(toy_data(channels=channels))


def test_told_rows_give_each_channel_by_itself():
    network, data = toy_network(), toy_data(rows=3)
    outputs = network(data, {"channel0": [0, 1, 2], "channel2": [1]})
    assert list(outputs) == ["channel0", "channel2"]
    assert [list(scale.shape) for scale in outputs["channel0"]] == [[3, 2, 4, 6, 2], [3, 2, 2, 3, 1]]
    for got, value in zip(outputs["channel2"], alone(network, data, 2, 1), strict=True):
        torch.testing.assert_close(got, value, rtol=1e-12, atol=1e-12)


def test_told_rows_count_whatever_the_data_show():
    """Augmentation makes noise of a channel of zeros, and may leave a channel that is there constant."""
    network, data = toy_network(), toy_data()
    data[:, 1] = 0
    assert set(network(data, everywhere())) == set(ALL)


def test_deep_supervision_is_a_matter_of_every_view():
    network, data = toy_network(), toy_data()
    finest = network(data)[0]
    network.set_deep_supervision(False)
    torch.testing.assert_close(network(data), finest, rtol=0, atol=0)
    data[:, 0] = 0  # so that other views than the first answer
    assert isinstance(network(data), torch.Tensor)
    network.set_deep_supervision(True)
    assert len(network(data)) == 2


def test_what_is_returned_may_be_written_to():
    """nnU-Net's predictor adds the mirrored predictions in place."""
    network, data = toy_network(), toy_data()
    network.set_deep_supervision(False)
    data[:, 1:] = 0
    with torch.inference_mode():
        first = network(data)
        before = first.clone()
        first += 1
        assert torch.equal(network(data), before)


def test_a_state_dict_is_loaded_into_another():
    network, other, data = toy_network(), toy_network(seed=9), toy_data()
    assert not torch.equal(network(data)[0], other(data)[0])
    other.load_state_dict(copy.deepcopy(network.state_dict()))
    for got, value in zip(other(data), network(data), strict=True):
        assert torch.equal(got, value)


def test_shared_tensors_are_one_and_norms_are_four():
    network = toy_network()
    first, second = network.views()[:2]
    assert first.conv.weight is second.conv.weight
    assert first.norm.weight is not second.norm.weight
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == sum(p.numel() for p in Toy().parameters()) + 3 * 8


def test_two_dimensions_work_as_well():
    network = SubsetNetwork(torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), torch.nn.InstanceNorm2d(3, affine=True)), 2)
    data = torch.randn(2, 2, 5, 4)
    data[1, 0] = 0
    fused = network(data)
    torch.testing.assert_close(fused[1:], network.shared(data[1:, 1:], "channel1"))


def test_compiled_views_have_one_graph_in_common():
    network, data = toy_network(), toy_data()
    expected = network(data)
    torch._dynamo.reset()
    counter = CompileCounter()
    network.compile(backend=counter)
    for got, value in zip(network(data), expected, strict=True):
        torch.testing.assert_close(got, value, rtol=1e-12, atol=1e-12)
    assert counter.frame_count == 1
    torch._dynamo.reset()


def test_every_view_is_quick_for_a_lone_tile_on_the_cpu():
    convolutions = [module for module in toy_network().modules() if isinstance(module, torch.nn.Conv3d)]
    assert len(convolutions) == 3 * len(ALL)
    assert all(type(module) is Conv3d for module in convolutions)
