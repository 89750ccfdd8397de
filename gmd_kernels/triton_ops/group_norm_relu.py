"""The host's side of group_norm_relu: it finds out how x lies, cuts its voxels, and launches the kernels."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from gmd_kernels.triton_ops import group_norm_relu_kernel as kernels
from gmd_kernels.triton_ops.devices import multiprocessors, on

TILE = 2048  # elements
WARPS = 4  # of a program
CHANNELS = 128  # of a tile, at most
PROGRAMS = 16  # for each multiprocessor; those that wait are begun as others end
ADDED = 2048  # partial sums at a time


def group_norm_relu(
    x: Tensor,  # [n, C, *spatial]
    weight: Tensor,  # [R, C] in the type of the statistics: float64 for float64, else float32
    bias: Tensor,  # [R, C]
    rows: Tensor,  # [n] int64
    num_groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns y as x, mean [n, G], rstd [n, G]."""
    x, (weight, bias, rows) = _lying(x), map(_contiguous, (weight, bias, rows))
    cut = _cut(x, num_groups)
    y = torch.empty_like(x)
    mean, rstd = (weight.new_empty(len(x), num_groups) for _ in range(2))
    partials = weight.new_empty(len(x), cut.slots, 2, x.shape[1])
    with on(x.device):
        kernels._moments_kernel[cut.grid](x, partials, cut.voxels, cut.slots, cut.tiles, **tile_options(cut.layout))
        options = {"EPS": eps, **group_options(x.shape[1], num_groups)}
        kernels._statistics_kernel[(mean.numel(),)](partials, mean, rstd, cut.voxels, cut.slots, cut.span, **options)
        _elementwise(kernels._apply_kernel, cut, x, weight, bias, rows, mean, rstd, y)
    return y, mean, rstd


def group_norm_relu_backward(
    grad: Tensor,  # as x
    x: Tensor,  # [n, C, *spatial]
    weight: Tensor,  # [R, C]
    bias: Tensor,  # [R, C]
    rows: Tensor,  # [n] int64
    mean: Tensor,  # [n, G]
    rstd: Tensor,  # [n, G]
    needs_x: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Returns dx as x, or None; dweight [R, C]; dbias [R, C]."""
    x, (weight, bias, rows) = _lying(x), map(_contiguous, (weight, bias, rows))
    grad, mean, rstd = _lying_as(grad, x), _contiguous(mean), _contiguous(rstd)
    samples, channels, num_groups = len(x), x.shape[1], mean.shape[1]
    cut = _cut(x, num_groups)
    partials = weight.new_empty(samples, cut.slots, 2, channels)
    sums = torch.empty(samples, 2, channels, dtype=torch.float64, device=x.device)
    means = weight.new_empty(samples, 2, num_groups)
    dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
    dx = torch.empty_like(x) if needs_x else None
    with on(x.device):
        _elementwise(kernels._products_kernel, cut, grad, x, weight, bias, rows, mean, rstd, partials)
        options = group_options(channels, num_groups)
        kernels._sums_kernel[(mean.numel(),)](partials, weight, rows, sums, means, cut.voxels, cut.slots, **options)
        options = table_options(channels)
        grid = (len(weight) * triton.cdiv(channels, options["CHANNELS"]),)
        kernels._tables_kernel[grid](sums, rows, dweight, dbias, samples, **options)
        if dx is not None:
            _elementwise(kernels._gradient_kernel, cut, grad, x, weight, bias, rows, mean, rstd, means, dx)
    return dx, dweight, dbias


class Layout(NamedTuple):
    """The layout of a tensor that kernels of tiles are compiled for."""

    channels: int
    group: int  # channels of a group
    last: bool  # whether channels lie together


class _Cut(NamedTuple):
    """The voxels of every sample, cut into slots, and these into tiles."""

    layout: Layout
    voxels: int
    slots: int  # of a sample
    tiles: int  # of a slot
    span: int  # voxels of a slot
    grid: tuple[int]


def _cut(x: Tensor, num_groups: int) -> _Cut:
    """Cuts the voxels by shapes and device alone: sums are the same bits from run to run."""
    samples, channels = x.shape[:2]
    layout = Layout(channels, channels // num_groups, not x.is_contiguous())
    options = tile_options(layout)
    voxels, blocks = x.shape[2:].numel(), triton.cdiv(channels, options["CHANNELS"])
    tiles = triton.cdiv(voxels, options["VOXELS"])
    wanted = triton.cdiv(PROGRAMS * multiprocessors(x.device), max(1, samples * blocks))
    each = triton.cdiv(tiles, min(wanted, max(1, tiles)))
    slots = triton.cdiv(tiles, max(1, each))
    return _Cut(layout, voxels, slots, each, each * options["VOXELS"], (samples * slots * blocks,))


def tile_options(layout: Layout) -> dict[str, int]:
    """Returns what the kernels that go through all voxels are compiled for."""
    channels = min(CHANNELS, triton.next_power_of_2(layout.channels)) if layout.last else 1
    sides = {"CHANNELS": channels, "VOXELS": max(1, TILE // channels)}
    return {"C": layout.channels, "LAST": layout.last, **sides, "num_warps": WARPS}


def group_options(channels: int, num_groups: int) -> dict[str, int]:
    """Returns what the kernels that add up one group of a sample are compiled for."""
    group = channels // num_groups
    width = triton.next_power_of_2(group)
    return {"C": channels, "GROUP": group, "WIDTH": width, "SLOTS": max(1, ADDED // width), "num_warps": WARPS}


def table_options(channels: int) -> dict[str, int]:
    """Returns what the kernel that adds up the rows of the affine table is compiled for."""
    width = min(CHANNELS, triton.next_power_of_2(channels))
    return {"C": channels, "CHANNELS": width, "SAMPLES": max(1, ADDED // width), "num_warps": WARPS}


def _elementwise(kernel: triton.JITFunction, cut: _Cut, *tensors: Tensor) -> None:
    options = tile_options(cut.layout)
    kernel[cut.grid](*tensors, cut.voxels, cut.slots, cut.tiles, GROUP=cut.layout.group, **options)


def _contiguous(t: Tensor) -> Tensor:
    """Returns the tensor as kernels read memory: contiguous, and without a negation that torch has put off."""
    return t.resolve_neg().contiguous()


def _lying(x: Tensor) -> Tensor:
    """Returns x if it lies channel by channel or voxel by voxel, else a copy that does."""
    x = x.resolve_neg()
    return x if x.is_contiguous() or x.movedim(1, -1).is_contiguous() else x.contiguous()


def _lying_as(grad: Tensor, x: Tensor) -> Tensor:
    """Returns the gradient with its elements in the order of x's."""
    if x.is_contiguous():
        return _contiguous(grad)
    return _contiguous(grad.movedim(1, -1)).movedim(-1, 1)
