"""Who is measured on a GPU: ours in C++/CUDA and in Triton, the reference, and the peers of the CPU's benchmark."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure import oracle
from bench.measure.cases import Case, Gradients
from bench.measure.contestants import (
    COMBINE,
    GRAM,
    OURS,
    REFERENCE,
    SEED,
    TOLERANCE,
    Contestant,
    forced,
    peers,
    works,
)
from bench.measure.gpu_names import MOVED, TRITON_COMBINE, TRITON_GRAM, TRITON_SURGERY

# "gram", "combine" and "surgery (ours)" are what users get: C++/CUDA, and nothing else counts as that
PEERS_UP_TO = 20_000_000  # elements; beyond, they take the minutes that all else has


def gpu_contestants(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    """All of them on the same gradients, whose exact Gramian is `gram` [T, T] on the CPU."""
    with_peers = case.dtype == torch.float32 and case.num_elements < PEERS_UP_TO
    return [*_ours(case, grads, gram), *(peers(case, grads, gram) if with_peers else [])]


def _ours(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    device = next(g.device for g in grads[0] if g is not None)
    weights = oracle.exact_weights(gram, gk.projection_order(len(grads), _generator()))
    rows = oracle.rows_for(grads, weights).to(device)
    exact = oracle.exact_merge(grads, rows)
    result = {"tolerance": max(TOLERANCE, torch.finfo(case.dtype).eps), "result_bytes": case.num_bytes}
    reading, merging, both = works(len(grads))

    def trio(names: tuple[str, str, str], by: Callable[[Callable], Callable]) -> list[Contestant]:
        merge_error = partial(oracle.merge_error, exact=exact)
        surgery_error = by(partial(_surgery_error, grads=grads, exact=exact))
        return [
            Contestant(names[0], reading, by(partial(gk.gram, grads)), partial(oracle.gram_error, exact=gram)),
            Contestant(names[1], merging, by(partial(gk.combine, grads, rows)), merge_error, **result),
            Contestant(names[2], both, by(partial(gk.surgery, grads)), surgery_error, **result),
        ]

    ours = trio((GRAM, COMBINE, OURS), lambda call: call)
    moved = replace(ours[-1], name=MOVED, call=Moving(grads))
    triton = trio((TRITON_GRAM, TRITON_COMBINE, TRITON_SURGERY), partial(through, "triton"))
    return [*ours, moved, *triton, trio(("", "", REFERENCE), partial(through, "reference"))[-1]]


class Moving:
    """Surgery on two copies of the gradients in turn: each call has to send the table of their addresses."""

    def __init__(self, grads: Gradients):
        copy = [[None if g is None else g.clone() for g in row] for row in grads]
        self._following = cycle((grads, copy))

    def __call__(self) -> gk.Surgery:
        return gk.surgery(next(self._following))


def through(backend: str, call: Callable) -> Callable:
    """The call, with that backend."""

    def through_it(*args):
        with forced(backend):
            return call(*args)

    return through_it


def _surgery_error(result: gk.Surgery, grads: Gradients, exact: list[Tensor]) -> float:
    """What is timed draws its order itself: it has to agree with its own weights, and with float64 in a given order."""
    own = oracle.exact_merge(grads, oracle.rows_for(grads, len(grads) * result.weights))
    given = gk.surgery(grads, generator=_generator())
    return max(oracle.merge_error(result.merged, own), oracle.merge_error(given.merged, exact))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)
