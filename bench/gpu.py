"""`python -m bench.gpu FOLDER`: measures on a GPU, prints, leaves surgery_gpu.csv and pictures of it in FOLDER."""

import argparse
import sys
from pathlib import Path

import matplotlib
import pandas as pd
import torch

from bench import plot, tables
from bench.cases import GPU_CASES
from bench.contestants import OURS
from bench.gpu_measure import GpuClock, measure_on_gpu
from bench.host import gpu_columns
from bench.run import write_csv
from bench.surgery import with_ratio_to_float32
from bench.targets import GPU_TARGETS, verdicts

CSV = "surgery_gpu.csv"


def main() -> int:
    """0, or 1 if anybody's values were wrong or ours could not be measured, or 2 if there is nothing to measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("folder", type=Path, help="for the results")
    folder = parser.parse_args().folder
    if not torch.cuda.is_available():
        print("nothing to measure: no GPU in this machine", file=sys.stderr)
        return 2
    card, clock = gpu_columns(), GpuClock()
    print(*(f"{key}: {value}" for key, value in card.items()), sep="\n")
    rows = []
    for case in GPU_CASES.values():
        rows += measure_on_gpu(case, clock)
        table = write_csv(folder / CSV, with_ratio_to_float32(rows), card)  # time may run out: what is there counts
        ours = table.set_index(["case", "contestant"]).loc[(case.name, OURS)]
        print(f"{case.name}: {ours['median_ms']:.4g} ms, {ours['fraction_of_floor']:.0%} of the floor", flush=True)
    return show(table, folder)


def show(table: pd.DataFrame, folder: Path) -> int:
    """Tables and verdicts on the screen, pictures into the folder."""
    matplotlib.use("Agg")
    for name, draw in (("surgery_gpu.png", plot.draw_surgery), ("floors_gpu.png", plot.draw_floors)):
        print(plot.save(draw(table), folder / name))
    print("", tables.surgery_markdown(table), tables.gpu_markdown(table), "", sep="\n\n")
    print(*verdicts(table, GPU_TARGETS), sep="\n")
    failed = tables.errors(table)
    print(*failed, sep="\n", file=sys.stderr)
    return int(any("NotInstalledError" not in sentence for sentence in failed))


if __name__ == "__main__":
    sys.exit(main())
