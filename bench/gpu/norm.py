"""`python -m bench.gpu.norm FOLDER`: the fused norm on a GPU at the U-Net's shapes; leaves norm_gpu.csv in FOLDER."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

import gmd_kernels as gk
from bench.gpu.budget import deadline
from bench.gpu.timing import UNMEASURED, Clock, GpuClock, checked
from bench.measure.bandwidth import floor_ms
from bench.measure.contestant import Contestant, Work
from bench.measure.files import write_csv
from bench.measure.host import gpu_columns
from bench.measure.norm import distance
from bench.tables.markdown import significant

CSV = "norm_gpu.csv"
SECONDS = 40  # after which no new case is begun, unless a stage says otherwise
RESERVE = 5  # seconds that the last case and the table may take
LEVELS = ((16, 128), (32, 64), (64, 32), (128, 16), (128, 8))  # channels and side on the U-Net's way down, width 0.5
GROUPS = 8
OURS, PYTORCH, CONTIGUOUS = "ours", "PyTorch", "PyTorch, contiguous"
# What must move when a sample exceeds the caches: x and the gradient are read once for the sums and once for the result
FORWARD, BACKWARD = Work(reads=1, copies=1), Work(reads=3, copies=1)
TOLERANCE = 1e-4  # relative, in norm; a term that is missing shows as more than 1e-2


@dataclass(frozen=True)
class Level:
    """The norm's arguments on the device, channels-last, with the right results in float64."""

    x: Tensor  # [1, C, S, S, S]
    weight: Tensor  # [1, C] float32, of numbers that bfloat16 has too
    bias: Tensor  # [1, C]
    grad: Tensor  # as x
    y: Tensor
    gradients: tuple[Tensor, ...]  # of x, weight and bias


def make_level(channels: int, size: int, dtype: torch.dtype, device: str) -> Level:
    """Makes a level. Its gradient is zero where rounding decides whether the result is, and so the derivatives too."""
    torch.manual_seed(channels)
    last = torch.channels_last_3d
    x, grad = (torch.randn(1, channels, *[size] * 3, device=device).to(dtype, memory_format=last) for _ in range(2))
    grad = grad + 1
    weight, bias = (torch.randn(1, channels, device=device).bfloat16().float() for _ in range(2))
    exact = [t.double().requires_grad_() for t in (x, weight, bias)]
    z = F.group_norm(exact[0], GROUPS, exact[1][0], exact[2][0])
    grad = torch.where(z.detach().abs() < 1e-4, 0, grad).to(memory_format=last)
    y = z.relu()
    return Level(x, weight, bias, grad, y.detach(), torch.autograd.grad(y, exact, grad.double()))


def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return gk.group_norm_relu(x, weight, bias, GROUPS)


def pytorch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Computes all in x's type, which is quicker than what autocast makes of it: float32."""
    return F.relu(F.group_norm(x, GROUPS, weight[0].to(x.dtype), bias[0].to(x.dtype)))


def contestants(level: Level) -> list[tuple[str, Contestant]]:
    """Returns pairs of a way, forward or backward, and who goes it."""
    return [
        *_both(OURS, ours, level.x, level.grad, level),
        *_both(PYTORCH, pytorch, level.x, level.grad, level),
        *_both(CONTIGUOUS, pytorch, level.x.contiguous(), level.grad.contiguous(), level),
    ]


def _both(name: str, function: Callable, x: Tensor, grad: Tensor, level: Level) -> list[tuple[str, Contestant]]:
    leaves = [t.detach().clone().requires_grad_() for t in (x, level.weight, level.bias)]
    back = WayBack(function, leaves, grad)
    tolerance, num_bytes = max(TOLERANCE, torch.finfo(x.dtype).eps), x.numel() * x.element_size()
    there = partial(way_there, function, leaves)
    right, right_back = partial(distance, exact=[level.y]), partial(distance, exact=level.gradients)
    return [
        ("forward", Contestant(name, FORWARD, there, right, tolerance, num_bytes)),
        ("backward", Contestant(name, BACKWARD, back, right_back, tolerance, num_bytes, back.prepare)),
    ]


@torch.no_grad()
def way_there(function: Callable, leaves: list[Tensor]) -> list[Tensor]:
    return [function(*leaves)]


@dataclass
class WayBack:
    """Computes the backward pass; the forward pass before each is not timed."""

    function: Callable
    leaves: list[Tensor]
    grad: Tensor

    def prepare(self) -> None:
        self.y = self.function(*self.leaves)

    def __call__(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.y, self.leaves, self.grad)


def measure_level(channels: int, size: int, dtype: torch.dtype, clock: Clock, device: str = "cuda") -> list[dict]:
    """Returns a row for each contestant and way; one with wrong values gets an error instead of a time."""
    level, copy, rows = make_level(channels, size, dtype, device), clock.copy_gbps(), []
    name, num_bytes = str(dtype).removeprefix("torch."), level.x.numel() * level.x.element_size()
    for way, contestant in contestants(level):
        floor = floor_ms(contestant.work, num_bytes, copy, copy)
        row = {
            "case": f"{channels} x {size}³ {name}",
            **{"channels": channels, "size": size, "dtype": name, "way": way},
            **{"contestant": contestant.name, "copy_GBps": copy, "floor_ms": floor},
            **UNMEASURED,
            **checked(contestant, clock),
        }
        if not row["error"]:
            row |= clock.times(contestant)
            row["fraction_of_floor"] = floor / row["median_ms"]
        rows.append(row)
    return _beside_ours(rows)


def _beside_ours(rows: list[dict]) -> list[dict]:
    mine = {row["way"]: row["median_ms"] for row in rows if row["contestant"] == OURS}
    return [row | {"ratio_to_ours": row["median_ms"] / mine[row["way"]]} for row in rows]


def markdown(table: pd.DataFrame) -> str:
    """Returns a table: microseconds of ours, how much of the floor it reaches, how many times as long PyTorch takes.

    And what the host takes to issue a call of ours and of PyTorch's: where that is longer, the device waits for it.
    """
    titles = ["µs, of the floor", "way", "ours", "PyTorch", "PyTorch, contiguous", "host, ours", "host, PyTorch"]
    lines = [f"| {' | '.join(titles)} |", f"| :-- | :-- |{' --: |' * 5}"]
    for (case, way), rows in table.groupby(["case", "way"], sort=False):
        of = rows.set_index("contestant")
        mine = f"{significant(1e3 * of.at[OURS, 'median_ms'])}, {100 * of.at[OURS, 'fraction_of_floor']:.0f} %"
        others = [f"{of.at[name, 'ratio_to_ours']:.1f}x" for name in (PYTORCH, CONTIGUOUS)]
        hosts = [significant(1e3 * of.at[name, "host_ms"]) for name in (OURS, PYTORCH)]
        lines.append(f"| {case} | {way} | {mine} | {' | '.join([*others, *hosts])} |")
    return "\n".join(lines)


def main() -> int:
    """Returns 0, or 1 if anybody's values were wrong, or 2 if there is nothing to measure."""
    end, folder = deadline(SECONDS, RESERVE), Path(sys.argv[1])
    if not torch.cuda.is_available():
        print("nothing to measure: no GPU in this machine", file=sys.stderr)
        return 2
    return measure_and_show(partial(measure_level, clock=GpuClock()), folder, gpu_columns(), end)


def measure_and_show(measure: Callable[..., list[dict]], folder: Path, card: dict, end: float) -> int:
    """Measures as many levels as there is time for, the largest first. An interruption ends it early, and is told."""
    left = [(*level, dtype) for level in LEVELS for dtype in (torch.bfloat16, torch.float32)]
    table = pd.DataFrame({"error": ["nothing was measured in the time that there was"]})
    rows: list[dict] = []
    status = 0
    try:
        while left and monotonic() < end:
            rows += measure(*left[0])
            left.pop(0)
            table = write_csv(folder / CSV, rows, card)  # what is there counts
    except KeyboardInterrupt:
        status = 1
    if left:
        print(f"left out, for want of time: {len(left)} of the smaller levels")
    if rows:
        print(markdown(table))
    wrong = table[table["error"] != ""]
    print(*wrong.to_dict("records"), sep="\n", file=sys.stderr)
    return max(status, int(len(wrong) > 0))


if __name__ == "__main__":
    sys.exit(main())
