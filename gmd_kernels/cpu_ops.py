"""The ops in C++, csrc/cpu: float32 gradients on the CPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmd_kernels import _C

DTYPES = frozenset({torch.float32})


def gram(grads: Sequence[Sequence[Tensor | None]], groups: Sequence[int], num_groups: int, device: torch.device):
    return _C.gram_cpu(grads, groups, num_groups)


def pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    return _C.pcgrad_weights_cpu(gram, order)


def combine(grads: Sequence[Sequence[Tensor | None]], weights: Tensor, out: list[Tensor | None]):
    return _C.combine_cpu(grads, weights.contiguous(), out)
