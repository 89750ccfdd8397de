"""What Python uses of the compiled part, gmd_kernels._C, where it may be missing; _C.pyi has all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from gmd_kernels._C import Gradients


class Native(Protocol):
    """The module gmd_kernels._C."""

    def read(self, grads: Sequence[Sequence[Tensor | None]], /) -> Gradients | None: ...

    def spans(self, gradients: Gradients, /) -> Tensor: ...

    def usual_owm(self, projector: object, weight_grad: object, mean_input: object, alpha: object, /) -> bool: ...

    # only where it was built with CUDA: ask hasattr
    def upload(self, numbers: Tensor, device: torch.device, /) -> Tensor: ...
