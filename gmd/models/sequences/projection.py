"""Makes a modality's steps the tokens of a transformer: standardised, projected, with positions to add."""

import torch
from torch import Tensor, nn

from gmd.models.sequences.standardised import Standardised

LONGEST_WAVE = 10_000.0  # of the positions, as in Vaswani et al.


class Projection(Standardised):
    """Standardises a modality's steps and projects them into the space that all modalities share.

    Args:
        modality: its name, for error messages.
        features: F, the numbers of a step.
        width: d of the common space.
    """

    def __init__(self, modality: str, features: int, width: int):
        super().__init__(modality, features)
        self.linear = nn.Linear(features, width)

    def forward(self, steps: Tensor, mask: Tensor | None) -> Tensor:
        """Projects steps [n, L, F] to [n, L, d]. Raises ValueError for another shape.

        mask: [n, L] bool, True where there is a step; the others count as the mean, whatever stands there
        """
        if steps.ndim != 3 or steps.shape[-1] != len(self.mean):
            raise ValueError(f"{self.modality}: expected [n, L, {len(self.mean)}], got {list(steps.shape)}")
        standard = (steps - self.mean) / self.std
        # chosen, not multiplied by 0: that would let NaN through
        return self.linear(standard if mask is None else torch.where(mask[..., None], standard, 0))


def positions(tokens: Tensor) -> Tensor:
    """Computes the sines and cosines of each step's number (Vaswani et al., NeurIPS 2017), to be added to its token.

    tokens: [n, L, d], of which the shape, type and device count; returns [L, d]
    """
    length, width = tokens.shape[1:]
    halves = torch.arange((width + 1) // 2, device=tokens.device)
    waves = torch.arange(length, device=tokens.device)[:, None] / LONGEST_WAVE ** (2 * halves / width)
    return torch.cat([waves.sin(), waves.cos()], dim=1)[:, :width].to(tokens.dtype)
