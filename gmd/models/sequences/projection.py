"""From a modality's steps to the tokens of a transformer: standardised, projected, with positions to add."""

import torch
from torch import Tensor, nn

LONGEST_WAVE = 10_000.0  # of the positions, as in Vaswani et al.


class Projection(nn.Module):
    """A modality's steps, standardised, in the common space. The statistics are saved with the parameters."""

    def __init__(self, modality: str, features: int, width: int):
        super().__init__()
        self.modality = modality
        self.linear = nn.Linear(features, width)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def forward(self, steps: Tensor, mask: Tensor | None) -> Tensor:
        """steps [n, L, F], mask [n, L] bool -> [n, L, d]"""
        if steps.ndim != 3 or steps.shape[-1] != len(self.mean):
            raise ValueError(f"{self.modality}: expected [n, L, {len(self.mean)}], got {list(steps.shape)}")
        standard = (steps - self.mean) / self.std
        # chosen, not multiplied by 0: that would let NaN through
        return self.linear(standard if mask is None else torch.where(mask[..., None], standard, 0))

    def checked(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Statistics to take, with 1 for a standard deviation of 0: a constant feature becomes 0."""
        # in the buffers' type, where what is tiny may be 0 and what is huge infinite
        mean, std = mean.to(self.mean), std.to(self.std)
        for name, value in (("mean", mean), ("standard deviation", std)):
            expected = f"{self.modality}: expected a {name} of {len(self.mean)} finite numbers"
            if value.shape != self.mean.shape:
                raise ValueError(f"{expected}, got shape {list(value.shape)}")
            if not value.isfinite().all():
                raise ValueError(f"{expected}, got {value.tolist()}")
        if (std < 0).any():
            raise ValueError(f"{self.modality}: expected standard deviations of at least 0, got {float(std.min()):g}")
        return mean, torch.where(std == 0, 1, std)


def positions(tokens: Tensor) -> Tensor:
    """Sines and cosines of the step's number (Vaswani et al., NeurIPS 2017): [L, d] for tokens [n, L, d], any L."""
    length, width = tokens.shape[1:]
    halves = torch.arange((width + 1) // 2, device=tokens.device)
    waves = torch.arange(length, device=tokens.device)[:, None] / LONGEST_WAVE ** (2 * halves / width)
    return torch.cat([waves.sin(), waves.cos()], dim=1)[:, :width].to(tokens.dtype)
