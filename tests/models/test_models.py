"""Dynamic Sharing: pairs, norms and fusions; the traps of the published models as named regression tests."""

import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmd.data.pairs import Pairs
from gmd.models.modality_norms import ModalityGroupNorm, ModalityLayerNorm
from gmd.models.multimodal import run_modalities
from gmd.models.unet3d import PRIOR_LOGIT, UNet3d
from gmd.subsets import all_subsets, subset_name
from gmd.training.objectives import full_objective, subset_objectives

MODALITIES = ("flair", "t1", "t1ce", "t2")
SUBSETS = all_subsets(MODALITIES)
# every sample misses something else, the last one nothing
HAVE = [("flair",), ("t1", "t2"), ("flair", "t1ce", "t2"), MODALITIES]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> UNet3d:
    """Small and float64, with affines that differ between modalities (they start alike)."""
    torch.manual_seed(0)
    network = UNet3d(MODALITIES, ("WT", "TC", "ET"), width=0.125).double()
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, ModalityGroupNorm)):
            for parameter in (*norm.weight, *norm.bias):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


@pytest.fixture
def whole(network: UNet3d) -> Pairs:
    """One sample with every modality."""
    torch.manual_seed(1)
    return Pairs(1, {m: [0] for m in MODALITIES}, {m: noise(1) for m in MODALITIES})


@pytest.fixture
def mixed() -> Pairs:
    """The samples of HAVE."""
    torch.manual_seed(2)
    samples = {m: [s for s, have in enumerate(HAVE) if m in have] for m in MODALITIES}
    return Pairs(len(HAVE), samples, {m: noise(len(s)) for m, s in samples.items()})


def noise(samples: int) -> Tensor:
    return torch.randn(samples, 1, 16, 16, 16, dtype=torch.float64)


def alone(pairs: Pairs, sample: int) -> Pairs:
    rows = {m: samples.index(sample) for m, samples in pairs.samples.items() if sample in samples}
    return Pairs(1, {m: [0] for m in rows}, {m: pairs.values[m][row : row + 1] for m, row in rows.items()})


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


# Subsets


def test_subsets_are_all_of_them_once_small_ones_first():
    assert len(SUBSETS) == len(set(SUBSETS)) == 15
    assert [len(subset) for subset in SUBSETS] == [1] * 4 + [2] * 6 + [3] * 4 + [4]
    assert len(all_subsets(("text", "audio", "vision"))) == 7
    assert all(list(subset) == [m for m in MODALITIES if m in subset] for subset in SUBSETS)
    assert subset_name(SUBSETS[-1]) == "flair+t1+t1ce+t2"


# Per-modality GroupNorm


@pytest.mark.parametrize("channels", [1, 4, 12, 32])
def test_group_norm_is_torchs_with_the_affine_of_the_modality_and_a_relu(channels: int):
    torch.manual_seed(channels)
    ours, x = ModalityGroupNorm(channels, 3), torch.randn(2, channels, 3, 4, 5)
    for modality in range(3):
        theirs = nn.GroupNorm(ours.groups, channels)
        nn.init.normal_(theirs.weight), nn.init.normal_(theirs.bias)
        ours.weight[modality].data, ours.bias[modality].data = theirs.weight.data, theirs.bias.data
        assert torch.allclose(ours(x, modality), theirs(x).relu(), atol=1e-6)
        assert torch.allclose(ours(x, [modality] * 2), theirs(x).relu(), atol=1e-6)


def test_group_norm_of_mixed_modalities_is_that_of_each_alone():
    norm, x = ModalityGroupNorm(8, 4), torch.randn(5, 8, 3, 3, 3)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    which = [2, 0, 3, 2, 1]
    for pair, modality in enumerate(which):
        assert torch.allclose(norm(x, which)[pair], norm(x[pair : pair + 1], modality)[0], atol=1e-6)


def test_group_norm_wants_an_index_for_every_pair():
    with pytest.raises(ValueError, match="expected 3 indices, one for each pair, got 2"):
        ModalityGroupNorm(8, 4)(torch.randn(3, 8, 2, 2, 2), [0, 1])


def test_modalities_that_no_pair_has_get_no_gradient():
    norm = ModalityGroupNorm(8, 4)
    norm(torch.randn(3, 8, 2, 2, 2), [0, 2, 0]).sum().backward()
    for parameters in (norm.weight, norm.bias):
        assert [p.grad is not None for p in parameters] == [True, False, True, False]


def test_layer_norm_is_torchs_with_the_affine_of_the_modality():
    ours, x = ModalityLayerNorm(6, 3), torch.randn(2, 4, 6)
    for modality in range(3):
        theirs = nn.LayerNorm(6)
        nn.init.normal_(theirs.weight), nn.init.normal_(theirs.bias)
        ours.weight[modality].data, ours.bias[modality].data = theirs.weight.data, theirs.bias.data
        assert torch.allclose(ours(x, modality), theirs(x), atol=1e-6)
    ours(x, 1).sum().backward()
    assert [p.grad is not None for p in (*ours.weight, *ours.bias)] == [False, True, False] * 2


# The network


def plain_norm(self: ModalityGroupNorm, x: Tensor, modality: list[int]) -> Tensor:
    """What the fused norm replaces."""
    rows = (len(x), -1, 1, 1, 1)
    weight = torch.stack([self.weight[m] for m in modality]).view(rows)
    bias = torch.stack([self.bias[m] for m in modality]).view(rows)
    return F.relu(F.group_norm(x, self.groups) * weight + bias)


def test_the_network_computes_what_it_would_with_torchs_norm(network: UNet3d, monkeypatch: pytest.MonkeyPatch):
    x, which, parameters = noise(3).requires_grad_(), [3, 0, 3], dict(network.named_parameters())
    results = []
    for forward in (ModalityGroupNorm.forward, plain_norm):
        monkeypatch.setattr(ModalityGroupNorm, "forward", forward)
        outputs = network(x, which)
        grads = torch.autograd.grad(outputs.square().sum(), [x, *parameters.values()], allow_unused=True)
        results.append(dict(zip(["outputs", "x", *parameters], [outputs, *grads], strict=True)))
    mine, plain = results
    for name, theirs in plain.items():
        assert (mine[name] is None) == (theirs is None)
        # what a bias adds to a channel that is a group of its own, its norm takes away: that gradient is rounding
        scale = theirs if theirs is None or ".conv" not in name else plain[name.replace("bias", "weight")]
        atol = 0.0 if scale is None else 1e-10 * float(scale.detach().abs().max())
        assert theirs is None or torch.allclose(mine[name], theirs, rtol=1e-8, atol=atol), name


def test_modalities_share_everything_but_their_norms(network: UNet3d):
    private = sum(p.numel() for name, p in network.named_parameters() if ".norm" in name)
    one = UNet3d(("flair",), ("WT", "TC", "ET"), width=0.125)
    private_of_one = sum(p.numel() for name, p in one.named_parameters() if ".norm" in name)
    assert private == 4 * private_of_one
    shared, shared_of_one = (sum(p.numel() for p in net.parameters()) for net in (network, one))
    assert shared - private == shared_of_one - private_of_one


def test_the_head_starts_from_the_prior_and_so_does_one_that_is_reset(network: UNet3d):
    """Its parameters are named as ever; checkpoints know them so."""
    head = copy.deepcopy(network.head)
    assert list(head.state_dict()) == ["weight", "bias"]
    for _ in range(2):
        assert head.bias.tolist() == [PRIOR_LOGIT] * 3
        with torch.no_grad():
            head.bias.fill_(1.0)
        head.reset_parameters()
    assert not torch.equal(head.weight, network.head.weight)


def test_features_are_what_the_head_makes_logits_of(network: UNet3d):
    x, which = noise(2), [3, 1]
    features = network.features(x, which)
    assert features.shape == (2, network.head.in_channels, 16, 16, 16)
    assert torch.equal(network.head(features), network(x, which))


def test_sizes_need_not_be_equal(network: UNet3d):
    assert network(torch.randn(2, 1, 16, 32, 48).double(), [0, 3]).shape == (2, 3, 16, 32, 48)


@pytest.mark.parametrize("shape", [(1, 1, 24, 16, 16), (1, 2, 16, 16, 16), (1, 16, 16, 16)])
def test_wrong_sizes_raise(network: UNet3d, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"multiples of 16, got \[1, ") as error:
        network(torch.zeros(shape).double(), 0)
    assert str(list(shape)) in str(error.value)


def test_mixed_modalities_in_one_batch_are_each_alone(network: UNet3d):
    x, which = noise(4), [3, 0, 0, 2]
    together = network(x, which)
    for pair, modality in enumerate(which):
        assert torch.allclose(together[pair], network(x[pair : pair + 1], modality)[0], atol=1e-10)
    assert not torch.allclose(network(x, 0), network(x, 1)), "affines are alike: this test would show nothing"


# Fusion


def test_fusion_is_the_mean_over_the_subset(network: UNet3d, whole: Pairs):
    outputs = run_modalities(network, whole)
    for subset in SUBSETS:
        fused, samples = outputs.fuse(subset)
        assert samples == [0]
        assert torch.allclose(fused, sum(outputs.values[m] for m in subset) / len(subset), atol=1e-12)


def test_a_batch_whose_samples_miss_different_things_is_each_sample_alone(network: UNet3d, mixed: Pairs):
    together = run_modalities(network, mixed)
    for sample, have in enumerate(HAVE):
        by_itself = run_modalities(network, alone(mixed, sample))
        assert torch.allclose(together.fuse_present()[sample], by_itself.fuse_present()[0], atol=1e-10)
        assert torch.allclose(by_itself.fuse_present(), by_itself.fuse(have)[0], atol=1e-12)
        for subset in all_subsets(have):
            fused, members = together.fuse(subset)
            assert torch.allclose(fused[members.index(sample)], by_itself.fuse(subset)[0][0], atol=1e-10)


def test_the_modalities_of_a_subset_share_one_cotangent():
    """Theirs would be T * |S| tensors of the outputs' size, all with the same numbers, if the mean had stacked them."""
    values = {m: noise(2).requires_grad_() for m in MODALITIES}
    pairs = Pairs(2, {m: [0, 1] for m in MODALITIES}, values)
    for fused in (pairs.fuse(MODALITIES)[0], pairs.fuse_present()):
        grads = torch.autograd.grad(fused.square().sum(), list(values.values()))
        assert len({grad.data_ptr() for grad in grads}) == 1
        torch.testing.assert_close(grads[0], fused.detach() / 2)


def test_only_samples_with_all_of_a_subset_take_part(mixed: Pairs):
    for subset in SUBSETS:
        assert mixed.having(subset) == [s for s, have in enumerate(HAVE) if set(subset) <= set(have)]
    with pytest.raises(ValueError, match=r"no sample of this batch has all of t1\+t1ce"):
        alone(mixed, 2).fuse(("t1", "t1ce"))


def test_the_network_fuses_by_the_mean(network: UNet3d, mixed: Pairs):
    fused, members = network.fuse(mixed, ("t1", "t2"))
    assert torch.equal(fused, mixed.fuse(("t1", "t2"))[0])
    assert members == [1, 3]
    fused, members = network.fuse(mixed)
    assert torch.equal(fused, mixed.fuse_present())
    assert members == [0, 1, 2, 3]


def test_a_sample_without_any_modality_is_an_error_not_nan():
    pairs = Pairs(3, {"t1": [0], "t2": [0, 2]}, {"t1": noise(1), "t2": noise(2)})
    with pytest.raises(ValueError, match="sample 1 of this batch has no modality"):
        pairs.fuse_present()


# Objectives


def test_each_subset_has_the_loss_of_the_samples_that_have_it(mixed: Pairs):
    targets = noise(len(HAVE))
    losses = subset_objectives(mixed, targets, squared_error)
    assert set(losses) == set(SUBSETS), "the last sample has everything"
    for subset, loss in losses.items():
        members = [s for s, have in enumerate(HAVE) if set(subset) <= set(have)]
        fused = [alone(mixed, s).fuse(subset)[0][0] for s in members]
        assert loss.item() == pytest.approx(squared_error(torch.stack(fused), targets[members]).item())


def test_a_subset_that_no_sample_has_gets_no_objective(mixed: Pairs):
    losses = subset_objectives(alone(mixed, 1), torch.zeros(1), squared_error)
    assert list(losses) == [("t1",), ("t2",), ("t1", "t2")]


def test_the_full_objective_takes_what_each_sample_has(mixed: Pairs):
    targets = noise(len(HAVE))
    [loss] = full_objective(mixed, targets, squared_error).values()
    fused = torch.cat([alone(mixed, s).fuse(have)[0] for s, have in enumerate(HAVE)])
    assert loss.item() == pytest.approx(squared_error(fused, targets).item())


# Traps of METHODS, section 3


def test_trap_an_absent_modality_is_never_run(network: UNet3d, mixed: Pairs):
    """Published: every modality is run, and the absent ones are thrown away afterwards."""
    computed = Counter()
    hook = network.register_forward_pre_hook(lambda _, inputs: computed.update({inputs[1]: len(inputs[0])}))
    run_modalities(network, mixed)
    assert computed == {0: 3, 1: 2, 2: 2, 3: 3}, "modality index -> pairs; 16 would be all of them"
    computed.clear()
    run_modalities(network, alone(mixed, 1))
    hook.remove()
    assert computed == {1: 1, 3: 1}


def test_trap_private_parameters_of_an_absent_modality_get_no_gradient(network: UNet3d, whole: Pairs):
    """None, not zeros: zeros would count as shared, be averaged with, and be stepped on by weight decay."""
    names = [name for name, _ in network.named_parameters()]
    outputs = run_modalities(network, whole)
    for subset, loss in subset_objectives(outputs, torch.zeros(1).double(), squared_error).items():
        grads = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
        for name, grad in zip(names, grads, strict=True):
            private = name.rpartition(".")[2] if ".norm" in name else None
            reached = private is None or MODALITIES[int(private)] in subset
            assert (grad is not None) == reached, f"{name} for {subset}"


def test_trap_fifteen_objectives_take_32_backward_passes_not_60(network: UNet3d, whole: Pairs):
    """The sum of the subsets' sizes; published: every objective goes back through all 4 modalities."""
    forward, backward = Counter(), Counter()

    def count(_, inputs, output):  # at the far end of the path
        forward["pass"] += 1
        output.register_hook(lambda grad: backward.update(["pass"]))

    hook = network.encoder[0].conv1.register_forward_hook(count)
    losses = subset_objectives(run_modalities(network, whole), torch.zeros(1).double(), squared_error)
    for loss in losses.values():
        torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
    hook.remove()
    assert len(losses) == 15
    assert forward["pass"] == 4
    assert backward["pass"] == 32
