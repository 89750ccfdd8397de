"""What is known of the networks for segmentation by their names, without building them: patches, width, size."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from gmd.models.unet3d import UNet3d

Patch = tuple[int, int, int]

SMALLEST_SIDE = 4  # of the coarsest feature maps in the networks that nnU-Net plans
LEVELS_OF_NNUNET = (3, 6)  # the fewest that MONAI's DynUNet has, the most that nnU-Net plans


@dataclass(frozen=True)
class Architecture:
    """A network for segmentation as it was published: what it takes, and how large it is at width 1.

    Attributes:
        stride: of a patch -> what its sides must be multiples of.
        parameters: how many there are at width 1; they grow with the square of it.
        channels: of the finest feature maps at width 1.
        one_voxel: whether the coarsest feature maps may be a single voxel. Batch and instance norm have no variance
            there, and refuse it.
        has_width: whether there is a choice of its channels.
        needs: the package that it needs besides MONAI, or None.
    """

    stride: Callable[[Patch], int]
    parameters: float
    channels: int
    one_voxel: bool = False
    has_width: bool = True
    needs: str | None = None

    def nearest(self, patch: Patch) -> Patch:
        """Returns the patch itself if the network takes it, else one that it takes, about as large."""
        stride = self.stride(patch)
        x, y, z = (max(1, round(size / stride)) * stride for size in patch)
        alone = x == y == z == stride and not self.one_voxel
        return (2 * x, 2 * y, 2 * z) if alone else (x, y, z)

    def expected(self, patch: Patch) -> str:
        """Says what patches of about this size must be."""
        stride = self.stride(patch)
        more = "" if self.one_voxel else f" with one side above {stride}"
        return f"multiples of {stride}{more}"

    def size(self, width: float) -> float:
        """Returns about how many parameters the network has at a width."""
        return self.parameters * (width**2 if self.has_width else 1)


def levels_of_dynunet(patch: Patch) -> int:
    """Returns how many levels nnU-Net plans for a patch: it halves it while all sides stay at least 4 voxels long.

    (Isensee et al., Nature Methods 2021. nnU-Net decides so for each axis; here the shortest decides for all.)
    """
    fewest, most = LEVELS_OF_NNUNET
    halvings = int(math.log2(max(1, min(patch)) / SMALLEST_SIDE)) if min(patch) >= SMALLEST_SIDE else 0
    return min(max(1 + halvings, fewest), most)


def _always(stride: int) -> Callable[[Patch], int]:
    return lambda patch: stride


ARCHITECTURES = {
    "unet": Architecture(_always(UNet3d.stride), 13e6, 32, one_voxel=True),
    "segresnet": Architecture(_always(8), 18.8e6, 32, one_voxel=True),
    "dynunet": Architecture(lambda patch: 2 ** (levels_of_dynunet(patch) - 1), 31.2e6, 32),
    "swinunetr": Architecture(_always(32), 62.2e6, 48, needs="einops"),
    "unetr": Architecture(_always(16), 92.7e6, 16, one_voxel=True, needs="einops"),
    "basicunet": Architecture(_always(16), 5.75e6, 32),
    "attentionunet": Architecture(_always(16), 5.91e6, 16),
    "vnet": Architecture(_always(16), 45.6e6, 32, has_width=False),
}
