# The compiled part, as csrc/bindings.cpp registers it: T objectives, P parameters, K groups, see csrc/ops.h.
# Arguments are trusted: gmd_kernels checks them before.

from collections.abc import Sequence

import torch
from torch import Tensor

class Gradients:  # T·P gradients as C++ reads them; keeps them alive
    @property
    def copied(self) -> bool: ...  # whether some are lazily negated, and read from copies
    @property
    def device(self) -> torch.device: ...
    @property
    def dtypes(self) -> list[torch.dtype]: ...  # each once
    @property
    def reached(self) -> list[int]: ...  # [P], how many objectives reach each parameter

# [T][P]; None if there is anything wrong or unusual about them
def read(grads: Sequence[Sequence[Tensor | None]], /) -> Gradients | None: ...

# [tensors, 3] int64 on the CPU: first address, address behind the last element, parameter
def spans(gradients: Gradients, /) -> Tensor: ...

# groups [P], 0..K-1, or empty for one group of all -> [K, T, T] float64
def gram_cpu(gradients: Gradients, groups: Sequence[int], num_groups: int, /) -> Tensor: ...

# [..., T, T] float64, [..., T, T-1] int64 -> [..., T, T] float64
def pcgrad_weights_cpu(gram: Tensor, order: Tensor, /) -> Tensor: ...

# weights [P, T] float64, out [P] -> [P]
def combine_cpu(gradients: Gradients, weights: Tensor, out: Sequence[Tensor | None], /) -> list[Tensor | None]: ...

# sketch [d] float32 or float64, in place
def sketch_cpu(gradients: Gradients, sketch: Tensor, seed: int, /) -> None: ...

# order [K, T, T-1] int64, out [P] -> merged [P], Gramians [K, T, T] and weights of shared parameters [K, T] float64
def surgery_cpu(
    gradients: Gradients,
    groups: Sequence[int],
    num_groups: int,
    order: Tensor,
    mean: bool,
    out: Sequence[Tensor | None],
    /,
) -> tuple[list[Tensor | None], Tensor, Tensor]: ...

# y with its autograd; None if there is anything wrong or unusual about the arguments, whatever they are
def group_norm_relu(
    x: object, weight: object, bias: object, num_groups: object, rows: object, eps: object, /
) -> Tensor | None: ...

# x [n, C, *spatial], weight and bias [R, C], rows [n] int64 -> y as x, mean and rstd [n, G]
def group_norm_relu_cpu(
    x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, num_groups: int, eps: float, /
) -> tuple[Tensor, Tensor, Tensor]: ...

# -> dx as x where it is wanted, dweight and dbias [R, C]
def group_norm_relu_backward_cpu(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    rows: Tensor,
    mean: Tensor,
    rstd: Tensor,
    needs_x: bool,
    /,
) -> tuple[Tensor | None, Tensor, Tensor]: ...

# whether owm_update_cpu can take the arguments as they are, whatever they are
def usual_owm(projector: object, weight_grad: object, mean_input: object, alpha: object, /) -> bool: ...

# projector [d, d] float32 or float64, weight_grad [C, d], both in place; mean_input [d] of the projector's type
def owm_update_cpu(projector: Tensor, weight_grad: Tensor, mean_input: Tensor, alpha: float, /) -> None: ...

# the instruction set that the kernels above run on; a ValueError if GMD_CPU_ISA names none
def cpu_isa() -> str: ...

# the rest is there only where it was built with CUDA: the same on the current stream, without waiting for the device

def gram_cuda(gradients: Gradients, groups: Sequence[int], num_groups: int, /) -> Tensor: ...
def pcgrad_weights_cuda(gram: Tensor, order: Tensor, /) -> Tensor: ...
def combine_cuda(gradients: Gradients, weights: Tensor, out: Sequence[Tensor | None], /) -> list[Tensor | None]: ...
def sketch_cuda(gradients: Gradients, sketch: Tensor, seed: int, /) -> None: ...

# rows None: row i for sample i, or the only row
def group_norm_relu_cuda(
    x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor | None, num_groups: int, eps: float, /
) -> tuple[Tensor, Tensor, Tensor]: ...
def group_norm_relu_backward_cuda(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    rows: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    needs_x: bool,
    /,
) -> tuple[Tensor | None, Tensor, Tensor]: ...

# without an order the kernel draws one, from the generator or the device's default one
def surgery_cuda(
    gradients: Gradients,
    groups: Sequence[int],
    num_groups: int,
    order: Tensor | None,
    generator: torch.Generator | None,
    mean: bool,
    out: Sequence[Tensor | None],
    /,
) -> tuple[list[Tensor | None], Tensor, Tensor]: ...

# weightings: gram [..., T, T] float64 -> [..., T]; preference [T] float64
def imtl_g_cuda(gram: Tensor, /) -> Tensor: ...
def config_cuda(gram: Tensor, /) -> Tensor: ...
def aligned_mtl_cuda(gram: Tensor, preference: Tensor, scale_mode: str, /) -> Tensor: ...
def mgda_cuda(gram: Tensor, /) -> Tensor: ...
def nash_mtl_cuda(gram: Tensor, max_norm: float | None, /) -> Tensor: ...
def dualproj_cuda(gram: Tensor, preference: Tensor, /) -> Tensor: ...
def upgrad_cuda(gram: Tensor, preference: Tensor, /) -> Tensor: ...
def cagrad_cuda(gram: Tensor, c: float, /) -> Tensor: ...
def fairgrad_cuda(gram: Tensor, alpha: float, /) -> Tensor: ...

# taus [T] float64, in tau's place; state [..., 2, T] float64, updated in place
def pcd_cuda(gram: Tensor, primary: int, tau: float, taus: Tensor | None, state: Tensor | None, /) -> Tensor: ...

# cosines [..., T, T] float64, updated in place; order [..., T, T-1] int64
def gradvac_cuda(gram: Tensor, cosines: Tensor, order: Tensor, beta: float, /) -> Tensor: ...

# int64, contiguous, on the CPU -> the same on the device
def upload(numbers: Tensor, device: torch.device, /) -> Tensor: ...

# why the kernels do not run on a GPU; None if they do
def why_not_cuda(index: int, /) -> str | None: ...
