"""The peers of the benchmark compute what ours computes, and the oracle what the vectors themselves say."""

import pytest
import torch

import gmd_kernels as gk
from helpers.bench_cases import same

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")

from bench.measure import oracle
from bench.measure.peers import (
    TorchJD,
    libmtl,
    peer_order,
    plain_mean,
    published,
    pytorch_pcgrad,
    torchjd_jacobians,
    torchjd_order,
)


def flat(grads) -> torch.Tensor:
    """[T, N] float64, zeros for `None`."""
    return torch.cat([jacobian.flatten(1).double() for jacobian in torchjd_jacobians(grads)], dim=1)


@pytest.mark.parametrize("itself", [False, True])
def test_oracle_is_the_projection_of_the_vectors_themselves(grads, itself):
    order = peer_order(len(grads), seed=1) if itself else gk.projection_order(len(grads))
    vectors = flat(grads)
    total = torch.zeros_like(vectors[0])
    for i, others in enumerate(order.tolist()):
        projected = vectors[i].clone()
        for j in others:
            if (product := projected @ vectors[j]) < 0:
                projected -= product / (vectors[j] @ vectors[j]) * vectors[j]
        total += projected
    weights = oracle.exact_weights(oracle.exact_gram(grads), order)
    torch.testing.assert_close(weights @ vectors, total, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("peer", [published, pytorch_pcgrad, libmtl])
def test_flat_peers_compute_what_ours_computes(grads, peer):
    order = gk.projection_order(len(grads), torch.Generator().manual_seed(3))
    total = gk.pcgrad_weights(gk.gram(grads), order).sum(dim=0)
    ours = gk.combine(grads, total if peer is libmtl else oracle.rows_for(grads, total))
    before = [[None if g is None else g.clone() for g in row] for row in grads]
    for mine, theirs in zip(ours, peer(grads, order), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-7)
    assert all(same(row, old) for row, old in zip(grads, before, strict=True))


def test_flat_peers_are_given_shuffles_of_all_objectives():
    order = peer_order(15, seed=0)
    assert order.sort(dim=1).values.tolist() == [list(range(15))] * 15
    assert len({tuple(row) for row in order.tolist()}) == 15


def test_surgery_draws_the_order_that_the_published_procedure_is_given(grads):
    order = gk.projection_order(len(grads), torch.Generator().manual_seed(5))
    ours = gk.surgery(grads, generator=torch.Generator().manual_seed(5)).merged
    for mine, theirs in zip(ours, published(grads, order), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("skip_concatenation", [False, True])
def test_torchjd_computes_what_ours_computes_in_its_own_order(grads, skip_concatenation):
    total = gk.pcgrad_weights(gk.gram(grads), torchjd_order(len(grads), seed=7)).sum(dim=0)
    torchjd = TorchJD(grads, seed=7, stacked=skip_concatenation, skip_concatenation=skip_concatenation)
    torchjd.prepare()
    for mine, theirs in zip(gk.combine(grads, total), torchjd(), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-7)


def test_plain_mean_is_the_mean_and_leaves_the_gradients_alone(grads):
    before = [[None if g is None else g.clone() for g in row] for row in grads]
    rows = oracle.rows_for(grads, torch.ones(len(grads), dtype=torch.float64))
    assert oracle.merge_error(plain_mean(grads), oracle.exact_merge(grads, rows)) < 1e-6
    assert all(same(row, old) for row, old in zip(grads, before, strict=True))
