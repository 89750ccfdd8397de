"""The objectives' gradients at the modalities' outputs, their cotangents: the Gramians of real ones."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure.blobs import MODALITIES
from bench.measure.sequences import make_batch, make_network, subset_losses, tensors_of
from bench.measure.step import Step, region_loss
from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.training.objectives import subset_objectives


def cotangent_gram(losses: Sequence[Tensor], outputs: Mapping[str, Tensor]) -> Tensor:
    """Returns [M, T, T] float64, of the losses' gradients at each output, zeros where there is none."""
    values = list(outputs.values())
    rows = [torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True) for loss in losses]
    return gk.gram(rows, groups=range(len(values)))


def unet_gram() -> Tensor:
    """Returns the Gramians of bench.measure.step's network at 32 voxels along each axis."""
    step = Step("exact float32", 0.5, 32)
    values = {m: step.volumes[i : i + 1] for i, m in enumerate(MODALITIES)}
    outputs = run_modalities(step.network, Pairs(1, {m: [0] for m in MODALITIES}, values))
    return cotangent_gram(list(subset_objectives(outputs, step.target, region_loss).values()), tensors_of(outputs))


def transformer_gram() -> Tensor:
    """Returns the Gramians of bench.measure.sequence_step's network of width 64."""
    network = make_network(SharedTransformer, 64, 2)
    inputs, scores = make_batch(seed=1)
    outputs = run_modalities(network, inputs)
    return cotangent_gram(subset_losses(network, outputs, scores), tensors_of(outputs))
