"""Solves small quadratic programs exactly on the CPU, by finding out which entries of the solution are zero.

With these known, one linear system gives the others. A guess is wrong where an entry or its dual comes out negative;
all of these change sides and the system is solved again (block principal pivoting: Portugal, Júdice and Vicente, Math.
Comp. 1994), until nothing is wrong, mostly after two to five times. It may go round in circles, where gradients are
linearly dependent; an interior-point method has to do it then. To look whether anything is wrong is free on the CPU,
while a GPU would be waited for.
"""

import torch
from torch import Tensor

AT_ONCE = 2**16  # numbers in the matrices that are factored together: they shall stay in the cache
TOLERANCE = 1e-12  # what may be negative, of entries of about one


def pivoted(
    matrix: Tensor, offset: Tensor, normal: Tensor | None = None, radius: float | None = None, rounds: int = 10
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
    # first guess: whose dual would be negative if all were zero; in a ball, whose offset is below the mean
    free = offset < 0 if normal is None else (normal > 0) & (offset <= offset.mean(dim=-1, keepdim=True))
    z, todo = torch.zeros_like(offset), torch.arange(len(offset), device=offset.device)
    if normal is None:
        todo = todo[free.any(dim=-1)]  # elsewhere zero it is
    for _ in range(rounds):
        if len(todo) == 0:
            break
        again = []
        for part in todo.split(max(1, AT_ONCE // offset.shape[-1] ** 2)):
            at = slice(None) if len(part) == len(offset) else part  # a slice copies nothing
            toward = None if normal is None else normal[at]
            z[at], wrong = _solved(matrix[at], offset[at], free[at], toward, radius)
            free[at] ^= wrong
            again.append(part[wrong.any(dim=-1)])
        todo = torch.cat(again)
    solved = torch.ones(len(offset), dtype=torch.bool, device=offset.device)
    solved[todo] = False
    return z.clamp(min=0), solved


def _solved(
    matrix: Tensor, offset: Tensor, free: Tensor, normal: Tensor | None, radius: float | None
) -> tuple[Tensor, Tensor]:
    """Returns the z with zeros where it is not free, and where z or its dual is negative."""
    kept = free.to(matrix.dtype)
    system = matrix * kept.unsqueeze(-1) * kept.unsqueeze(-2)
    system.diagonal(dim1=-2, dim2=-1).add_(~free)
    factor, failed = torch.linalg.cholesky_ex(system)
    if failed.any():
        factor[failed > 0] = torch.nan
    if normal is None:
        z = torch.cholesky_solve((-offset * kept).unsqueeze(-1), factor).squeeze(-1)
        return z, ~(torch.where(free, z, _times(matrix, z) + offset) >= -TOLERANCE)
    right = torch.stack([normal, offset], dim=-1) * kept.unsqueeze(-1)
    columns = torch.cholesky_solve(right, factor)
    across, back = columns.unbind(dim=-1)
    level, missed = (1.0, None) if radius is None else _level(right.mT @ columns, radius)
    z = level * across - back
    dual = _times(matrix, z) + offset - level * normal
    wrong = ~(torch.where(free, z, dual) >= -TOLERANCE * (1 + z.abs().sum(dim=-1, keepdim=True)))
    if missed is not None:  # a solution that is not within the ball is none
        wrong = wrong | missed & ~wrong.any(dim=-1, keepdim=True)
    return z, wrong


def _level(products: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Returns the level, [B, 1], at which z = level * across - back has z' M z = radius^2, and where there is none.

    It is the larger root of a * level^2 - 2 b * level + c = 0, and where there is none that of the least z' M z.

    products: [B, 2, 2], the Gramian in M of across and back
    """
    a, b, _, square = products.flatten(1).split(1, dim=-1)
    root = b * b - a * (square - radius**2)
    return (b + root.clamp(min=0).sqrt()) / a, ~(root >= -TOLERANCE * (1 + b * b))


def _times(matrix: Tensor, z: Tensor) -> Tensor:
    return (matrix @ z.unsqueeze(-1)).squeeze(-1)
