"""The update of MLA's projector: ours beside PyTorch's four lines; values first, then time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure.bandwidth import Bandwidth, floor_ms
from bench.measure.contestant import Contestant, Work
from bench.measure.timing import milliseconds, summary

WIDTHS, CLASSES, THREADS = (512, 768), (10, 101), (1, 2)
OURS, PYTORCH, PRODUCT = "owm_update_ (ours)", "PyTorch's four lines", "the product alone (torch.mm)"
# P is read for k, then read and written for the step; the gradient is read and written once. As the bandwidth is that
# of as many bytes as P has, it counts as fast as it is in the caches.
OF_PROJECTOR, OF_GRADIENT = Work(reads=1, copies=1), Work(reads=0, copies=1)
TOLERANCE = 1e-5  # relative, in norm; a projection that is forgotten shows as 1e-2 and more
ALPHA, INPUTS = 1.0, 64  # mean inputs that take turns
MOST_CALLS, ROUND_MS = 20, 10.0  # of a contestant in one round


@dataclass(frozen=True)
class OwmCase:
    """The width of the features, the number of classes, and on how many threads the projector is updated.

    kept: whether the projector is in the caches still, from a call just before; after a network's pass it is not
    """

    d: int
    classes: int
    threads: int
    kept: bool = False

    @property
    def name(self) -> str:
        """Returns a name such as "d = 512, C = 10, 2 threads, in the caches"."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"d = {self.d}, C = {self.classes}, {threads}{', in the caches' if self.kept else ''}"

    def columns(self) -> dict[str, object]:
        """Returns what each row of the case says of it."""
        return {"case": self.name, "d": self.d, "C": self.classes, "on_threads": self.threads, "kept": self.kept}


@dataclass
class State:
    """What one contestant works on: every call changes the projector, and `prepare` gives the gradient anew."""

    fresh: Tensor  # [C, d]
    inputs: Tensor  # [INPUTS, d]
    projector: Tensor  # [d, d]
    weight: torch.nn.Parameter = field(init=False)
    calls: int = 0

    def __post_init__(self):
        self.weight = torch.nn.Parameter(torch.zeros_like(self.fresh))

    def prepare(self) -> None:
        self.weight.grad = self.fresh.clone()
        self.calls += 1

    @property
    def gradient(self) -> Tensor:
        assert self.weight.grad is not None, "prepare() comes before each call"
        return self.weight.grad

    @property
    def mean_input(self) -> Tensor:
        return self.inputs[self.calls % len(self.inputs)]


def make_state(case: OwmCase) -> State:
    """Returns the state of a case before any update, the same at every call."""
    generator = torch.Generator().manual_seed(case.d)
    fresh, inputs = (torch.randn(n, case.d, generator=generator) for n in (case.classes, INPUTS))
    return State(fresh, inputs, torch.eye(case.d))


def ours(state: State) -> list[Tensor]:
    """Returns the projector and the projected gradient, by the fused op."""
    gk.owm_update_(state.projector, state.gradient, state.mean_input, ALPHA)
    return [state.projector, state.gradient]


def pytorch(state: State) -> list[Tensor]:
    """Returns the projector and the projected gradient, by PyTorch's operations."""
    k = state.projector @ state.mean_input
    beta = ALPHA + state.mean_input @ k
    state.projector -= torch.outer(k, k) / beta
    state.weight.grad = state.gradient @ state.projector
    return [state.projector, state.gradient]


def product_alone(state: State) -> list[Tensor]:
    """Does what remains of the work if all else were free: the product, which is most of it at C = 101."""
    return [state.gradient @ state.projector]


WAYS = {OURS: ours, PYTORCH: pytorch, PRODUCT: product_alone}


def cases() -> list[OwmCase]:
    """Returns all cases, on no more threads than torch would take."""
    threads = [count for count in THREADS if count <= torch.get_num_threads()]
    settings = product(threads, (False, True), WIDTHS, CLASSES)
    return [OwmCase(d, classes, count, kept) for count, kept, d, classes in settings]


def measure_owm(rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each case and contestant; one with wrong values gets an error instead of a time."""
    rows = []
    for case in cases():
        with on_threads(case.threads):
            rows += measure_case(case, rounds)
        on_round()
    return rows


def measure_case(case: OwmCase, rounds: int) -> list[dict]:
    """Returns a row for each contestant of one case."""
    contestants = [_contestant(name, case) for name in WAYS]
    errors = {}
    for contestant in contestants:
        contestant.prepare()
        errors[contestant.name] = contestant.error(contestant.call())
    num_bytes = 4 * case.d**2
    bandwidth = Bandwidth(num_bytes)
    right = [contestant for contestant in contestants if errors[contestant.name] <= contestant.tolerance]
    times = _times(right, rounds, bandwidth, case.kept)
    speed = bandwidth.of_the_fastest()
    floor = floor_ms(OF_PROJECTOR, num_bytes, speed["read_GBps"], speed["copy_GBps"])
    floor += floor_ms(OF_GRADIENT, 4 * case.d * case.classes, speed["read_GBps"], speed["copy_GBps"])
    least = {"traffic_MB": 1e-6 * (3 * num_bytes + 2 * 4 * case.d * case.classes), "floor_ms": floor} | speed
    return [
        case.columns() | {"contestant": name, "value_error": error, **least} | _times_of(name, times, floor)
        for name, error in errors.items()
    ]


def _contestant(name: str, case: OwmCase) -> Contestant[list[Tensor]]:
    state = make_state(case)
    return Contestant(
        name, OF_PROJECTOR, partial(WAYS[name], state), partial(_error, case=case), TOLERANCE, prepare=state.prepare
    )


def _error(found: list[Tensor], case: OwmCase) -> float:
    """Returns the error of a contestant's first call against float64; the product alone comes without an update."""
    state = make_state(case)
    h, projector = state.inputs[1].double(), state.projector.double()
    if len(found) == 2:
        projector -= torch.outer(h, h) / (ALPHA + h @ h)
    expected = [projector, state.fresh.double() @ projector][-len(found) :]
    return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))


def _times(contestants: list[Contestant], rounds: int, bandwidth: Bandwidth, kept: bool) -> dict[str, dict]:
    """Returns milliseconds by contestant, who take turns, so that drift of the machine hits all alike.

    They do so call by call, and each finds the caches full of the others' data; or, to find its own there (`kept`),
    each makes all its calls of a round one after the other.
    """
    if not contestants:
        return {}
    slowest = max(milliseconds(contestant) for contestant in contestants)
    calls = min(MOST_CALLS, max(1, round(ROUND_MS / slowest)))
    times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(rounds):
        if kept:
            for contestant in contestants:
                milliseconds(contestant)  # fills the caches
                times[contestant.name] += [milliseconds(contestant) for _ in range(calls)]
        else:
            for _ in range(calls):
                for contestant in contestants:
                    times[contestant.name].append(milliseconds(contestant))
        bandwidth.sample()
    return {name: summary(taken) for name, taken in times.items()}


def _times_of(name: str, times: dict[str, dict], floor: float) -> dict:
    if name not in times:
        missing = dict.fromkeys(("median_ms", "p20_ms", "p80_ms", "calls", "fraction_of_floor", "ratio_to_ours"))
        return {"error": f"values differ from float64 by more than {TOLERANCE:.0e}", **missing}
    median = times[name]["median_ms"]
    ratio = median / times[OURS]["median_ms"] if OURS in times else None
    return {"error": "", **times[name], "fraction_of_floor": floor / median, "ratio_to_ours": ratio}


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Has torch take that many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
