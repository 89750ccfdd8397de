"""Which modules of a network are norms, and scales and shifts for those that have none."""

import re

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

OF_TORCH = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
# of other packages: LlamaRMSNorm, T5LayerNorm, GroupNorm2d; torch's weight and spectral norms have no parameters
OTHERS = re.compile(r"Norm([123]d)?$")


def is_norm(module: nn.Module) -> bool:
    """Returns whether a module is a norm: one of torch's classes, or called so and with parameters of its own."""
    own = any(True for _ in module.parameters(recurse=False))
    return isinstance(module, OF_TORCH) or (own and OTHERS.search(type(module).__name__) is not None)


def lacks_affine(module: nn.Module) -> bool:
    """Returns whether a module is a norm of torch's without a scale of its own, which can be given one."""
    return isinstance(module, OF_TORCH) and module.weight is None


def add_affine(norm: nn.Module, like: torch.Tensor) -> None:
    """Gives a norm of torch's that has no affine scales of 1 and shifts of 0: its output stays what it was.

    like: what the new ones have the type of and the device
    """
    if isinstance(norm, nn.LayerNorm | nn.RMSNorm):
        shape, norm.elementwise_affine = norm.normalized_shape, True
    else:
        assert isinstance(norm, _NormBase | nn.GroupNorm)  # the rest of what lacks_affine is true of
        shape, norm.affine = (norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features,), True
    norm.weight = nn.Parameter(torch.ones(shape).to(like))
    if not isinstance(norm, nn.RMSNorm):
        norm.bias = nn.Parameter(torch.zeros(shape).to(like))
