"""A made-up case for the benchmark of the step, of torch alone: the readers of files may be missing where a GPU is."""

import torch
import torch.nn.functional as F
from torch import Tensor

MODALITIES = ("flair", "t1", "t1ce", "t2")
REGIONS = ("WT", "TC", "ET")
# How much brighter than what is around it, for each modality: the outermost shell, the next, the core. They disagree.
CONTRASTS = ((1.0, 0.6, 0.4), (-0.3, -0.4, -0.6), (0.1, 0.4, 1.5), (0.7, 0.5, -0.5))
NOISE = (0.3, 0.6, 0.5, 0.5)
RADII = (0.5, 0.35, 0.2)  # of the regions around their common centre, where the volume is from -1 to 1


def make_case(size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns [M, 1, X, Y, Z] scans, zero outside a ball, and [1, R, X, Y, Z] regions, each within the one before."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.linspace(-1, 1, size)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    inside = (grid.norm(dim=0) < 0.95).float()
    centre = 0.3 * torch.randn(3, 1, 1, 1, generator=generator)
    distance = (grid - centre).norm(dim=0) + 0.15 * _smooth(size, generator)
    regions = torch.stack([distance < radius for radius in RADII]).float() * inside
    shells = regions - torch.cat([regions[1:], torch.zeros_like(regions[:1])])
    anatomy = _smooth(size, generator)
    tumour = torch.tensordot(torch.tensor(CONTRASTS), shells, dims=1)  # [M, X, Y, Z]
    sign = torch.tensor([-0.5, 0.5, -0.5, 0.5]).view(-1, 1, 1, 1)
    noise = torch.tensor(NOISE).view(-1, 1, 1, 1) * torch.randn(tumour.shape, generator=generator)
    return ((sign * anatomy + tumour + noise) * inside)[:, None], regions[None]


def _smooth(size: int, generator: torch.Generator) -> Tensor:
    """Returns [X, Y, Z] noise of standard deviation near 1 that changes over an eighth of the volume."""
    coarse = torch.randn(1, 1, 8, 8, 8, generator=generator)
    return F.interpolate(coarse, size=(size,) * 3, mode="trilinear", align_corners=True)[0, 0]
