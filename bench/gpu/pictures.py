"""`python -m bench.gpu.pictures FOLDER`: draws surgery_gpu.png and floors_gpu.png beside surgery_gpu.csv in FOLDER.

It is no part of what runs beside a GPU: the pictures come out of the CSV file, on any machine that has matplotlib.
"""

import argparse
import sys
from pathlib import Path

import matplotlib

from bench.gpu.surgery import CSV
from bench.tables import plot
from bench.tables.results import read_results

PICTURES = {"surgery_gpu.png": plot.draw_surgery, "floors_gpu.png": plot.draw_floors}


def main() -> int:
    """Returns 0, or 2 if the folder has no results of a GPU."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.pictures", description=__doc__)
    parser.add_argument("folder", type=Path, help="with the results of a GPU")
    folder = parser.parse_args().folder
    if not (folder / CSV).exists():
        print(f"nothing to draw: {folder / CSV} is missing, `make gpu OUT={folder}` makes it", file=sys.stderr)
        return 2
    matplotlib.use("Agg")
    table = read_results(folder / CSV)
    for name, draw in PICTURES.items():
        print(plot.save(draw(table), folder / name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
