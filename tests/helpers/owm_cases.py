"""Projectors and what is done to them, and the exact update, for the tests of owm_update_."""

from typing import NamedTuple

import torch
from torch import Tensor

SIZES = (1, 3, 5, 17, 64, 129, 512)  # around vectors (2 to 16), panels (4 to 32) and blocks of rows (128)
TYPES = {  # projector, weight's gradient, mean input
    "float32": (torch.float32, torch.float32, torch.float32),
    "float64": (torch.float64, torch.float64, torch.float64),
    "bfloat16": (torch.float32, torch.bfloat16, torch.bfloat16),
    "float16": (torch.float32, torch.float16, torch.float16),
    "mixed": (torch.float64, torch.float64, torch.bfloat16),
}


class Case(NamedTuple):
    projector: Tensor  # [d, d], after a few updates: nowhere a zero or a one
    weight_grad: Tensor  # [C, d]
    mean_input: Tensor  # [d]
    alpha: float

    def clone(self) -> "Case":
        return Case(*(tensor.clone() for tensor in self[:3]), self.alpha)


def make_case(d: int, classes: int = 10, types: str = "float32", alpha: float = 0.7, seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(1000 * seed + d)
    of_projector, of_grad, of_input = TYPES[types]
    met = torch.randn(3, d, generator=generator, dtype=torch.float64)
    projector = closed_form(met, alpha).to(of_projector)
    grad, h = torch.randn(classes, d, generator=generator), torch.randn(d, generator=generator)
    return Case(projector, grad.to(of_grad), h.to(of_input), alpha)


def closed_form(inputs: Tensor, alpha: float) -> Tensor:
    """inputs [n, d], all that were met -> (I + sum h h^T / alpha)^-1 in float64, contiguous.

    By the singular values: an inverse would lose in the directions that no input has, where P is 1.
    """
    _, values, directions = torch.linalg.svd(inputs.double(), full_matrices=False)
    lost = values.square() / (alpha + values.square())
    projector = torch.eye(inputs.shape[1], dtype=torch.float64) - (directions.T * lost) @ directions
    return ((projector + projector.T) / 2).contiguous()


def exact(case: Case) -> tuple[Tensor, Tensor]:
    """-> P and the gradient after the update, in float64 from the same rounded arguments; METHODS' formula as it is."""
    projector, grad, h = (tensor.double() for tensor in case[:3])
    k = projector @ h
    projector = projector - torch.outer(k, k) / (case.alpha + h @ k)
    return projector, grad @ projector


def errors(case: Case, found: Case) -> tuple[float, float]:
    """Of P and of the gradient, relative in norm and in units of what rounding may cost.

    An entry of P is rounded once more, and a sum of d products on top of it, each row of which is as long as the
    gradient's: some units in the last place, and half of one of the gradient's own.
    """
    projector, grad = exact(case)
    unit = torch.finfo(case.projector.dtype).eps
    of_projector = (found.projector.double() - projector).norm() / projector.norm() / (4 * unit)
    tolerance = 8 * unit + torch.finfo(case.weight_grad.dtype).eps
    of_grad = (found.weight_grad.double() - grad).norm() / case.weight_grad.double().norm() / tolerance
    return of_projector.item(), of_grad.item()
