"""Small networks for sequences, and batches in which every sample misses something else."""

from functools import cache

import pytest
import torch
from torch import Tensor

from gmd.data.padded import Padded, pad
from gmd.data.pairs import Pairs
from gmd.models.modality_norms import ModalityLayerNorm
from gmd.models.sequences.branch_network import BranchNetwork
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.sequences.shared_transformer import SharedTransformer

FEATURES = {"text": 5, "audio": 3, "vision": 4}
MODALITIES = tuple(FEATURES)
NETWORKS = (SharedTransformer, LateFusionTransformer, BranchNetwork)
# every sample misses something else, the last one nothing
HAVE = [("text",), ("audio", "vision"), ("text", "vision"), MODALITIES]
NAN = float("nan")

every_network = pytest.mark.parametrize("kind", NETWORKS)
both_ways = pytest.mark.parametrize("per_step", [True, False], ids=["per step", "whole"])


@cache
def network_of(kind: type[SequenceNetwork], per_step: bool) -> SequenceNetwork:
    """Small and float64, without dropout, with affines and statistics that differ (they start alike)."""
    torch.manual_seed(0)
    network = kind(FEATURES, 2, per_step, width=12, layers=2, heads=3).double().eval()
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, ModalityLayerNorm)):
            for parameter in (*norm.weight, *norm.bias):
                parameter.add_(0.3 * torch.randn_like(parameter))
    statistics = {m: (torch.randn(f).double(), torch.rand(f).double() + 0.5) for m, f in FEATURES.items()}
    network.set_input_statistics(statistics)
    return network


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sequences(lengths: list[int], modality: str = "text", seed: int = 1) -> list[Tensor]:
    return [noise(length, FEATURES[modality], seed=seed + 7 * i) for i, length in enumerate(lengths)]


def extended(padded: Padded, steps: int, filling: float) -> Padded:
    """With `steps` more steps of padding, and `filling` in all of it."""
    more = padded.values.new_zeros(len(padded.values), steps, padded.values.shape[2])
    longer = Padded(torch.cat([padded.values, more], dim=1), padded.lengths)
    return Padded(longer.values.masked_fill(~longer.mask[..., None], filling), padded.lengths)


def valid(features: Tensor, lengths: Tensor) -> Tensor:
    """The features of the steps that there are; all of them if they belong to whole sequences."""
    if features.ndim == 2:
        return features
    return torch.cat([row[:length] for row, length in zip(features, lengths.tolist(), strict=True)])


def mixed(per_step: bool) -> Pairs:
    """The samples of HAVE; lengths differ between them and, of whole sequences, between modalities."""
    samples = {m: [s for s, have in enumerate(HAVE) if m in have] for m in MODALITIES}
    lengths = {m: [2 + s + (0 if per_step else i) for s in have] for i, (m, have) in enumerate(samples.items())}
    values = {m: pad(sequences(lengths[m], m)) for m in MODALITIES}
    if per_step:
        values = {m: extended(v, 2 + len(HAVE) - 1 - v.values.shape[1], 0) for m, v in values.items()}
    return Pairs(len(HAVE), samples, values)


def alone(pairs: Pairs, sample: int) -> Pairs:
    rows = {m: samples.index(sample) for m, samples in pairs.samples.items() if sample in samples}
    values = {m: Padded(*(part[row : row + 1] for part in pairs.values[m])) for m, row in rows.items()}
    return Pairs(1, {m: [0] for m in rows}, values)


def squared(fused: Tensor, targets: Tensor) -> Tensor:
    return (fused - targets.view(-1, *[1] * (fused.ndim - 1))).square().mean()
