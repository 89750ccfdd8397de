"""GroupNorm + ReLU alone, at the shapes of the U-Net: ours beside PyTorch's; values first, then time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

import gmd_kernels as gk
from bench.measure.bandwidth import Bandwidth, floor_ms
from bench.measure.contestant import Contestant, Work
from bench.measure.timing import milliseconds, summary

SIZES = (32, 48)  # voxels along each side of the network's input
# Channels and level of the U-Net's norms at width 0.5, and how many there are of each; each level halves the side.
NORMS = {(16, 0): 4, (16, 1): 1, (32, 1): 3, (32, 2): 1, (64, 2): 3, (64, 3): 1, (128, 3): 3, (128, 4): 2}
GROUPS, MODALITIES = 8, 4
LAYOUTS = {"channels-last": torch.channels_last_3d, "contiguous": torch.contiguous_format}
DTYPES = (torch.float32, torch.bfloat16)
OURS, PYTORCH = "group_norm_relu (ours)", "PyTorch"
# What must move where a sample exceeds the caches: x and the gradient are read for the sums and once more for the
# result. As the bandwidth is that of as many bytes, what stays in the caches counts as fast as it is there.
FORWARD, BOTH = Work(reads=1, copies=1), Work(reads=4, copies=2)
FORWARD_PHASE, BOTH_PHASES = "forward", "forward + backward"
# Relative, in norm: PyTorch rounds bfloat16 up to three times, and adds half a million float32 to 1.1e-5 of the sum. A
# term that is missing shows as more than 0.1.
TOLERANCES = {torch.float32: 3e-5, torch.bfloat16: 2e-2}
CLEAR = 0.05  # a z closer to 0 than that may pass the ReLU or not, as it is rounded
MOST_CALLS, ROUND_MS = 20, 10.0  # of a contestant in one round


@dataclass(frozen=True)
class NormCase:
    """A norm of the U-Net: how large its input is, how many rows of the affine it takes, in which type and layout."""

    size: int  # voxels along each side of the network's input
    channels: int
    level: int
    batch: int  # 1: one row for all; more: a row of the affine for each sample
    dtype: torch.dtype
    layout: str

    @property
    def side(self) -> int:
        """Returns voxels along each side of the norm's own input."""
        return self.size >> self.level

    def columns(self) -> dict[str, object]:
        """Returns what each row of the case says of it."""
        name = str(self.dtype).removeprefix("torch.")
        case = f"{self.batch}x{self.channels}x{self.side}^3"
        shape = {"size": self.size, "C": self.channels, "level": self.level, "batch": self.batch}
        return {"case": case, **shape, "dtype": name, "layout": self.layout}


@dataclass(frozen=True)
class Arguments:
    """What a norm is called with, the gradient that comes back to it, and the exact results."""

    x: Tensor  # [n, C, side, side, side]
    weight: Tensor  # [R, C] float32
    bias: Tensor  # [R, C]
    rows: Tensor  # [n]
    grad: Tensor  # as x
    exact: list[Tensor]  # y and the gradients of x, weight and bias, float64


def cases() -> Iterator[NormCase]:
    """Yields every norm's shape for both sizes, with one sample and with four, in each type and layout."""
    for size, (channels, level), batch, dtype, layout in product(SIZES, NORMS, (1, 4), DTYPES, LAYOUTS):
        yield NormCase(size, channels, level, batch, dtype, layout)


def make_arguments(case: NormCase) -> Arguments:
    """Returns the arguments of a case, the same at every call.

    The gradient has a mean, or the terms of the statistics would hardly count.
    """
    generator = torch.Generator().manual_seed(case.channels)
    shape, table = (case.batch, case.channels, *[case.side] * 3), (1 if case.batch == 1 else MODALITIES, case.channels)
    x, grad = (torch.randn(shape, generator=generator).to(case.dtype) for _ in range(2))
    weight, bias = (torch.randn(table, generator=generator) for _ in range(2))
    rows = torch.arange(case.batch) % len(weight)
    leaves = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    z = F.group_norm(leaves[0], GROUPS) * _of_samples(leaves[1], rows, x) + _of_samples(leaves[2], rows, x)
    grad = (grad + 1).where(z.detach().abs() > CLEAR, 0.0)
    exact = [z.relu(), *torch.autograd.grad(z.relu(), leaves, grad.double())]
    x, grad = (tensor.contiguous(memory_format=LAYOUTS[case.layout]) for tensor in (x, grad))
    x, weight, bias = (tensor.requires_grad_() for tensor in (x, weight, bias))
    return Arguments(x, weight, bias, rows, grad, [tensor.detach() for tensor in exact])


def ours(given: Arguments) -> Tensor:
    """Runs the fused kernel, with one row of the affine for each sample or one for all."""
    return gk.group_norm_relu(given.x, given.weight, given.bias, GROUPS, given.rows)


def pytorch(given: Arguments) -> Tensor:
    """Runs PyTorch's operations: one affine is the norm's own, one for each sample comes after a norm without."""
    if len(given.weight) == 1:
        return F.relu(F.group_norm(given.x, GROUPS, given.weight[0], given.bias[0]))
    weight, bias = (_of_samples(table, given.rows, given.x).to(given.x.dtype) for table in (given.weight, given.bias))
    return F.relu(F.group_norm(given.x, GROUPS) * weight + bias)


WAYS = {OURS: ours, PYTORCH: pytorch}


def forward(way: Callable[[Arguments], Tensor], given: Arguments) -> list[Tensor]:
    """Runs the forward pass and returns [y]."""
    with torch.no_grad():
        return [way(given)]


def both(way: Callable[[Arguments], Tensor], given: Arguments) -> list[Tensor]:
    """Runs both passes and returns y and the gradients of x, weight and bias."""
    y = way(given)
    return [y, *torch.autograd.grad(y, [given.x, given.weight, given.bias], given.grad)]


PHASES = {FORWARD_PHASE: (forward, FORWARD), BOTH_PHASES: (both, BOTH)}


def measure_norm(rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each case, phase and contestant; one with wrong values gets an error instead of a time."""
    rows = []
    for case in cases():
        rows += measure_case(case, rounds)
        on_round()
    return rows


def measure_case(case: NormCase, rounds: int) -> list[dict]:
    """Returns a row for each phase and contestant of one case."""
    given = make_arguments(case)
    rows: list[dict] = []
    num_bytes = given.x.numel() * given.x.element_size()
    bandwidth = Bandwidth(num_bytes)
    for phase, (run, work) in PHASES.items():
        error_of = partial(_error_of, exact=given.exact)
        contestants = [
            Contestant(name, work, partial(run, way, given), error_of, TOLERANCES[case.dtype])
            for name, way in WAYS.items()
        ]
        errors = {contestant.name: contestant.error(contestant.call()) for contestant in contestants}
        sound = [c for c in contestants if errors[c.name] <= c.tolerance]
        times = _interleaved(sound, rounds, bandwidth)
        speed = bandwidth.of_the_fastest()
        floor = floor_ms(work, num_bytes, speed["read_GBps"], speed["copy_GBps"])
        for name, error in errors.items():
            row = case.columns() | {"phase": phase, "contestant": name, "value_error": error, "error": ""} | speed
            rows.append(row | _times_of(name, times, floor, TOLERANCES[case.dtype]))
    return rows


def _times_of(name: str, times: dict[str, dict], floor: float, tolerance: float) -> dict:
    if name not in times:
        missing = dict.fromkeys(("median_ms", "p20_ms", "p80_ms", "calls", "fraction_of_floor", "ratio_to_ours"))
        return {"error": f"values differ from float64 by more than {tolerance:.0e}", "floor_ms": floor} | missing
    median = times[name]["median_ms"]
    ratio = median / times[OURS]["median_ms"] if OURS in times else None
    return {"floor_ms": floor, **times[name], "fraction_of_floor": floor / median, "ratio_to_ours": ratio}


def _interleaved(contestants: list[Contestant], rounds: int, bandwidth: Bandwidth) -> dict[str, dict]:
    """Returns the times of contestants that take turns, call by call: drift of the machine hits all alike."""
    if not contestants:
        return {}
    slowest = max(milliseconds(contestant) for contestant in contestants)
    calls = min(MOST_CALLS, max(1, round(ROUND_MS / slowest)))
    times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(rounds):
        for _ in range(calls):
            for contestant in contestants:
                times[contestant.name].append(milliseconds(contestant))
        bandwidth.sample()
    return {name: summary(taken) for name, taken in times.items()}


def _error_of(found: list[Tensor], exact: list[Tensor]) -> float:
    """Returns the distance of a contestant's results from the exact ones; the forward pass alone has only y."""
    return distance([value.detach() for value in found], exact[: len(found)])


def distance(results: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Returns the largest |result - exact| / |exact|."""
    return max(float((r.double() - e).norm() / e.norm()) for r, e in zip(results, exact, strict=True))


def _of_samples(table: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    """Returns the row of the affine of each sample, to be multiplied with x: [R, C] -> [n, C, 1, ...]."""
    return table[rows].view(len(rows), -1, *[1] * (x.ndim - 2))
