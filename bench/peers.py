"""What our surgery is measured against: the published procedure, TorchJD's PCGrad, and a plain mean."""

import copy
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torchjd.aggregation import PCGrad
from torchjd.autojac import jac_to_grad

from bench.cases import Gradients


def published(grads: Gradients, order: Tensor, reduction: str = "mean") -> list[Tensor]:
    """GMD the way published code does it, step by step, but with the mathematics right.

    Each objective's gradients are copied into one flat vector beside a mask of N floats that says which parameters it
    has; the vectors are copied once more, and the copies projected in place, one dot product after the other.

    Args:
        grads: [T][P] tensors or `None`.
        order: [T, T-1] int64, row i = the order in which gradient i meets the others.
        reduction: "mean" or "sum", for the parameters that every objective has; the others are always summed.

    Returns:
        P tensors; zeros for a parameter that no objective has.
    """
    shapes = [next(g for g in column if g is not None).shape for column in zip(*grads, strict=True)]
    vectors, masks = zip(*(_flatten(row, shapes) for row in grads), strict=True)
    shared = torch.stack(masks).prod(dim=0).bool()

    projected = copy.deepcopy(vectors)
    for i, vector in enumerate(projected):
        for j in order[i].tolist():
            product = torch.dot(vector, vectors[j])
            if product < 0:  # the host waits for the device here, T (T - 1) times a step
                vector -= product * vectors[j] / vectors[j].norm() ** 2

    merge = torch.mean if reduction == "mean" else torch.sum
    merged = torch.zeros_like(vectors[0])
    merged[shared] = merge(torch.stack([vector[shared] for vector in projected]), dim=0)
    merged[~shared] = torch.stack([vector[~shared] for vector in projected]).sum(dim=0)
    pieces = merged.split([prod(shape) for shape in shapes])
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def _flatten(row: Sequence[Tensor | None], shapes: Sequence[torch.Size]) -> tuple[Tensor, Tensor]:
    """One objective's gradients, zeros where it has none, and the mask of those it has: [N] float32 each."""
    like = next(g for g in row if g is not None)
    pairs = list(zip(row, shapes, strict=True))
    vector = torch.cat([like.new_zeros(shape.numel()) if g is None else g.flatten() for g, shape in pairs])
    mask = torch.cat([like.new_full((shape.numel(),), float(g is not None)) for g, shape in pairs])
    return vector, mask


class TorchJD:
    """TorchJD's PCGrad: from gradients to the `.grad` fields of the parameters, through their `.jac` fields.

    Args:
        grads: [T][P], what everybody starts from.
        seed: its PCGrad sums over the objectives, and draws its order from torch's default generator.
        stacked: whether the Jacobians [T, *shape] were stacked before, untimed, as after TorchJD's own backward pass.
        skip_concatenation: its `optimize_gramian_computation`, which saves the copy of all Jacobians.
    """

    def __init__(self, grads: Gradients, seed: int, stacked: bool = False, skip_concatenation: bool = False):
        self.grads, self.seed, self.skip_concatenation = grads, seed, skip_concatenation
        shapes = [next(g for g in column if g is not None).shape for column in zip(*grads, strict=True)]
        self.params = [torch.empty(shape, requires_grad=True) for shape in shapes]
        self.jacobians = torchjd_jacobians(grads) if stacked else None

    def prepare(self) -> None:
        torch.manual_seed(self.seed)
        for param in self.params:
            param.grad = param.jac = None

    def __call__(self) -> list[Tensor]:
        jacobians = torchjd_jacobians(self.grads) if self.jacobians is None else self.jacobians
        for param, jacobian in zip(self.params, jacobians, strict=True):
            param.jac = jacobian
        jac_to_grad(self.params, PCGrad(), optimize_gramian_computation=self.skip_concatenation)
        return [param.grad for param in self.params]


def torchjd_jacobians(grads: Gradients) -> list[Tensor]:
    """P tensors [T, *shape], zeros for `None`."""
    jacobians = []
    for column in zip(*grads, strict=True):
        zeros = torch.zeros_like(next(g for g in column if g is not None))
        jacobians.append(torch.stack([zeros if g is None else g for g in column]))
    return jacobians


def torchjd_order(num_objectives: int, seed: int) -> Tensor:
    """The order [T, T-1] that TorchJD's PCGrad draws after `torch.manual_seed(seed)`."""
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randperm(num_objectives, generator=generator) for _ in range(num_objectives)]
    return torch.stack([draw[draw != i] for i, draw in enumerate(draws)])


def plain_mean(grads: Gradients) -> list[Tensor]:
    """No surgery at all, with torch's own fused list operations: mean where every objective has one, else the sum."""
    columns = list(zip(*grads, strict=True))
    first = [next(k for k, g in enumerate(column) if g is not None) for column in columns]
    merged = [column[k].clone() for column, k in zip(columns, first, strict=True)]
    for k, row in enumerate(grads):
        rest = [p for p, g in enumerate(row) if g is not None and first[p] != k]
        if rest:
            torch._foreach_add_([merged[p] for p in rest], [row[p] for p in rest])
    shared = [m for m, column in zip(merged, columns, strict=True) if all(g is not None for g in column)]
    torch._foreach_mul_(shared, 1 / len(grads))
    return merged
