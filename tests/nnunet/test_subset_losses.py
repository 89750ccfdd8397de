"""Losses of subsets at several resolutions, as functions of one output for each channel."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import gmd
from gmd.nnunet.subset_losses import ScaledLoss, full_loss, subset_losses
from gmd.subsets import all_subsets
from helpers.nnunet_toy import ALL, everywhere, flat_outputs, toy_data, toy_network, toy_targets

SOME = {"channel0": [0, 1], "channel1": [0], "channel2": [0, 1], "channel3": [0]}  # of two rows, the second has two


def criterion(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy, and a soft Dice over the batch, so that which rows take part matters."""
    probabilities = logits.sigmoid()
    dice = (2 * (probabilities * target).sum() + 1) / (probabilities.sum() + target.sum() + 1)
    return binary_cross_entropy_with_logits(logits, target) - dice


BOTH, FINEST = ScaledLoss(criterion, (0.6, 0.4)), ScaledLoss(criterion, (1.0, 0.0))


def gradients(network: torch.nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def merged(loss: ScaledLoss, rows: dict[str, list[int]], given: bool) -> tuple[list[Tensor | None], gmd.Report]:
    """`.grad` after a step of GMD; given: whether it is told the outputs."""
    network = toy_network(seed=38)  # many of whose gradients are against each other
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(3))
    outputs = flat_outputs(network, toy_data(), rows, loss)
    losses = subset_losses(outputs, loss.taking_part(toy_targets()), loss)
    report = surgeon.backward(losses, outputs=outputs.pairs.values if given else None)
    return gradients(network), report


def test_the_loss_is_the_weighted_sum_over_resolutions():
    network, data, targets = toy_network(), toy_data(), toy_targets()
    outputs = flat_outputs(network, data, everywhere(), BOTH)
    losses = subset_losses(outputs, targets, BOTH)
    assert list(losses) == all_subsets(ALL)
    separate = network(data, everywhere())
    for subset, loss in losses.items():
        fused = [sum(separate[m][scale] for m in subset) / len(subset) for scale in range(2)]
        expected = 0.6 * criterion(fused[0], targets[0]) + 0.4 * criterion(fused[1], targets[1])
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", [BOTH, FINEST], ids=["both", "finest"])
@pytest.mark.parametrize("rows", [everywhere(), SOME], ids=["full", "some"])
def test_surgery_with_outputs_is_surgery_without(loss, rows):
    told, report = merged(loss, rows, given=True)
    untold, _ = merged(loss, rows, given=False)
    assert float(report.conflicts) > 0, "this test would show little"
    for got, value in zip(told, untold, strict=True):
        assert (got is None) == (value is None)
        if got is not None:
            torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-12)


def test_a_resolution_of_weight_zero_leaves_its_layer_without_a_gradient():
    network = toy_network()
    outputs = flat_outputs(network, toy_data(), everywhere(), FINEST)
    assert [list(shape) for shape in outputs.shapes] == [[2, 4, 6, 2]]
    full_loss(outputs, FINEST.taking_part(toy_targets()), FINEST).backward()
    decoder = network.views()[0].decoder
    assert decoder.coarse.weight.grad is None
    assert decoder.fine.weight.grad is not None


def test_objectives_are_the_subsets_that_a_row_has_over_the_rows_that_have_them():
    network, data, targets = toy_network(), toy_data(), toy_targets()
    outputs = flat_outputs(network, data, SOME, BOTH)
    losses = subset_losses(outputs, targets, BOTH)
    assert list(losses) == all_subsets(ALL)
    first = subset_losses(flat_outputs(network, data[:1], everywhere(1), BOTH), [t[:1] for t in targets], BOTH)
    both = subset_losses(flat_outputs(network, data, everywhere(), BOTH), targets, BOTH)
    for subset, loss in losses.items():
        expected = both if set(subset) <= {"channel0", "channel2"} else first
        torch.testing.assert_close(loss, expected[subset], rtol=1e-12, atol=0)


def test_a_channel_that_no_row_has_takes_part_in_nothing():
    network, data, targets = toy_network(), toy_data(), toy_targets()
    rows = everywhere(modalities=("channel0", "channel3"))
    outputs = flat_outputs(network, data, rows, BOTH)
    losses = subset_losses(outputs, targets, BOTH)
    assert list(losses) == all_subsets(("channel0", "channel3"))
    sum(losses.values()).backward()
    has = [view.norm.weight.grad is not None for view in network.views()]
    assert has == [True, False, False, True]


def test_no_subset_is_left_out_for_lack_of_a_row_that_has_all():
    """The first row has two channels, the second the two others: six objectives, none of three or four channels."""
    rows = {"channel0": [0], "channel1": [0], "channel2": [1], "channel3": [1]}
    outputs = flat_outputs(toy_network(), toy_data(), rows, BOTH)
    expected = [(m,) for m in ALL] + [("channel0", "channel1"), ("channel2", "channel3")]
    assert list(subset_losses(outputs, toy_targets(), BOTH)) == expected


def test_the_one_loss_has_each_row_from_all_that_it_has():
    network, data, targets = toy_network(), toy_data(), toy_targets()
    loss = full_loss(flat_outputs(network, data, SOME, BOTH), targets, BOTH)
    separate = network(data, everywhere())
    expected = torch.zeros((), dtype=torch.float64)
    for scale, weight in enumerate(BOTH.weights):
        rows = [[separate[m][scale][row] for m in SOME if row in SOME[m]] for row in range(2)]
        fused = torch.stack([sum(row) / len(row) for row in rows])
        expected = expected + weight * criterion(fused, targets[scale])
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_without_deep_supervision_there_is_one_resolution():
    network = toy_network()
    network.set_deep_supervision(False)
    loss = ScaledLoss(criterion)
    outputs = flat_outputs(network, toy_data(), everywhere(), loss)
    expected = criterion(network(toy_data()), toy_targets()[0])
    torch.testing.assert_close(full_loss(outputs, toy_targets()[:1], loss), expected, rtol=1e-12, atol=0)
