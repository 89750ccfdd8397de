"""Directions that stand for the objectives' cotangents: each objective's own error is bounded, whatever the others."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gmd_kernels as gk
from gmd.surgery._compression import leading_directions
from gmd.surgery._paths import path_gradients

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SIZE = 40  # numbers of a cotangent


def directions_of(cotangents, tol):
    """The directions of one output's cotangents, [T, N], and these cotangents as the directions give them, float64."""
    columns = [[cotangent] for cotangent in cotangents]
    found = leading_directions(gk.gram(columns, groups=[0]), tol, [cotangents[0].dtype])
    made = [gk.combine(columns, weights)[0] for weights in found.combining[0].T]
    return found, found.mixing[0] @ torch.stack(made).double()


def errors_of(got, cotangents):
    """[T], relative error of each in norm; that of a zero is 0 only if it is given as zero."""
    distances, norms = (got - cotangents.double()).norm(dim=1), cotangents.double().norm(dim=1)
    return torch.where(norms > 0, distances / norms, distances)


def alike(draw, t):
    return draw(1, SIZE) + 0.1 * draw(t, SIZE)


def decaying(draw, t):
    """Every direction a fifth of the one before."""
    return draw(t, t) @ torch.diag(0.2 ** torch.arange(t, dtype=torch.float64)) @ draw(t, SIZE)


def scaled(draw, t, most=30.0):
    """As far as the type of the tensors reaches."""
    return alike(draw, t) * 10.0 ** (most * draw(t, 1).clamp(-1.0, 1.0))


def copies(draw, t):
    """Of two directions, some turned around, so that their rank is two at most."""
    return draw(t, 2).sign() @ draw(2, SIZE)


def some_zero(draw, t):
    return alike(draw, t) * (draw(t, 1) > 0)


def outlier(draw, t):
    """One alone, among many that are nearly the same."""
    rows = draw(1, SIZE) + 1e-3 * draw(t, SIZE)
    rows[-1] = 1e-2 * draw(SIZE)
    return rows


def spiked(draw, t):
    """The differences are in a number or two, near the end of the range of float16."""
    rows = 50.0 * (draw(1, SIZE).sign() + 0.0 * draw(t, 1))
    rows[:, :2] += 2e4 * draw(t, 2).clamp(-1.0, 1.0)
    return rows


KINDS = {kind.__name__: kind for kind in (alike, decaying, scaled, copies, some_zero, outlier, spiked)}


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(st.integers(1, 20), st.integers(0, 2**32 - 1), st.sampled_from([1e-9, 1e-3, 0.01, 0.03, 0.1, 0.5, 0.99]))
def test_no_objective_loses_more_than_it_may(kind, dtype, t, seed, tol):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    rows = KINDS[kind](draw, t) if kind != "scaled" else scaled(draw, t, 4.0 if dtype is torch.float16 else 30.0)
    cotangents = rows.to(dtype)
    found, got = directions_of(cotangents, tol)
    there = int((cotangents != 0).any(dim=1).sum())
    assert 1 <= found.counts[0] <= max(there, 1)
    assert float(found.discarded) <= tol**2
    rounding = math.sqrt(t) * torch.finfo(dtype).eps
    if dtype is torch.float16:  # below its smallest normal number the last place is as large as there
        rounding = rounding + math.sqrt(t * SIZE) * 2.0**-24 / cotangents.double().norm(dim=1).clamp(min=2.0**-24)
    assert (errors_of(got, cotangents) <= tol + rounding).all()
    assert (got[(cotangents == 0).all(dim=1)] == 0).all()


def test_a_small_objective_keeps_its_direction():
    """Six that are alike, and one of a tenth of their length at 60 degrees: of the energy of all it is 0.2 %."""
    param = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    rows = torch.zeros(7, 6, dtype=torch.float64)
    rows[:, 0] = 1.0
    rows[-1, :2] = 0.1 * torch.tensor([0.5, math.sqrt(0.75)])
    outputs = [param * 1.0]
    basis = path_gradients([row @ outputs[0] for row in rows], outputs, [param], tol=0.1)
    assert basis.directions == (2,)
    got = basis.mixing @ torch.stack([row[0] for row in basis.rows])
    assert float(errors_of(got, rows).max()) <= 0.1  # 87 % if it is lost


def test_the_bound_does_not_depend_on_scales():
    rows = alike(lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 8)
    gram = rows @ rows.T
    scale = 10.0 ** torch.linspace(-30, 30, 8, dtype=torch.float64)
    plain, other = (leading_directions(g[None], 0.1, [torch.float64]) for g in (gram, gram * scale[:, None] * scale))
    assert plain.counts == other.counts
    assert 1 < plain.counts[0] < 8, "nothing is compressed: this test would show nothing"
    assert torch.allclose(plain.discarded, other.discarded, rtol=1e-6)


def test_weight_of_the_worst_saves_a_direction():
    """Between nine and one, 25 degrees away, lies a line that is near enough to all; the principal one is not."""
    angle = math.radians(25)
    rows = torch.tensor([[1.0, 0.0]] * 9 + [[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    tol = math.sin(math.radians(20))
    [principal] = torch.linalg.svd(rows).Vh[:1]
    assert float((rows - torch.outer(rows @ principal, principal)).norm(dim=1).max()) > tol
    found, got = directions_of(rows, tol)
    assert found.counts == (1,)
    assert float(errors_of(got, rows).max()) <= tol


def test_where_nothing_is_saved_the_directions_are_the_cotangents():
    rows = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(0))
    rows[2] = 0.0
    found, got = directions_of(rows, 0.01)
    assert found.counts == (4,)
    assert torch.equal(found.combining[0].T, torch.eye(5, dtype=torch.float64)[[0, 1, 3, 4]])
    assert torch.equal(got, rows.double())
    assert found.discarded.tolist() == [0.0]


def test_nothing_but_zeros_is_one_direction_of_zeros():
    found, got = directions_of(torch.zeros(3, SIZE), 0.1)
    assert found.counts == (1,)
    assert not got.any()
    assert found.discarded.tolist() == [0.0]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_no_direction_is_longer_than_the_longest_cotangent(dtype):
    """So that a scaler's scale for the objectives serves the directions too."""
    generator = torch.Generator().manual_seed(3)
    rows = (100.0 * (torch.randn(1, SIZE, generator=generator) + 0.1 * torch.randn(15, SIZE, generator=generator))).to(
        dtype
    )
    found = leading_directions(gk.gram([[row] for row in rows], groups=[0]), 0.1, [dtype])
    made = found.combining[0].T @ rows.double()
    longest = float(rows.double().norm(dim=1).max())
    assert float(made.norm(dim=1).max()) <= longest * (1 + 1e-9)
    assert float(made.norm(dim=1).max()) >= 0.9 * longest
