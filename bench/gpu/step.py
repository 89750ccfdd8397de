"""`python -m bench.gpu.step FOLDER`: a whole training step at 128³ on a GPU; leaves step_gpu.csv in FOLDER."""

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from bench.measure.files import write_csv
from bench.measure.host import gpu_columns
from bench.measure.step import PHASES, measure_step
from bench.tables.markdown import significant

CSV = "step_gpu.csv"
WHOLE_STEP = {"width": 0.5, "size": 128, "rounds": 3}


def main() -> int:
    """0, or 1 if anybody's values were wrong, or 2 if there is nothing to measure."""
    folder = Path(sys.argv[1])
    if not torch.cuda.is_available():
        print("nothing to measure: no GPU in this machine", file=sys.stderr)
        return 2
    return show(write_csv(folder / CSV, measure(measure_step), gpu_columns()))


def measure(measure_step: Callable[..., list[dict]], device: str = "cuda") -> list[dict]:
    """Float32 is float32 here: TF32, which torch allows convolutions, would hide whether the ways agree."""
    usual = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        return measure_step(**WHOLE_STEP, on_round=lambda: print("a round is done", flush=True), device=device)
    finally:
        torch.backends.cudnn.allow_tf32 = usual


def show(table: pd.DataFrame) -> int:
    wrong = table[table["error"] != ""]
    print(*(f"{row.contestant}: {row.error}" for row in wrong.itertuples()), sep="\n", file=sys.stderr)
    if len(wrong):
        return 1
    print(markdown(table))
    return 0


def markdown(table: pd.DataFrame) -> str:
    """A row for each way, a column for each phase."""
    columns = [*PHASES, "total"]
    lines = [f"| ms | {' | '.join(columns)} | times faster | extra memory, GB |", "| :-- |" + " --: |" * 7]
    slowest = table.loc[table["phase"] == "total", "median_ms"].iloc[0]  # the published way, which is the first
    for name, rows in table.groupby("contestant", sort=False):
        times, memory = rows.set_index("phase")["median_ms"], rows["peak_extra_MB"].iloc[0]
        cells = [*(times[phase] for phase in columns), slowest / times["total"], memory / 1e3]
        lines.append(f"| {name} | {' | '.join(map(significant, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
