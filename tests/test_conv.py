"""The convolution that avoids torch's slow path for a lone CPU sample."""

import pytest
import torch
import torch.nn.functional as F

from gmd.models.conv import Conv3d


@pytest.mark.parametrize(
    "shape", [(1, 5, 8, 7, 9), (1, 16, 32, 4, 4), (1, 3, 9, 6, 6), (2, 4, 8, 8, 8), (1, 1, 8, 8, 8)]
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_it_is_torchs_convolution_forward_and_backward(shape, channels_last):
    generator = torch.Generator().manual_seed(0)
    conv = Conv3d(shape[1], 6)
    x = torch.randn(shape, generator=generator).to(
        memory_format=torch.channels_last_3d if channels_last else torch.contiguous_format
    )
    x.requires_grad_()
    ours, plain = conv(x), F.conv3d(x, conv.weight, padding=1)
    assert ours.shape == plain.shape
    assert torch.allclose(ours, plain, rtol=1e-4, atol=1e-5)
    cotangent = torch.randn(plain.shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad(ours, (x, conv.weight), cotangent),
        torch.autograd.grad(plain, (x, conv.weight), cotangent),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()) + 1e-6)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_torch_still_needs_it():
    """If this fails, torch takes oneDNN for a lone sample by itself: gmd/models/conv.py can go."""

    def backend(samples):
        x, weight = torch.empty(samples, 16, 32, 32, 32), torch.empty(16, 16, 3, 3, 3)
        arguments = (x, weight, None, (1, 1, 1), (1, 1, 1), (1, 1, 1), False, (0, 0, 0), 1)
        return torch._C._select_conv_backend(*arguments)

    assert backend(1) == torch._C._ConvBackend.Slow3d
    assert backend(2) == torch._C._ConvBackend.Mkldnn
