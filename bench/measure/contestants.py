"""Who takes part in the surgery of a case, and how each one's values are judged before its speed is."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure import oracle
from bench.measure.cases import Case, Gradients
from bench.measure.contestant import TOLERANCE, Contestant, Work
from bench.measure.peers import TorchJD, libmtl, peer_order, plain_mean, published, pytorch_pcgrad, torchjd_order

# Ours. "(in place)" writes over objective 0's gradients; the others into a result that each call allocates.
GRAM, COMBINE, COMBINE_IN_PLACE = "gram", "combine", "combine (in place)"
OURS, OURS_IN_PLACE, REFERENCE = "surgery (ours)", "surgery (in place)", "surgery (reference)"
# The peers' ways, from the same lists of gradients. The two stacked ones begin after half of that work is done.
PUBLISHED, PCGRAD, LIBMTL, TORCHJD = "published", "Pytorch-PCGrad's way", "LibMTL's way", "TorchJD"
TORCHJD_STACKED, TORCHJD_LEAN, MEAN = "TorchJD (stacked)", "TorchJD (stacked, no concat)", "plain mean"

# Relative, see oracle.merge_error; forgotten projections show as more than 5e-2. The peers take inner products of N
# float32 in float32, and lose up to 1e-3 by rounding alone at N = 16 million: the results say so, it is no mistake.
PEER_TOLERANCE = 1e-2
SEED = 0


def contestants(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    """Returns everybody who takes part in a case, on the same gradients; the peers where these are float32.

    gram: [T, T] float64, the exact Gramian of `grads`
    """
    return [*_ours(case, grads, gram), *(peers(case, grads, gram) if case.dtype == torch.float32 else [])]


def _ours(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    rows = oracle.rows_for(grads, oracle.exact_weights(gram, gk.projection_order(len(grads), _generator())))
    places = InPlace(grads, rows)
    error = _error_against(grads, rows)
    # the last thing that happens to a merged element is one rounding to the gradients' type
    tolerance = max(TOLERANCE, torch.finfo(case.dtype).eps)
    fresh = partial(Contestant, error=error, tolerance=tolerance, result_bytes=case.num_bytes)
    in_place = partial(Contestant, error=error, tolerance=tolerance, prepare=places.prepare)
    reading, merging, both = works(len(grads))
    return [
        Contestant(GRAM, reading, partial(gk.gram, grads), partial(oracle.gram_error, exact=gram)),
        fresh(COMBINE, merging, partial(gk.combine, grads, rows)),
        in_place(COMBINE_IN_PLACE, merging, places.combine),
        fresh(OURS, both, partial(_surgery, grads)),
        in_place(OURS_IN_PLACE, both, places.surgery),
        fresh(REFERENCE, both, partial(_reference_surgery, grads)),
    ]


def peers(case: Case, grads: Gradients, gram: Tensor) -> list[Contestant]:
    """Returns the peers: GMD's published code and Pytorch-PCGrad average shared parameters, LibMTL and TorchJD sum.

    gram: [T, T] float64, the exact Gramian of `grads`
    """
    t, num_params = len(grads), len(grads[0])
    order = peer_order(t, SEED)
    weights, jd_weights = (oracle.exact_weights(gram, drawn) for drawn in (order, torchjd_order(t, SEED)))
    mean = _error_against(grads, oracle.rows_for(grads, weights))
    total = _error_against(grads, weights.expand(num_params, t))
    jd_total = _error_against(grads, jd_weights.expand(num_params, t))
    no_surgery = _error_against(grads, oracle.rows_for(grads, torch.ones(t, dtype=torch.float64)))

    jd, stacked = TorchJD(grads, SEED), TorchJD(grads, SEED, stacked=True)
    lean = TorchJD(grads, SEED, stacked=True, skip_concatenation=True)
    _, merging, both = works(t)
    peer = partial(Contestant, tolerance=PEER_TOLERANCE, result_bytes=case.num_bytes)
    return [
        peer(PUBLISHED, both, partial(published, grads, order), mean),
        peer(PCGRAD, both, partial(pytorch_pcgrad, grads, order), mean),
        peer(LIBMTL, both, partial(libmtl, grads, order), total),
        peer(TORCHJD, both, jd, jd_total, prepare=jd.prepare),
        peer(TORCHJD_STACKED, both, stacked, jd_total, prepare=stacked.prepare),
        peer(TORCHJD_LEAN, both, lean, jd_total, prepare=lean.prepare),
        Contestant(MEAN, merging, partial(plain_mean, grads), no_surgery, result_bytes=case.num_bytes),
    ]


def works(t: int) -> tuple[Work, Work, Work]:
    """Returns what the Gramian of T objectives, the combination, and both must move.

    The combination reads its first gradient where it copies it.
    """
    reading, merging = Work(reads=t, copies=0), Work(reads=t - 1, copies=1)
    return reading, merging, Work(reading.reads + merging.reads, reading.copies + merging.copies)


class InPlace:
    """Our ops with the result over a copy of objective 0's gradients, which `prepare` restores.

    It then takes the Gramian, which leaves in the caches what it leaves there in a step, not the copy.
    """

    def __init__(self, grads: Gradients, rows: Tensor):
        self.rows, self.original = rows, grads[0]
        self.grads = [[None if g is None else g.clone() for g in grads[0]], *grads[1:]]
        columns = zip(*self.grads, strict=True)  # what objective 0 does not reach gets a place beside its gradients
        self.out = [column[0] if column[0] is not None else torch.empty_like(_first(column)) for column in columns]

    def prepare(self) -> None:
        for mine, original in zip(self.grads[0], self.original, strict=True):
            if mine is not None and original is not None:
                mine.copy_(original)
        gk.gram(self.grads)

    def combine(self) -> Sequence[Tensor | None]:
        return gk.combine(self.grads, self.rows, out=self.out)

    def surgery(self) -> Sequence[Tensor | None]:
        return gk.surgery(self.grads, generator=_generator(), out=self.out).merged


def _first(column: tuple[Tensor | None, ...]) -> Tensor:
    return next(g for g in column if g is not None)


def _error_against(grads: Gradients, rows: Tensor) -> Callable[[Sequence[Tensor | None]], float]:
    return partial(oracle.merge_error, exact=oracle.exact_merge(grads, rows))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def _surgery(grads: Gradients) -> Sequence[Tensor | None]:
    return gk.surgery(grads, generator=_generator()).merged


def _reference_surgery(grads: Gradients) -> Sequence[Tensor | None]:
    with forced("reference"):
        return _surgery(grads)


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Leaves that backend of gmd_kernels as the only one meanwhile."""
    before = os.environ.get("GMD_BACKEND")
    os.environ["GMD_BACKEND"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["GMD_BACKEND"]
        else:
            os.environ["GMD_BACKEND"] = before
