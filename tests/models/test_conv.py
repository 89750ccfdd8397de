"""The convolution that avoids torch's slow path for a lone CPU sample, and keeps channels-last."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode

from gmd.models import conv as conv_module
from gmd.models.conv import Conv3d
from gmd.models.unet3d import UNet3d
from helpers.tiny_convolutions import assert_bf16_gradients

CHANNELS_LAST = torch.channels_last_3d
FORMATS = [torch.contiguous_format, CHANNELS_LAST]
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape: int, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(memory_format=memory_format).requires_grad_()


def quick(in_channels: int, out_channels: int) -> Conv3d:
    return Conv3d(in_channels, out_channels, kernel_size=3, padding=1)


def assert_close_to_float64(conv: Conv3d, x: Tensor) -> None:
    """Values and gradients against torch's own convolution of the same numbers in float64."""
    parameters = list(conv.parameters())
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, *parameters)]
    geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
    expected = F.conv3d(exact[0], exact[1], exact[2] if len(exact) > 2 else None, *geometry)
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
    conv = quick(shape[1], 6).to(memory_format=memory_format)
    assert_close_to_float64(conv, noise(*shape, memory_format=memory_format))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False},
        {"kernel_size": (1, 3, 3), "stride": (1, 2, 2), "padding": (0, 1, 1)},
        {"kernel_size": (3, 1, 2), "padding": (2, 1, 0), "dilation": (2, 1, 3)},
        {"kernel_size": 3, "padding": "same", "dilation": 2},
        {"kernel_size": 3, "padding": "valid", "bias": False},
        {"kernel_size": (2, 3, 4), "padding": "same"},
        {"kernel_size": 3, "padding": 1, "groups": 2},
        {"kernel_size": 5, "padding": 2},
        {"kernel_size": 1, "bias": False},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 1, "padding": 1},
        {"kernel_size": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_any_geometry(options: dict, memory_format: torch.memory_format):
    torch.manual_seed(0)
    conv = Conv3d(4, 6, **options).to(memory_format=memory_format)
    assert_close_to_float64(conv, noise(1, 4, 9, 8, 7, memory_format=memory_format))


def test_what_surrounds_the_volume_need_not_be_zeros():
    torch.manual_seed(0)
    circular = nn.Conv3d(4, 6, kernel_size=3, padding=1, padding_mode="circular")
    x = noise(1, 4, 9, 8, 7)
    expected = circular(x)
    circular.__class__ = Conv3d
    assert torch.equal(circular(x), expected)


def test_inputs_need_not_be_contiguous():
    x = noise(1, 12, 10, 9, 16)[:, ::2, 1:, :, ::2].detach().requires_grad_()
    assert not any(x.is_contiguous(memory_format=memory_format) for memory_format in FORMATS)
    assert_close_to_float64(quick(6, 5), x)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_pointwise_is_torchs_convolution(samples: int, memory_format: torch.memory_format):
    torch.manual_seed(0)
    conv = Conv3d(7, 3, kernel_size=1)
    x = noise(samples, 7, 5, 6, 3, memory_format=memory_format)
    assert_close_to_float64(conv, x)
    assert conv(x).is_contiguous(memory_format=memory_format)


@needs_onednn
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_what_goes_in_channels_last_comes_out_so_and_so_do_gradients(memory_format: torch.memory_format):
    conv = quick(4, 6).to(memory_format=memory_format)
    x = noise(1, 4, 8, 8, 8, memory_format=memory_format)
    y = conv(x)
    grads = torch.autograd.grad(y.square().sum(), (x, conv.weight))
    assert all(tensor.is_contiguous(memory_format=memory_format) for tensor in (y, *grads))


def test_the_graph_can_be_used_again():
    conv, x = quick(4, 6), noise(1, 4, 8, 8, 8)
    y, leaves = conv(x), (x, conv.weight, conv.bias)
    first = torch.autograd.grad(y.sum(), leaves, retain_graph=True)
    second = torch.autograd.grad(2 * y.sum(), leaves, retain_graph=True)
    third = torch.autograd.grad(y.sum(), leaves)
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(2 * a, b)
        assert torch.equal(a, c)


@needs_onednn
@pytest.mark.parametrize("frozen", ["input", "weight", "bias", "weight and bias"])
def test_only_the_gradients_that_somebody_needs_are_computed(frozen: str):
    """The volumes need none, so the first layer's backward pass is half of the work."""
    conv, x = quick(4, 6), noise(1, 4, 8, 8, 8)
    leaves = {"input": x, "weight": conv.weight, "bias": conv.bias}
    for name in frozen.split(" and "):
        leaves[name].requires_grad_(False)
    asked, total = [], conv(x).sum()

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.convolution_backward.default:
                asked.append(tuple(args[-1]))
            return function(*args, **(kwargs or {}))

    with Watched():
        total.backward()
    assert asked == [tuple(name not in frozen for name in leaves)]
    assert [leaf.grad is None for leaf in leaves.values()] == [name in frozen for name in leaves]
    if conv.bias.grad is not None:
        torch.testing.assert_close(conv.bias.grad, torch.full((6,), 512.0))


def test_gradients_of_gradients():
    torch.manual_seed(0)
    conv, x = quick(4, 6), noise(1, 4, 8, 8, 8)
    found = []
    for dtype in (torch.float32, torch.float64):
        leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in (x, conv.weight, conv.bias)]
        convolved = conv._conv_forward if dtype == torch.float32 else lambda *given: F.conv3d(*given, padding=1)
        gradients = torch.autograd.grad(convolved(*leaves).pow(3).sum(), leaves, create_graph=True)
        found.append(torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), leaves))
    for a, b in zip(*found, strict=True):
        assert (a - b).norm().item() <= 2e-6 * b.norm().item()


def test_many_gradients_at_once():
    """As torch.autograd.functional.jacobian with vectorize, and TorchJD's autogram, ask for them."""
    torch.manual_seed(0)
    conv, x = quick(4, 6), noise(1, 4, 8, 8, 8)
    leaves = (x, conv.weight, conv.bias)
    y = conv(x)
    cotangents = noise(3, *y.shape).detach()
    together = torch.autograd.grad(y, leaves, cotangents, is_grads_batched=True, retain_graph=True)
    for i, cotangent in enumerate(cotangents):
        for a, b in zip(together, torch.autograd.grad(y, leaves, cotangent, retain_graph=True), strict=True):
            assert (a[i] - b).norm().item() <= 2e-6 * b.norm().item()


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
    torch.manual_seed(0)
    conv, x = quick(32, 32), noise(1, 32, *shape, memory_format=memory_format)
    assert_bf16_gradients(conv, x, way)


@pytest.mark.slow
def test_bf16_gradients_on_a_processor_without_bf16_instructions():
    """oneDNN is told to do without them, which it can be only before it is first used."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "helpers.tiny_convolutions"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Where torch's own convolution has to do it


@pytest.fixture
def never_by_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_):
        raise AssertionError("expected torch's own convolution")

    monkeypatch.setattr(conv_module._OneDnnConvolution, "apply", fail)


@pytest.mark.usefixtures("never_by_ourselves")
def test_autocast_decides_the_type():
    with torch.autocast("cpu", torch.bfloat16):
        assert quick(4, 6)(noise(1, 4, 8, 8, 8)).dtype == torch.bfloat16


@pytest.mark.usefixtures("never_by_ourselves")
def test_other_types_and_larger_batches_are_left_to_torch():
    conv, x = quick(4, 6), noise(1, 4, 8, 8, 8)
    assert conv(x.expand(2, -1, -1, -1, -1)).shape == (2, 6, 8, 8, 8)
    assert conv.double()(x.double()).dtype == torch.float64
    assert quick(21, 2)(noise(1, 21, 32, 32, 1)).shape == (1, 2, 32, 32, 1), "large: torch takes oneDNN by itself"


@pytest.mark.usefixtures("never_by_ourselves")
def test_onednn_can_be_switched_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert_close_to_float64(quick(4, 6), noise(1, 4, 8, 8, 8))


@pytest.mark.usefixtures("never_by_ourselves")
def test_a_compiler_sees_torchs_convolution():
    targets, conv = [], quick(4, 6)

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
