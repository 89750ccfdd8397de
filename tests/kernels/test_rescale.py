"""rescale_ against multiply-then-clip_grad_norm_."""

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

import gmd_kernels as gk

SHAPES = [(3, 5), (17,), (), (0,), (64, 33, 3), (2, 4, 3, 3)]


def make(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]
    grads[-1] = grads[-1].contiguous(memory_format=torch.channels_last)
    return [*grads[:2], None, *grads[2:]]


def multiplied_then_clipped(grads, scale, max_norm):
    """In float64, with torch's own function."""
    params = [None if g is None else torch.nn.Parameter(torch.empty_like(g, dtype=torch.float64)) for g in grads]
    for param, g, s in zip(params, grads, scale, strict=True):
        if g is not None:
            param.grad = g.double() * s
    norm = clip_grad_norm_([p for p in params if p is not None], max_norm)
    return [None if p is None else p.grad for p in params], norm


@pytest.mark.parametrize("max_norm", [1e-3, 10.0, 1e6, 0.0, float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_is_multiply_then_clip(backend, max_norm, dtype):
    grads = make(dtype)
    scale = torch.linspace(-2, 3, len(grads), dtype=torch.float64)
    expected, norm = multiplied_then_clipped(grads, scale, max_norm)
    before = list(grads)
    assert float(gk.rescale_(grads, scale, max_norm)) == pytest.approx(float(norm), rel=1e-7)
    rtol = 1e-2 if dtype == torch.bfloat16 else 1e-6
    for old, new, value in zip(before, grads, expected, strict=True):
        assert new is old, "not in place"
        assert new is None or torch.allclose(new.double(), value, rtol=rtol, atol=0)


def test_without_a_bound_it_only_scales(backend):
    grads = make()
    copies = [None if g is None else g.clone() for g in grads]
    assert gk.rescale_(grads, 0.5) is None
    assert all(g is None or torch.equal(g, 0.5 * c) for g, c in zip(grads, copies, strict=True))


def test_cggms_magnitude_in_a_training_loop(backend):
    """Encoders of two modalities, each with a factor of its own, and clipping, on .grad as the optimizer finds it."""
    encoders = torch.nn.ModuleList(torch.nn.Linear(4, 3) for _ in range(2))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    sum(encoder(x).square().mean() for encoder in encoders).backward()
    params = list(encoders.parameters())
    scale = [1.7, 1.7, 0.3, 0.3]
    expected, _ = multiplied_then_clipped([p.grad for p in params], scale, 0.1)
    gk.rescale_((p.grad for p in params), scale, max_norm=0.1)
    assert all(torch.allclose(p.grad.double(), e, rtol=1e-6) for p, e in zip(params, expected, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_element_shows_in_the_norm(backend, bad):
    grads = make()
    grads[0][1, 1] = bad
    assert not gk.rescale_(grads, 1.0, max_norm=1.0).isfinite()


def test_no_gradients_at_all(backend):
    assert float(gk.rescale_([], 2.0, max_norm=1.0)) == 0
    assert float(gk.rescale_([None, None], 2.0, max_norm=1.0)) == 0


@pytest.mark.parametrize(
    ("grads", "scale", "max_norm", "error", "message"),
    [
        (
            [torch.ones(2)],
            [1.0, 2.0],
            None,
            ValueError,
            r"scale: expected one number or 1, one per parameter, got \[2\]",
        ),
        ([torch.ones(2)], 1.0, -1.0, ValueError, r"max_norm: expected a number of 0 or more, got -1.0"),
        ([torch.ones(2)], 1.0, float("nan"), ValueError, r"max_norm: .*got nan"),
        ([torch.ones(2), "g"], 1.0, None, TypeError, r"^grads\[1\]: expected a tensor or None, got str"),
        ([torch.ones(2), torch.ones(1).expand(2)], 1.0, None, ValueError, r"^grads\[1\]: overlaps itself"),
        ([torch.ones(2, dtype=torch.int64)], 1.0, None, TypeError, r"^grads\[0\]: expected a dense tensor of a float"),
    ],
)
def test_bad_arguments(backend, grads, scale, max_norm, error, message):
    before = [g.clone() if isinstance(g, torch.Tensor) else g for g in grads]
    with pytest.raises(error, match=message):
        gk.rescale_(grads, scale, max_norm)
    assert all(torch.equal(g, b) for g, b in zip(grads, before, strict=True) if isinstance(g, torch.Tensor))
