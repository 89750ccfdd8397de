"""The weightings under test, and Jacobians and Gramians of every kind for them."""

import pytest
import torch

from gmd_kernels import weightings


def fresh_gradvac(gram):
    return weightings.gradvac(gram, torch.zeros_like(gram), generator=torch.Generator().manual_seed(0))


def db_mtl_of_equal_losses(gram):
    return weightings.db_mtl(gram, torch.ones_like(gram[..., 0]))


WEIGHTINGS = {
    "mean": weightings.mean,
    "sum": weightings.sum,
    "mgda": weightings.mgda,
    "cagrad": weightings.cagrad,
    "nash_mtl": weightings.nash_mtl,
    "imtl_g": weightings.imtl_g,
    "aligned_mtl": weightings.aligned_mtl,
    "upgrad": weightings.upgrad,
    "dualproj": weightings.dualproj,
    "gradvac": fresh_gradvac,
    "pcd": weightings.pcd,
    "config": weightings.config,
    "fairgrad": weightings.fairgrad,
    "db_mtl": db_mtl_of_equal_losses,
}
every_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)
KINDS = ["random", "conflicting", "collinear", "lengths"]


def make_jacobian(num_objectives, kind="random", seed=0):
    """[T, N] float64. All but "dependent" have rank T."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    common = torch.where(torch.arange(num_objectives) % 3 == 2, -1.0, 1.0)[:, None] * normal(4 * num_objectives)
    if kind == "dependent":
        return normal(num_objectives, max(1, num_objectives // 2))
    noise = normal(num_objectives, 4 * num_objectives)
    if kind == "lengths":
        return noise * 10 ** (4 * torch.rand(num_objectives, 1, generator=generator, dtype=torch.float64) - 2)
    return {"random": noise, "conflicting": common + noise, "collinear": common + 1e-2 * noise}[kind]


def make_gram(*args, **kwargs):
    jacobian = make_jacobian(*args, **kwargs)
    return jacobian @ jacobian.T


def magnitudes(gram, weights):
    """[T], what (G weights)_i is a sum of: rounding is relative to that."""
    return gram.abs() @ weights.abs()


def distance(jacobian, weights, others):
    """|J' (weights - others)| by |J' others|."""
    return float(((weights - others) @ jacobian).norm() / (others @ jacobian).norm())


# Beside TorchJD, on the same Gramian
