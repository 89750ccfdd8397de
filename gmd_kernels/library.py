"""The ops as torch knows them, torch.ops.gmd.*: schemas, fakes, and one kernel each that goes to the chosen backend.

Calls come this way while torch traces; eager calls go to the backend directly, which spares them torch's conversion of
T·P list entries. Gradients travel flat here, objective by objective: [T·P]. No op is differentiable: results require no
grad, whatever the gradients do.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gmd_kernels import dispatch
from gmd_kernels.checks import check_groups, check_order, check_permutations, weights_per_parameter
from gmd_kernels.gradients import Gradients, Rows, check, first_tensor, read
from gmd_kernels.library_sketch import sketch_

__all__ = ["combine", "gram", "pcgrad_weights", "sketch_"]

_library = torch.library.Library("gmd", "DEF")
# merged gradients have the gradients' strides, which Inductor therefore leaves as they are in eager mode
# on a GPU the kernels keep memory from call to call, which must not come from the pool of a graph of Inductor's
_unsafe = [torch.Tag.cudagraph_unsafe] if hasattr(torch.Tag, "cudagraph_unsafe") else []  # since torch 2.9
_tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides, *_unsafe)
_library.define("gram(Tensor?[] grads, int num_objectives, int[] groups) -> Tensor", tags=_tags)
_library.define("pcgrad_weights(Tensor gram, Tensor order) -> Tensor", tags=_tags)
_library.define("combine(Tensor?[] grads, Tensor weights) -> Tensor[]", tags=_tags)
for _name in ("gram", "pcgrad_weights", "combine"):
    _library.impl(_name, torch.library.fallthrough_kernel, "Autograd")


def gram(gradients: Gradients, groups: Sequence[int], num_groups: int) -> Tensor:
    grams: Tensor = torch.ops.gmd.gram(_flat(gradients.rows), len(gradients.rows), groups)
    return grams


def pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    weights: Tensor = torch.ops.gmd.pcgrad_weights(gram, order)
    return weights


def combine(gradients: Gradients, weights: Tensor, out: list[Tensor | None]) -> list[Tensor | None]:
    results: Iterator[Tensor] = iter(torch.ops.gmd.combine(_flat(gradients.rows), weights))
    merged: list[Tensor | None] = []
    for count, target in zip(gradients.reached, out, strict=True):
        if count == 0:
            merged.append(None if target is None else target.zero_())
        else:
            merged.append(next(results) if target is None else target.copy_(next(results)))
    return merged


@torch.library.impl(_library, "gram", "CompositeExplicitAutograd")
def _gram(grads: list[Tensor | None], num_objectives: int, groups: list[int]) -> Tensor:
    gradients = read(_rows(grads, num_objectives))
    num_groups = check_groups(groups or None, len(gradients.reached))
    return dispatch.choose(gradients).gram(gradients, groups, num_groups)


@torch.library.impl(_library, "pcgrad_weights", "CompositeExplicitAutograd")
def _pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    check_order(order, gram)
    if gram.device.type == "cpu":  # elsewhere the check would wait for the device
        check_permutations(order)
    return dispatch.choose_for_gram(gram).pcgrad_weights(gram, order)


@torch.library.impl(_library, "combine", "CompositeExplicitAutograd")
def _combine(grads: list[Tensor | None], weights: Tensor) -> list[Tensor]:
    gradients = read(_rows(grads, weights.shape[-1]))
    weights = weights_per_parameter(weights, gradients)
    merged = dispatch.choose(gradients).combine(gradients, weights, [None] * len(weights))
    return [g for g in merged if g is not None]


def _fake_gram(grads: list[Tensor | None], num_objectives: int, groups: list[int]) -> Tensor:
    gradients = check(_rows(grads, num_objectives))
    shape = check_groups(groups or None, len(gradients.reached)), num_objectives, num_objectives
    return torch.empty(shape, dtype=torch.float64, device=gradients.device)


def _fake_pcgrad_weights(gram: Tensor, order: Tensor) -> Tensor:
    check_order(order, gram)
    return torch.empty_like(gram, memory_format=torch.contiguous_format)


def _fake_combine(grads: list[Tensor | None], weights: Tensor) -> list[Tensor]:
    gradients = check(_rows(grads, weights.shape[-1]))
    weights_per_parameter(weights, gradients)
    firsts = map(first_tensor, zip(*gradients.rows, strict=True))
    return [torch.empty_like(first) for first in firsts if first is not None]


torch.library.register_fake("gmd::gram", _fake_gram, lib=_library)
torch.library.register_fake("gmd::pcgrad_weights", _fake_pcgrad_weights, lib=_library)
torch.library.register_fake("gmd::combine", _fake_combine, lib=_library)


def _flat(rows: Rows) -> list[Tensor | None]:
    return [g for row in rows for g in row]


def _rows(grads: list[Tensor | None], num_objectives: int) -> Rows:
    if num_objectives < 1 or len(grads) % num_objectives:
        raise ValueError(f"grads: expected P for each of {num_objectives} objectives, got {len(grads)} in all")
    length = len(grads) // num_objectives
    return [grads[k * length : (k + 1) * length] for k in range(num_objectives)]
