"""The table of what the host does for one call of the norm, from the rows of norm_host_cpu.csv."""

import pandas as pd

from bench.measure.norm_host import BACKWARD, OURS, RECORDED, TRITON, UNGRADED, WAYS
from bench.tables.markdown import head, line, significant
from bench.tables.results import footnote

MOST_US = 20.0  # a call each way


def norm_host_markdown(rows: pd.DataFrame) -> str:
    """Returns microseconds of a call each way, medians; what a machine without Triton has not measured is left out."""
    times = rows.pivot(index="way", columns="contestant", values="median_us")
    measured = [name for name in WAYS if name in times]
    lines = head("µs a call", *measured)
    for way in (UNGRADED, RECORDED, BACKWARD):
        lines.append(line(way, *(significant(times.at[way, name]) for name in measured)))
    return "\n".join([*lines, "", footnote(rows)])


def norm_host_verdicts(rows: pd.DataFrame) -> list[str]:
    """Says whether ours stays within the budget each way, and what Triton's way takes."""
    times = rows.pivot(index="way", columns="contestant", values="median_us")
    found = []
    for way in (RECORDED, BACKWARD):
        ours = times.at[way, OURS]
        said = "reached" if ours <= MOST_US else "missed"
        beside = f", through Triton {significant(times.at[way, TRITON])}" if TRITON in times else ""
        found.append(
            f"host's part of the norm, {way}: {significant(ours)} µs without CUDA's own calls, "
            f"expected at most {MOST_US:.0f}: {said}{beside}"
        )
    return found
