"""`python -m bench.run`: measures, prints, writes bench/results/*.csv. Values are checked before any speed counts."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

import gmd_kernels as gk
from bench.measure import norm, owm
from bench.measure import timing as measure
from bench.measure.cases import CASES, LAYOUTS, SUFFIXES, Case
from bench.measure.cggm_step import measure_cggm
from bench.measure.files import RESULTS, write_csv
from bench.measure.host import ROOT, host_columns
from bench.measure.sequence_step import measure_sequence_step
from bench.measure.step import measure_step
from bench.measure.surgery import measure_surgery, warm_up, with_ratio_to_float32
from bench.tables import (
    norm as norm_tables,
)
from bench.tables import (
    owm as owm_tables,
)
from bench.tables import (
    sequences as sequence_tables,
)
from bench.tables import (
    surgery as tables,
)
from bench.tables import (
    targets,
)

QUICK_RESULTS = ROOT / "runs" / "bench-quick"  # not beside the real ones
QUICK_CASES = ("small-0.3M-T7", "transformer-5.6M-T4", "transformer-5.6M-T4-bf16")
STEPS = ({"width": 0.5, "size": 32, "rounds": 5}, {"width": 0.5, "size": 48, "rounds": 3})
QUICK_STEPS = ({"width": 0.125, "size": 16, "rounds": 2},)
EVALUATIONS = ({"width": 0.5, "size": 32, "rounds": 5}, {"width": 0.5, "size": 48, "rounds": 3})
SEQUENCE_STEPS = ({"width": 64, "layers": 2, "rounds": 15}, {"width": 128, "layers": 4, "rounds": 7})
QUICK_SEQUENCE_STEPS = ({"width": 64, "layers": 2, "rounds": 2},)
CGGM_STEPS = ({"width": 64, "layers": 2, "rounds": 41}, {"width": 128, "layers": 4, "rounds": 15})
LARGE_BUFFER = 2**29  # bytes: far beyond any cache


def main() -> int:
    """0, or 1 if anybody's values were wrong, or 2 if there is nothing to measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of each and few rounds, results into runs/")
    names = [part.name for part in PARTS]
    parser.add_argument("parts", nargs="*", choices=names, default=names, help="all by default")
    arguments = parser.parse_args()
    quick = arguments.quick
    kernels = gk.backends()["cpu"]
    if not kernels.available:
        print(f"nothing to measure, the C++ kernels are missing: {kernels.reason}; see `gmd doctor`", file=sys.stderr)
        return 2

    host = host_columns() | {f"memory_{key}": value for key, value in _memory().items()}
    print(*(f"{key}: {value}" for key, value in host.items()), sep="\n")
    folder = QUICK_RESULTS if quick else RESULTS
    wrong, verdicts = [], []
    for part in PARTS:
        if part.name not in arguments.parts:
            continue
        table = write_csv(folder / f"{part.name}_cpu.csv", part.measure(quick), host)
        print("", *(show(table) for show in part.shows), f"written: {folder / part.name}_cpu.csv", sep="\n\n")
        wrong += tables.errors(table)
        verdicts += part.verdicts(table)
    print("", *verdicts, sep="\n")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


def _memory() -> dict[str, float]:
    """GB/s far beyond any cache."""
    bandwidth = measure.Bandwidth(LARGE_BUFFER)
    for _ in range(measure.ROUNDS - 1):
        bandwidth.sample()
    return bandwidth.of_the_fastest()


def surgeries(quick: bool) -> list[dict]:
    cases = [CASES[name] for name in QUICK_CASES] if quick else list(CASES.values())
    for dtype in SUFFIXES:
        warm_up(Case("small-0.3M", LAYOUTS["small-0.3M"], 7, dtype))
    rows = []
    with tqdm(total=len(cases) * measure.ROUNDS, unit="round") as bar:
        for case in cases:
            bar.set_description(case.name)
            rows += measure_surgery(case, partial(bar.update, 1))
    return with_ratio_to_float32(rows)


def steps(quick: bool) -> list[dict]:
    return _each("whole step", measure_step, QUICK_STEPS if quick else STEPS)


def norms(quick: bool) -> list[dict]:
    with tqdm(total=len(list(norm.cases())), unit="case", desc="norm") as bar:
        return norm.measure_norm(1 if quick else measure.ROUNDS, partial(bar.update, 1))


def owms(quick: bool) -> list[dict]:
    with tqdm(total=len(owm.cases()), unit="case", desc="owm") as bar:
        return owm.measure_owm(1 if quick else measure.ROUNDS, partial(bar.update, 1))


def evaluations(quick: bool) -> list[dict]:
    from bench.measure.evaluation import measure_evaluation  # brings MONAI, which a machine with a GPU may lack

    return _each("evaluation", measure_evaluation, QUICK_STEPS if quick else EVALUATIONS)


def sequence_steps(quick: bool) -> list[dict]:
    return _each("transformer's step", measure_sequence_step, QUICK_SEQUENCE_STEPS if quick else SEQUENCE_STEPS)


def cggm_steps(quick: bool) -> list[dict]:
    return _each("cggm", measure_cggm, QUICK_SEQUENCE_STEPS if quick else CGGM_STEPS)


def _each(name: str, measure_one: Callable[..., list[dict]], settings: Sequence[dict]) -> list[dict]:
    rows = []
    with tqdm(total=sum(setting["rounds"] for setting in settings), unit="round") as bar:
        for setting in settings:
            sizes = (f"{key} {value}" for key, value in setting.items() if key != "rounds")
            bar.set_description(", ".join([name, *sizes]))
            rows += measure_one(**setting, on_round=partial(bar.update, 1))
    return rows


class Part(NamedTuple):
    """`name`_cpu.csv: what measures it, how it is shown, and what was expected of it."""

    name: str
    measure: Callable[[bool], list[dict]]
    shows: Sequence[Callable[[pd.DataFrame], str]]
    verdicts: Callable[[pd.DataFrame], list[str]]


PARTS = (
    Part(
        "surgery",
        surgeries,
        (tables.surgery_markdown, tables.memory_markdown, tables.kernels_markdown),
        targets.verdicts,
    ),
    Part("step", steps, (tables.step_markdown,), targets.step_verdicts),
    Part("norm", norms, (norm_tables.norm_markdown,), targets.norm_verdicts),
    Part("owm", owms, (owm_tables.owm_markdown,), targets.owm_verdicts),
    Part("evaluation", evaluations, (tables.evaluation_markdown,), targets.evaluation_verdicts),
    Part("sequence_step", sequence_steps, (sequence_tables.sequence_step_markdown,), targets.sequence_step_verdicts),
    Part("cggm", cggm_steps, (sequence_tables.cggm_markdown,), targets.cggm_verdicts),
)


if __name__ == "__main__":
    sys.exit(main())
