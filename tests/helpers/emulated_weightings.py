"""The weightings of gmd_kernels/cuda_ops.py on a CPU: csrc/cuda/weightings in the emulator, called as there.

Whatever a kernel writes is poisoned before.
"""

from ctypes import c_double, c_int64
from typing import Any

import torch
from torch import Tensor

from helpers.cuda_emulator import check, library, pointer

SPECTRAL = ("imtl_g", "config", "min", "median", "rmse")  # as enum class Spectral
PROGRAMS = ("mgda", "nash_mtl", "dualproj")  # as enum class Program


def _weights(name: str, gram: Tensor, *arguments: Any) -> Tensor:
    gram, t = gram.contiguous(), gram.shape[-1]
    weights = gram.new_full(gram.shape[:-1], 12345.0)
    grams = pointer(gram), c_int64(gram.shape[:-2].numel()), t
    check(getattr(library(), f"run_{name}")(*grams, *arguments, pointer(weights)))
    return weights


def imtl_g(gram: Tensor) -> Tensor:
    return _weights("spectral", gram, SPECTRAL.index("imtl_g"), None)


def config(gram: Tensor) -> Tensor:
    return _weights("spectral", gram, SPECTRAL.index("config"), None)


def aligned_mtl(gram: Tensor, preference: Tensor, scale_mode: str) -> Tensor:
    return _weights("spectral", gram, SPECTRAL.index(scale_mode), pointer(preference))


def mgda(gram: Tensor) -> Tensor:
    return _weights("program", gram, PROGRAMS.index("mgda"), None, c_double(0))


def nash_mtl(gram: Tensor, max_norm: float | None) -> Tensor:
    return _weights("program", gram, PROGRAMS.index("nash_mtl"), None, c_double(max_norm or 0))


def dualproj(gram: Tensor, preference: Tensor) -> Tensor:
    return _weights("program", gram, PROGRAMS.index("dualproj"), pointer(preference), c_double(0))


def upgrad(gram: Tensor, preference: Tensor) -> Tensor:
    shares = torch.full_like(gram, torch.nan, memory_format=torch.contiguous_format)
    return _weights("upgrad", gram, pointer(preference), pointer(shares))


def cagrad(gram: Tensor, c: float) -> Tensor:
    return _weights("cagrad", gram, c_double(c))


def pcd(gram: Tensor, primary: int, tau: float | Tensor, state: Tensor | None) -> Tensor:
    shares, number = (tau, 0.0) if isinstance(tau, Tensor) else (None, tau)
    lying = None if state is None else state.contiguous()
    weights = _weights("pcd", gram, primary, c_double(number), pointer(shares), pointer(lying))
    if lying is not None and lying is not state:
        state.copy_(lying)
    return weights


def fairgrad(gram: Tensor, alpha: float) -> Tensor:
    return _weights("fairgrad", gram, c_double(alpha))


def gradvac(gram: Tensor, cosines: Tensor, order: Tensor, beta: float) -> Tensor:
    lying = cosines.contiguous()
    weights = _weights("gradvac", gram, pointer(order), c_double(beta), pointer(lying))
    if lying is not cosines:
        cosines.copy_(lying)
    return weights
