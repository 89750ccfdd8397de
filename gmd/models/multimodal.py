"""What every network here offers: a forward pass per modality, a fusion for every subset of them, and a head.

A batch is its (sample, modality) pairs. Only pairs that exist are computed, each modality in a forward pass of its own,
so that an objective's backward pass visits the paths of its own subset and nothing else: an absent modality costs
nothing, and its private parameters receive no gradient (`None`, not zeros). So it is in Dynamic Sharing (Wang et al.,
AAAI 2024).
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from gmd.data.pairs import Pairs
from gmd.subsets import Subset


class MultimodalNetwork(nn.Module):
    """A network that works on one modality at a time, and fuses what it says of any subset of them.

    Call it with the values of one modality and the index of that modality in `modalities`; it returns the modality's
    output, a tensor with a row for each sample. `fuse` makes one tensor of the outputs of a subset.

    Attributes:
        modalities: their names, in the order of their indices.
        head: the last layer, from features to predictions. Segmentation networks apply it before the fusion, networks
            for sequences leave it to be applied to the fused features.
    """

    modalities: tuple[str, ...]
    head: nn.Module

    def fuse(self, outputs: Pairs[Tensor], subset: Subset | None = None) -> tuple[Tensor, list[int]]:
        """Fuses the outputs of `subset`, for the samples that have all of it, or whatever each of the samples has.

        outputs: modality -> [n_m, ...], of the samples that have it
        subset: of the modalities; None takes, for every sample, all modalities that this sample has
        returns the fused [b, ...] and the b samples that the rows belong to; here their mean over the modalities
        Raises ValueError if no sample has all of `subset`, or if a sample has no modality.
        """
        return mean_fusion(outputs, subset)


class FeatureNetwork(MultimodalNetwork):
    """A network whose outputs are features [n_m, ..., d], which are fused before one linear head predicts from them.

    Attributes:
        head: from the d features to all predictions of a sample.
        by_sample: whether row i of an output comes from sample i alone, in training too: not so with BatchNorm.
    """

    head: nn.Linear
    by_sample: bool = True


def mean_fusion(outputs: Pairs[Tensor], subset: Subset | None = None) -> tuple[Tensor, list[int]]:
    """Returns the mean over `subset`, for the samples that have it, or over whatever each sample has, for all samples.

    The arguments, what is returned and the errors are those of `MultimodalNetwork.fuse`.
    """
    return (outputs.fuse_present(), list(range(outputs.num_samples))) if subset is None else outputs.fuse(subset)


def run_modalities(
    network: MultimodalNetwork, inputs: Pairs[Any], path: Callable[[Any, int], Tensor] | None = None
) -> Pairs[Tensor]:
    """Runs `network(values, modality_index)` on every pair that exists, one modality after the other.

    inputs: what the network takes, tensors or Padded sequences
    path: another method of the network to call, with the same arguments, such as the features below its head
    returns the outputs, for the same samples
    """
    path = network if path is None else path
    outputs = {m: path(values, network.modalities.index(m)) for m, values in inputs.values.items()}
    return Pairs(inputs.num_samples, inputs.samples, outputs, numbers=inputs.numbers)
