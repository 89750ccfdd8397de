"""What is whose in the networks for sequences, and what becomes of subsets; traps of the published models by name."""

import re

import pytest
import torch
from torch import Tensor

from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.branch_network import BranchNetwork
from gmd.models.sequences.encoder import SequenceDropout
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.subsets import all_subsets
from helpers.transformer_cases import (
    FEATURES,
    HAVE,
    MODALITIES,
    alone,
    both_ways,
    every_network,
    mixed,
    network_of,
    noise,
    squared,
    valid,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def private_names(network: SequenceNetwork, modality: str) -> set[str]:
    m = network.modalities.index(modality)
    own = (f"inputs.{m}.", f"encoders.{m}.", f"origins.{m}")
    norms = re.compile(rf"encoder\..*norm.*\.{m}")  # of the encoder that all share
    return {name for name, _ in network.named_parameters() if name.startswith(own) or norms.fullmatch(name)}


@every_network
@both_ways
def test_trap_private_parameters_of_an_absent_modality_get_no_gradient(kind: type, per_step: bool):
    """None, not zeros; and every other parameter gets one."""
    network = network_of(kind, per_step)
    outputs = run_modalities(network, mixed(per_step))
    private = {m: private_names(network, m) for m in MODALITIES}
    assert all(private.values())
    assert not set.intersection(*private.values())
    for subset in all_subsets(MODALITIES):
        fused, samples = network.fuse(outputs, subset)
        loss = squared(network.head(fused), noise(len(samples)))
        grads = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
        for (name, _), grad in zip(network.named_parameters(), grads, strict=True):
            absent = any(name in private[m] for m in MODALITIES if m not in subset)
            assert (grad is None) == absent, f"{name} for {subset}"


@every_network
def test_trap_an_absent_modality_is_never_run(kind: type):
    """Published: every modality is run, and the absent ones are thrown away afterwards."""
    network, computed = network_of(kind, False), []
    hook = network.register_forward_pre_hook(lambda _, inputs: computed.append((inputs[1], len(inputs[0].values))))
    run_modalities(network, mixed(False))
    run_modalities(network, alone(mixed(False), 1))
    hook.remove()
    assert computed == [(0, 3), (1, 2), (2, 3), (1, 1), (2, 1)], (
        "modality index, samples; 12 and 3 would be all of them"
    )


def test_trap_each_modality_goes_through_its_own_projection():
    """Published: the text branch goes through vision's."""
    network = SharedTransformer({"a": 4, "b": 4, "c": 4}, 1, False, width=8).eval()
    x = torch.randn(2, 3, 4)
    before = [network(x, m) for m in range(3)]
    with torch.no_grad():
        network.inputs[1].linear.weight.add_(1)
    after = [network(x, m) for m in range(3)]
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [True, False, True]


def test_modalities_share_the_encoder_but_not_its_norms():
    network, one = (SharedTransformer(f, 1, True, width=8) for f in (FEATURES, {"text": 5}))

    def count(net: SharedTransformer, word: str) -> int:
        return sum(p.numel() for name, p in net.named_parameters() if word in name)

    assert count(network, "norm") == 3 * count(one, "norm")
    for word in ("qkv", "mix", "mlp", "head"):
        assert count(network, word) == count(one, word) > 0


@pytest.mark.parametrize("kind", [LateFusionTransformer, BranchNetwork])
def test_encoders_of_branches_are_their_own_and_differ(kind: type):
    network = kind(FEATURES, 1, True, width=8)
    assert len(network.encoders) == 3
    first, second = (network.encoders[m].blocks[0].qkv.weight for m in (0, 1))
    assert not torch.equal(first, second)


@every_network
def test_trap_sizes_are_those_asked_for(kind: type):
    """Published: 512, whatever was asked for."""
    network = kind(FEATURES, 7, False, width=24, layers=3, heads=2, dropout=0.25)
    encoder = network.encoder if kind is SharedTransformer else network.encoders[2]
    assert [block.heads for block in encoder.blocks] == [2, 2, 2]
    assert {module.p for module in network.modules() if isinstance(module, SequenceDropout)} == {0.25}
    assert network(torch.randn(2, 9, 3), 1).shape == (2, 24)
    assert network.head(torch.randn(2, 24)).shape == (2, 7)


# Fusion


@every_network
@both_ways
def test_a_batch_whose_samples_miss_different_things_is_each_sample_alone(kind: type, per_step: bool):
    network, inputs = network_of(kind, per_step), mixed(per_step)
    together = run_modalities(network, inputs)
    everything, samples = network.fuse(together)
    assert samples == list(range(len(HAVE)))
    for sample, have in enumerate(HAVE):
        single = alone(inputs, sample)
        by_itself = run_modalities(network, single)
        expected, _ = network.fuse(by_itself)
        length = [single.values[have[0]].lengths.item()]
        assert torch.allclose(*(valid(v, torch.tensor(length)) for v in (everything[sample][None], expected)))
        for subset in all_subsets(have):
            fused, members = network.fuse(together, subset)
            expected, _ = network.fuse(by_itself, subset)
            fused = fused[members.index(sample)][None]
            assert torch.allclose(*(valid(v, torch.tensor(length)) for v in (fused, expected)))


@every_network
@both_ways
def test_everything_that_is_there_is_the_subset_that_is_there(kind: type, per_step: bool):
    """One fuses whatever each sample has, the other a subset: with masks, and without."""
    network, inputs = network_of(kind, per_step), mixed(per_step)
    outputs = run_modalities(network, inputs)
    present, _ = network.fuse(outputs)
    for sample, have in enumerate(HAVE):
        fused, members = network.fuse(outputs, have)
        steps = slice(0, 2 + sample) if per_step else slice(None)
        assert torch.allclose(present[sample][steps], fused[members.index(sample)][steps], atol=1e-10)


@pytest.mark.parametrize("kind", [SharedTransformer, BranchNetwork])
def test_fusion_by_the_mean(kind: type):
    network = network_of(kind, False)
    outputs = Pairs(2, {m: [0, 1] for m in MODALITIES}, {m: noise(2, 12, seed=i) for i, m in enumerate(MODALITIES)})
    for subset in all_subsets(MODALITIES):
        fused, samples = network.fuse(outputs, subset)
        assert samples == [0, 1]
        assert torch.allclose(fused, sum(outputs.values[m] for m in subset) / len(subset))


def test_late_fusion_tells_modalities_and_not_their_order():
    network = network_of(LateFusionTransformer, False)
    x, y = noise(2, 12), noise(2, 12, seed=2)

    def fuse(values: dict[str, Tensor]) -> Tensor:
        return network.fuse(Pairs(2, {m: [0, 1] for m in values}, values))[0]

    fused = fuse({"text": x, "audio": y})
    torch.testing.assert_close(fuse({"audio": y, "text": x}), fused)
    assert not torch.allclose(fuse({"text": y, "audio": x}), fused, atol=1e-4)


@every_network
def test_a_subset_that_no_sample_has_cannot_be_fused(kind: type):
    network, inputs = network_of(kind, True), mixed(True)
    outputs = run_modalities(network, alone(inputs, 1))
    with pytest.raises(ValueError, match=r"no sample of this batch has all of text\+audio"):
        network.fuse(outputs, ("text", "audio"))
