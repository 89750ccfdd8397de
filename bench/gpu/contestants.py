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


Contestants = Callable[[Case, Gradients, Tensor], list[Contestant]]


def gpu_contestants(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    """Returns everybody, all on the same gradients, whose exact Gramian is `gram` [T, T] on the CPU."""
    return [*ours(case, grads, gram), *others(case, grads, gram)]


def ours(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    """Returns the C++/CUDA kernels: each alone, the whole surgery, and that with gradients which have moved."""
    trio = Trio(case, grads, gram)
    surgery = trio.surgery(OURS)
    moved = replace(surgery, name=MOVED, call=Moving(grads))
    return [trio.gram(GRAM), trio.combine(COMBINE), surgery, moved]


def triton(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    """Returns Triton's kernels and the reference beside them, which need no build."""
    trio = Trio(case, grads, gram)
    return [
        trio.gram(TRITON_GRAM, "triton"),
        trio.combine(TRITON_COMBINE, "triton"),
        trio.surgery(TRITON_SURGERY, "triton"),
        trio.surgery(REFERENCE, "reference"),
    ]


def others(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    """Returns Triton, the reference, and the peers where the gradients are float32 and not too large."""
    with_peers = case.dtype == torch.float32 and case.num_elements < PEERS_UP_TO
    return [*triton(case, grads, gram), *(peers(case, grads, gram) if with_peers else [])]


class Trio:
    """Makes one case's contestants: Gramian, combination, whole surgery, each through any backend, with its check."""

    def __init__(self, case: Case, grads: Gradients, gram: Tensor):
        device = next(g.device for g in grads[0] if g is not None)
        weights = oracle.exact_weights(gram, gk.projection_order(len(grads), _generator()))
        self._grads, self._gram, self._num_bytes = grads, gram, case.num_bytes
        self._rows = oracle.rows_for(grads, weights).to(device)
        self._exact = oracle.exact_merge(grads, self._rows)
        self._tolerance = max(TOLERANCE, torch.finfo(case.dtype).eps)
        self._reading, self._merging, self._both = works(len(grads))

    def gram(self, name: str, backend: str | None = None) -> Contestant:
        """Computes the Gramian. Without a backend it goes the users' way: through the best one that is there."""
        call = through(backend, partial(gk.gram, self._grads))
        return Contestant(name, self._reading, call, partial(oracle.gram_error, exact=self._gram))

    def combine(self, name: str, backend: str | None = None) -> Contestant:
        """Combines the gradients with weights that are given."""
        call = through(backend, partial(gk.combine, self._grads, self._rows))
        error = partial(oracle.merge_error, exact=self._exact)
        return Contestant(name, self._merging, call, error, self._tolerance, self._num_bytes)

    def surgery(self, name: str, backend: str | None = None) -> Contestant:
        """Computes Gramian, weights and combination in one call."""
        call = through(backend, partial(gk.surgery, self._grads))
        error = through(backend, partial(_surgery_error, grads=self._grads, exact=self._exact))
        return Contestant(name, self._both, call, error, self._tolerance, self._num_bytes)


class Moving:
    """Does surgery on two copies of the gradients in turn: each call has to send the table of their addresses."""

    def __init__(self, grads: Gradients):
        copy = [[None if g is None else g.clone() for g in row] for row in grads]
        self._following = cycle((grads, copy))

    def __call__(self) -> gk.Surgery:
        return gk.surgery(next(self._following))


def through(backend: str | None, call: Callable) -> Callable:
    """Returns the call with that backend alone; without one, the call as it is."""
    if backend is None:
        return call
    name = backend

    def through_it(*args: object) -> object:
        with forced(name):
            return call(*args)

    return through_it


def _surgery_error(result: gk.Surgery, grads: Gradients, exact: list[Tensor]) -> float:
    """Returns the larger of two errors: what is timed draws its order itself, so it is held against its own weights.

    The other error is that of a surgery in a given order, held against float64.
    """
    own = oracle.exact_merge(grads, oracle.rows_for(grads, len(grads) * result.weights))
    given = gk.surgery(grads, generator=_generator())
    return max(oracle.merge_error(result.merged, own), oracle.merge_error(given.merged, exact))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)
