"""TorchJD's autogram engine in its two-pass way: the Gramian by hooks on the layers, then a pass of weighted losses.

Rey and Quinton, "Jacobian Descent for Multi-Objective Optimization" (2024), algorithm 3, as torchjd 0.18 has it.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from gmd.models.conv import Conv3d
from gmd.surgery import Report


class Autogram:
    """Makes the gradient of the losses by TorchJD, behind the interface of `gmd.GMD`.

    The losses have no batch dimension, as each is one of the whole batch: `batch_dim=None`. Each layer is handed over
    once and by itself: handed over whole, a network that has modules in two places of its tree, as MONAI's DynUNet has
    its levels, gets hooks twice there, and a wrong Gramian.

    Args:
        network: changed so that its Gramian is right: the engine leaves out, without a word, layers that compute by an
            autograd function in Python, as our convolution of a lone sample does. Torch's own takes its place.

    Attributes:
        seen: the parameters that the Gramian is of. Those in an nn.ParameterList are not: the engine waits for a call
            of the list, and a layer takes its parameters out of it.
    """

    def __init__(self, network: nn.Module):
        from torchjd.aggregation import PCGradWeighting  # as in bench.measure.peers, a machine may lack it
        from torchjd.autogram import Engine

        for module in [module for module in network.modules() if isinstance(module, Conv3d)]:
            module.__class__ = _TorchsConvolution
        layers = list(_layers(network))
        self.seen = [param for layer in layers for param in layer.parameters(recurse=False)]
        self._engine = Engine(*layers, batch_dim=None)
        self._weigh = PCGradWeighting()

    def backward(self, losses: Sequence[Tensor], outputs: Mapping[str, Tensor] | None = None) -> Report:
        """Adds the combined gradient to `.grad`; the outputs do not help."""
        stacked = torch.stack(list(losses))
        with warnings.catch_warnings():
            # of an operator that torch.vmap runs row by row
            warnings.filterwarnings("ignore", message="There is a performance drop")
            gram = self._engine.compute_gramian(stacked)
        weights = self._weigh(gram)
        stacked.backward(weights)
        return Report(stacked.detach(), gram.double(), weights.double())


class _TorchsConvolution(Conv3d):
    """Torch's own convolution, but in float32 where oneDNN's in bfloat16 would leave gradients uninitialised."""

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return nn.Conv3d._conv_forward(self, x, weight, bias)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """Yields every module with parameters of its own that is called, once."""
    for module in network.modules():
        if any(True for _ in module.parameters(recurse=False)) and not isinstance(module, nn.ParameterList):
            yield module
