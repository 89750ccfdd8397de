"""nnU-Net's network made into one of many modalities: each channel is seen by itself, and what is there is fused."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gmd.data.pairs import Pairs, samples_having
from gmd.errors import UserError
from gmd.models.conv import quick_lone_samples
from gmd.sharing import share

Scales = list[Tensor]  # logits [n, R, *spatial] of each resolution, the finest first


class SubsetNetwork(nn.Module):
    """A network for one channel, shared by M modalities: its logits are the mean of those of the modalities there.

    Everything is shared but the norms, which each modality has for itself (Dynamic Sharing; Wang et al., AAAI 2024).
    What sees it as a network for M channels, as nnU-Net's predictor does, needs to know nothing of that: a missing
    channel is one of zeros, and what is constant is left out, sample by sample and patch by patch.

    Args:
        network: maps [n, 1, *spatial] to logits [n, R, *spatial] or, with deep supervision, to a list of them, the
            finest first. It becomes the one of the first modality, as it is.
        num_modalities: M, the number of channels, 2 or more.

    Attributes:
        modalities: their names, "channel0" and so on, which stand in the state dict behind the private tensors' names.
        shared: the network in the views of the modalities.
    """

    def __init__(self, network: nn.Module, num_modalities: int):
        super().__init__()
        self.modalities = tuple(f"channel{number}" for number in range(num_modalities))
        quick_lone_samples(network)  # a tile of a prediction is one
        self.shared = share(network, self.modalities)

    @torch.compiler.disable(recursive=False)  # compiled are the views, which have one graph in common
    def forward(self, data: Tensor, rows: Mapping[str, Sequence[int]] | None = None) -> Any:
        """Computes the logits of what is there; or, for training, those of each modality by itself.

        Args:
            data: [B, M, *spatial], floating point.
            rows: the rows of the batch that have each modality, ascending; one that none has gets no key. By default
                what is not constant over `data` is there, and all of a row in which everything is constant. To know
                that the host waits for the device.

        Without `rows`, returns what the network returns, [B, R, *spatial] or a list: of each row the mean over the
        modalities that are there. With `rows`, returns modality -> a list of scales [n, R, *spatial], of the n rows
        that it was given.

        Raises UserError for another number of channels than modalities.
        """
        if data.ndim < 3 or data.shape[1] != len(self.modalities):
            raise UserError(
                f"data: got shape {list(data.shape)}, expected [B, {len(self.modalities)}, ...], a channel for each "
                "modality: of a case that lacks one, nnU-Net would take the others for those before them. Give zeros "
                "for a missing channel; `gmd nnunet predict` does"
            )
        if rows is not None:
            return {m: _as_list(self._logits(data, m, members)) for m, members in rows.items()}
        there = samples_having(self._there(data), self.modalities)
        outputs = {m: self._logits(data, m, members) for m, members in there.items()}
        scales = {m: _as_list(output) for m, output in outputs.items()}
        fused = [
            Pairs(len(data), there, dict(zip(scales, of_scale, strict=True))).fuse_present()
            for of_scale in zip(*scales.values(), strict=True)
        ]
        return fused[0] if isinstance(next(iter(outputs.values())), Tensor) else fused

    def _logits(self, data: Tensor, modality: str, members: Sequence[int]) -> Any:
        """Returns what the view of a modality makes of its channel in some rows."""
        number = self.modalities.index(modality)
        whole = len(members) == len(data)
        chosen = data if whole else data.index_select(0, torch.tensor(members, device=data.device))
        return self.shared(chosen[:, number : number + 1], modality)

    def _there(self, data: Tensor) -> list[list[str]]:
        """Returns the modalities of each row: those whose channel is not constant, or all if every one is."""
        lowest, highest = torch.aminmax(data.flatten(2), dim=2)
        found = [
            [m for m, varies in zip(self.modalities, row, strict=True) if varies]
            for row in (lowest != highest).tolist()
        ]
        return [row or list(self.modalities) for row in found]

    def views(self) -> list[nn.Module]:
        """Returns the network as each modality sees it."""
        return [self.shared.views[m] for m in self.modalities]

    def set_deep_supervision(self, enabled: bool) -> None:
        """Says whether each view's decoder returns all its resolutions, or the finest alone."""
        for view in self.views():
            decoder: Any = view.decoder
            decoder.deep_supervision = enabled

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles each view by itself, arguments as those of `torch.compile`: then all have one graph in common."""
        for view in self.views():
            view.compile(*args, **kwargs)


def _as_list(output: Tensor | Scales) -> Scales:
    return [output] if isinstance(output, Tensor) else list(output)
