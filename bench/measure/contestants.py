"""Who is measured in each case, and how each one's values are judged before its speed is."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure import oracle
from bench.measure.cases import Case, Gradients
from bench.measure.peers import TorchJD, libmtl, peer_order, plain_mean, published, pytorch_pcgrad, torchjd_order

# Ours. "(in place)" writes over objective 0's gradients; the others into a result that each call allocates.
GRAM, COMBINE, COMBINE_IN_PLACE = "gram", "combine", "combine (in place)"
OURS, OURS_IN_PLACE, REFERENCE = "surgery (ours)", "surgery (in place)", "surgery (reference)"
# The others', from the same lists of gradients. The two stacked ones begin after half of that work is done.
PUBLISHED, PCGRAD, LIBMTL, TORCHJD = "published", "Pytorch-PCGrad's way", "LibMTL's way", "TorchJD"
TORCHJD_STACKED, TORCHJD_LEAN, MEAN = "TorchJD (stacked)", "TorchJD (stacked, no concat)", "plain mean"

# Relative, see oracle.merge_error. Forgotten projections show as more than 5e-2. The peers take inner products of N
# float32 in float32, and lose up to 1e-3 by rounding alone at N = 16 million: the results say so, it is no mistake.
TOLERANCE, PEER_TOLERANCE = 1e-5, 1e-2
SEED = 0


class Work(NamedTuple):
    """What must move between memory and processor, whoever does it, in units of N elements."""

    reads: int
    copies: int  # N elements read and N written


@dataclass(frozen=True)
class Contestant:
    """One way of doing one thing.

    Attributes:
        work: the least that it must move, see `measure.floor_ms`.
        call: what is timed.
        error: the result of `call` -> its relative error against float64.
        tolerance: what that error may be.
        result_bytes: of what `call` allocates and returns.
        prepare: is run before each call, untimed.
    """

    name: str
    work: Work
    call: Callable[[], object]
    error: Callable[[object], float]
    tolerance: float = TOLERANCE
    result_bytes: int = 0
    prepare: Callable[[], None] = lambda: None


def contestants(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    """All of them on the same gradients, whose exact Gramian is `gram`; the peers where these are float32."""
    return [*_ours(case, grads, gram), *(peers(case, grads, gram) if case.dtype == torch.float32 else [])]


def _ours(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    rows = oracle.rows_for(grads, oracle.exact_weights(gram, gk.projection_order(len(grads), _generator())))
    in_place = InPlace(grads, rows)
    # the last thing that happens to a merged element is one rounding to the gradients' type
    judged = {"error": _error_against(grads, rows), "tolerance": max(TOLERANCE, torch.finfo(case.dtype).eps)}
    fresh, kept = judged | {"result_bytes": case.num_bytes}, judged | {"prepare": in_place.prepare}
    reading, merging, both = works(len(grads))
    return [
        Contestant(GRAM, reading, partial(gk.gram, grads), partial(oracle.gram_error, exact=gram)),
        Contestant(COMBINE, merging, partial(gk.combine, grads, rows), **fresh),
        Contestant(COMBINE_IN_PLACE, merging, in_place.combine, **kept),
        Contestant(OURS, both, partial(_surgery, grads), **fresh),
        Contestant(OURS_IN_PLACE, both, in_place.surgery, **kept),
        Contestant(REFERENCE, both, partial(_reference_surgery, grads), **fresh),
    ]


def peers(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    """Others' ways: the published one and Pytorch-PCGrad's average shared parameters, LibMTL and TorchJD sum them."""
    t, num_params = len(grads), len(grads[0])
    order = peer_order(t, SEED)
    weights = oracle.exact_weights(gram, order)
    mean = {"error": _error_against(grads, oracle.rows_for(grads, weights)), "tolerance": PEER_TOLERANCE}
    total = {"error": _error_against(grads, weights.expand(num_params, t)), "tolerance": PEER_TOLERANCE}
    jd_weights = oracle.exact_weights(gram, torchjd_order(t, SEED))
    jd_total = total | {"error": _error_against(grads, jd_weights.expand(num_params, t))}
    no_surgery = {"error": _error_against(grads, oracle.rows_for(grads, torch.ones(t, dtype=torch.float64)))}

    jd, stacked = TorchJD(grads, SEED), TorchJD(grads, SEED, stacked=True)
    lean = TorchJD(grads, SEED, stacked=True, skip_concatenation=True)
    _, merging, both = works(t)
    result = {"result_bytes": case.num_bytes}
    return [
        Contestant(PUBLISHED, both, partial(published, grads, order), **mean, **result),
        Contestant(PCGRAD, both, partial(pytorch_pcgrad, grads, order), **mean, **result),
        Contestant(LIBMTL, both, partial(libmtl, grads, order), **total, **result),
        Contestant(TORCHJD, both, jd, **jd_total, **result, prepare=jd.prepare),
        Contestant(TORCHJD_STACKED, both, stacked, **jd_total, **result, prepare=stacked.prepare),
        Contestant(TORCHJD_LEAN, both, lean, **jd_total, **result, prepare=lean.prepare),
        Contestant(MEAN, merging, partial(plain_mean, grads), **no_surgery, **result),
    ]


def works(t: int) -> tuple[Work, Work, Work]:
    """Of the Gramian, of the combination, and of both. The combination's first gradient is read where it is copied."""
    reading, merging = Work(reads=t, copies=0), Work(reads=t - 1, copies=1)
    return reading, merging, Work(reading.reads + merging.reads, reading.copies + merging.copies)


class InPlace:
    """Ours, with the result over a copy of objective 0's gradients. `prepare` restores the copy.

    It then takes the Gramian, which leaves in the caches what it leaves there in a step, not the copy.
    """

    def __init__(self, grads: Gradients, rows: Tensor):
        self.rows, self.original = rows, grads[0]
        self.grads = [[None if g is None else g.clone() for g in grads[0]], *grads[1:]]
        columns = zip(*self.grads, strict=True)  # what objective 0 does not reach gets a place beside its gradients
        self.out = [column[0] if column[0] is not None else torch.empty_like(_first(column)) for column in columns]

    def prepare(self) -> None:
        for mine, original in zip(self.grads[0], self.original, strict=True):
            if mine is not None:
                mine.copy_(original)
        gk.gram(self.grads)

    def combine(self) -> list[Tensor]:
        return gk.combine(self.grads, self.rows, out=self.out)

    def surgery(self) -> list[Tensor]:
        return gk.surgery(self.grads, generator=_generator(), out=self.out).merged


def _first(column: tuple[Tensor | None, ...]) -> Tensor:
    return next(g for g in column if g is not None)


def _error_against(grads: Gradients, rows: Tensor) -> Callable[[object], float]:
    return partial(oracle.merge_error, exact=oracle.exact_merge(grads, rows))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def _surgery(grads: Gradients) -> list[Tensor]:
    return gk.surgery(grads, generator=_generator()).merged


def _reference_surgery(grads: Gradients) -> list[Tensor]:
    with forced("reference"):
        return _surgery(grads)


@contextmanager
def forced(name: str) -> Iterator[None]:
    """That backend alone."""
    before = os.environ.get("GMD_BACKEND")
    os.environ["GMD_BACKEND"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["GMD_BACKEND"]
        else:
            os.environ["GMD_BACKEND"] = before
