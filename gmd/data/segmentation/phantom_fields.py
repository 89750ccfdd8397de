"""The geometry of synthetic brains: coordinates, ellipsoids, smooth random fields."""

from collections.abc import Sequence

import numpy as np


def grid_of(shape: Sequence[int]) -> list[np.ndarray]:
    """Returns the coordinates of a volume's voxels, -1 to 1 along each axis, shaped to broadcast to [X, Y, Z]."""
    return list(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True))


def grid_around_a_voxel(mask: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Returns the coordinates of a volume's voxels, with a random voxel of the mask (bool [X, Y, Z]) as origin."""
    voxel = rng.choice(np.argwhere(mask))
    return [axis - axis.flat[index] for axis, index in zip(grid_of(mask.shape), voxel, strict=True)]


def radius(grid: Sequence[np.ndarray], half_axes: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the distance from the origin in units of an ellipsoid's half axes, [X, Y, Z]: below 1 is inside of it."""
    return np.sqrt(sum((g / a) ** 2 for g, a in zip(grid, half_axes, strict=True)))


def smooth_noise(shape: Sequence[int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random field, float64 [X, Y, Z], with about `cells` bumps along each axis, mean 0 and variance 1.

    Drawn on a coarse grid and interpolated, so that its cost does not grow with its smoothness.
    """
    field = rng.standard_normal((cells + 2,) * 3)
    nodes = np.linspace(-1 - 1 / cells, 1 + 1 / cells, cells + 2)
    for n in shape:  # each turn replaces the leading coarse axis by a fine one at the end
        basis = np.exp(-0.5 * ((np.linspace(-1, 1, n)[:, None] - nodes) / (1.3 / cells)) ** 2)
        field = np.tensordot(field, basis, axes=(0, 1))
    return (field - field.mean()) / field.std()
