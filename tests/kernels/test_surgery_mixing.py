"""Surgery on gradients that are known as combinations of others."""

import pytest
import torch

import gmd_kernels as gk
from helpers.oracle import flat, merge, project

MIXING = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def rows(dtype=torch.float64):
    """[3][4]; the last parameter is reached by the first row only, the one before by none."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(7, 3), (2,), (4,), (5, 1)]
    found = [[torch.randn(shape, generator=generator).to(dtype) for shape in shapes] for _ in range(3)]
    for k, row in enumerate(found):
        row[2] = None
        row[3] = row[3] if k == 0 else None
    return found


def mixed(grads, mixing):
    """[5][4], the objectives' own gradients."""
    made = [
        [
            sum(c * row[p].double() for c, row in zip(coefficients, grads, strict=True) if row[p] is not None)
            for p in (0, 1, 3)
        ]
        for coefficients in mixing
    ]
    return [[a, b, None, c] for a, b, c in made]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_is_the_surgery_on_the_combinations(backend, reduction, dtype, monkeypatch):
    monkeypatch.setenv("GMD_BACKEND", backend)
    grads = rows(dtype)
    objectives = mixed(grads, MIXING)
    generator = torch.Generator().manual_seed(2)
    shared = torch.tensor([True, True, False, False])
    got = gk.surgery(grads, mixing=MIXING, shared=shared, reduction=reduction, generator=generator)
    order = gk.projection_order(5, torch.Generator().manual_seed(2))
    expected = merge(objectives, project(flat(objectives), order), reduction)
    rtol = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    for p in (0, 1):
        assert got.merged[p].dtype == dtype
        assert (got.merged[p].double() - expected[p]).norm() <= rtol * expected[p].norm()
    private = expected[3] * (5 if reduction == "mean" else 1)
    assert (got.merged[3].double() - private).norm() <= rtol * private.norm()
    assert got.merged[2] is None
    gram = flat(objectives) @ flat(objectives).T
    assert (got.gram - gram).norm() <= 1e-6 * gram.norm()
    assert torch.equal(got.gram, got.gram.T)
    assert got.weights.shape == (5,)


def test_with_groups_and_a_weighting_and_a_scale():
    grads = [row[:2] for row in rows()]
    objectives = [row[:2] for row in mixed(rows(), MIXING)]
    for weighting in (gk.weightings.upgrad, lambda gram: gram.diagonal() / gram.trace()):
        got = gk.surgery([[8 * g for g in row] for row in grads], weighting, groups=[1, 0], mixing=MIXING, scale=8.0)
        expected = gk.surgery(objectives, weighting, groups=[1, 0])
        assert torch.allclose(got.gram, expected.gram, rtol=1e-9)
        assert torch.allclose(got.weights, expected.weights, rtol=1e-4), "to the noise of Gramians of rank 3"
        for a, b in zip(got.merged, expected.merged, strict=True):
            assert torch.allclose(a, b, rtol=1e-4)


def test_weights_of_a_weighting_are_checked_before_they_are_mixed():
    """Float32 ones are converted; a wrong length or a list is named, as without mixing."""
    grads = [row[:2] for row in rows()]
    got = gk.surgery(grads, lambda gram: torch.ones(5), mixing=MIXING)
    expected = gk.surgery(grads, lambda gram: torch.ones(5, dtype=torch.float64), mixing=MIXING)
    assert all(torch.equal(a, b) for a, b in zip(got.merged, expected.merged, strict=True))
    for wrong in (lambda gram: torch.ones(3, dtype=torch.float64), lambda gram: [1.0] * 5):
        with pytest.raises(ValueError, match=r"weights: expected \[T\] = \[5\]"):
            gk.surgery(grads, wrong, mixing=MIXING)
    with pytest.raises(ValueError, match="shared belongs to GMD"):
        gk.surgery(grads, gk.weightings.mean, mixing=MIXING, shared=torch.ones(2, dtype=torch.bool))
    assert torch.allclose(
        gk.surgery(grads, gk.weightings.mean, scale=torch.full((1, 1), 2.0)).merged[0],
        gk.surgery(grads, gk.weightings.mean).merged[0] / 2,
    )


def test_it_says_what_is_wrong():
    grads = rows()
    bad = [
        ({"mixing": MIXING.T}, r"mixing: expected float64 \[T, 3\], .* got torch.float64 \[3, 5\]"),
        ({"mixing": MIXING.float()}, "mixing: expected float64"),
        ({"mixing": [[1.0]]}, "mixing: expected float64 .* got list"),
        ({"mixing": MIXING[:0]}, "mixing: expected 1 to 64 objectives, got 0"),
        ({"mixing": MIXING.to("meta")}, "mixing: expected on the CPU, got meta"),
        ({"shared": torch.ones(3, dtype=torch.bool)}, r"shared: expected bool \[P\] = \[4\], got torch.bool \[3\]"),
        ({"shared": torch.ones(4)}, "shared: expected bool"),
    ]
    for arguments, message in bad:
        with pytest.raises(ValueError, match=message):
            gk.surgery(grads, **arguments)
