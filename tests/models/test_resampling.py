"""Half and double the resolution, with torch's operations and with those that are deterministic on a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gmd.models.segmentation import resampling

SHAPES = [(1, 1, 2, 2, 2), (2, 3, 4, 6, 2), (1, 5, 16, 8, 10)]


def with_gradient(function, x: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    y.backward(of)
    return y.detach(), x.grad


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_by_hand_as_torch_does(shape: tuple[int, ...], last: bool):
    layout = torch.channels_last_3d if last else torch.contiguous_format
    x = torch.randn(shape, dtype=torch.float64).to(memory_format=layout)
    n, c, *sides = shape
    small, large = (n, c, *(side // 2 for side in sides)), (n, c, *(side * 2 for side in sides))
    for by_hand, torchs, of in (
        (resampling._halved_by_hand, lambda x: F.max_pool3d(x, 2), torch.randn(small, dtype=torch.float64)),
        (
            resampling._doubled_by_hand,
            lambda x: F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True),
            torch.randn(large, dtype=torch.float64),
        ),
    ):
        for ours, theirs in zip(with_gradient(by_hand, x, of), with_gradient(torchs, x, of), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_one_voxel_is_doubled_to_eight_of_it():
    assert torch.equal(resampling._doubled_by_hand(torch.full((1, 1, 1, 1, 1), 3.0)), torch.full((1, 1, 2, 2, 2), 3.0))


@pytest.mark.parametrize("double", [resampling.doubled, resampling._doubled_by_hand])
def test_the_outermost_voxels_stay_in_place(double):
    """As published; new voxels are 2/5 of old ones apart. By torch's default the outer faces would stay in place."""
    x = torch.tensor([0.0, 3.0, 9.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 1)
    expected = torch.tensor([0.0, 1.2, 2.4, 4.2, 6.6, 9.0]).view(1, 1, 6, 1, 1).expand(1, 1, 6, 4, 2)
    torch.testing.assert_close(double(x), expected)


def test_by_hand_in_bfloat16_up_to_its_rounding():
    x = torch.randn(1, 2, 300, 2, 2)
    found = resampling._doubled_by_hand(x.bfloat16())
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found.float(), resampling.doubled(x.bfloat16().float()), rtol=0.02, atol=0.02)


def test_equal_maxima_share_the_gradient():
    _, grad = with_gradient(resampling._halved_by_hand, torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 1, 1, 1))
    assert torch.equal(grad, torch.full((1, 1, 2, 2, 2), 1 / 8))


def test_by_hand_only_where_it_has_to_be(monkeypatch: pytest.MonkeyPatch):
    """Which is on a GPU; here a CPU passes for one."""
    called = []
    for name in ("_halved_by_hand", "_doubled_by_hand"):
        monkeypatch.setattr(resampling, name, lambda x, name=name: called.append(name) or x)
    x = torch.ones(1, 1, 2, 2, 2)
    resampling.halved(x), resampling.doubled(x)
    torch.use_deterministic_algorithms(True)
    try:
        resampling.halved(x), resampling.doubled(x)
        assert called == []
        monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda _: True))
        resampling.halved(x), resampling.doubled(x)
    finally:
        torch.use_deterministic_algorithms(False)
    assert called == ["_halved_by_hand", "_doubled_by_hand"]
