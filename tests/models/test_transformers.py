"""The networks for sequences, one modality's path of them: padding and company change nothing."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import gmd
from gmd.data.padded import Padded, pad
from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.branch_network import BranchNetwork
from gmd.models.sequences.encoder import Encoder, SequenceDropout
from gmd.models.sequences.projection import positions
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.subsets import all_subsets
from helpers.transformer_cases import (
    FEATURES,
    HAVE,
    MODALITIES,
    NAN,
    both_ways,
    every_network,
    extended,
    mixed,
    network_of,
    noise,
    sequences,
    squared,
    valid,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# The encoder


def torchs_layer(block: nn.Module, modality: int) -> nn.TransformerEncoderLayer:
    """torch's own pre-norm layer, with the block's parameters and the affine of one modality."""
    width, hidden = block.mix.in_features, block.mlp[0].out_features
    layer = nn.TransformerEncoderLayer(
        width, block.heads, hidden, 0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    own = {
        "self_attn.in_proj_weight": block.qkv.weight,
        "self_attn.in_proj_bias": block.qkv.bias,
        "self_attn.out_proj.weight": block.mix.weight,
        "self_attn.out_proj.bias": block.mix.bias,
    }
    own |= {f"linear{i}.{part}": getattr(block.mlp[2 * i - 2], part) for i in (1, 2) for part in ("weight", "bias")}
    for i, norm in ((1, block.norm1), (2, block.norm2)):
        own |= {f"norm{i}.weight": norm.weight[modality], f"norm{i}.bias": norm.bias[modality]}
    layer.load_state_dict(own)
    return layer


@pytest.mark.parametrize("modality", [0, 1])
def test_the_encoder_is_torchs_with_the_norms_of_the_modality(modality: int):
    torch.manual_seed(0)
    encoder = Encoder(2, width=12, layers=2, heads=3, dropout=0).double()
    for parameter in (p for name, p in encoder.named_parameters() if "norm" in name):
        nn.init.normal_(parameter)
    tokens, mask = noise(3, 6, 12), torch.arange(6) < torch.tensor([[6], [1], [4]])
    expected = tokens
    for block in encoder.blocks:
        expected = torchs_layer(block, modality)(expected, src_key_padding_mask=~mask)
    last = encoder.norm
    expected = nn.functional.layer_norm(expected, (12,), last.weight[modality], last.bias[modality])
    torch.testing.assert_close(encoder(tokens, modality, mask)[mask], expected[mask], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [1, 7, 12])
def test_positions_are_the_published_sines_and_cosines(width: int):
    found, half = positions(torch.zeros(2, 3000, width)), (width + 1) // 2
    for step in (0, 1, 499, 2999):
        waves = [step / 10_000 ** (2 * i / width) for i in range(half)]
        expected = [*np.sin(waves), *np.cos(waves)][:width]
        np.testing.assert_allclose(found[step], expected, atol=2e-4)


def test_dropout_takes_features_from_whole_sequences():
    torch.manual_seed(0)
    dropout, tokens = SequenceDropout(0.25), torch.ones(50, 6, 40)
    factors = dropout(tokens)
    assert torch.equal(factors, factors[:, :1].expand_as(factors))
    torch.testing.assert_close(factors.unique(), torch.tensor([0, 1 / 0.75]))
    assert (factors[:, 0] == 0).float().mean() == pytest.approx(0.25, abs=0.05)
    assert not torch.equal(factors[0], factors[1])
    assert torch.equal(dropout.eval()(tokens), tokens)


# Padding and company


@every_network
@both_ways
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_padding_has_no_influence_were_it_nan(kind: type, per_step: bool, data: st.DataObject):
    network = network_of(kind, per_step)
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    m = data.draw(st.integers(0, 2))
    padded = pad(sequences(lengths, MODALITIES[m]))
    parameters, results = list(network.parameters()), []
    for more, filling in ((0, 0.0), (data.draw(st.integers(1, 9)), NAN)):
        inputs = extended(padded, more, filling)
        inputs.values.requires_grad_()
        features = network(inputs, m)
        assert features.isfinite().all()
        if per_step:
            assert not features[~inputs.mask].any(), "zeros in the padded steps"
        grads = torch.autograd.grad(features.square().sum(), [inputs.values, *parameters], allow_unused=True)
        assert not grads[0][~inputs.mask].any()
        results.append([valid(features, padded.lengths), grads[0][inputs.mask], *grads[1:]])
    for short, long in zip(*results, strict=True):
        assert (short is None) == (long is None)
        if short is not None:
            torch.testing.assert_close(long, short, rtol=1e-9, atol=1e-9)


@every_network
@both_ways
@given(lengths=st.lists(st.integers(1, 7), min_size=2, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_trap_a_prediction_does_not_depend_on_who_shares_its_batch(kind: type, per_step: bool, lengths: list, seed):
    """Nor on the order in it. Published: of 64 predictions 29 differ between batches of 1 and of 64."""
    network, single = network_of(kind, per_step), sequences(lengths)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed)).tolist()
    together = network(pad([single[i] for i in order]), 0)
    for row, i in enumerate(order):
        by_itself = network(single[i][None], 0)  # a tensor: nothing is padded
        found = together[row : row + 1, : lengths[i]] if per_step else together[row : row + 1]
        torch.testing.assert_close(found, by_itself, rtol=1e-9, atol=1e-9)


@every_network
def test_features_of_a_whole_are_the_mean_of_its_steps(kind: type):
    whole, per_step = (network_of(kind, way) for way in (False, True))
    padded = pad(sequences([4, 1, 6]))
    steps = per_step(padded, 0)
    expected = torch.stack([row[:length].mean(dim=0) for row, length in zip(steps, (4, 1, 6), strict=True)])
    torch.testing.assert_close(whole(padded, 0), expected)


@every_network
def test_steps_see_each_other_and_their_order(kind: type):
    network = network_of(kind, True)
    [x] = sequences([5])
    features = network(x[None], 0)[0]
    assert not torch.allclose(network(x.flip(0)[None], 0)[0].flip(0), features, atol=1e-3)
    other = x.clone()
    other[4] += 1
    assert (network(other[None], 0)[0] - features).abs().amax(dim=1).min() > 1e-4, "each step sees the last one"


# Surroundings


@every_network
@both_ways
def test_gmd_by_the_outputs_is_gmd_by_whole_backward_passes(kind: type, per_step: bool):
    """NaN in the padding reaches neither the Gramian nor a gradient."""
    network, inputs = network_of(kind, per_step), mixed(per_step)
    inputs.values = {m: extended(v, 0, NAN) for m, v in inputs.values.items()}
    targets, results = noise(len(HAVE)), []
    for by_outputs in (False, True):
        outputs = run_modalities(network, inputs)
        losses = []
        for subset in all_subsets(MODALITIES):
            fused, samples = network.fuse(outputs, subset)
            losses.append(squared(network.head(fused), targets[samples]))
        network.zero_grad()
        surgeon = gmd.GMD(torch.optim.SGD(network.parameters(), lr=0.1), generator=torch.Generator().manual_seed(0))
        report = surgeon.backward(losses, outputs=outputs.values if by_outputs else None)
        assert report.finite
        results.append([report.gram, *(p.grad for p in network.parameters())])
    network.zero_grad()
    for whole, by_outputs in zip(*results, strict=True):
        torch.testing.assert_close(by_outputs, whole, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", [SharedTransformer, BranchNetwork])
def test_one_modalitys_path_compiles_to_one_graph(kind: type):
    torch.compiler.reset()
    network, padded = network_of(kind, True), pad(sequences([3, 5]))
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(padded, 0), network(padded, 0))
    torch.compiler.reset()


@every_network
@both_ways
def test_autocast_computes_in_bfloat16_about_the_same(kind: type, per_step: bool):
    torch.manual_seed(0)
    network, inputs = kind(FEATURES, 2, per_step, width=16).eval(), mixed(per_step)
    values = {m: Padded(v.values.float(), v.lengths) for m, v in inputs.values.items()}
    inputs = Pairs(inputs.num_samples, inputs.samples, values)

    def predictions() -> Tensor:
        return network.head(network.fuse(run_modalities(network, inputs))[0])

    expected = predictions()
    with torch.autocast("cpu", torch.bfloat16):
        found = predictions()
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.1)
    found.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@every_network
@both_ways
def test_sequences_of_one_step(kind: type, per_step: bool):
    network = kind(FEATURES, 1, per_step)
    outputs = run_modalities(
        network, Pairs(1, {m: [0] for m in FEATURES}, {m: torch.zeros(1, 1, f) for m, f in FEATURES.items()})
    )
    network.head(network.fuse(outputs)[0]).sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@every_network
def test_networks_learn_what_one_modality_says_at_another_step(kind: type):
    """The target of a sequence is the sign of text's first feature at its first step, all else is noise."""
    torch.manual_seed(0)
    network = kind(FEATURES, 1, False, width=16, layers=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    values = {m: torch.randn(32, 4, f) for m, f in FEATURES.items()}
    inputs = Pairs(32, {m: list(range(32)) for m in FEATURES}, values)
    targets = values["text"][:, 0, 0].sign()
    losses = []
    for _ in range(60):
        fused, _ = network.fuse(run_modalities(network, inputs))
        loss = (network.head(fused)[:, 0] - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# Bad input


@every_network
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30}, "width: expected a multiple of the 4 heads, got 30"),
        ({"heads": 0}, "width: expected a multiple of the 0 heads, got 64"),
        ({"features": {}}, "features: expected at least one modality, got none"),
        ({"features": {"text": 3, "audio": 0}}, r"features\['audio'\]: expected at least 1 number per step, got 0"),
        ({"outputs": 0}, "outputs: expected at least 1, got 0"),
    ],
)
def test_sizes_that_do_not_fit_raise(kind: type, change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        kind(**({"features": FEATURES, "outputs": 1, "per_step": False} | change))


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 5), (2, 3, 4, 5)])
def test_values_of_the_wrong_width_raise(shape: tuple[int, ...]):
    network = network_of(SharedTransformer, False)
    for values in (torch.zeros(shape), Padded(torch.zeros(shape), torch.ones(2, dtype=torch.int64))):
        with pytest.raises(ValueError, match=r"text: expected \[n, L, 5\], got \[2, ") as error:
            network(values, 0)
        assert str(list(shape)) in str(error.value)


@pytest.mark.parametrize("lengths", [[], [3, 0, 1]])
def test_sequences_without_a_step_cannot_be_padded(lengths: list[int]):
    with pytest.raises(ValueError, match=r"each of at least one step, got lengths \["):
        pad(sequences(lengths))
