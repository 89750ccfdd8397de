"""The table of the weightings, from the rows of weightings_cpu.csv."""

import pandas as pd

from bench.measure.weightings import OURS, TORCHJD
from bench.tables.markdown import head, line, significant
from bench.tables.results import footnote


def weightings_markdown(weightings: pd.DataFrame) -> str:
    """Returns milliseconds of ours and how many times as long TorchJD's takes: a column for each number of objectives.

    The factor is missing where TorchJD has no such weighting, or it was not timed.
    """
    sizes = weightings["T"].unique()
    times = weightings.pivot(index="weighting", columns=["contestant", "T"], values="median_ms")
    lines = head("ms, TorchJD's over ours", *(f"T = {size}" for size in sizes))
    for name in weightings["weighting"].unique():
        of = times.loc[name]
        lines.append(line(f"`{name}`", *(_cell(of.get((OURS, t)), of.get((TORCHJD, t))) for t in sizes)))
    return "\n".join([*lines, "", footnote(weightings)])


def _cell(ours: float | None, theirs: float | None) -> str:
    if ours is None or pd.isna(ours):
        return "n/a"
    factor = "" if theirs is None or pd.isna(theirs) else f", {significant(theirs / ours)}x"
    return f"{significant(ours)}{factor}"
