"""The CUDA kernels of group_norm_relu in the emulator (cuda_emulator.py). Whatever they write is poisoned before."""

import ctypes
from ctypes import c_double, c_int64, c_void_p
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.cuda_emulator import TYPES, check, library, pointer
from helpers.norm_oracle import EPS, Case


class _Shape(ctypes.Structure):
    _fields_ = [(name, c_int64) for name in ("samples", "voxels", "channels", "groups", "type", "together", "aligned")]


class _Affine(ctypes.Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p), ("of_sample", c_void_p), ("count", c_int64)]


class _Statistics(ctypes.Structure):
    _fields_ = [("mean", c_void_p), ("rstd", c_void_p)]


class Cut(NamedTuple):
    """What csrc/cuda/norm/norm.h has under these names, and how much a launch needs."""

    elements: int
    columns: int
    rows: int
    width: int
    chunks: int
    slots: int
    domain: int
    domains: int
    length: int
    span: int
    blocks: int
    counters: int
    memory: int


class Results(NamedTuple):
    y: Tensor
    mean: Tensor
    rstd: Tensor
    dx: Tensor | None
    dweight: Tensor
    dbias: Tensor


class Norm:
    """The launches for one case; x, y and the gradients lie as the case's x does: contiguous or channels-last.

    Args:
        case: on the CPU.
        multiprocessors: of the device that is stood in for; the more, the more slots.
        rows: whether the rows are given to the kernels; otherwise they take row i for sample i, or the only row.
    """

    def __init__(self, case: Case, multiprocessors: int = 2, rows: bool = True):
        self.case, self.multiprocessors = case, multiprocessors
        x, (self.num_rows, self.channels) = case.x, case.weight.shape
        together = not x.is_contiguous()
        assert not together or x.movedim(1, -1).is_contiguous()
        aligned = all(t.data_ptr() % 16 == 0 for t in (x, case.grad))
        voxels = x.shape[2:].numel()
        numbers = len(x), voxels, self.channels, case.groups, TYPES[x.dtype], together, aligned
        self.shape = _Shape(*map(int, numbers))
        given = case.rows.data_ptr() if rows else None
        self.affine = _Affine(case.weight.data_ptr(), case.bias.data_ptr(), given, self.num_rows)
        self.counters = torch.zeros(self.cut().counters, dtype=torch.int32)

    def cut(self) -> Cut:
        found = (c_int64 * len(Cut._fields))()
        library().norm_numbers(ctypes.byref(self.shape), self.multiprocessors, found)
        return Cut(*found)

    def run(self, needs_x: bool = True) -> Results:
        case, number = self.case, self.case.weight.dtype
        y, dx = (torch.full_like(case.x, torch.nan) for _ in range(2))
        mean, rstd = (torch.full((len(case.x), case.groups), torch.nan, dtype=number) for _ in range(2))
        dweight, dbias = (torch.full_like(case.weight, torch.nan) for _ in range(2))
        launch = ctypes.byref(self.shape), self.multiprocessors
        check(
            library().run_norm(
                *launch, pointer(case.x), ctypes.byref(self.affine), c_double(EPS), *self._workspace(),
                pointer(mean), pointer(rstd), pointer(y),
            )
        )  # fmt: skip
        assert not self.counters.any(), "the next launch needs zeros"
        statistics = _Statistics(mean.data_ptr(), rstd.data_ptr())
        check(
            library().run_norm_backward(
                *launch, pointer(case.grad), pointer(case.x), ctypes.byref(self.affine), ctypes.byref(statistics),
                *self._workspace(), pointer(dweight), pointer(dbias), pointer(dx if needs_x else None),
            )
        )  # fmt: skip
        assert not self.counters.any(), "the next launch needs zeros"
        return Results(y, mean, rstd, dx if needs_x else None, dweight, dbias)

    def _workspace(self) -> tuple[c_void_p, c_void_p]:
        self.memory = torch.full((self.cut().memory,), torch.nan, dtype=torch.float64)
        return pointer(self.counters), pointer(self.memory)
