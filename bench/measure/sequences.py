"""Made-up sequences and networks that have learnt from them a little, for the benchmarks of the transformers."""

from collections.abc import Callable
from functools import cache, partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gmd.data.padded import Padded
from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.network import SequenceNetwork
from gmd.subsets import Subset
from gmd.training.objectives import full_objective, subset_objectives
from gmd.training.tasks.criteria import absolute_error

FEATURES = {"text": 768, "audio": 74, "vision": 35}  # numbers of a step, as in unaligned CMU-MOSEI
STRENGTHS = (0.8, 0.3, 0.3)  # how much each modality says of the score
BATCH, LENGTH = 32, 50
BATCHES, TRAINED_STEPS = 4, 40

Network = TypeVar("Network", bound=SequenceNetwork)


def make_batch(seed: int) -> tuple[Pairs, Tensor]:
    """Samples that have all modalities, steps [b, L, F] each, and their scores [b], float32.

    The steps are noise, in which one direction of each modality tells the score.
    """
    directions, generator = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    scores = 1.5 * torch.randn(BATCH, generator=generator)
    values: dict[str, Tensor | Padded] = {}
    for (m, features), strength in zip(FEATURES.items(), STRENGTHS, strict=True):
        direction = F.normalize(torch.randn(features, generator=directions), dim=0)
        noise = torch.randn(BATCH, LENGTH, features, generator=generator)
        values[m] = noise + strength * scores[:, None, None] * direction
    return Pairs(BATCH, {m: list(range(BATCH)) for m in FEATURES}, values), scores


def make_network(kind: Callable[..., Network], width: int, layers: int) -> Network:
    """Returns a network that has been trained for a while on the mean of the subsets' losses.

    Equal arguments make equal networks. They have no dropout: nobody's gradients could be compared with it.
    """
    network = kind(FEATURES, outputs=1, per_step=False, width=width, layers=layers, dropout=0.0)
    network.load_state_dict(_trained(kind, width, layers))
    return network


@cache
def _trained(kind: Callable[..., SequenceNetwork], width: int, layers: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = kind(FEATURES, outputs=1, per_step=False, width=width, layers=layers, dropout=0.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for step in range(TRAINED_STEPS):
        inputs, scores = make_batch(1 + step % BATCHES)
        losses = subset_losses(network, run_modalities(network, inputs), scores)
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    return network.state_dict()


def tensors_of(outputs: Pairs) -> dict[str, Tensor]:
    """Returns the outputs by modality; a network's are tensors, only its inputs may be padded."""
    return {m: value for m, value in outputs.values.items() if isinstance(value, Tensor)}


def subset_losses(network: SequenceNetwork, outputs: Pairs, scores: Tensor) -> list[Tensor]:
    """Returns the losses, scalars, one for each of the 7 subsets of the modalities."""
    return list(subset_objectives(outputs, scores, absolute_error, partial(predict, network)).values())


def full_loss(network: SequenceNetwork, outputs: Pairs, scores: Tensor) -> list[Tensor]:
    """Returns the one loss of all modalities together."""
    return list(full_objective(outputs, scores, absolute_error, partial(predict, network)).values())


def predict(network: SequenceNetwork, outputs: Pairs, subset: Subset | None) -> tuple[Tensor, list[int]]:
    """Returns scores [b, 1] of the samples that have all of `subset`, and these samples; None takes what each has."""
    fused, samples = network.fuse(outputs, subset)
    return network.head(fused), samples
