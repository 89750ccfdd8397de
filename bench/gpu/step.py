"""`python -m bench.gpu.step FOLDER`: a whole training step at 64³ and 128³ on a GPU; leaves step_gpu.csv in FOLDER."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from bench.gpu.memory import fits
from bench.measure.files import write_csv
from bench.measure.host import gpu_columns
from bench.measure.step import PHASES, PUBLISHED, rows_of_step
from bench.tables.markdown import significant

CSV = "step_gpu.csv"
# The small one first: it takes an eighth of the time, and what it shows is there should the other not be finished.
STEPS = ({"width": 0.5, "size": 64, "rounds": 3}, {"width": 0.5, "size": 128, "rounds": 3})
TRAINED_STEPS = 15  # before anything is measured; forty at 128³ would take the time that the measuring has

RowsOfStep = Callable[..., Iterator[list[dict]]]


def main() -> int:
    """Returns 0, or 1 if anybody's values were wrong or not all was measured, or 2 if there is nothing to measure."""
    folder = Path(sys.argv[1])
    if not torch.cuda.is_available():
        print("nothing to measure: no GPU in this machine", file=sys.stderr)
        return 2
    measure = partial(rows_of_step, device="cuda", trained_steps=TRAINED_STEPS)
    return measure_and_show(measure, folder, gpu_columns())


def measure_and_show(measure: RowsOfStep, folder: Path, card: dict) -> int:
    """Measures one size after the other and writes what there is after each round; an interruption ends it early.

    Args:
        measure: as `rows_of_step`, which yields the rows of one size after its check and after each of its rounds.
        folder: where the CSV file goes.
        card: the columns that say on what it was measured.
    """
    rows: list[dict] = []
    complete = False
    try:
        with fits("the rest") as room:
            for rows in _all_rows(measure):
                write_csv(folder / CSV, rows, card)  # what is there counts
                print(f"{rows[-1]['case']}: {rows[-1].get('calls', 0)} rounds done", flush=True)
        complete = not room.wanting
    except KeyboardInterrupt:
        print("interrupted: what has been measured is shown", flush=True)
    status = show(pd.DataFrame(rows)) if rows else 1
    return status if complete else 1


def _all_rows(measure: RowsOfStep) -> Iterator[list[dict]]:
    """Yields the rows of all sizes so far, as they come.

    Float32 is float32 here: TF32, which torch allows convolutions, would hide whether the ways agree.
    """
    usual = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    finished: list[dict] = []
    try:
        for step in STEPS:
            rows: list[dict] = []
            for rows in measure(**step):
                yield finished + rows
            finished += rows
    finally:
        torch.backends.cudnn.allow_tf32 = usual


def show(table: pd.DataFrame) -> int:
    """Prints the times, and on stderr whose values are wrong. Returns 1 if any are."""
    wrong = table[table["error"] != ""]
    print(*(f"{row.case}, {row.contestant}: {row.error}" for row in wrong.itertuples()), sep="\n", file=sys.stderr)
    print(markdown(table))
    return int(len(wrong) > 0)


def markdown(table: pd.DataFrame) -> str:
    """Returns a row for each size and way, a column for each phase. A size that was not timed is left out."""
    columns = [*PHASES, "total"]
    lines = [f"| ms | {' | '.join(columns)} | times faster | extra memory, GB |", "| :-- |" + " --: |" * 7]
    timed = table[table["phase"].notna()] if "phase" in table else table[:0]
    for case, of_case in timed.groupby("case", sort=False):
        totals = of_case[of_case["phase"] == "total"].set_index("contestant")["median_ms"]
        for name, rows in of_case.groupby("contestant", sort=False):
            times, memory = rows.set_index("phase")["median_ms"], rows["peak_extra_MB"].iloc[0]
            cells = [*(times[phase] for phase in columns), totals[PUBLISHED] / times["total"], memory / 1e3]
            lines.append(f"| {case} {name} | {' | '.join(map(significant, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
