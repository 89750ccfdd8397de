"""What the networks for sequences have in common: a path for each modality, from its steps to its features."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gmd.data.padded import Padded
from gmd.data.sequences.samples import Sample
from gmd.models.multimodal import MultimodalNetwork
from gmd.models.sequences.encoder import SequenceDropout

Statistics = Mapping[str, tuple[Tensor, Tensor]]  # modality -> (mean [F], standard deviation [F]), any float type
LONGEST_WAVE = 10_000.0  # of the positions, as in Vaswani et al.


class SequenceNetwork(MultimodalNetwork):
    """Standardise, project, add the positions, encode. Networks differ in `encode`, and may in `fuse`.

    Args:
        features: modality -> numbers of a step, at least 1.
        outputs: C, the number of classes; 1 for a score.
        per_step: whether each step has a target, and so features, of its own.
        width: d of the features.
        heads: of the encoders' attention; they have to divide the width.
        dropout: rate, of the projected steps here.

    Call it with the sequences of one modality and its index: Padded, or a tensor [n, L, F] if all are equally long.
    It returns [n, L, d] if per_step, zeros in the padded steps, else [n, d], the mean over the steps.
    Nothing depends on what stands in the padded steps, not even if that is NaN.
    `head` makes fused features into predictions [..., C].

    Raises ValueError for sizes that do not fit together, when it is made and when it is called.
    """

    head: nn.Linear

    def __init__(
        self, features: Mapping[str, int], outputs: int, per_step: bool, width: int, heads: int, dropout: float
    ):
        super().__init__()
        _check_sizes(features, outputs, width, heads)
        self.modalities = tuple(features)
        self.per_step = per_step
        self.inputs = nn.ModuleList(Projection(m, number, width) for m, number in features.items())
        self.dropout = SequenceDropout(dropout)
        self.head = nn.Linear(width, outputs)

    def encode(self, tokens: Tensor, modality: int, mask: Tensor | None) -> Tensor:
        """tokens [n, L, d], mask [n, L] bool or None if nothing is padded -> [n, L, d]"""
        raise NotImplementedError

    def forward(self, values: Tensor | Padded, modality: int) -> Tensor:
        steps, mask = (values.values, values.mask) if isinstance(values, Padded) else (values, None)
        tokens = self.inputs[modality](steps, mask)
        tokens = self.dropout(tokens + positions(tokens))
        tokens = self.encode(tokens, modality, mask)
        if mask is None:
            return tokens if self.per_step else tokens.mean(dim=1)
        tokens = torch.where(mask[..., None], tokens, 0)
        return tokens if self.per_step else tokens.sum(dim=1) / values.lengths[:, None]

    def set_input_statistics(self, statistics: Statistics) -> None:
        """What the steps are standardised with; other modalities than those given keep theirs, 0 and 1 at first.

        Raises ValueError for a modality that the network does not know, and for numbers it cannot divide by.
        """
        if unknown := [m for m in statistics if m not in self.modalities]:
            raise ValueError(f"statistics: expected some of {', '.join(self.modalities)}, got {', '.join(unknown)}")
        projections = dict(zip(self.modalities, self.inputs, strict=True))
        checked = {m: projections[m].checked(*pair) for m, pair in statistics.items()}
        for m, (mean, std) in checked.items():
            projections[m].mean.copy_(mean)
            projections[m].std.copy_(std)


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


def input_statistics(samples: Sequence[Sample]) -> dict[str, tuple[Tensor, Tensor]]:
    """Of all steps of the samples that have the modality: its mean [F] and standard deviation [F], both float64.

    The standard deviation of a constant feature is exactly 0. A modality that no sample has is left out.
    """
    present = dict.fromkeys(m for sample in samples for m in sample.values)
    return {m: _statistics([sample.values[m] for sample in samples if m in sample.values]) for m in present}


def positions(tokens: Tensor) -> Tensor:
    """Sines and cosines of the step's number (Vaswani et al., NeurIPS 2017): [L, d] for tokens [n, L, d], any L."""
    length, width = tokens.shape[1:]
    halves = torch.arange((width + 1) // 2, device=tokens.device)
    waves = torch.arange(length, device=tokens.device)[:, None] / LONGEST_WAVE ** (2 * halves / width)
    return torch.cat([waves.sin(), waves.cos()], dim=1)[:, :width].to(tokens.dtype)


def _statistics(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    # one sequence after the other, since all of a large set would not fit into memory twice; constants in float32 have
    # exact sums in float64, and so a standard deviation of 0
    count = sum(len(sequence) for sequence in sequences)
    mean = sum(sequence.double().sum(dim=0) for sequence in sequences) / count
    square = sum((sequence - mean).square().sum(dim=0) for sequence in sequences) / count
    return mean, square.sqrt()


def _check_sizes(features: Mapping[str, int], outputs: int, width: int, heads: int) -> None:
    if not features:
        raise ValueError("features: expected at least one modality, got none")
    for modality, number in features.items():
        if number < 1:
            raise ValueError(f"features[{modality!r}]: expected at least 1 number per step, got {number}")
    if outputs < 1:
        raise ValueError(f"outputs: expected at least 1, got {outputs}")
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"width: expected a multiple of the {heads} heads, got {width}")
