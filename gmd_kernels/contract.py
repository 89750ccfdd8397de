"""The functions that a backend's module has, as types; docs/writing-a-backend.md says more of them.

There are T objectives, P parameters and K groups. The arguments were checked before a backend sees them.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gmd_kernels.gradients import Gradients


class GradientKernels(Protocol):
    """The ops on lists of gradients, which every backend has."""

    def gram(self, gradients: Gradients, groups: Sequence[int], num_groups: int) -> Tensor:
        """Returns [K, T, T] float64, the inner products of each group; groups: P ints 0..K-1, or none for one group."""

    def pcgrad_weights(self, gram: Tensor, order: Tensor) -> Tensor:
        """Returns [..., T, T] float64, row i for projected gradient i; order: [..., T, T-1] int64."""

    def combine(self, gradients: Gradients, weights: Tensor, out: list[Tensor | None]) -> list[Tensor | None]:
        """Returns P weighted sums, written into `out` where it has tensors; weights: [P, T] float64."""

    def sketch_(self, gradients: Gradients, sketch: Tensor, seed: int) -> None:
        """Adds the sketch of the one objective's gradient to `sketch`, [d] float32 or float64, in place."""


class WholeSurgery(Protocol):
    """The type of a function that does all of GMD in one call; a backend may have one."""

    def __call__(
        self,
        gradients: Gradients,
        groups: Sequence[int],
        num_groups: int,
        reduction: str,
        generator: torch.Generator | None,
        out: list[Tensor | None],
    ) -> tuple[list[Tensor | None], Tensor, Tensor]:
        """Returns P merged gradients, [K, T, T] float64 Gramians, [K, T] float64 weights of shared parameters."""


class NormKernels(Protocol):
    """The norm, which a backend may have."""

    def group_norm_relu(
        self, x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, num_groups: int, eps: float, /
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns y as x, [n, C, *spatial], mean and rstd [n, G], from weight and bias [R, C] and rows [n] int64."""

    def group_norm_relu_backward(
        self,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        rows: Tensor,
        mean: Tensor,
        rstd: Tensor,
        needs_x: bool,
        /,
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Returns dx as x, None if it is not wanted, and dweight, dbias [R, C]."""


class ProjectorKernels(Protocol):
    """The projector's update, which a backend may have."""

    def owm_update_(self, projector: Tensor, weight_grad: Tensor, mean_input: Tensor, alpha: float) -> None:
        """Updates the projector [d, d] and projects weight_grad [C, d], both in place; mean_input: [d]."""


class WeightingKernels(Protocol):
    """Weightings, each in one launch or two, which a backend may have: gram [..., T, T] float64 -> weights [..., T].

    They are the functions of their names in `gmd_kernels.weightings`, whose arguments were checked; preferences are
    [T] float64.
    """

    def imtl_g(self, gram: Tensor) -> Tensor: ...

    def aligned_mtl(self, gram: Tensor, preference: Tensor, scale_mode: str) -> Tensor: ...

    def config(self, gram: Tensor) -> Tensor: ...

    def mgda(self, gram: Tensor) -> Tensor: ...

    def cagrad(self, gram: Tensor, c: float) -> Tensor: ...

    def nash_mtl(self, gram: Tensor, max_norm: float | None) -> Tensor: ...

    def upgrad(self, gram: Tensor, preference: Tensor) -> Tensor: ...

    def dualproj(self, gram: Tensor, preference: Tensor) -> Tensor: ...

    def fairgrad(self, gram: Tensor, alpha: float) -> Tensor: ...

    def pcd(self, gram: Tensor, primary: int, tau: float | Tensor, state: Tensor | None) -> Tensor:
        """Updates the state, [..., 2, T] float64, in place; tau: a number, or [T] float64."""

    def gradvac(self, gram: Tensor, cosines: Tensor, order: Tensor, beta: float) -> Tensor:
        """Updates the cosines, [..., T, T] float64, in place; order: [..., T, T-1] int64."""
