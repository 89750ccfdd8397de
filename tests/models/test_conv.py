"""The convolutions that avoid torch's slow path for a lone CPU sample, and keep channels-last."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import profile

from gmd.models import conv as conv_module
from gmd.models.conv import Conv3d, PointwiseConv3d
from gmd.models.unet3d import UNet3d

CHANNELS_LAST = torch.channels_last_3d
FORMATS = [torch.contiguous_format, CHANNELS_LAST]
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape: int, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(memory_format=memory_format).requires_grad_()


def assert_close_to_float64(conv: torch.nn.Conv3d, x: Tensor) -> None:
    """Values and gradients against torch's own convolution of the same numbers in float64."""
    parameters = list(conv.parameters())
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, *parameters)]
    expected = F.conv3d(*exact, padding=conv.padding)
    ours = conv(x)
    cotangent = noise(*ours.shape).detach()
    ours_grads = torch.autograd.grad(ours, (x, *parameters), cotangent)
    exact_grads = torch.autograd.grad(expected, exact, cotangent.double())
    for a, b in zip((ours, *ours_grads), (expected, *exact_grads), strict=True):
        assert a.dtype == torch.float32
        assert a.shape == b.shape
        assert (a - b).norm().item() <= 1e-6 * b.norm().item()


@pytest.mark.parametrize(
    "shape",
    [
        (1, 5, 8, 7, 9),
        (1, 16, 32, 4, 4),
        (1, 3, 9, 6, 6),
        (1, 1, 8, 8, 8),
        (1, 40, 2, 2, 2),
        (1, 7, 1, 1, 1),
        (1, 2, 3, 1, 5),
        (1, 20, 32, 33, 3),
        (2, 4, 8, 8, 8),
    ],
    ids=str,
)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_it_is_torchs_convolution_forward_and_backward(shape: tuple[int, ...], memory_format: torch.memory_format):
    torch.manual_seed(0)
    conv = Conv3d(shape[1], 6).to(memory_format=memory_format)
    assert_close_to_float64(conv, noise(*shape, memory_format=memory_format))


def test_inputs_need_not_be_contiguous():
    x = noise(1, 12, 10, 9, 16)[:, ::2, 1:, :, ::2].detach().requires_grad_()
    assert not any(x.is_contiguous(memory_format=memory_format) for memory_format in FORMATS)
    assert_close_to_float64(Conv3d(6, 5), x)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_pointwise_is_torchs_convolution(samples: int, memory_format: torch.memory_format):
    torch.manual_seed(0)
    conv = PointwiseConv3d(7, 3)
    x = noise(samples, 7, 5, 6, 3, memory_format=memory_format)
    assert_close_to_float64(conv, x)
    assert conv(x).is_contiguous(memory_format=memory_format)


@needs_onednn
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_what_goes_in_channels_last_comes_out_so_and_so_do_gradients(memory_format: torch.memory_format):
    conv = Conv3d(4, 6).to(memory_format=memory_format)
    x = noise(1, 4, 8, 8, 8, memory_format=memory_format)
    y = conv(x)
    grads = torch.autograd.grad(y.square().sum(), (x, conv.weight))
    assert all(tensor.is_contiguous(memory_format=memory_format) for tensor in (y, *grads))


def test_the_graph_can_be_used_again():
    conv, x = Conv3d(4, 6), noise(1, 4, 8, 8, 8)
    y, leaves = conv(x), (x, conv.weight, conv.bias)
    first = torch.autograd.grad(y.sum(), leaves, retain_graph=True)
    second = torch.autograd.grad(2 * y.sum(), leaves, retain_graph=True)
    third = torch.autograd.grad(y.sum(), leaves)
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(2 * a, b)
        assert torch.equal(a, c)


@needs_onednn
@pytest.mark.parametrize("frozen", ["input", "weight", "bias", "weight and bias"])
def test_only_the_gradients_that_somebody_needs_are_computed(frozen: str, monkeypatch: pytest.MonkeyPatch):
    """The volumes need none, so the first layer's backward pass is half of the work."""
    conv, x = Conv3d(4, 6), noise(1, 4, 8, 8, 8)
    leaves = {"input": x, "weight": conv.weight, "bias": conv.bias}
    for name in frozen.split(" and "):
        leaves[name].requires_grad_(False)
    asked, convolution_backward = [], torch.ops.aten.convolution_backward

    def watched(*arguments):
        asked.append(tuple(arguments[-1]))
        return convolution_backward(*arguments)

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", watched)
    conv(x).sum().backward()
    assert asked == [tuple(name not in frozen for name in leaves)]
    assert [leaf.grad is None for leaf in leaves.values()] == [name in frozen for name in leaves]
    if conv.bias.grad is not None:
        torch.testing.assert_close(conv.bias.grad, torch.full((6,), 512.0))


def test_no_gradient_of_a_gradient_is_promised():
    conv, x = Conv3d(4, 6), noise(1, 4, 8, 8, 8)
    [grad] = torch.autograd.grad(conv(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@needs_onednn
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_no_slow_convolution_runs_in_a_step_of_the_network(memory_format: torch.memory_format):
    network = UNet3d(("flair", "t1"), ("WT",), width=0.125).to(memory_format=memory_format)
    volumes = torch.randn(1, 1, 32, 32, 32).to(memory_format=memory_format)
    with profile() as profiled:
        network(volumes, 0).mean().backward()
    convolutions = [event.name for event in profiled.events() if "conv" in event.name]
    assert convolutions.count("aten::mkldnn_convolution") >= 18
    slow = [name for name in convolutions if "slow" in name]
    # contiguous logits are left to torch, which finds one thread faster without oneDNN
    assert len(slow) <= (0 if memory_format == CHANNELS_LAST else 2)


# Where oneDNN is wrong


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 5, 4), (1, 2, 3), (3, 2, 2)], ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("way", ["autocast", "bf16 weights"])
def test_bf16_gradients_of_the_lowest_level(shape: tuple[int, ...], memory_format: torch.memory_format, way: str):
    """oneDNN 3.12 leaves the gradient of the weight uninitialised for X = 2, which a patch of 32 has down there."""
    conv, x = Conv3d(32, 32), noise(1, 32, *shape, memory_format=memory_format)
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, conv.weight, conv.bias)]
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        y = conv(x) if way == "autocast" else conv.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    poison = [torch.full((size,), torch.nan) for size in (1000, 27 * 16 * 32, 27 * 32 * 32, 2 * 27 * 32 * 32)]
    del poison  # it is what uninitialised memory now holds
    grads = torch.autograd.grad(y.float().square().mean(), (x, conv.weight, conv.bias))
    expected = torch.autograd.grad(F.conv3d(*exact, padding=1).square().mean(), exact)
    for a, b in zip(grads, expected, strict=True):
        assert (a - b).norm().item() <= 0.02 * b.norm().item()


# Where torch's own convolution has to do it


@pytest.fixture
def never_by_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_):
        raise AssertionError("expected torch's own convolution")

    monkeypatch.setattr(conv_module._OneDnnConvolution, "apply", fail)


@pytest.mark.usefixtures("never_by_ourselves")
def test_autocast_decides_the_type():
    with torch.autocast("cpu", torch.bfloat16):
        assert Conv3d(4, 6)(noise(1, 4, 8, 8, 8)).dtype == torch.bfloat16


@pytest.mark.usefixtures("never_by_ourselves")
def test_other_types_and_larger_batches_are_left_to_torch():
    conv, x = Conv3d(4, 6), noise(1, 4, 8, 8, 8)
    assert conv(x.expand(2, -1, -1, -1, -1)).shape == (2, 6, 8, 8, 8)
    assert conv.double()(x.double()).dtype == torch.float64
    assert Conv3d(21, 2)(noise(1, 21, 32, 32, 1)).shape == (1, 2, 32, 32, 1), "large: torch takes oneDNN by itself"


@pytest.mark.usefixtures("never_by_ourselves")
def test_onednn_can_be_switched_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert_close_to_float64(Conv3d(4, 6), noise(1, 4, 8, 8, 8))


@pytest.mark.usefixtures("never_by_ourselves")
def test_a_compiler_sees_torchs_convolution():
    targets, conv = [], Conv3d(4, 6)

    def backend(graph, inputs):
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    x = noise(1, 4, 8, 8, 8)
    compiled = torch.compile(conv, fullgraph=True, backend=backend)(x)
    assert any("conv3d" in target for target in targets)
    assert compiled.shape == (1, 6, 8, 8, 8)


@needs_onednn
def test_torch_still_needs_it():
    """If this fails, torch takes oneDNN for a lone sample by itself: _OneDnnConvolution can go."""

    def backend(samples):
        x, weight = torch.empty(samples, 16, 32, 32, 32), torch.empty(16, 16, 3, 3, 3)
        arguments = (x, weight, None, (1, 1, 1), (1, 1, 1), (1, 1, 1), False, (0, 0, 0), 1)
        return torch._C._select_conv_backend(*arguments)

    assert backend(1) == torch._C._ConvBackend.Slow3d
    assert backend(2) == torch._C._ConvBackend.Mkldnn
