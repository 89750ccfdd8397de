"""`python -m bench.run`: measures, prints, writes bench/results/*.csv. Values are checked before any speed counts."""

import argparse
import sys

import gmd_kernels as gk
from bench.measure.bandwidth import Bandwidth
from bench.measure.files import QUICK_RESULTS, RESULTS, write_csv
from bench.measure.host import host_columns
from bench.measure.timing import ROUNDS
from bench.parts import PARTS
from bench.tables.results import errors

LARGE_BUFFER = 2**29  # bytes: far beyond any cache


def main() -> int:
    """Measures the parts that are asked for.

    Returns 0, or 1 if anybody's values were wrong, or 2 if there is nothing to measure.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of each and few rounds, results into runs/")
    names = [part.name for part in PARTS]
    parser.add_argument("parts", nargs="*", choices=names, default=names, help="all by default")
    arguments = parser.parse_args()
    kernels = gk.backends()["cpu"]
    if not kernels.available:
        print(f"nothing to measure, the C++ kernels are missing: {kernels.reason}; see `gmd doctor`", file=sys.stderr)
        return 2

    host = host_columns() | {f"memory_{key}": value for key, value in _memory().items()}
    print(*(f"{key}: {value}" for key, value in host.items()), sep="\n")
    folder = QUICK_RESULTS if arguments.quick else RESULTS
    wrong: list[str] = []
    verdicts: list[str] = []
    for part in PARTS:
        if part.name not in arguments.parts:
            continue
        if reason := part.lacking():
            print("", f"{part.name} is not measured: {reason}", sep="\n")
            continue
        table = write_csv(folder / f"{part.name}_cpu.csv", part.measure(arguments.quick), host)
        print("", *(show(table) for show in part.shows), f"written: {folder / part.name}_cpu.csv", sep="\n\n")
        wrong += errors(table)
        verdicts += part.verdicts(table)
    print("", *verdicts, sep="\n")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


def _memory() -> dict[str, float]:
    """Returns the bandwidth in GB/s far beyond any cache."""
    bandwidth = Bandwidth(LARGE_BUFFER)
    for _ in range(ROUNDS - 1):
        bandwidth.sample()
    return bandwidth.of_the_fastest()


if __name__ == "__main__":
    sys.exit(main())
