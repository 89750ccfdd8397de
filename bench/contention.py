"""`python -m bench.contention`: a step of surgery beside busy processes, for bench/results/contention_cpu.csv.

It takes a quarter of an hour on a machine that has nothing else to do. On another one it measures that machine's load.
"""

import argparse
import sys

from tqdm import tqdm

from bench.measure.contention import FIRST, Setting, measure_contention
from bench.measure.files import QUICK_RESULTS, RESULTS, write_csv
from bench.measure.host import host_columns
from bench.tables.contention import contention_markdown
from bench.tables.targets import contention_verdicts

QUICK = Setting(busy=(0, 1), steps=1, rounds=1, width=0.125, size=16)


def main() -> int:
    """Measures, prints the table and what of it was expected, and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.contention", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a step of a small network, results into runs/")
    quick = parser.parse_args().quick
    setting = QUICK if quick else Setting()
    with tqdm(total=setting.rounds * len(setting.busy) * len(FIRST), unit="process", desc="contention") as bar:
        rows = measure_contention(setting, bar.update)
    path = (QUICK_RESULTS if quick else RESULTS) / "contention_cpu.csv"
    # each row has the threads of the processes that were measured, not of this one
    table = write_csv(path, rows, {name: value for name, value in host_columns().items() if name != "threads"})
    print("", contention_markdown(table), f"written: {path}", *contention_verdicts(table), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
