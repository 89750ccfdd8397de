"""`python -m bench.gpu.weightings FOLDER`: the weightings on a GPU, beside torch's form; leaves weightings_gpu.csv.

A weighting is a small solve for a few objectives: what counts is how many launches it takes, and whether the host or
the device is done first.
"""

import sys
from collections.abc import Callable
from functools import partial
from itertools import cycle, product
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor

from bench.gpu.budget import deadline
from bench.gpu.contestants import through
from bench.gpu.memory import fits
from bench.gpu.timing import UNMEASURED, Clock, GpuClock, checked, with_ratio_to_ours
from bench.measure import weightings
from bench.measure.contestant import Contestant, Work
from bench.measure.files import write_csv
from bench.measure.gpu_names import TORCHS_FORM
from bench.measure.host import gpu_columns
from bench.tables.results import errors
from bench.tables.weightings import gpu_weightings_markdown

CSV = "weightings_gpu.csv"
SECONDS = 40  # after which nothing new is begun, unless a stage says otherwise
RESERVE = 3  # seconds that the last weighting and the table may take
SIZES = (15, 4, 31)  # objectives: of four modalities and of five; 15 first, should the time run out
# Of the merged gradients, relative, beside the CPU's: the equations are solved to 1e-8 or so, by another order of sums.
TOLERANCE = 1e-5


def contestants(name: str, num_objectives: int, device: str) -> list[Contestant]:
    """Returns the weighting as users get it on the device, and its form in torch's operations there."""
    given = weightings.jacobians(num_objectives)
    grams = [jacobian @ jacobian.T for jacobian in given]
    turns = cycle([gram.to(device) for gram in grams])
    weighting = weightings.ours(name, num_objectives, device)
    if name in weightings.AT_RANDOM:  # nobody draws what another does
        error: Callable[[Tensor], float] = _unless_finite
    else:
        error = partial(_error, weighting=weighting, on_cpu=weightings.ours(name, num_objectives), given=given)
    call = lambda: weighting(next(turns))  # noqa: E731
    return [
        Contestant(weightings.OURS, Work(0, 0), call, error, TOLERANCE),
        Contestant(TORCHS_FORM, Work(0, 0), through("reference", call), through("reference", error), TOLERANCE),
    ]


def _unless_finite(result: Tensor) -> float:
    return 0.0 if bool(torch.isfinite(result).all()) else float("nan")


def _error(result: Tensor, weighting: Callable, on_cpu: Callable, given: list[Tensor]) -> float:
    """Returns the largest |ours - the CPU's| / |the CPU's| of the merged gradients, over all Gramians."""
    largest = 0.0
    for jacobian in given:
        gram = jacobian @ jacobian.T
        merged, right = weighting(gram.to(result.device)).cpu() @ jacobian, on_cpu(gram) @ jacobian
        largest = max(largest, float((merged - right).norm() / right.norm()))
    return largest


def measure(num_objectives: int, name: str, clock: Clock, device: str = "cuda") -> list[dict]:
    """Returns the rows of one weighting; one with wrong values gets an error instead of a time."""
    rows = []
    for contestant in contestants(name, num_objectives, device):
        case = {"case": f"{name}, T = {num_objectives}", "weighting": name, "T": num_objectives}
        row = case | {"contestant": contestant.name, "launches": float("nan")} | UNMEASURED
        row |= checked(contestant, clock)
        if not row["error"]:
            row |= clock.times(contestant) | {"launches": clock.launches(contestant.call)}
        rows.append(row)
    return with_ratio_to_ours(rows, weightings.OURS)


def main() -> int:
    """Returns 0, or 1 if anybody's values were wrong or not all was measured, or 2 if there is nothing to measure."""
    end, folder = deadline(SECONDS, RESERVE), Path(sys.argv[1])
    if not torch.cuda.is_available():
        print("nothing to measure: no GPU in this machine", file=sys.stderr)
        return 2
    return measure_and_show(partial(measure, clock=GpuClock()), folder, gpu_columns(), end)


def measure_and_show(measure: Callable[[int, str], list[dict]], folder: Path, card: dict, end: float) -> int:
    """Measures as many weightings as there is time for, and writes each one's rows as they are made."""
    left = list(product(SIZES, weightings.names()))
    rows: list[dict] = []
    status = 0
    try:
        while left and monotonic() < end:
            with fits(f"{left[0][1]}, T = {left[0][0]}") as room:
                rows += measure(*left[0])
                write_csv(folder / CSV, rows, card)  # what is there counts
            status = max(status, int(room.wanting))
            left.pop(0)
    except KeyboardInterrupt:
        status = 1
    if left:
        print("left out, for want of time:", *(f"{name}-T{size}" for size, name in left))
    if not rows:
        return 1
    table = write_csv(folder / CSV, rows, card)
    print(gpu_weightings_markdown(table))
    failed = errors(table)
    print(*failed, sep="\n", file=sys.stderr)
    return max(status, int(bool(failed)))


if __name__ == "__main__":
    sys.exit(main())
