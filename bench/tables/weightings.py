"""The table of the weightings, from the rows of weightings_cpu.csv."""

import pandas as pd

from bench.measure.gpu_names import TORCHS_FORM
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


def gpu_weightings_markdown(weightings: pd.DataFrame) -> str:
    """Returns microseconds on a GPU, launches, and how many times as long torch's form takes: a column for each T.

    A time is the device's or, where the host takes longer to launch all that, the host's.
    """
    sizes = sorted(weightings["T"].unique())
    columns = ("median_ms", "launches")
    times, launches = (weightings.pivot(index="weighting", columns=["contestant", "T"], values=key) for key in columns)
    lines = head("µs, launches, torch's form over ours", *(f"T = {size}" for size in sizes))
    for name in weightings["weighting"].unique():
        of, count = times.loc[name], launches.loc[name]
        cells = [_on_gpu(of.get((OURS, t)), of.get((TORCHS_FORM, t)), count.get((OURS, t))) for t in sizes]
        lines.append(line(f"`{name}`", *cells))
    return "\n".join([*lines, "", footnote(weightings)])


def _on_gpu(ours: float | None, torchs: float | None, launches: float | None) -> str:
    if ours is None or pd.isna(ours):
        return "n/a"
    count = "n/a" if launches is None or pd.isna(launches) else f"{launches:.0f}"
    factor = [] if torchs is None or pd.isna(torchs) else [f"{significant(torchs / ours)}x"]
    return ", ".join([significant(1e3 * ours), count, *factor])


def _cell(ours: float | None, theirs: float | None) -> str:
    if ours is None or pd.isna(ours):
        return "n/a"
    factor = "" if theirs is None or pd.isna(theirs) else f", {significant(theirs / ours)}x"
    return f"{significant(ours)}{factor}"
