"""Tests of Strip-MLP: sizes to the unit, values and gradients against formulas, names of the published checkpoints."""

import io

import pytest
import torch
from torch import nn

import gmd
from gmd.models.strip_mlp import VARIANTS, Block, Depthwise, GlobalResponse, Strip, StripMLP
from helpers.strip_mlp_oracle import logits

# pixels and classes -> parameters of the light tiny, tiny, small and base networks, of the published code
PUBLISHED = {
    (224, 1000): (18_243_920, 24_903_920, 42_568_600, 57_216_480),
    (224, 100): (17_667_020, 24_327_020, 41_876_500, 56_409_180),
    (224, 101): (17_667_661, 24_327_661, 41_877_269, 56_410_077),
    (224, 10): (17_609_330, 24_269_330, 41_807_290, 56_328_450),
    (32, 10): (15_743_090, 21_792_530, 39_844_282, 54_038_274),
    (384, 1000): (21_805_520, 29_607_920, 46_168_600, 61_416_480),
}
SMALL = {
    **{16: 279_854, 20: 428_095, 32: 1_059_154, 40: 1_638_020, 64: 4_116_122},
    **{80: 6_401_630, 96: 9_170_914, 112: 12_447_494, 128: 16_223_530, 160: 25_289_650},
}
PER_BLOCK = {
    80: (456_300, 458_520, 1_110_000, 4_013_280),
    96: (335_016, 494_352, 1_507_680, 5_720_256),
    112: (407_876, 644_840, 2_031_344, 7_763_168),
}


def size_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", PUBLISHED, ids=lambda size: "-".join(map(str, size)))
def test_published_networks_have_the_published_parameters_to_the_unit(size):
    with torch.device("meta"):
        networks = [StripMLP(*size, *variant) for variant in VARIANTS.values()]
    assert tuple(map(size_of, networks)) == PUBLISHED[size]
    assert [len(list(network.parameters())) for network in networks] == [407, 605, 803, 803]


def test_published_networks_have_the_published_buffers():
    saved = []
    for variant in VARIANTS.values():
        with torch.device("meta"):
            network = StripMLP(224, 10, *variant)
        named = {name for name, _ in network.named_parameters()}
        saved.append([value.numel() for name, value in network.state_dict().items() if name not in named])
    assert [len(buffers) for buffers in saved] == [111, 165, 219, 219]
    assert [sum(buffers) for buffers in saved] == [19_717, 29_335, 46_729, 54_505]


@pytest.mark.parametrize("width", SMALL)
def test_small_networks_of_any_width(width):
    with torch.device("meta"):
        assert size_of(StripMLP(32, 10, width, (1, 1, 1, 1))) == SMALL[width]


@pytest.mark.parametrize("width", PER_BLOCK)
def test_each_block(width):
    with torch.device("meta"):
        blocks = [Block(width * 2**stage, 56 // 2**stage, 0.1) for stage in range(4)]
    assert tuple(map(size_of, blocks)) == PER_BLOCK[width]


def network_of(width: int, size: int = 64) -> StripMLP:
    """Returns a network in float64 of which nothing is at its initial value."""
    torch.manual_seed(width)
    network = StripMLP(size, 7, width, (1, 2, 1, 1), drop_path=0.0).double()
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            other = name.endswith(("gamma", "beta", "embeddings_table")) or value.ndim == 1
            if other and value.is_floating_point():
                value += 0.3 * torch.randn_like(value)
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    return network


def relative(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((ours - expected).norm() / expected.norm().clamp_min(1e-300)).detach())


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("width", [20, 32, pytest.param(80, marks=pytest.mark.slow)])
def test_values_and_all_gradients_are_those_of_the_formulas(width, training):
    network = network_of(width).train(training)
    state = {
        name: value.detach().clone().requires_grad_(value.is_floating_point())
        for name, value in network.state_dict().items()
    }
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(2, 7, dtype=torch.float64)
    expected = logits(state, images, (1, 2, 1, 1), width, training)
    names = [name for name, _ in network.named_parameters()]
    wanted = torch.autograd.grad(expected, [images, *(state[name] for name in names)], cotangent)
    ours = network(images)
    got = torch.autograd.grad(ours, [images, *network.parameters()], cotangent)
    assert relative(ours, expected) < 1e-12
    # in training a norm takes the bias of the layer before out again: that gradient is rounding, of 0
    scale = max(float(gradient.norm()) for gradient in wanted)
    for name, one, other in zip(["images", *names], got, wanted, strict=True):
        assert float((one - other).norm()) <= 1e-12 * max(float(other.norm()), 1e-3 * scale), name
    tables = [gradient for name, gradient in zip(names, got[1:], strict=True) if name.endswith("embeddings_table")]
    assert all(not gradient[[0, -1]].any() and gradient[1:-1].any() for gradient in tables if len(gradient) > 3)


@pytest.mark.parametrize(("groups", "patches", "size"), [(10, 4, 16), (5, 2, 8), (2, 5, 7), (3, 2, 1)])
def test_a_strip_layer_is_the_published_grouped_convolution(groups, patches, size):
    strip = Strip(groups, size).double()
    x = torch.randn(3, patches * groups, size, size, dtype=torch.float64, requires_grad=True)
    # channels are (group, column), height is the patch, width is the row
    as_published = (
        x.view(3, patches, groups, size, size).permute(0, 2, 4, 1, 3).reshape(3, groups * size, patches, size)
    )
    convolved = nn.functional.conv2d(as_published, strip.weight, strip.bias, padding=(0, 1), groups=groups)
    expected = convolved.view(3, groups, size, patches, size).permute(0, 3, 1, 4, 2).reshape(x.shape)
    ours = strip(x)
    assert relative(ours, expected) < 1e-12
    cotangent = torch.randn_like(ours)
    inputs = (x, strip.weight, strip.bias)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent), strict=True
    ):
        assert relative(one, other) < 1e-12


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("kernel", [(3, 3), (3, 7), (7, 7)])
def test_what_a_kernel_has_beyond_the_picture_changes_nothing(kernel, size):
    ours = Depthwise(4, size, kernel).double()
    x = torch.randn(2, 4, size, size, dtype=torch.float64, requires_grad=True)
    whole = nn.functional.conv2d(x, ours.weight, padding=(kernel[0] // 2, kernel[1] // 2), groups=4)
    cotangent = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, (x, ours.weight), cotangent)
    torch.testing.assert_close(ours(x), whole)
    torch.testing.assert_close(torch.autograd.grad(ours(x), (x, ours.weight), cotangent), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_global_response_overflows_in_no_precision_and_is_defined_at_zero(dtype):
    response = GlobalResponse(2).to(dtype)
    nn.init.ones_(response.gamma)
    x = torch.full((1, 3, 3, 2), 300.0, dtype=dtype)  # of which a square is beyond float16
    torch.testing.assert_close(response(x), 2 * x)
    zeros = torch.zeros(1, 3, 3, 2, dtype=dtype, requires_grad=True)
    response(zeros).sum().backward()
    assert bool(zeros.grad.isfinite().all())


def test_names_and_shapes_are_those_of_published_checkpoints_which_load():
    network = StripMLP(64, 5, 16, (1, 1, 1, 1))
    state = network.state_dict()
    block = "blocks2.0.token_mixing.smlp_block"
    shapes = {
        "patch_embed.weight": (16, 3, 4, 4),
        "blocks1.0.token_mixing.dwsc.conv_merge.BN.weight": (16,),
        "blocks1.0.token_mixing.dwsc.conv_merge.Conv.weight": (16, 1, 3, 3),
        f"{block}.BN.running_var": (16,),
        f"{block}.proj_h.weight": (32, 8, 1, 3),
        f"{block}.proj_w.bias": (32,),
        f"{block}.fuse_h.weight": (16, 32, 1, 1),
        f"{block}.mlp.0.bias": (32,),
        f"{block}.mlp.1.num_batches_tracked": (),
        f"{block}.fc_h.weight": (16, 1, 3, 7),
        f"{block}.fc_w.weight": (16, 1, 7, 3),
        f"{block}.reweight.fc2.weight": (48, 8, 1, 1),
        f"{block}.fuse.weight": (32, 32, 1, 1),
        f"{block}.relate_pos_h.embeddings_table": (17, 16),
        "blocks4.0.channel_mixing.conv_77.weight": (128, 1, 7, 7),
        "blocks4.0.channel_mixing.layer_norm.bias": (128,),
        "blocks4.0.channel_mixing.fc1.weight": (384, 128),
        "blocks4.0.channel_mixing.grn.gamma": (1, 1, 1, 384),
        "merging3.weight": (128, 64, 2, 2),
        "conv_s1_28.weight": (64, 1, 2, 2),
        "conv_s1_14.weight": (128, 1, 2, 2),
        "conv_s2_14.weight": (128, 1, 2, 2),
        "norm.running_mean": (128,),
        "head.weight": (5, 128),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert not [name for name in state if "index" in name]
    file = io.BytesIO()
    torch.save({"model": state}, file)
    file.seek(0)
    StripMLP(64, 5, 16, (1, 1, 1, 1)).load_state_dict(torch.load(file, weights_only=True)["model"])


def test_drop_path_drops_a_tenth_of_the_samples_and_keeps_the_mean():
    block = Block(16, 2, 0.1)
    torch.manual_seed(0)
    scaled = block._dropped(torch.ones(20_000, 1, 1, 1)).flatten()
    assert scaled.unique().tolist() == pytest.approx([0.0, 1 / 0.9])
    assert float((scaled == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(block.eval()._dropped(scaled), scaled)
    assert StripMLP(32, 2, 16, (1, 1, 1, 1)).blocks3[0].drop_path == 0.1


def test_evaluation_is_deterministic_and_knows_nothing_of_the_rest_of_the_batch():
    network = network_of(16, 32).eval()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 3, 64, 32), (1, 1, 64, 64), (3, 64, 64)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"images: expected \[N, 3, 64, 64\], as the network was made with image_size=64"
    ):
        StripMLP(64, 2, 16, (1, 1, 1, 1))(torch.zeros(shape))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((48, 2, 16, (1,) * 4), ValueError, "image_size: expected a multiple of 32, got 48"),
        (((64, 64), 2, 16, (1,) * 4), TypeError, r"image_size: expected an integer, got \(64, 64\)"),
        ((64, 0, 16, (1,) * 4), ValueError, "classes: expected at least 1, got 0"),
        ((64, 2, 15, (1,) * 4), ValueError, "width: expected an even number such as 16, 80, 96 or 112, got 15"),
        ((64, 2, 16, (1, 1)), ValueError, r"depths: expected the numbers of blocks of four stages, got \[1, 1\]"),
        (
            (64, 2, 16, (1.5, 1, 1, 1)),
            ValueError,
            r"depths: expected the numbers of blocks of four stages, got \[1.5, ",
        ),
        ((64, 2, 16, (1,) * 4, 1.0), ValueError, r"drop_path: expected a rate of at least 0 and below 1, got 1.0"),
    ],
)
def test_sizes_of_which_no_network_can_be_made_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        StripMLP(*given)


def test_it_can_be_shared_and_its_features_are_outputs_of_a_modality():
    shared = gmd.share(StripMLP(32, 2, 16, (1, 1, 1, 1), drop_path=0.0).double(), ("frame", "spectrogram"))
    surgeon = gmd.GMD(torch.optim.AdamW(shared.parameters()))
    outputs = {m: shared(torch.randn(4, 3, 32, 32, dtype=torch.float64), m) for m in shared.modalities}
    fused = [outputs["frame"], outputs["spectrogram"], sum(outputs.values()) / 2]
    report = surgeon.backward([nn.functional.cross_entropy(one, torch.tensor([0, 1, 0, 1])) for one in fused], outputs)
    assert bool(report.finite)
    assert all(p.grad is not None for p in shared.parameters())


@pytest.mark.slow
def test_it_compiles():
    network = network_of(16, 32).eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(network, backend="aot_eager", fullgraph=True)(images), network(images))
