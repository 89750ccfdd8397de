"""The tables of the transformers' steps, from the rows of sequence_step_cpu.csv and cggm_cpu.csv."""

from collections.abc import Callable

import pandas as pd

from bench.measure.cggm_step import JOINT
from bench.measure.sequence_step import PHASES
from bench.tables.markdown import head, line, megabytes, significant
from bench.tables.results import footnote

COLUMNS = [*PHASES, "total"]


def sequence_step_markdown(steps: pd.DataFrame) -> str:
    """Returns GMD on the transformer of Dynamic Sharing: a row for each size and way, a column for each phase."""
    first_lines = head("ms", *COLUMNS, "speed-up", "paths", "extra memory, MB", "off by")
    return _each_way(steps, first_lines, _step_cells)


def _step_cells(whole: pd.Series) -> list[str]:
    error = f"{100 * whole['value_error']:.2g} %" if whole["value_error"] else ""
    return [f"{whole['times_faster']:.2f}x", str(whole["passes"]), megabytes(whole["peak_extra_MB"]), error]


def cggm_markdown(steps: pd.DataFrame) -> str:
    """Returns CGGM beside joint training on the late-fusion transformer: a row for each size and way."""
    return _each_way(steps, head("ms", *COLUMNS, "over joint", "extra memory, MB"), _cggm_cells)


def _cggm_cells(whole: pd.Series) -> list[str]:
    if whole["contestant"] == JOINT:
        return ["", ""]
    return [f"{100 * whole['overhead']:+.1f} %", f"{whole['extra_MB']:.3f}"]


def _each_way(steps: pd.DataFrame, first_lines: list[str], cells: Callable[[pd.Series], list[str]]) -> str:
    if "phase" not in steps:
        return "not measured: wrong values"
    lines = list(first_lines)
    steps = steps[steps["phase"].notna()]  # a size with wrong values has no times
    for (case, way), rows in steps.groupby(["case", "contestant"], sort=False):
        times = rows.set_index("phase")["median_ms"]
        whole = rows[rows["phase"] == "total"].iloc[0]
        lines.append(line(f"{case}: {way}", *(significant(times[phase]) for phase in COLUMNS), *cells(whole)))
    return "\n".join([*lines, "", footnote(steps)])
