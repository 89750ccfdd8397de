"""The peers that our surgery is measured against: TorchJD itself, and our own renderings of published code.

`published`, `pytorch_pcgrad` and `libmtl` let each gradient meet all T in the order given, itself included, as the
code they stand for does, with the mathematics right; the oracle is given the same order. What their Python wastes
beside tensor work is left out.
"""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from bench.measure.cases import Gradients

try:
    from torchjd.aggregation import PCGrad
    from torchjd.autojac import jac_to_grad

    NO_TORCHJD = None
except ModuleNotFoundError as error:  # on a machine without a network: the others are measured all the same
    NO_TORCHJD = f"torchjd is not installed: {error}"


class NotInstalledError(Exception):
    """The error of a peer that cannot take part, as its package is not installed."""


def peer_order(num_objectives: int, seed: int) -> Tensor:
    """Returns the order [T, T] int64 in which the objectives meet: a shuffle of all of them for each."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(num_objectives, generator=generator) for _ in range(num_objectives)])


def published(grads: Gradients, order: Tensor) -> list[Tensor]:
    """Merges by GMD's code (Wang et al., AAAI 2024): as Pytorch-PCGrad, with coefficients that its log reads.

    Args:
        grads: [T][P] float32 tensors or `None`.
        order: [T, any number] int64, row i = the objectives that gradient i meets, one after the other.

    Returns:
        P tensors: the mean of the projected gradients where every objective has one, elsewhere their sum.
    """
    vectors, shared, shapes = _pack(grads)
    coefficients = vectors[0].new_ones(len(grads))
    projected = copy.deepcopy(vectors)
    for vector, others in zip(projected, order.tolist(), strict=True):
        for j in others:
            product = torch.dot(vector, vectors[j])
            if product < 0:  # the host waits for the device here, T² times a step
                coefficient = product / vectors[j].norm() ** 2
                vector -= coefficient * vectors[j]
                coefficients[j] -= coefficient
    for coefficient in coefficients:
        coefficient.item()  # what it logs, and another wait
    return _unpack(_merge(projected, shared), shapes)


def pytorch_pcgrad(grads: Gradients, order: Tensor) -> list[Tensor]:
    """Merges as Pytorch-PCGrad (W.-C. Tseng, github.com/WeiChengTseng/Pytorch-PCGrad), with `published`'s arguments.

    Each objective's gradients and a mask of N floats, which says what it reaches, are copied one by one and then into
    flat vectors; these are copied deeply, and the copies projected in place, a dot product and a wait for each pair.
    """
    vectors, shared, shapes = _pack(grads)
    projected = copy.deepcopy(vectors)
    for vector, others in zip(projected, order.tolist(), strict=True):
        for j in others:
            product = torch.dot(vector, vectors[j])
            if product < 0:
                vector -= product * vectors[j] / vectors[j].norm() ** 2  # two temporaries of N
    return _unpack(_merge(projected, shared), shapes)


def libmtl(grads: Gradients, order: Tensor) -> list[Tensor]:
    """Merges as LibMTL (Lin and Zhang, JMLR 2023): vectors are rows of one [T, N] tensor, and there are no masks.

    The arguments are those of `published`. Returns P tensors, the sum of the projected gradients everywhere.
    """
    shapes = _shapes(grads)
    sizes = [shape.numel() for shape in shapes]
    rows = torch.zeros(len(grads), sum(sizes), device=_device(grads))
    for k, row in enumerate(grads):
        vector = torch.zeros(sum(sizes), device=rows.device)
        for piece, g in zip(vector.split(sizes), row, strict=True):
            if g is not None:
                piece.copy_(g.reshape(-1))
        rows[k] = vector
    projected = rows.clone()
    for i, others in enumerate(order.tolist()):
        for j in others:
            product = torch.dot(projected[i], rows[j])
            if product < 0:
                projected[i] -= product * rows[j] / rows[j].norm() ** 2
    return _unpack(projected.sum(dim=0), shapes)


def _pack(grads: Gradients) -> tuple[list[Tensor], Tensor, list[torch.Size]]:
    """Returns T vectors [N], zeros for `None`; the mask [N] of what every objective reaches; P shapes."""
    shapes, device = _shapes(grads), _device(grads)
    vectors, masks = [], []
    for row in grads:
        pairs = list(zip(row, shapes, strict=True))
        copies = [torch.zeros(shape, device=device) if g is None else g.clone() for g, shape in pairs]
        reached = [(torch.zeros if g is None else torch.ones)(shape, device=device) for g, shape in pairs]
        vectors.append(torch.cat([g.flatten() for g in copies]))
        masks.append(torch.cat([mask.flatten() for mask in reached]))
    return vectors, torch.stack(masks).prod(dim=0).bool(), shapes


def _merge(projected: Sequence[Tensor], shared: Tensor) -> Tensor:
    """Returns the merged vector [N]: the mean where `shared`, the sum elsewhere."""
    merged = torch.zeros_like(projected[0])
    merged[shared] = torch.stack([vector[shared] for vector in projected]).mean(dim=0)
    merged[~shared] = torch.stack([vector[~shared] for vector in projected]).sum(dim=0)
    return merged


def _unpack(merged: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    pieces = merged.split([shape.numel() for shape in shapes])
    return [piece.view(shape).clone() for piece, shape in zip(pieces, shapes, strict=True)]


def _shapes(grads: Gradients) -> list[torch.Size]:
    return [_first(column)[1].shape for column in zip(*grads, strict=True)]


def _device(grads: Gradients) -> torch.device:
    return next(g.device for g in grads[0] if g is not None)


class WithJacobian(Tensor):
    """A parameter as TorchJD sees one, which leaves [T, *shape] in a field beside `.grad`."""

    jac: Tensor | None


class TorchJD:
    """Merges by TorchJD's PCGrad, from gradients to the parameters' `.grad` fields through their `.jac` fields.

    Args:
        grads: [T][P], what everybody starts from.
        seed: of the order, which TorchJD draws from torch's default generator.
        stacked: whether the Jacobians [T, *shape] were stacked before, untimed, as after TorchJD's own backward pass.
        skip_concatenation: its `optimize_gramian_computation`, which saves the copy of all Jacobians.

    A call returns the sum of the projected gradients, P tensors. Raises NotInstalledError without TorchJD.
    """

    def __init__(self, grads: Gradients, seed: int, stacked: bool = False, skip_concatenation: bool = False):
        self.grads, self.seed, self.skip_concatenation = grads, seed, skip_concatenation
        params = [torch.empty(shape, requires_grad=True, device=_device(grads)) for shape in _shapes(grads)]
        self.params = cast("list[WithJacobian]", params)
        self.jacobians = torchjd_jacobians(grads) if stacked else None

    def prepare(self) -> None:
        torch.manual_seed(self.seed)
        for param in self.params:
            param.grad = param.jac = None

    def __call__(self) -> Sequence[Tensor | None]:
        if NO_TORCHJD:
            raise NotInstalledError(NO_TORCHJD)
        jacobians = torchjd_jacobians(self.grads) if self.jacobians is None else self.jacobians
        for param, jacobian in zip(self.params, jacobians, strict=True):
            param.jac = jacobian
        jac_to_grad(self.params, PCGrad(), optimize_gramian_computation=self.skip_concatenation)
        return [param.grad for param in self.params]


def torchjd_jacobians(grads: Gradients) -> list[Tensor]:
    """Returns the gradients stacked by parameter: P tensors [T, *shape], zeros for `None`."""
    jacobians = []
    for column in zip(*grads, strict=True):
        _, like = _first(column)
        jacobians.append(torch.stack([torch.zeros_like(like) if g is None else g for g in column]))
    return jacobians


def torchjd_order(num_objectives: int, seed: int) -> Tensor:
    """Returns the order [T, T-1] int64 that TorchJD's PCGrad draws after `torch.manual_seed(seed)`."""
    draws = peer_order(num_objectives, seed)
    return torch.stack([draw[draw != i] for i, draw in enumerate(draws)])


def plain_mean(grads: Gradients) -> list[Tensor]:
    """Averages the gradients without any surgery, by torch's own fused list operations.

    Returns P tensors: the mean of the gradients where every objective has one, elsewhere their sum.
    """
    columns = list(zip(*grads, strict=True))
    first = [_first(column) for column in columns]
    merged = [g.clone() for _, g in first]
    for k, row in enumerate(grads):
        others = [(m, g) for m, g, (one, _) in zip(merged, row, first, strict=True) if g is not None and one != k]
        if others:
            sums, added = zip(*others, strict=True)
            torch._foreach_add_(sums, added)
    shared = [m for m, column in zip(merged, columns, strict=True) if all(g is not None for g in column)]
    torch._foreach_mul_(shared, 1 / len(grads))
    return merged


def _first(column: tuple[Tensor | None, ...]) -> tuple[int, Tensor]:
    """Returns the first objective that reaches a parameter, and its gradient."""
    return next((k, g) for k, g in enumerate(column) if g is not None)
