"""Half and double the resolution of feature maps, as the U-Net does between its levels.

On a GPU torch's own max_pool3d and trilinear interpolation add up their gradients in varying order. Where
deterministic algorithms are asked for, the same is done there by operations that do not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Autocast on the CPU would pool and interpolate in float32, and hand float32 on: twice the memory, for nothing.


def halved(x: Tensor) -> Tensor:
    """Takes the maximum of each 2 x 2 x 2 voxels: [n, C, X, Y, Z] with X, Y, Z even -> [n, C, X/2, Y/2, Z/2]."""
    with torch.autocast(x.device.type, enabled=False):
        return _halved_by_hand(x) if _has_to_be_deterministic(x) else F.max_pool3d(x, 2)


def doubled(x: Tensor) -> Tensor:
    """Interpolates trilinearly between the outermost voxels, which stay: [n, C, X, Y, Z] -> [n, C, 2X, 2Y, 2Z]."""
    with torch.autocast(x.device.type, enabled=False):
        if _has_to_be_deterministic(x):
            return _doubled_by_hand(x)
        return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)


def _has_to_be_deterministic(x: Tensor) -> bool:
    return x.is_cuda and torch.are_deterministic_algorithms_enabled()


def _halved_by_hand(x: Tensor) -> Tensor:
    """Pools by slicing. Voxels that have the maximum together share its gradient; max_pool3d gives it to the first."""
    corners = [x[:, :, i::2, j::2, k::2] for i in range(2) for j in range(2) for k in range(2)]
    return torch.stack(corners).amax(dim=0)


def _doubled_by_hand(x: Tensor) -> Tensor:
    """Interpolates along one axis after the other.

    The 2n new voxels of an axis lie (n - 1) / (2n - 1) old ones apart. So new voxel 2k lies k / (2n - 1) before old
    voxel k, and new voxel 2k + 1 lies (n - 1 - k) / (2n - 1) behind it.
    """
    for axis in (2, 3, 4):
        size = x.shape[axis]
        before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)], dim=axis)
        after = torch.cat([x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)], dim=axis)
        along = [-1 if a == axis else 1 for a in range(x.ndim)]
        distance = torch.arange(size, dtype=torch.float64, device=x.device).div(2 * size - 1).to(x).view(along)
        pairs = torch.stack([x.lerp(before, distance), x.lerp(after, distance.flip(axis))], dim=axis + 1)
        x = pairs.flatten(axis, axis + 1)
    return x
