"""Bad input to the kernels: the message names the argument, what came and what was expected; nothing is written."""

import pytest
import torch

import gmd_kernels as gk

ONES = [[torch.ones(2, 3)], [torch.ones(2, 3)]]


@pytest.mark.parametrize(
    ("grads", "error", "message"),
    [
        ([], ValueError, r"grads: expected 1 to 64 objectives, got 0"),
        ([[torch.ones(1)]] * 65, ValueError, r"got 65"),
        ([[torch.ones(1)], []], ValueError, r"grads\[1\]: expected 1 parameters as in grads\[0\], got 0"),
        ([[torch.ones(2)], [torch.ones(3)]], ValueError, r"grads\[1\]\[0\]: expected \[2\] .*got \[3\]"),
        ([[None], [torch.ones(2)], [torch.ones(2).double()]], ValueError, r"grads\[2\]\[0\].*float32.*got.*float64"),
        ([[torch.ones(2)], ["g"]], ValueError, r"grads\[1\]\[0\].*got str"),
        ([["g"]], TypeError, r"grads\[0\]\[0\]: expected a tensor or None, got str"),
        ([[torch.ones(2, dtype=torch.int64)]], TypeError, r"floating type, got \[2\] torch.int64"),
        ([[torch.ones(2, 2).to_sparse()]], TypeError, r"expected a dense tensor .*sparse_coo"),
        ([[torch.ones(2)], [torch.ones(2, device="meta")]], ValueError, r"on cpu, strided.*got \[2\].* on meta"),
        ([[torch.ones(2), torch.ones(2, device="meta")]], ValueError, r"grads\[0\]\[1\]: expected on cpu"),
    ],
)
def test_bad_gradients(grads, error, message):
    with pytest.raises(error, match=message):
        gk.gram(grads)
    with pytest.raises(error, match=message):
        gk.combine(grads, torch.ones(len(grads)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gk.gram(ONES, [0, 1]), r"groups: expected 1 ints, one for each parameter, got 2"),
        (lambda: gk.gram(ONES, [-1]), r"groups\[0\]: expected an int from 0 to 0, got -1"),
        (lambda: gk.combine(ONES, torch.ones(3)), r"weights: expected \[T\] = \[2\] or \[P, T\] = \[1, 2\], got \[3\]"),
        (lambda: gk.combine(ONES, torch.ones(2, dtype=torch.int64)), r"weights: expected floating on cpu"),
        (lambda: gk.combine(ONES, torch.ones(2), out=[]), r"out: expected 1 tensors"),
        (lambda: gk.combine(ONES, torch.ones(2), out=[torch.ones(6)]), r"out\[0\]: expected \[2, 3\].*got \[6\]"),
        (lambda: gk.pcgrad_weights(torch.eye(3), gk.projection_order(3)), r"gram: expected float64 \[T, T\]"),
        (lambda: gk.pcgrad_weights(torch.eye(3).double(), gk.projection_order(4)), r"order: expected int64 \[3, 2\]"),
        (
            lambda: gk.pcgrad_weights(torch.eye(3).double(), torch.tensor([[1, 2], [0, 0], [0, 1]])),
            r"order\[1\]: expected a permutation of \[0, 2\], got \[0, 0\]",
        ),
        (lambda: gk.projection_order(0), r"num_objectives: expected 1 to 64, got 0"),
        (lambda: gk.surgery(ONES, reduction="max"), r"reduction: expected 'mean' or 'sum', got 'max'"),
        (lambda: gk.surgery(ONES, gk.weightings.mean, reduction="sum"), r"reduction and generator belong to GMD"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_results_that_share_memory_are_refused():
    grads = [[torch.ones(3), torch.ones(3)] for _ in range(2)]
    both = torch.zeros(3)
    with pytest.raises(ValueError, match=r"out\[1\] shares its memory with out\[0\]"):
        gk.combine(grads, torch.ones(2), out=[both, both])
    assert torch.equal(both, torch.zeros(3)), "something was written before the error"


@pytest.mark.parametrize(
    ("make_out", "message"),
    [
        (lambda buffer: [buffer[:3], buffer[2:5]], r"out\[1\] shares its memory with out\[0\]"),
        (lambda buffer: [buffer[:3], buffer[:1].expand(3)], r"out\[1\]: overlaps itself"),
        (lambda buffer: [buffer[:3], torch.zeros(3, requires_grad=True)], r"out\[1\]: .*neither requires grad"),
        (lambda buffer: [buffer[:3], torch._neg_view(torch.zeros(3))], r"out\[1\]: .*nor is lazily negated"),
    ],
)
def test_results_that_cannot_be_written_are_refused_before_anything_is(make_out, message):
    buffer = torch.zeros(8)
    grads = [[torch.ones(3), torch.ones(3)] for _ in range(2)]
    with pytest.raises(ValueError, match=message):
        gk.combine(grads, torch.ones(2), out=make_out(buffer))
    assert not buffer.any()


def test_nothing_is_written_before_an_error():
    out = [torch.full((2, 3), 7.0)]
    with pytest.raises(ValueError, match="weights"):
        gk.combine(ONES, torch.ones(5), out=out)
    assert torch.equal(out[0], torch.full((2, 3), 7.0))
