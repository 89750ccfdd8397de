"""Who is measured in each case, and how each one's values are judged before its speed is."""

import os
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

import gmd_kernels as gk
from bench import oracle
from bench.cases import Gradients
from bench.peers import TorchJD, plain_mean, published, torchjd_order

OURS, PUBLISHED, TORCHJD = "surgery (ours)", "published", "torchjd"
# Relative, see oracle.merge_error. Forgotten projections show as more than 5e-2. The peers take inner products of N
# float32 in float32, and lose up to 1e-3 by rounding alone at N = 16 million: the results say so, it is no mistake.
TOLERANCE, PEER_TOLERANCE = 1e-5, 1e-2
SEED = 0


@dataclass(frozen=True)
class Contestant:
    """One way of doing one thing.

    Attributes:
        passes: how often N elements must move between memory and processor, whoever does this, see `floor_ms`.
        call: what is timed.
        error: the result of `call` -> its relative error against float64.
        tolerance: what that error may be.
        prepare: is run before each call, untimed.
    """

    name: str
    passes: int
    call: Callable[[], object]
    error: Callable[[object], float]
    tolerance: float = TOLERANCE
    prepare: Callable[[], None] = lambda: None


def contestants(grads: Gradients, gram: torch.Tensor) -> list[Contestant]:
    """All of them on the same gradients, whose exact Gramian is `gram`.

    Ours, the reference and the published procedure project in the same order, TorchJD in one of its own.
    """
    t = len(grads)
    order = gk.projection_order(t, _generator())
    rows = oracle.rows_for(grads, oracle.exact_weights(gram, order))
    gmd_error = _error_against(grads, rows)
    mean_error = _error_against(grads, oracle.rows_for(grads, torch.ones(t, dtype=torch.float64)))
    jd_weights = oracle.exact_weights(gram, torchjd_order(t, SEED))
    jd_error = _error_against(grads, jd_weights.expand(len(grads[0]), t))  # sums shared and private alike

    jd, jd_stacked = TorchJD(grads, SEED), TorchJD(grads, SEED, stacked=True)
    jd_lean = TorchJD(grads, SEED, stacked=True, skip_concatenation=True)
    return [
        Contestant("gram", t, partial(gk.gram, grads), partial(oracle.gram_error, exact=gram)),
        Contestant("combine", t + 1, partial(gk.combine, grads, rows), gmd_error),
        Contestant(OURS, 2 * t + 1, partial(_surgery, grads), gmd_error),
        Contestant("surgery (reference)", 2 * t + 1, partial(_reference_surgery, grads), gmd_error),
        Contestant(PUBLISHED, 2 * t + 1, partial(published, grads, order), gmd_error, PEER_TOLERANCE),
        Contestant(TORCHJD, 2 * t + 1, jd, jd_error, PEER_TOLERANCE, jd.prepare),
        Contestant("torchjd (stacked)", 2 * t + 1, jd_stacked, jd_error, PEER_TOLERANCE, jd_stacked.prepare),
        Contestant("torchjd (stacked, no concat)", 2 * t + 1, jd_lean, jd_error, PEER_TOLERANCE, jd_lean.prepare),
        Contestant("plain mean", t + 1, partial(plain_mean, grads), mean_error),
    ]


def _error_against(grads: Gradients, rows: torch.Tensor) -> Callable[[object], float]:
    return partial(oracle.merge_error, exact=oracle.exact_merge(grads, rows))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def _surgery(grads: Gradients) -> list[torch.Tensor]:
    return gk.surgery(grads, generator=_generator()).merged


def _reference_surgery(grads: Gradients) -> list[torch.Tensor]:
    with _backend("reference"):
        return _surgery(grads)


@contextmanager
def _backend(name: str):
    before = os.environ.get("GMD_BACKEND")
    os.environ["GMD_BACKEND"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["GMD_BACKEND"]
        else:
            os.environ["GMD_BACKEND"] = before
