"""A layer that standardises what it is given, with each feature's mean and deviation over the training samples."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gmd.models.sequences.input_statistics import Statistics


class Standardised(nn.Module):
    """A modality's first layer, which knows what its features are standardised with: 0 and 1 at first.

    Args:
        modality: its name, for error messages.
        features: F, how many features are standardised each by itself.

    Attributes:
        mean, std: float32 [F]: buffers, saved with the parameters.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, modality: str, features: int):
        super().__init__()
        self.modality = modality
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def checked(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the statistics for the buffers, with 1 for a standard deviation of 0: a constant feature becomes 0.

        Raises ValueError for shapes other than [F], for numbers that are not finite, for negative deviations.
        """
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


def set_statistics(layers: Mapping[str, Standardised], statistics: Statistics) -> None:
    """Sets what the layers standardise with: modality -> its layer, modality -> its mean and standard deviation.

    Modalities that are not given keep theirs. A standard deviation of 0 counts as 1.
    Raises ValueError for a modality that has no such layer, and for numbers that nothing can be divided by.
    """
    if unknown := [m for m in statistics if m not in layers]:
        raise ValueError(f"statistics: expected some of {', '.join(layers)}, got {', '.join(unknown)}")
    # all are checked before the first is set
    checked = [(layers[m], *layers[m].checked(*pair)) for m, pair in statistics.items()]
    for layer, mean, std in checked:
        layer.mean.copy_(mean)
        layer.std.copy_(std)
