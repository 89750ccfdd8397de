"""What the kernels owe to the rest of torch: autograd's version counters, default devices, wrappers, shared memory."""

import pytest
import torch

import gmd_kernels as gk


def test_autograd_notices_what_was_written_over(backend):
    x, w = torch.ones(3), torch.randn(3, requires_grad=True)
    y = (x * w).sum()
    gk.combine([[torch.ones(3)], [torch.ones(3)]], torch.ones(2), out=[x])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_results_in_inference_mode(backend):
    with torch.inference_mode():
        out = [torch.zeros(3)]
        gk.combine([[torch.ones(3)]], torch.ones(1), out=out)
    assert torch.equal(out[0], torch.ones(3))


def test_a_result_where_the_weights_lie(backend):
    weights = torch.ones(2, dtype=torch.float64)
    grads = [[torch.full((2,), 1.0 + k + p, dtype=torch.float64) for p in range(2)] for k in range(2)]
    merged = gk.combine(grads, weights, out=[weights, None])
    assert merged[0].tolist() == [3.0, 3.0]
    assert merged[1].tolist() == [5.0, 5.0]


def test_another_default_device_changes_nothing(backend):
    grads = [[torch.ones(3)], [-torch.ones(3)]]
    with torch.device("meta"):
        gk.rescale_(grads[0], 2.0, max_norm=1.0)
        gk.combine(grads, torch.ones(2, device="cpu"), out=[torch.zeros(3, device="cpu")])
        order = gk.projection_order(2, device="cpu")
        assert gk.pcgrad_weights(gk.gram(grads), order).device.type == "cpu"
        assert gk.surgery(grads).merged[0].device.type == "cpu"


def test_large_weights_that_cancel(backend):
    merged = gk.combine([[torch.full((40,), 1e10)], [torch.full((40,), 1e10)]], torch.tensor([1e30, -1e30]).double())
    assert torch.equal(merged[0], torch.zeros(40))


def test_a_wrapper_without_memory_is_no_result(backend):
    target = torch._efficientzerotensor((3,))
    with pytest.raises((ValueError, RuntimeError), match=r"out\[0\]"):
        gk.combine([[torch.ones(3)]], torch.ones(1), out=[target])


def test_the_fallback_names_the_callers_line():
    with pytest.warns(gk.FallbackWarning) as caught:
        gk.gram([[torch.ones(2).to(torch.float8_e4m3fn)]])
    assert caught[0].filename == __file__
