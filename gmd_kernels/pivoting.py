"""Solves small quadratic programs exactly on the CPU, by finding out which entries of the solution are zero.

With these known, one linear system gives the others. A guess is wrong where an entry or its dual comes out negative;
all of these change sides and the system is solved again (block principal pivoting: Portugal, Júdice and Vicente, Math.
Comp. 1994), until nothing is wrong, mostly after two to five times. It may go round in circles, where gradients are
linearly dependent; an interior-point method has to do it then. To look whether anything is wrong is free on the CPU,
while a GPU would be waited for.
"""

import torch
from torch import Tensor

TOLERANCE = 1e-12  # what may be negative, of entries of about one


def pivoted(
    matrix: Tensor, offset: Tensor, normal: Tensor | None = None, radius: float | None = None, rounds: int = 12
) -> tuple[Tensor, Tensor]:
    """Returns z >= 0 with matrix @ z + offset >= 0, only one of the two positive, and which of B problems are solved.

    With `normal` it is matrix @ z + offset >= level * normal. The level is 1, or with `radius` such that z' M z =
    radius^2: z then maximises it within the ball.

    Args:
        matrix: [B, T, T] float64 on the CPU, M, positive definite, with a diagonal of about one.
        offset: [B, T].
        normal: [B, T], not negative.
        radius: > 0; goes with `normal`.
        rounds: after as many it gives up.

    Returns [B, T], of any value where it is not solved, and [B] bool.
    """
    free = offset < 0 if normal is None else normal > 0
    z, todo = torch.zeros_like(offset), torch.arange(len(offset))
    if normal is None:
        todo = todo[free.any(dim=-1)]  # elsewhere zero it is
    for _ in range(rounds):
        if len(todo) == 0:
            break
        all_left = len(todo) == len(offset)
        parts = [matrix, offset, free] if all_left else [part[todo] for part in (matrix, offset, free)]
        toward = None if normal is None else normal if all_left else normal[todo]
        found, wrong = _solved(*parts, toward, radius)
        z[todo] = found
        free[todo] = parts[2] ^ wrong
        todo = todo[wrong.any(dim=-1)]
    solved = torch.ones(len(offset), dtype=torch.bool)
    solved[todo] = False
    return z.clamp(min=0), solved


def _solved(
    matrix: Tensor, offset: Tensor, free: Tensor, normal: Tensor | None, radius: float | None
) -> tuple[Tensor, Tensor]:
    """Returns the z with zeros where it is not free, and where z or its dual is negative."""
    kept = free.to(matrix.dtype)
    system = matrix * kept.unsqueeze(-1) * kept.unsqueeze(-2)
    system.diagonal(dim1=-2, dim2=-1).add_(1 - kept)
    factor = torch.linalg.cholesky_ex(system)[0]
    if normal is None:
        z = torch.cholesky_solve((-offset * kept).unsqueeze(-1), factor).squeeze(-1)
        return z, ~(torch.where(free, z, _times(matrix, z) + offset) >= -TOLERANCE)
    right = torch.stack([normal, offset], dim=-1) * kept.unsqueeze(-1)
    across, back = torch.cholesky_solve(right, factor).unbind(dim=-1)
    level = 1.0 if radius is None else _level(offset, normal, across, back, radius)
    z = level * across - back
    dual = _times(matrix, z) + offset - level * normal
    return z, ~(torch.where(free, z, dual) >= -TOLERANCE * (1 + z.abs().sum(dim=-1, keepdim=True)))


def _level(offset: Tensor, normal: Tensor, across: Tensor, back: Tensor, radius: float) -> Tensor:
    """Returns the level, [B, 1], at which z = level * across - back has z' M z = radius^2: the larger root of two."""
    a, b = (normal * across).sum(dim=-1, keepdim=True), (normal * back).sum(dim=-1, keepdim=True)
    c = (offset * back).sum(dim=-1, keepdim=True) - radius**2
    return (b + (b * b - a * c).clamp(min=0).sqrt()) / a


def _times(matrix: Tensor, z: Tensor) -> Tensor:
    return (matrix @ z.unsqueeze(-1)).squeeze(-1)
