"""`python -m bench.gpu.surgery FOLDER`: the surgery on a GPU, case by case; leaves surgery_gpu.csv in FOLDER."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

import pandas as pd
import torch

from bench.gpu.timing import GpuClock, measure_on_gpu
from bench.measure.cases import GPU_CASES, Case
from bench.measure.contestants import OURS
from bench.measure.files import write_csv
from bench.measure.host import gpu_columns
from bench.measure.surgery import with_ratio_to_float32
from bench.tables.results import errors
from bench.tables.surgery import gpu_markdown, surgery_markdown
from bench.tables.targets import GPU_TARGETS, verdicts

CSV = "surgery_gpu.csv"
SECONDS = 90  # after which no new case is begun


def main() -> int:
    """0, or 1 if anybody's values were wrong or ours could not be measured, or 2 if there is nothing to measure."""
    deadline = monotonic() + SECONDS
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.surgery", description=__doc__)
    parser.add_argument("folder", type=Path, help="for the results")
    folder = parser.parse_args().folder
    if not torch.cuda.is_available():
        print("nothing to measure: no GPU in this machine", file=sys.stderr)
        return 2
    card, measure = gpu_columns(), partial(measure_on_gpu, clock=GpuClock())
    print(*(f"{key}: {value}" for key, value in card.items()), sep="\n")
    return measure_and_show(measure, folder, card, deadline)


def measure_and_show(measure: Callable[[Case], list[dict]], folder: Path, card: dict, deadline: float) -> int:
    """As many cases as there is time for. Who interrupts it still sees what has been measured; that is a failure."""
    rows, left, status = [], list(GPU_CASES.values()), 0
    try:
        while left and monotonic() < deadline:
            rows += measure(left[0])
            case = left.pop(0)
            table = write_csv(folder / CSV, with_ratio_to_float32(rows), card)  # what is there counts
            ours = table.set_index(["case", "contestant"]).loc[(case.name, OURS)]
            print(f"{case.name}: {ours['median_ms']:.4g} ms, {ours['fraction_of_floor']:.0%} of the floor", flush=True)
    except KeyboardInterrupt:
        status = 1
    if left:
        print(f"left out, for want of time: {', '.join(case.name for case in left)}", flush=True)
    if not rows:
        return 1
    return max(status, show(write_csv(folder / CSV, with_ratio_to_float32(rows), card)))


def show(table: pd.DataFrame) -> int:
    """Prints tables and verdicts, and on stderr what has failed. Returns 1 if anything has, a missing peer aside."""
    print("", surgery_markdown(table), gpu_markdown(table), "", sep="\n\n")
    print(*verdicts(table, GPU_TARGETS), sep="\n")
    failed = errors(table)
    print(*failed, sep="\n", file=sys.stderr)
    return int(any("NotInstalledError" not in sentence for sentence in failed))


if __name__ == "__main__":
    sys.exit(main())
