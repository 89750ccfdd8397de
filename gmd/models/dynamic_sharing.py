"""Dynamic Sharing (Wang et al., AAAI 2024): one network for every modality, a fusion for every subset.

A batch is its (sample, modality) pairs. Only pairs that exist are computed, each modality in a forward pass of its own,
so that an objective's backward pass visits the paths of its own subset and nothing else: an absent modality costs
nothing, and its private parameters receive no gradient (`None`, not zeros).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.subsets import Subset


class ModalityGroupNorm(nn.Module):
    """GroupNorm with one affine per modality, and ReLU. The affines are parameters apart: what is private stays so."""

    def __init__(self, channels: int, num_modalities: int, max_groups: int = 8):
        super().__init__()
        self.groups = math.gcd(channels, max_groups)
        self.weight = nn.ParameterList(torch.ones(channels) for _ in range(num_modalities))
        self.bias = nn.ParameterList(torch.zeros(channels) for _ in range(num_modalities))

    def forward(self, x: Tensor, modality: int | Sequence[int]) -> Tensor:
        """x [n, C, ...] and the modality index of all n pairs, or of each -> [n, C, ...]"""
        if isinstance(modality, int):
            return gk.group_norm_relu(x, self.weight[modality][None], self.bias[modality][None], self.groups)
        if len(modality) != len(x):
            raise ValueError(f"modality: expected {len(x)} indices, one for each pair, got {len(modality)}")
        # a row for each pair, not for each modality: the gradient of one that is absent has to be None
        weight = torch.stack([self.weight[m] for m in modality])
        bias = torch.stack([self.bias[m] for m in modality])
        return gk.group_norm_relu(x, weight, bias, self.groups)


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
        rows = [_rows(self.values[m], self.samples[m], members) for m in subset]
        return reduce(torch.add, rows) / len(rows), members

    def fuse_present(self) -> Tensor:
        """Mean over whatever modalities each sample has: [num_samples, ...]"""
        total = reduce(torch.add, map(self._for_every_sample, self.values))
        counts = [sum(s in have for have in self.samples.values()) for s in range(self.num_samples)]
        return total / total.new_tensor(counts).view(-1, *[1] * (total.ndim - 1))

    def _for_every_sample(self, modality: str) -> Tensor:
        """The modality's values, zeros for the samples that do not have it: [num_samples, ...]"""
        values, samples = self.values[modality], self.samples[modality]
        if len(samples) == self.num_samples:
            return values
        zeros = values.new_zeros(self.num_samples, *values.shape[1:])
        return zeros.index_copy(0, torch.tensor(samples, device=values.device), values)


def run_modalities(network: nn.Module, inputs: Pairs) -> Pairs:
    """The shared `network(values, modality_index)` on every pair that exists, one modality after the other."""
    outputs = {m: network(values, network.modalities.index(m)) for m, values in inputs.values.items()}
    return Pairs(inputs.num_samples, inputs.samples, outputs)


def _rows(values: Tensor, samples: list[int], members: list[int]) -> Tensor:
    """Of the tensor whose rows belong to `samples`, the rows of `members`."""
    return values if samples == members else values[[samples.index(s) for s in members]]
