"""The ops in Triton, for gradients on a GPU; tests run them on the CPU in Triton's interpreter.

Gradients are read where they lie, through a table of pointers, in one launch for each kind of parameter. Only gradients
whose strides disagree with those of their parameter's first one are copied before, one by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from gmd_kernels.gradients import Gradients
from gmd_kernels.triton_ops import tables
from gmd_kernels.triton_ops.combine_kernel import launch_combine_kernel
from gmd_kernels.triton_ops.devices import multiprocessors, on
from gmd_kernels.triton_ops.gram_kernel import launch_add_kernel, launch_gram_kernel, padded
from gmd_kernels.triton_ops.group_norm_relu import group_norm_relu, group_norm_relu_backward
from gmd_kernels.triton_ops.lines import Lines, lay_out
from gmd_kernels.triton_ops.owm_update import owm_update_
from gmd_kernels.triton_ops.pcgrad_weights_kernel import launch_pcgrad_weights_kernel
from gmd_kernels.triton_ops.plan import Kind, make_plan
from gmd_kernels.triton_ops.sketch import sketch_
from gmd_kernels.triton_ops.tiles import ELEMENTS

__all__ = [
    "DTYPES",
    "combine",
    "gram",
    "group_norm_relu",
    "group_norm_relu_backward",
    "owm_update_",
    "pcgrad_weights",
    "sketch_",
    "why_not",
]

DTYPES = frozenset(ELEMENTS)
INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1 counts only before the kernels are defined


def why_not(device: torch.device) -> str | None:
    """Returns why gradients on this device cannot be served; None if they can."""
    if INTERPRETED:
        return None if device.type == "cpu" else "Triton's interpreter (TRITON_INTERPRET=1) is for the CPU"
    if device.type != "cuda":
        return f"there are Triton kernels for GPUs alone, not for {device.type} gradients"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, 8.0 is needed"
    return None


@torch.no_grad()
def gram(gradients: Gradients, groups: Sequence[int], num_groups: int) -> Tensor:
    """Returns [K, T, T] float64; products and sums are in float64."""
    device, num_objectives = gradients.device, len(gradients.rows)
    rows = padded(num_objectives)
    lines = lay_out(gradients)
    grams = torch.empty(num_groups, num_objectives, num_objectives, dtype=torch.float64, device=device)
    with on(device):
        work = _work(device, lines, _kinds(lines, lines.pointers), groups, num_groups, 128 // rows)
        partials = torch.empty(work.num_slots, rows, rows, dtype=torch.float64, device=device)
        pointers = tables.pointer_table(device, "gradients", lines.pointers)
        for kind, segments, pieces in work.launches:
            launch_gram_kernel(kind, pointers, segments, pieces, partials, num_objectives)
        launch_add_kernel(partials, work.bounds, grams)
    return grams


@torch.no_grad()
def pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    """Returns [..., T, T] float64. Entries of `order` are trusted to be objectives."""
    size, count = gram.shape[-1], gram.shape[:-2].numel()
    grams = gram.resolve_neg().reshape(count, size, size).contiguous()
    orders = order.reshape(count, size, size - 1).contiguous()
    weights = torch.empty_like(grams)
    if count:
        with on(gram.device):
            launch_pcgrad_weights_kernel(grams, orders, weights)
    return weights.view(gram.shape)


@torch.no_grad()
def combine(gradients: Gradients, weights: Tensor, out: list[Tensor | None]) -> list[Tensor | None]:
    """Returns P sums, of products in float64, rounded once to float32 or float64, and from there to 16 bits."""
    device, lines = gradients.device, lay_out(gradients)
    weights = weights.resolve_neg()
    if any(target is not None for target in out):
        weights = weights.clone()  # a result may lie where they do
    merged = [_result(like, target) for like, target in zip(lines.likes, out, strict=True)]
    lying = [_lying(result, strides) for result, strides in zip(merged, lines.strides, strict=True)]
    with on(device):
        _launch_combine(lines, lying, weights)
    for result, written in zip(merged, lying, strict=True):
        if result is not None and written is not None and written is not result:
            result.copy_(written)
    # autograd has to know of what is written over
    torch.autograd.graph.increment_version([o for o in out if o is not None and not o.is_inference()])
    return merged


def _launch_combine(lines: Lines, lying: list[Tensor | None], weights: Tensor) -> None:
    """Writes the weighted sums into `lying`, [P], whose elements are in the gradients' order."""
    device, targets = weights.device, [0 if result is None else result.data_ptr() for result in lying]
    work = _work(device, lines, _kinds(lines, lines.pointers, targets), [], 1, 8)
    if not work.launches:
        return
    sources = tables.pointer_table(device, "gradients", lines.pointers)
    results = tables.pointer_table(device, "results", targets)
    for kind, segments, pieces in work.launches:
        launch_combine_kernel(kind, sources, results, weights, segments, pieces)


def _result(like: Tensor | None, target: Tensor | None) -> Tensor | None:
    """Returns the tensor that a parameter's weighted sum goes into: `target`, or a new one like its gradients."""
    if like is None:  # no objective reaches the parameter: the empty sum, if anything
        return None if target is None else target.zero_()
    return torch.empty_like(like) if target is None else target


def _lying(result: Tensor | None, strides: tuple[int, ...] | None) -> Tensor | None:
    """Returns the result if it lies in the gradients' order, else a temporary one; None with nothing to write."""
    if result is None or strides is None:
        return None
    if result.stride() == strides:
        return result
    return torch.empty_strided(result.shape, strides, dtype=result.dtype, device=result.device)


class _Work(NamedTuple):
    """A plan whose tables are on the device."""

    launches: list[tuple[Kind, Tensor, Tensor]]  # kind, segments [S, 3], pieces [programs, 3]
    bounds: Tensor  # [K + 1] int64
    num_slots: int


def _work(
    device: torch.device,
    lines: Lines,
    kinds: list[Kind | None],
    groups: Sequence[int],
    num_groups: int,
    programs_each: int,  # of each multiprocessor
) -> _Work:
    num_programs = programs_each * multiprocessors(device)

    def make() -> _Work:
        plan = make_plan(lines.sizes, kinds, groups, num_groups, num_programs)
        launches = [
            (kind, tables.send(device, segments), tables.send(device, pieces))
            for kind, segments, pieces in plan.launches
        ]
        return _Work(launches, tables.send(device, plan.bounds), plan.bounds[-1])

    key = (tuple(lines.sizes), tuple(kinds), tuple(groups), num_groups, num_programs)
    return tables.cached(device, key, make)


def _kinds(lines: Lines, pointers: list[int], targets: list[int] | None = None) -> list[Kind | None]:
    """Returns the kind of each parameter, [P], None for one without elements; pointers: [P·T], targets: [P]."""
    num_objectives = len(pointers) // max(1, len(lines.sizes))
    kinds: list[Kind | None] = []
    for p, (size, like) in enumerate(zip(lines.sizes, lines.likes, strict=True)):
        bits = 0 if targets is None else targets[p]
        for pointer in pointers[p * num_objectives : (p + 1) * num_objectives]:
            bits |= pointer
        kinds.append((like.dtype, bits % 16 == 0) if like is not None and size else None)
    return kinds
