"""Any network of single-channel volumes as one of Dynamic Sharing, as training, evaluation and prediction take it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gmd.models.conv import quick_lone_samples
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.sharing import share


class SharedSegmentation(SegmentationNetwork):
    """A network from [n, 1, X, Y, Z] to logits [n, R, X, Y, Z], of which each modality has norms of its own.

    Everything but the norms is shared: see `gmd.share`. Its convolutions are quick for lone samples on the CPU.

    Args:
        network: takes one modality at a time, and becomes the first modality's view of the result.
        modalities: names, in the order of their indices.
        regions: names of the R output channels.
        stride: what X, Y and Z must be multiples of; 1 if nobody knows.
        last: the name of the network's last layer, a convolution whose output is the network's; None if it has none
            such, and then `head` and `features` cannot be used.

    Raises ValueError for a network that cannot be shared, as `gmd.share` does.
    """

    def __init__(
        self, network: nn.Module, modalities: Sequence[str], regions: Sequence[str], stride: int, last: str | None
    ):
        super().__init__()
        self.modalities = tuple(modalities)
        self.regions = tuple(regions)
        self.stride = stride
        self.last: str | None = None
        quick_lone_samples(network)
        self.shared = share(network, modalities)
        if last is not None:
            self.end_with(last)

    def end_with(self, last: str) -> None:
        """Says which of the network's modules is the last layer, where the network was made without saying so."""
        self.last = last
        # not registered a second time: the state dict has it once, where it lies in the network
        object.__setattr__(self, "head", self.shared.views[0].get_submodule(last))

    def forward(self, volumes: Tensor, modality: int | Sequence[int]) -> Tensor:
        return self._each(self.shared, volumes, modality)

    def features(self, volumes: Tensor, modality: int | Sequence[int]) -> Tensor:
        """Computes what `head` makes the logits of: [n, C, X, Y, Z], from the same arguments as a call.

        Raises ValueError if the network's last layer is no convolution.
        """
        return self._each(self._features_of, volumes, modality)

    def described(self) -> str:
        """Returns a sentence on how many of the parameters are shared, and how many private."""
        return self.shared.described()

    def _each(self, path: Callable[[Tensor, int], Tensor], volumes: Tensor, modality: int | Sequence[int]) -> Tensor:
        """Runs a path with the volumes of each modality, and returns the rows in the order of the volumes."""
        if isinstance(modality, int):
            return path(volumes, modality)
        if len(modality) != len(volumes):
            raise ValueError(f"modality: expected {len(volumes)} indices, one for each pair, got {len(modality)}")
        rows = {m: [row for row, other in enumerate(modality) if other == m] for m in modality}
        if len(rows) == 1:
            return path(volumes, modality[0])
        outputs = torch.cat([path(volumes[those], m) for m, those in rows.items()])
        places = torch.tensor([row for those in rows.values() for row in those], device=outputs.device)
        return outputs[places.argsort()]

    def _features_of(self, volumes: Tensor, modality: int) -> Tensor:
        if self.last is None:
            raise ValueError("features: expected a network whose last layer is a convolution, got another one")
        caught: list[Tensor] = []

        def catch(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            caught.append(given[0])

        handle = self.shared.views[modality].get_submodule(self.last).register_forward_pre_hook(catch)
        try:
            self.shared(volumes, modality)
        finally:
            handle.remove()
        return caught[-1]
