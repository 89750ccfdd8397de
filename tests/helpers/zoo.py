"""Jacobians at the edges of what weightings are defined for: where weights cancel, or have no end."""

import torch


def _normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _signs(num_objectives, seed):
    signs = torch.where(_normal(seed, num_objectives) > 0, 1.0, -1.0).double()
    signs[0], signs[-1] = 1.0, -1.0
    return signs


def random(num_objectives, seed):
    return _normal(seed, num_objectives, 200)


def conflicting(num_objectives, seed):
    return _signs(num_objectives, seed)[:, None] * _normal(seed + 1, 200) + _normal(seed, num_objectives, 200)


def stationary(num_objectives, seed):
    """A convex combination is zero: nobody can get better without another getting worse."""
    jacobian = _normal(seed, num_objectives, 200)
    shares = 0.1 + _normal(seed + 1, num_objectives - 1).abs()
    jacobian[-1] = -shares @ jacobian[:-1]
    return jacobian


def nearly_stationary(num_objectives, seed):
    return stationary(num_objectives, seed) + 1e-4 * _normal(seed + 2, num_objectives, 200)


def collinear(num_objectives, seed):
    """Positive and negative multiples of one vector."""
    multiples = _signs(num_objectives, seed) * (0.2 + _normal(seed + 1, num_objectives).abs())
    return multiples[:, None] * _normal(seed + 2, 200)


def balanced(num_objectives, seed):
    """As many multiples one way as the other."""
    signs = torch.where(torch.arange(num_objectives) % 2 == 0, 1.0, -1.0).double()
    return (signs * (0.2 + _normal(seed + 1, num_objectives).abs()))[:, None] * _normal(seed + 2, 200)


def rank_two(num_objectives, seed):
    return _normal(seed, num_objectives, 2) @ _normal(seed + 1, 2, 200)


def one_zero(num_objectives, seed):
    jacobian = conflicting(num_objectives, seed)
    jacobian[0] = 0
    return jacobian


def scales(num_objectives, seed):
    """Lengths from 1e-12 to 1e12."""
    return 10 ** torch.linspace(-12, 12, num_objectives).double()[:, None] * conflicting(num_objectives, seed)


def near_duplicates(num_objectives, seed):
    return _normal(seed, 200) + 1e-5 * _normal(seed + 1, num_objectives, 200)


def nearly_opposite(num_objectives, seed):
    """Nearly one vector, or nearly its opposite."""
    return _signs(num_objectives, seed)[:, None] * _normal(seed + 1, 200) + 1e-5 * _normal(seed, num_objectives, 200)


def opposite_and_others(num_objectives, seed):
    jacobian = _normal(seed, num_objectives, 200)
    jacobian[-1] = -jacobian[0] + 1e-6 * _normal(seed + 1, 200)
    return jacobian


ZOO = {
    make.__name__: make
    for make in (
        random,
        conflicting,
        stationary,
        nearly_stationary,
        collinear,
        balanced,
        rank_two,
        one_zero,
        scales,
        near_duplicates,
        nearly_opposite,
        opposite_and_others,
    )
}
