"""The transformer that judges a modality by its encoded steps: shapes, padding without influence, what is pooled."""

import pytest
import torch

from gmd.data.padded import Padded
from gmd.models.sequences.branch_network import BranchNetwork
from gmd.models.sequences.step_classifier import StepClassifier

pytestmark = pytest.mark.usefixtures("one_thread")


def made(per_step: bool = False) -> StepClassifier:
    torch.manual_seed(0)
    return StepClassifier(8, 3, per_step, heads=2, dropout=0.0)


def steps(n: int = 2, length: int = 5) -> torch.Tensor:
    return torch.randn(n, length, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("per_step", "shape"), [(False, (2, 3)), (True, (2, 5, 3))])
def test_shapes_and_that_padding_has_no_influence(per_step: bool, shape: tuple[int, ...]):
    classifier, values = made(per_step), steps()
    whole = classifier(values)
    assert whole.shape == shape
    torch.testing.assert_close(classifier(Padded(values, torch.tensor([5, 5]))), whole)
    short = classifier(values[1:, :3])
    filled = values.clone()
    filled[1, 3:] = 100.0
    padded = classifier(Padded(filled, torch.tensor([5, 3])))
    torch.testing.assert_close(padded[0], whole[0])
    torch.testing.assert_close(padded[1, :3] if per_step else padded[1], short[0])


def test_it_sees_more_than_the_mean_of_the_steps():
    """Which is all that a copy of the head sees."""
    classifier, values = made(), steps()
    flat = values.mean(dim=1, keepdim=True).expand_as(values)
    assert not torch.allclose(classifier(values), classifier(flat), atol=1e-2)


def test_it_has_two_blocks_and_a_head_of_the_network_s_shape():
    classifier = made()
    assert len(classifier.encoder.blocks) == 2
    network = BranchNetwork({"a": 4}, 3, False, 8, 1, 2)
    assert classifier.head.weight.shape == network.head.weight.shape


@pytest.mark.parametrize("per_step", [False, True])
def test_the_network_pools_its_encoded_steps(per_step: bool):
    """To the bit what it puts out, of padded sequences and of others."""
    torch.manual_seed(0)
    network = BranchNetwork({"a": 4}, 3, per_step, 8, 1, 2, dropout=0.0)
    values = torch.randn(2, 5, 4)
    for given in (values, Padded(values, torch.tensor([5, 2]))):
        encoded = network.encoded(given, 0)
        assert torch.equal(network.pool(encoded), network(given, 0))
        assert (encoded.values if isinstance(encoded, Padded) else encoded).shape == (2, 5, 8)
