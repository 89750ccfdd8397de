"""The count sketch of one gradient: ours beside PyTorch's index_add_; values first, then time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure.bandwidth import Bandwidth, floor_ms
from bench.measure.cases import LAYOUTS, SUFFIXES
from bench.measure.contestant import Contestant, Work
from bench.measure.owm import on_threads
from bench.measure.timing import milliseconds, summary
from gmd_kernels import reference_sketch

OURS, PYTORCH = "sketch_ (ours)", "PyTorch's index_add_"
# each element is read once; what is written stays in the caches
READ_ONCE = Work(reads=1, copies=0)
LAYOUT_NAMES = ("transformer-5.6M", "unet-5.6M", "transformer-16M", "transformer-64M")
DTYPES, SIZE, THREADS = (torch.float32, torch.bfloat16), 65536, (1, 2)
SEED, TOLERANCE = 7, 1e-4  # relative, in norm; a sign or a bucket that is wrong shows as 1e-3 and more
MOST_CALLS, ROUND_MS = 20, 60.0  # of a contestant in one round


@dataclass(frozen=True)
class SketchCase:
    """Whose gradient is folded, of which type, on how many threads."""

    layout: str
    dtype: torch.dtype
    threads: int

    @property
    def name(self) -> str:
        """Returns a name such as "transformer-5.6M-bf16, 2 threads"."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.layout}{SUFFIXES[self.dtype]}, {threads}"

    def gradient(self) -> list[Tensor]:
        """Returns [P] tensors, the same at every call."""
        generator = torch.Generator().manual_seed(SEED)
        return [torch.randn(shape, generator=generator).to(self.dtype) for shape in LAYOUTS[self.layout]]


class IndexAdd:
    """The same map by PyTorch: buckets and signs of all elements are found before, and kept.

    sketch: [d]; row: [P]
    """

    def __init__(self, row: Sequence[Tensor], d: int):
        self._row, self._maps = row, []
        for p, g in enumerate(row):
            key, i = reference_sketch.draw(SEED, p), torch.arange(g.numel())
            rotations = [(reference_sketch.draw(key, 2 * b + 1) >> 1) % d for b in range(-(-g.numel() // d))]
            signs = torch.where(reference_sketch.subtracted(key, 0, i), -1.0, 1.0)
            self._maps.append(((i + torch.tensor(rotations)[i // d]) % d, signs))
        self.sketch = torch.zeros(d)

    def __call__(self) -> Tensor:
        """Returns the sketch."""
        self.sketch.zero_()
        for g, (buckets, signs) in zip(self._row, self._maps, strict=True):
            self.sketch.index_add_(0, buckets, g.flatten() * signs)
        return self.sketch


def cases() -> list[SketchCase]:
    """Returns all cases, on no more threads than torch would take."""
    threads = [count for count in THREADS if count <= torch.get_num_threads()]
    return [SketchCase(layout, dtype, n) for layout, dtype, n in product(LAYOUT_NAMES, DTYPES, threads)]


def measure_sketches(chosen: Sequence[SketchCase], rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each case and contestant; one with wrong values gets an error instead of a time."""
    rows = []
    for case in chosen:
        with on_threads(case.threads):
            rows += measure_case(case, rounds)
        on_round()
    return rows


def measure_case(case: SketchCase, rounds: int) -> list[dict]:
    """Returns a row for each contestant of one case."""
    row = case.gradient()
    numel, num_bytes = sum(g.numel() for g in row), sum(g.nbytes for g in row)
    contestants = _contestants(row)
    errors = {contestant.name: contestant.error(contestant.call()) for contestant in contestants}
    right = [contestant for contestant in contestants if errors[contestant.name] <= contestant.tolerance]
    bandwidth = Bandwidth(num_bytes)
    times: dict[str, list[float]] = {contestant.name: [milliseconds(contestant)] for contestant in right}
    for _ in range(rounds):
        for contestant in right:
            calls = min(MOST_CALLS, max(1, round(ROUND_MS / times[contestant.name][0])))
            times[contestant.name] += [milliseconds(contestant) for _ in range(calls)]
        bandwidth.sample()
    speed = bandwidth.of_the_fastest()
    floor = floor_ms(READ_ONCE, num_bytes, speed["read_GBps"], speed["copy_GBps"])
    shared = {"case": case.name, "elements": numel, "dtype": str(case.dtype).removeprefix("torch."), "d": SIZE}
    shared |= {"on_threads": case.threads, "traffic_MB": 1e-6 * num_bytes, "floor_ms": floor} | speed
    return [
        shared | {"contestant": name, "value_error": error} | _times_of(name, times, floor)
        for name, error in errors.items()
    ]


def _contestants(row: Sequence[Tensor]) -> list[Contestant[Tensor]]:
    exact = torch.zeros(SIZE, dtype=torch.float64)
    gk.sketch_(exact, [g.double() for g in row], SEED)
    ours, theirs = torch.zeros(SIZE), IndexAdd(row, SIZE)

    def fold() -> Tensor:
        gk.sketch_(ours, row, SEED)
        return ours

    def error(found: Tensor) -> float:
        return float((found.double() - exact).norm() / exact.norm())

    return [
        Contestant(OURS, READ_ONCE, fold, error, TOLERANCE, prepare=partial(ours.zero_)),
        Contestant(PYTORCH, READ_ONCE, theirs, error, TOLERANCE),
    ]


def _times_of(name: str, times: dict[str, list[float]], floor: float) -> dict:
    if name not in times:
        missing = dict.fromkeys(("median_ms", "p20_ms", "p80_ms", "calls", "fraction_of_floor", "ratio_to_ours"))
        return {"error": f"values differ from float64 by more than {TOLERANCE:.0e}", **missing}
    found = {name: summary(taken[1:]) for name, taken in times.items()}
    median = found[name]["median_ms"]
    ratio = median / found[OURS]["median_ms"] if OURS in found else None
    return {"error": "", **found[name], "fraction_of_floor": floor / median, "ratio_to_ours": ratio}
