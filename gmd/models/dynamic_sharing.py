"""Dynamic Sharing (Wang et al., AAAI 2024): one network for every modality, a fusion for every subset.

A batch is its (sample, modality) pairs. Only pairs that exist are computed, each modality in a forward pass of its own,
so that an objective's backward pass visits the paths of its own subset and nothing else: an absent modality costs
nothing, and its private parameters receive no gradient (`None`, not zeros).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.models.padded import Padded
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


class ModalityLayerNorm(nn.Module):
    """LayerNorm over the last dimension with one affine per modality, as above."""

    def __init__(self, width: int, num_modalities: int):
        super().__init__()
        self.weight = nn.ParameterList(torch.ones(width) for _ in range(num_modalities))
        self.bias = nn.ParameterList(torch.zeros(width) for _ in range(num_modalities))

    def forward(self, x: Tensor, modality: int) -> Tensor:
        """x [..., d], all of one modality -> [..., d]"""
        return F.layer_norm(x, x.shape[-1:], self.weight[modality], self.bias[modality])


@dataclass
class Pairs:
    """The (sample, modality) pairs of a batch: for each modality present, its values and whose they are.

    A network's inputs may be Padded sequences; its outputs are tensors, and only tensors can be fused.
    """

    num_samples: int
    samples: dict[str, list[int]]  # modality -> the samples that have it, ascending
    values: dict[str, Tensor | Padded]  # modality -> [n_m, ...], row i belongs to samples[modality][i]

    def having(self, subset: Subset) -> list[int]:
        """The samples that have every modality of `subset`, ascending."""
        return sorted(set(range(self.num_samples)).intersection(*(self.samples.get(m, ()) for m in subset)))

    def rows(self, subset: Subset) -> tuple[list[Tensor], list[int]]:
        """Of each modality of `subset` the values of the samples that have all of them, [b, ...], and those samples."""
        members = self.having(subset)
        if not members:
            raise ValueError(f"no sample of this batch has all of {'+'.join(subset)}")
        return [_rows(self.values[m], self.samples[m], members) for m in subset], members

    def fuse(self, subset: Subset) -> tuple[Tensor, list[int]]:
        """Mean over the modalities of `subset`, for the samples that have all of them: [b, ...] and those samples."""
        rows, members = self.rows(subset)
        return reduce(torch.add, rows) / len(rows), members

    def fuse_present(self) -> Tensor:
        """Mean over whatever modalities each sample has: [num_samples, ...]"""
        total = reduce(torch.add, map(self.for_every_sample, self.values))
        counts = self.present().sum(dim=1).to(total.device)
        return total / counts.view(-1, *[1] * (total.ndim - 1))

    def present(self) -> Tensor:
        """[num_samples, M] bool, on the CPU: which modalities of `values` each sample has.

        Raises ValueError for a sample that has none, since a mean over nothing is NaN.
        """
        present = torch.zeros(self.num_samples, len(self.values), dtype=torch.bool, device="cpu")
        for m, modality in enumerate(self.values):
            present[self.samples[modality], m] = True
        if not (some := present.any(dim=1)).all():
            raise ValueError(f"sample {int(some.int().argmin())} of this batch has no modality")
        return present

    def for_every_sample(self, modality: str) -> Tensor:
        """The modality's values, zeros for the samples that do not have it: [num_samples, ...]"""
        values, samples = self.values[modality], self.samples[modality]
        if len(samples) == self.num_samples:
            return values
        zeros = values.new_zeros(self.num_samples, *values.shape[1:])
        return zeros.index_copy(0, torch.tensor(samples, device=values.device), values)


def mean_fusion(outputs: Pairs, subset: Subset | None = None) -> tuple[Tensor, list[int]]:
    """The mean over `subset`, for the samples that have all of it, or over whatever each sample has, for all samples.

    returns [b, ...] and the b samples
    """
    return (outputs.fuse_present(), list(range(outputs.num_samples))) if subset is None else outputs.fuse(subset)


def run_modalities(network: nn.Module, inputs: Pairs, path: Callable | None = None) -> Pairs:
    """The shared `network(values, modality_index)` on every pair that exists, one modality after the other.

    path: another method of the network to call, with the same arguments
    """
    path = network if path is None else path
    outputs = {m: path(values, network.modalities.index(m)) for m, values in inputs.values.items()}
    return Pairs(inputs.num_samples, inputs.samples, outputs)


def _rows(values: Tensor, samples: list[int], members: list[int]) -> Tensor:
    """Of the tensor whose rows belong to `samples`, the rows of `members`."""
    if samples == members:
        return values
    row_of = {sample: row for row, sample in enumerate(samples)}
    return values.index_select(0, torch.tensor([row_of[s] for s in members], device=values.device))
