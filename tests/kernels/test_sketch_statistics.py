"""What sketches tell of inner products: unbiased, and as scattered as theory says, wherever the non-zeros lie.

The variance of <S x, S y> over seeds, from the blocks of d elements: two elements of one block never meet, those of
different blocks meet with probability 1 / d, and signs are independent, so that

    variance = (|x|^2 |y|^2 + <x, y>^2 - sum over blocks of (|x_b|^2 |y_b|^2 + <x_b, y_b>^2)) / d.
"""

import pytest
import torch
from torch import Tensor

import gmd_kernels as gk

pytestmark = pytest.mark.usefixtures("one_thread")
D, SEEDS = 64, 1500
Row = list[Tensor]


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _where(mask: Tensor) -> tuple[Row, Row]:
    """Correlated numbers where the mask is set, zeros elsewhere."""
    x = _normal(*mask.shape, seed=1)
    return [x * mask], [(x + _normal(*mask.shape, seed=2)) * mask]


def _every(stride: int, numel: int = 8192) -> tuple[Row, Row]:
    return _where(torch.arange(numel) % stride == 0)


def _channels(shape: tuple[int, ...], dim: int, *alive: int) -> tuple[Row, Row]:
    """All of a parameter is zero but a few channels."""
    mask = torch.zeros(shape)
    mask.index_fill_(dim, torch.tensor(alive), 1.0)
    return _where(mask)


def _small(numel: int, count: int) -> tuple[Row, Row]:
    """Many parameters of less than d elements, biases for instance."""
    rows = [_where(torch.ones(numel)) for _ in range(count)]
    return [(-1) ** p * x[0] for p, (x, _) in enumerate(rows)], [(1 + p % 3) * y[0] for p, (_, y) in enumerate(rows)]


LAYOUTS = {
    "gaussian": _every(1),
    "orthogonal": ([_normal(6000, seed=1)], [_normal(6000, seed=2)]),
    "itself": ([_normal(4096, seed=1)],) * 2,
    "constant": ([torch.ones(4096, dtype=torch.float64)],) * 2,
    "alternating": ([torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(2048)], [torch.ones(4096).double()]),
    "every 2nd": _every(2),
    "every 8th": _every(8),
    "every 64th, a non-zero for each block": _every(64),
    "every 128th, for every second block": _every(128, 32768),
    "every 65th": _every(65, 16384),
    "two input channels": _channels((32, 16, 3, 3), 1, 3, 7),
    "two output channels": _channels((32, 64, 3, 3), 0, 3, 20),
    "the last channel of channels-last": _channels((8, 8, 64), 2, 63),
    "biases of 16": _small(16, 60),
    "biases of 64": _small(64, 64),
    "biases of 1": _small(1, 100),
}


def _of_blocks(first: Row, second: Row) -> Tensor:
    """The inner product of every block of D elements."""
    return torch.cat(
        [
            torch.stack([(a * b).sum() for a, b in zip(x.flatten().split(D), y.flatten().split(D), strict=True)])
            for x, y in zip(first, second, strict=True)
        ]
    )


def variance(x: Row, y: Row) -> float:
    squares = _of_blocks(x, x), _of_blocks(y, y)
    products = _of_blocks(x, y)
    whole = squares[0].sum() * squares[1].sum() + products.sum() ** 2
    return float(whole - (squares[0] * squares[1] + products**2).sum()) / D


def estimates(x: Row, y: Row) -> Tensor:
    """<S x, S y> for many seeds."""
    sketches = torch.zeros(2, SEEDS, D, dtype=torch.float64)
    for seed in range(SEEDS):
        for sketch, row in zip(sketches[:, seed], (x, y), strict=True):
            gk.sketch_(sketch, row, seed)
    return (sketches[0] * sketches[1]).sum(dim=1)


@pytest.mark.parametrize("name", LAYOUTS)
def test_unbiased_and_as_scattered_as_theory_says(name):
    x, y = LAYOUTS[name]
    found, exact, expected = estimates(x, y), float(_of_blocks(x, y).sum()), variance(x, y)
    scatter = found.sub(exact).square().mean().item()
    assert abs(found.mean().item() - exact) <= 4 * (expected / SEEDS) ** 0.5
    assert 0.85 * expected <= scatter <= 1.15 * expected, f"{scatter / expected:.3f} times the variance"
    length = float(_of_blocks(x, x).sum()) * float(_of_blocks(y, y).sum())
    assert expected <= (length + exact**2) / D  # the bound that docs/numerics.md has


@pytest.mark.parametrize("d", [256, 4096])
def test_a_cosine_errs_by_one_over_the_root_of_d(d):
    """Of two independent gradients of a million numbers, over seeds."""
    rows = [[torch.randn(n, generator=torch.Generator().manual_seed(seed)) for n in (2**18, 999)] for seed in (1, 2)]
    gram = gk.gram(rows)
    cosines = torch.zeros(100)
    for seed in range(len(cosines)):
        sketches = torch.zeros(2, d)
        for sketch, row in zip(sketches, rows, strict=True):
            gk.sketch_(sketch, row, seed)
        cosines[seed] = torch.cosine_similarity(*sketches, dim=0)
    exact = gram[0, 1] / (gram[0, 0] * gram[1, 1]).sqrt()
    assert 0.8 <= (cosines - exact).square().mean().sqrt().item() * d**0.5 <= 1.2


def test_signs_are_fair_and_independent():
    """Read from sketches of one element to a bucket: half are subtracted, and neighbours are alike half of the time."""
    signs = torch.zeros(200, 4096)
    for seed in range(len(signs)):
        gk.sketch_(signs[seed], [torch.ones(4096)], seed)
    assert signs.abs().eq(1).all()
    assert abs(signs.mean().item()) <= 4 / signs.numel() ** 0.5
    for lag in (1, 2, 32, 63, 64, 65, 128):
        assert abs((signs * signs.roll(lag, dims=1)).mean().item()) <= 4 / signs.numel() ** 0.5
