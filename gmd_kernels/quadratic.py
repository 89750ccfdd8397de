"""Solves small quadratic programs in a Gramian, batched; off the CPU in a fixed number of calls, reading no value.

On a GPU of NVIDIA's this is what torch.compile traces and the reference for csrc/cuda/weightings, which is quicker.

On the CPU, where values can be read, pivoting comes first (gmd_kernels/pivoting.py). What it leaves unsolved, and all
elsewhere, interior-point methods solve: z > 0 and its dual y > 0 move by Newton steps towards z * y = mu while mu goes
to zero. No step goes further than to a hundredth of an entry, and mu falls the faster the longer the step was. Vectors
are columns inside, [..., T, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gmd_kernels.gradients import is_readable
from gmd_kernels.pivoting import pivoted

# A Gramian of float64 products is exact to about 1e-14 of |g_i| |g_j| in each entry (1e-13 where a library adds up 10^5
# of them in one chain, as the reference's may), its eigenvalues to T <= 64 times that: what is smaller cannot be told
# from zero.
NOISE = 1e-12
# Weights of unit gradients are kept to about this. Adding up in float32 rounds 6e-8 of each term, so that even where
# the terms cancel the rounding stays below 1e-3 of a gradient.
LARGEST = 1e4
SMALLEST = 1e-17  # of w * y, in a ball
CONVERGED = 1e-24  # of z * y, where both are about one: nothing changes any more


def ridge(matrix: Tensor) -> Tensor:
    """Returns what to add to the diagonal of matrices [..., T, T] with a diagonal of about one, as [..., 1, 1].

    It is NOISE, unless the matrix is indefinite beyond that: the Gramian then came out of float32 products, whose
    rounding (at most 4e-6, docs/numerics.md) has to be outweighed. A Cholesky factorisation that succeeds tells it.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    if is_readable(matrix) and not torch.linalg.cholesky_ex(matrix + NOISE * identity).info.any():
        return matrix.new_full((*matrix.shape[:-2], 1, 1), NOISE)
    levels = NOISE * 10.0 ** torch.arange(0, 10, 2, dtype=matrix.dtype, device=matrix.device)[:, None, None]
    failed = torch.linalg.cholesky_ex(matrix.unsqueeze(-3) + levels * identity).info > 0
    steps = failed.sum(dim=-1)[..., None, None].to(matrix.dtype)
    return NOISE * torch.where(steps > 0, 10.0 ** (2 * steps + 1), 1.0)  # ten times the first that was enough


def complementarity(
    matrix: Tensor, offset: Tensor, normal: Tensor | None = None, product: float | None = None
) -> Tensor:
    """Returns the z >= 0, [..., T], that minimises 1/2 z' M z + offset' z; with `normal` under normal' z = 1.

    Args:
        matrix: [..., T, T] float64, M, positive semidefinite but for rounding, with a diagonal of about one. A `ridge`
            is added to it: of several solutions the one of about the least norm is taken, where there is none a large
            z.
        offset: [..., T]; zeros with `normal`.
        normal: [..., T], not negative, the largest entry about one.
        product: z * (M z + offset) shall be this number, not zero.
    """
    matrix = matrix + ridge(matrix) * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    if product is not None:
        return _interior_point(matrix, offset, None, product)
    z = _pivoted_or_interior(_interior_point, matrix, offset, normal)
    return z if normal is None else z / (normal * z).sum(dim=-1, keepdim=True)


def maximin_in_ball(matrix: Tensor, offset: Tensor, normal: Tensor, radius: float) -> Tensor:
    """Returns the x >= 0, [..., T], that maximises the level in M x + offset >= level * normal, x' M x <= radius^2.

    Args:
        matrix: [..., T, T] float64, M, with a diagonal of about one, as a Gramian of unit gradients has. LARGEST^-2 is
            added to that, or a larger `ridge`, so that |x| is at most LARGEST * radius. Where gradients
            are linearly dependent this costs up to radius / LARGEST of the level, elsewhere the square of that.
        offset: [..., T], entries of about one.
        normal: [..., T], not negative, the largest entry about one.
        radius: > 0.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    matrix = matrix + ridge(matrix).clamp(min=LARGEST**-2) * identity
    return _pivoted_or_interior(_maximin_interior, matrix, offset, normal, radius)


def _pivoted_or_interior(
    interior: Callable[..., Tensor], matrix: Tensor, offset: Tensor, normal: Tensor | None, radius: float | None = None
) -> Tensor:
    """Returns the solutions by pivoting where it can be done and succeeds, elsewhere those of an interior-point method.

    The method takes the same arguments, the radius only if there is one.
    """
    options = {} if radius is None else {"radius": radius}
    if not is_readable(matrix) or not is_readable(offset):
        return interior(matrix, offset, normal, **options)
    shape = torch.broadcast_shapes(matrix.shape[:-1], offset.shape)
    matrix = matrix.expand(*shape, shape[-1]).reshape(-1, shape[-1], shape[-1])
    offset = offset.expand(shape).reshape(-1, shape[-1])
    normal = None if normal is None else normal.expand(shape).reshape(-1, shape[-1])
    z, solved = pivoted(matrix, offset, normal, radius)
    if not solved.all():
        left = ~solved
        z[left] = interior(matrix[left], offset[left], None if normal is None else normal[left], **options)
    return z.reshape(shape)


def _interior_point(
    matrix: Tensor, offset: Tensor, normal: Tensor | None = None, product: float | None = None
) -> Tensor:
    """Does what `complementarity` says, for a positive definite matrix; each step costs a Cholesky factorisation."""
    offset = offset.unsqueeze(-1)
    z = y = torch.ones_like(offset)
    if normal is not None:
        normal = normal.unsqueeze(-1)
        z = z / normal.sum(dim=-2, keepdim=True)
    centring: Tensor | float = 0.2
    for _ in range(22 if product is None else 32):
        mu = product if product is not None else centring * (z * y).mean(dim=-2, keepdim=True)
        # M new_z + offset - multiplier * normal = new_y = total - ratio * new_z, the linear part of z * y = mu
        ratio, total = y / z, y + mu / z
        factor = _factor(matrix, ratio)
        new_z = _solve(factor, total - offset)
        if normal is not None:
            across = _solve(factor, normal)
            new_z = new_z + across * ((1 - normal.mT @ new_z) / (normal.mT @ across))
        new_y = total - ratio * new_z
        step = _step(z, new_z, y, new_y)
        z, y = z.lerp(new_z, step), y.lerp(new_y, step)
        centring = (step - 1).square().clamp(min=1e-3)
        if is_readable(z) and _has_converged(z, y, product):
            break
    return z.squeeze(-1)


def _has_converged(z: Tensor, y: Tensor, product: float | None) -> bool:
    """Returns whether all of z * y is zero, or the product, but for rounding. Reads a value."""
    distance, least = ((z * y).abs(), CONVERGED) if product is None else ((z * y - product).abs(), 1e-14 * product)
    return float(distance.amax()) <= least


def _maximin_interior(matrix: Tensor, offset: Tensor, normal: Tensor, radius: float) -> Tensor:
    """Does what `maximin_in_ball` says, for a positive definite matrix.

    x = w / s for the w >= 0 with normal' w = 1 that minimises 1/2 w' M w + s * offset' w, with such an s that w' M w =
    (radius * s)^2. Each step moves s to where this holds of the w it leads to, or towards it.
    """
    offset, normal = offset.unsqueeze(-1), normal.unsqueeze(-1)
    fixed = torch.cat([normal, offset], dim=-1)
    w = torch.ones_like(offset) / normal.sum(dim=-2, keepdim=True)
    s = torch.full_like(offset[..., :1, :], 0.3 / radius)
    y = matrix @ w + s * offset
    y = y - y.amin(dim=-2, keepdim=True) + 1
    centring: Tensor | float = 0.2
    for _ in range(32):
        mu = (centring * (w * y).mean(dim=-2, keepdim=True)).clamp(min=SMALLEST)
        new_w, new_y, new_s = _newton_in_ball(matrix, fixed, radius, w, y, s, mu)
        step = _step(w, new_w, y, new_y)
        w, y, s = w.lerp(new_w, step), y.lerp(new_y, step), s.lerp(new_s, step)
        centring = (step - 1).square().clamp(min=0.1)
        if is_readable(w) and float((w * y).amax()) <= 2 * SMALLEST:
            break
    x = w / s
    length = _gramian(matrix, x).clamp(min=0).sqrt()
    x = (x * (radius / length.clamp(min=radius))).squeeze(-1)
    return torch.where(x.isfinite().all(dim=-1, keepdim=True), x, 0.0)  # rounding has made the matrix indefinite


def _newton_in_ball(
    matrix: Tensor, fixed: Tensor, radius: float, w: Tensor, y: Tensor, s: Tensor, mu: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns where the Newton step leads: new w and y, [..., T, 1], and new s, [..., 1, 1].

    `fixed` has the columns normal and offset, [..., T, 2].
    """
    # matrix @ new_w + new_s * offset - multiplier * normal = new_y = total - ratio * new_w
    ratio, total = y / w, y + mu / w
    columns = _solve(_factor(matrix, ratio), torch.cat([total, fixed], dim=-1))
    free, across, shift = columns.split(1, dim=-1)
    along_free, scale, along_shift = (fixed[..., :1].mT @ columns).split(1, dim=-1)
    base, slope = free + across * ((1 - along_free) / scale), across * (along_shift / scale) - shift
    # w' M w + 2 mu = (radius * new_s)^2 of w = base + new_s * slope, in 1 / new_s: its larger root. 2 mu, from the
    # barrier of the cone that w' M w <= (radius * s)^2 is, keeps s from running ahead of w
    c, b, _, a = _gramian(matrix, torch.cat([base, slope], dim=-1)).flatten(-2).unsqueeze(-2).split(1, dim=-1)
    a, c = a - radius**2, c + 2 * mu
    shrinkage = s * ((b * b - a * c).clamp(min=0).sqrt() - b) / c
    new_s = s / shrinkage.clamp(0.25, 3)
    new_w = base + new_s * slope
    return new_w, total - ratio * new_w, new_s


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Returns eigenvalues [..., N] and eigenvectors [..., T, N] of symmetric matrices [..., T, T], in any order.

    N is T, or T + 1 with an eigenvector of zeros. Off the CPU this is Jacobi's method, as torch.linalg.eigh waits for
    the device: twelve sweeps, in each of which every pair is rotated once, T / 2 pairs at a time.
    """
    if matrix.device.type == "cpu":
        values, vectors = torch.linalg.eigh(matrix)
        return values, vectors
    return _jacobi(matrix)


def _jacobi(matrix: Tensor, sweeps: int = 12) -> tuple[Tensor, Tensor]:
    """Does what `eigh` says by Jacobi's method, with an extra row and column of zeros where T is odd."""
    size = matrix.shape[-1]
    matrix = torch.nn.functional.pad(matrix, (0, size % 2, 0, size % 2))
    half = matrix.shape[-1] // 2
    vectors = torch.eye(2 * half, dtype=matrix.dtype, device=matrix.device)
    # opponents i and half + i; afterwards all but the first move on by one place around the table
    places = torch.arange(2 * half, device=matrix.device)
    ring = torch.cat([places[1:half], places[half:].flip(0)])
    following = places.scatter(0, ring, ring.roll(1))
    for _ in range(sweeps * (2 * half - 1)):
        diagonal, twice = matrix.diagonal(dim1=-2, dim2=-1), 2 * matrix[..., :half, half:].diagonal(dim1=-2, dim2=-1)
        gap = diagonal[..., half:] - diagonal[..., :half]
        tangent = twice * torch.where(gap < 0, -1.0, 1.0) / (gap.abs() + torch.hypot(gap, twice)).clamp(min=1e-300)
        cosine = (1 + tangent * tangent).rsqrt()
        cosines, sines = torch.diag_embed(cosine), torch.diag_embed(cosine * tangent)
        upper, lower = torch.cat([cosines, sines], dim=-1), torch.cat([-sines, cosines], dim=-1)
        rotation = torch.cat([upper, lower], dim=-2)[..., following]
        matrix = rotation.mT @ matrix @ rotation
        vectors = vectors @ rotation
    return matrix.diagonal(dim1=-2, dim2=-1), vectors[..., :size, :]


def _factor(matrix: Tensor, ratio: Tensor) -> Tensor:
    """Returns the Cholesky factor of the matrix with `ratio`, [..., T, 1], added to its diagonal."""
    factor: Tensor = torch.linalg.cholesky_ex(matrix + torch.diag_embed(ratio.squeeze(-1)))[0]
    return factor


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """Returns the solution x of L L' x = right, for the Cholesky factor L."""
    inner = torch.linalg.solve_triangular(factor, right, upper=False)
    solution: Tensor = torch.linalg.solve_triangular(factor.mT, inner, upper=True)
    return solution


def _step(z: Tensor, new_z: Tensor, y: Tensor, new_y: Tensor) -> Tensor:
    """Returns how far to go towards the new values, at most 1, so that a hundredth of each entry is left."""
    least = torch.cat([new_z / z, new_y / y], dim=-2).amin(dim=-2, keepdim=True)
    return 0.99 / (1 - least).clamp(min=0.99)


def _gramian(matrix: Tensor, columns: Tensor) -> Tensor:
    """Returns C' M C for columns C, [..., T, N]."""
    return columns.mT @ (matrix @ columns)
