"""`python -m bench.run`: measures, prints, writes bench/results/*.csv. Values are checked before any speed counts."""

import argparse
import sys
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import gmd_kernels as gk
from bench import measure, tables
from bench.cases import CASES, LAYOUTS, SUFFIXES, Case
from bench.host import ROOT, host_columns
from bench.step import measure_step
from bench.surgery import measure_surgery, warm_up, with_ratio_to_float32
from bench.targets import step_verdicts, verdicts
from gmd.files import replacing

RESULTS = ROOT / "bench" / "results"
QUICK_RESULTS = ROOT / "runs" / "bench-quick"  # not beside the real ones
WHOLE_STEPS = ({"width": 0.5, "size": 32, "rounds": 5}, {"width": 0.5, "size": 48, "rounds": 3})
QUICK_STEPS = ({"width": 0.125, "size": 16, "rounds": 2},)
QUICK_CASES = ("small-0.3M-T7", "transformer-5.6M-T4", "transformer-5.6M-T4-bf16")
LARGE_BUFFER = 2**29  # bytes: far beyond any cache


def main() -> int:
    """0, or 1 if anybody's values were wrong, or 2 if there is nothing to measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three cases and a small step only, results into runs/")
    quick = parser.parse_args().quick
    kernels = gk.backends()["cpu"]
    if not kernels.available:
        print(f"nothing to measure, the C++ kernels are missing: {kernels.reason}; see `gmd doctor`", file=sys.stderr)
        return 2

    host = host_columns() | {f"memory_{key}": value for key, value in _memory().items()}
    print(*(f"{key}: {value}" for key, value in host.items()), sep="\n")
    surgery, steps = measure_all(quick)
    folder = QUICK_RESULTS if quick else RESULTS
    surgery = write_csv(folder / "surgery_cpu.csv", surgery, host)
    steps = write_csv(folder / "step_cpu.csv", steps, host)

    makers = (tables.surgery_markdown, tables.memory_markdown, tables.kernels_markdown)
    print("", *(make(surgery) for make in makers), tables.step_markdown(steps), "", sep="\n\n")
    print(*verdicts(surgery), *step_verdicts(steps), sep="\n")
    wrong = tables.errors(surgery) + tables.errors(steps)
    print(*wrong, sep="\n", file=sys.stderr)
    print(f"written: {folder / 'surgery_cpu.csv'}, {folder / 'step_cpu.csv'}")
    return 1 if wrong else 0


def _memory() -> dict[str, float]:
    """GB/s far beyond any cache."""
    bandwidth = measure.Bandwidth(LARGE_BUFFER)
    for _ in range(measure.ROUNDS - 1):
        bandwidth.sample()
    return bandwidth.of_the_fastest()


def measure_all(quick: bool) -> tuple[list[dict], list[dict]]:
    """The rows of both files."""
    cases = [CASES[name] for name in QUICK_CASES] if quick else list(CASES.values())
    whole_steps = QUICK_STEPS if quick else WHOLE_STEPS
    for dtype in SUFFIXES:
        warm_up(Case("small-0.3M", LAYOUTS["small-0.3M"], 7, dtype))

    surgery = []
    with tqdm(total=len(cases) * measure.ROUNDS + sum(s["rounds"] for s in whole_steps), unit="round") as bar:
        for case in cases:
            bar.set_description(case.name)
            surgery += measure_surgery(case, partial(bar.update, 1))
        steps = []
        for whole_step in whole_steps:
            bar.set_description(f"whole step, {whole_step['size']}³")
            steps += measure_step(**whole_step, on_round=partial(bar.update, 1))
    return with_ratio_to_float32(surgery), steps


def write_csv(path: Path, rows: list[dict], host: dict[str, object]) -> pd.DataFrame:
    """Writes all rows, each with the host's columns, or leaves the old file as it was. Returns the table."""
    table = pd.DataFrame([row | host for row in rows])
    with replacing(path) as unfinished:
        table.to_csv(unfinished, index=False, na_rep="n/a", float_format="%.6g")
    return table


if __name__ == "__main__":
    sys.exit(main())
