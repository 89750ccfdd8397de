"""What a network for segmentation offers besides what every multimodal network does."""

from collections.abc import Sequence

from torch import Tensor

from gmd.models.multimodal import MultimodalNetwork


class SegmentationNetwork(MultimodalNetwork):
    """A network from single-channel volumes to logits of regions, which are fused as logits.

    Call it with volumes [n, 1, X, Y, Z], float, and the modality index of each (an int for all of them, or n ints);
    it returns logits [n, R, X, Y, Z], which are `head` of `features`. X, Y and Z must be multiples of `stride`.

    Attributes:
        regions: the names of the R output channels.
        stride: the number of voxels that the sides of a volume must be multiples of.
    """

    stride: int
    regions: tuple[str, ...]

    def features(self, volumes: Tensor, modality: int | Sequence[int]) -> Tensor:
        """Computes what `head` makes the logits of, [n, C, X, Y, Z], from the same arguments as a call."""
        raise NotImplementedError
