"""How long the CUDA kernels should take on an H200: what their terms add up to, for bench/ROOFLINE.md.

Nothing here is measured. Each term is a number of microseconds and how far off it may be; those of one launch are added
up, as nothing of one begins before the one in front of it is done. Latencies are from published microbenchmarks of an
H100: about 40 clocks for the first-level cache, 260 for the second, 480 to 650 for memory. Instructions are counted in
the machine code for sm_90.
"""

from typing import NamedTuple

import torch

from bench.measure.cases import Case
from bench.measure.contestants import COMBINE, GRAM, OURS

COPY = 4.3e6  # bytes in a microsecond: an H200's copy, counted both ways, of 4.8e6 nominal
CLOCKS = 1980.0  # in a microsecond
MULTIPROCESSORS = 132
CONVERSIONS = 16 * MULTIPROCESSORS * CLOCKS  # of a type to another, in a microsecond
ISSUED = 4 * MULTIPROCESSORS * CLOCKS  # instructions of warps
SHARED = 128 * MULTIPROCESSORS * CLOCKS  # bytes of shared memory
KEPT = 27.5e6  # bytes of gradients that one launch of surgery keeps in shared memory
CACHED = 35e6  # of what it has to read twice, what the second-level cache of 60 MB still holds
UNIT = 512  # bytes of one gradient, for a warp
# Instructions of a warp for a unit of all gradients, padded to so many rows, the sums over lanes included. Up to 4 rows
# of float32 are multiplied in float64: there the conversions, four times as slow, are what counts.
INSTRUCTIONS = {
    torch.float32: {4: 171, 8: 230, 16: 780},
    torch.bfloat16: {4: 112, 8: 225, 16: 393},
}


class Term(NamedTuple):
    """Microseconds, and how far off they may be."""

    time: float
    off: float


def total(*terms: Term) -> Term:
    """Returns what terms that wait for each other add up to."""
    return Term(sum(term.time for term in terms), sum(term.off for term in terms))


LAUNCH = Term(2.75, 0.25)  # from the event to the first instruction
PIECE = Term(0.5, 0.2)  # a block finds its piece: one round of probes for up to 256 parameters
FIRST = Term(1.15, 0.15)  # descriptor, pointers, first gradient: each load waits for the one before
ARRIVAL = Term(1.0, 0.3)  # a block's sums, fence, arrival
ADDING = Term(0.9, 0.2)  # the last block adds up those of all
FLAG = Term(1.6, 0.4)  # from the weights to their first use in every block
ENDS = Term(1.0, 1.0)  # units that are not whole are read element by element, at the end of a warp's work at worst
BEGINNING = total(LAUNCH, PIECE, FIRST)
SPREAD = 0.05  # how far off a bandwidth may be: 1056 warps that read T rows each are not a copy


def expected(case: Case) -> dict[str, Term]:
    """Returns what gram, combine and surgery should take, by their names as contestants."""
    read, written = case.num_objectives * case.num_bytes, case.num_bytes
    gram = total(BEGINNING, _passed(read, _issue(case)), ENDS, ARRIVAL, ADDING)
    combine = total(BEGINNING, _passed(read + written, _converted(case)), ENDS)
    again = max(0.0, read - KEPT - CACHED) if read > KEPT else 0.0
    merging = max(_converted(case), min(read, KEPT) / SHARED)
    surgery = total(gram, weights(case.num_objectives), FLAG, _passed(again + written, merging), ENDS)
    return {GRAM: gram, COMBINE: combine, OURS: surgery}


def weights(num_objectives: int) -> Term:
    """Returns PCGrad's part: the order, then T - 1 projections, each of 150 clocks, or 300 where it divides."""
    projections = (num_objectives - 1) / CLOCKS
    return total(Term(0.5, 0.2), Term(225 * projections, 75 * projections))


def padded(num_objectives: int) -> int:
    """Returns how many rows the products of so many are computed with."""
    return 4 if num_objectives <= 4 else 8 if num_objectives <= 8 else 16


def _issue(case: Case) -> float:
    """Returns the microseconds that the instructions of gram take where nothing waits."""
    return case.num_bytes / UNIT * INSTRUCTIONS[case.dtype][padded(case.num_objectives)] / ISSUED


def _converted(case: Case) -> float:
    """Returns the microseconds that the conversions to float64 and back take in combine."""
    return (case.num_objectives + 1) * case.num_elements / CONVERSIONS


def _passed(num_bytes: float, arithmetic: float) -> Term:
    """Returns a pass over so many bytes, whose arithmetic goes on meanwhile."""
    memory = num_bytes / COPY
    return Term(max(memory, arithmetic), SPREAD * memory)
