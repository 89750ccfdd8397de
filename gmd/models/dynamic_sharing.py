"""Dynamic Sharing (Wang et al., AAAI 2024): one network for every modality, a fusion for every subset.

A batch is its (sample, modality) pairs. Only pairs that exist are computed, each modality in a forward pass of its own,
so that an objective's backward pass visits the paths of its own subset and nothing else: an absent modality costs
nothing, and its private parameters receive no gradient (`None`, not zeros).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmd.subsets import Subset


class ModalityGroupNorm(nn.Module):
    """GroupNorm with one affine per modality, kept as separate parameters: what is private stays private."""

    def __init__(self, channels: int, num_modalities: int, max_groups: int = 8):
        super().__init__()
        self.groups = math.gcd(channels, max_groups)
        self.weight = nn.ParameterList(torch.ones(channels) for _ in range(num_modalities))
        self.bias = nn.ParameterList(torch.zeros(channels) for _ in range(num_modalities))

    def forward(self, x: Tensor, modality: int | Sequence[int]) -> Tensor:
        """x [n, C, ...] and the modality index of all n pairs, or of each -> [n, C, ...]"""
        if isinstance(modality, int):
            return F.group_norm(x, self.groups, self.weight[modality], self.bias[modality])
        if len(modality) != len(x):
            raise ValueError(f"modality: expected {len(x)} indices, one for each pair, got {len(modality)}")
        rows = (len(x), -1, *[1] * (x.ndim - 2))
        weight = torch.stack([self.weight[m] for m in modality]).view(rows)
        bias = torch.stack([self.bias[m] for m in modality]).view(rows)
        return F.group_norm(x, self.groups) * weight + bias


@dataclass
class Pairs:
    """The (sample, modality) pairs of a batch: for each modality present, its tensors and whose they are."""

    num_samples: int
    samples: dict[str, list[int]]  # modality -> the samples that have it, ascending
    values: dict[str, Tensor]  # modality -> [n_m, ...], row i belongs to samples[modality][i]

    def having(self, subset: Subset) -> list[int]:
        """The samples that have every modality of `subset`."""
        return [s for s in range(self.num_samples) if all(s in self.samples.get(m, ()) for m in subset)]

    def fuse(self, subset: Subset) -> tuple[Tensor, list[int]]:
        """Mean over the modalities of `subset`, for the samples that have all of them: [b, ...] and those samples."""
        members = self.having(subset)
        if not members:
            raise ValueError(f"no sample of this batch has all of {'+'.join(subset)}")
        rows = [self.values[m][_rows(self.samples[m], members)] for m in subset]
        return torch.stack(rows).mean(dim=0), members

    def fuse_present(self) -> Tensor:
        """Mean over whatever modalities each sample has: [num_samples, ...]"""
        first = next(iter(self.values.values()))
        total = first.new_zeros(self.num_samples, *first.shape[1:])
        for m, values in self.values.items():
            total = total.index_add(0, torch.tensor(self.samples[m], device=values.device), values)
        counts = [sum(s in have for have in self.samples.values()) for s in range(self.num_samples)]
        return total / total.new_tensor(counts).view(-1, *[1] * (total.ndim - 1))


def run_modalities(network: nn.Module, inputs: Pairs) -> Pairs:
    """The shared `network(values, modality_index)` on every pair that exists, one modality after the other."""
    outputs = {m: network(values, network.modalities.index(m)) for m, values in inputs.values.items()}
    return Pairs(inputs.num_samples, inputs.samples, outputs)


def _rows(samples: list[int], members: list[int]) -> slice | list[int]:
    return slice(None) if samples == members else [samples.index(s) for s in members]
