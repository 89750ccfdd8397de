"""`python -m bench.gpu.surgery FOLDER`: the surgery on a GPU, case by case; leaves surgery_gpu.csv in FOLDER.

Ours goes through all cases first, then everybody else does while there is time.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import pandas as pd
import torch

from bench.gpu.budget import deadline
from bench.gpu.contestants import Contestants, others, ours, triton
from bench.gpu.memory import fits
from bench.gpu.timing import GpuClock, measure_on_gpu, with_ratio_to_ours
from bench.measure.cases import FIRST_GPU_CASES, GPU_CASES, TINY_GPU_CASES, Case
from bench.measure.contestants import OURS
from bench.measure.files import write_csv
from bench.measure.host import gpu_columns
from bench.measure.surgery import with_ratio_to_float32
from bench.tables.results import errors
from bench.tables.surgery import gpu_markdown, surgery_markdown
from bench.tables.targets import GPU_TARGETS, verdicts

CSV = "surgery_gpu.csv"
SECONDS = 90  # after which no new case is begun, unless a stage says otherwise
RESERVE = {"ours": 4, "triton": 10, "all": 10}  # seconds that the last case and the tables may take


class Turn(NamedTuple):
    """Some contestants, to be measured in one case."""

    who: str
    contestants: Contestants
    case: Case


def _turns(who: str, contestants: Contestants, cases: Iterable[Case]) -> list[Turn]:
    return [Turn(who, contestants, case) for case in cases]


FIRST = [*FIRST_GPU_CASES.values(), *TINY_GPU_CASES.values()]
PLANS = {
    "ours": _turns("ours", ours, FIRST),  # in the cases that say most
    "triton": _turns("Triton", triton, GPU_CASES.values()),
    "all": [
        *_turns("ours", ours, [*FIRST, *(case for name, case in GPU_CASES.items() if name not in FIRST_GPU_CASES)]),
        *_turns("the others", others, GPU_CASES.values()),
    ],
}


def main() -> int:
    """Returns 0, or 1 if anybody's values were wrong or ours was not measured, or 2 if there is nothing to measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.surgery", description=__doc__)
    parser.add_argument("folder", type=Path, help="for the results")
    parser.add_argument("--who", choices=PLANS, default="all", help="ours: few cases, without the others")
    arguments = parser.parse_args()
    end = deadline(SECONDS, RESERVE[arguments.who])
    if not torch.cuda.is_available():
        print("nothing to measure: no GPU in this machine", file=sys.stderr)
        return 2
    card, measure = gpu_columns(), partial(measure_on_gpu, clock=GpuClock())
    print(*(f"{key}: {value}" for key, value in card.items()), sep="\n")
    return measure_and_show(measure, PLANS[arguments.who], arguments.folder, card, end)


def measure_and_show(
    measure: Callable[[Case, Contestants], list[dict]], turns: Iterable[Turn], folder: Path, card: dict, end: float
) -> int:
    """Measures as many turns as there is time for, and writes each one's rows into the CSV file as it is done.

    Who interrupts it still sees what has been measured; that is a failure, and so is a case that the GPU's memory does
    not hold.
    """
    rows: list[dict] = []
    left, status = list(turns), 0
    try:
        while left and monotonic() < end:
            with fits(left[0].case.name) as room:
                rows += measure(left[0].case, left[0].contestants)
                write_csv(folder / CSV, with_ratios(rows), card)  # what is there counts
                print(progress_line(left[0], rows), flush=True)
            status = max(status, int(room.wanting))
            left.pop(0)
    except KeyboardInterrupt:
        status = 1
    for who in dict.fromkeys(turn.who for turn in left):
        names = ", ".join(turn.case.name for turn in left if turn.who == who)
        print(f"left out, for want of time, {who}: {names}", flush=True)
    if not rows:
        return 1
    return max(status, show(write_csv(folder / CSV, with_ratios(rows), card)))


def with_ratios(rows: list[dict]) -> list[dict]:
    """Returns the rows with their times over our surgery's, and over their own on float32 gradients."""
    return with_ratio_to_float32(with_ratio_to_ours(rows))


def progress_line(turn: Turn, rows: list[dict]) -> str:
    """Returns a line on what has just been measured; of ours it has the time."""
    for row in rows:
        if (row["case"], row["contestant"]) == (turn.case.name, OURS) and turn.who == "ours":
            return f"{turn.case.name}: {row['median_ms']:.4g} ms, {row['fraction_of_floor']:.0%} of the floor"
    return f"{turn.case.name}: {turn.who} measured"


def show(table: pd.DataFrame) -> int:
    """Prints tables and verdicts, and on stderr what has failed. Returns 1 if anything has, a missing peer aside."""
    print("", surgery_markdown(table), gpu_markdown(table), "", sep="\n\n")
    print(*verdicts(table, GPU_TARGETS), sep="\n")
    failed = errors(table)
    print(*failed, sep="\n", file=sys.stderr)
    return int(any("NotInstalledError" not in sentence for sentence in failed))


if __name__ == "__main__":
    sys.exit(main())
