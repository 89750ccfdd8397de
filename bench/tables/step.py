"""The table of the U-Net's whole step, from the rows of step_cpu.csv."""

import pandas as pd

from bench.measure.step import PHASES, WAYS
from bench.tables.markdown import head, line, megabytes, significant
from bench.tables.results import footnote


def step_markdown(steps: pd.DataFrame) -> str:
    """Returns milliseconds of a whole step: a row for each size and way, a column for each phase."""
    if "phase" not in steps:
        return "not measured: wrong values"
    steps = steps[steps["phase"].notna()]  # a size with wrong values has no times
    columns = [*PHASES, "total"]
    lines = head("ms", *columns, "speed-up", "paths", "extra memory, MB", "off by")
    for case, of_case in steps.groupby("case", sort=False):
        times = of_case.pivot(index="contestant", columns="phase", values="median_ms").loc[list(WAYS), columns]
        whole = of_case[of_case["phase"] == "total"].set_index("contestant")
        for who, taken in times.iterrows():
            told = whole.loc[who]
            memory, faster = megabytes(told["peak_extra_MB"]), f"{told['times_faster']:.2f}x"
            error = f"{100 * told['value_error']:.2g} %" if told["value_error"] else ""
            lines.append(line(f"{case} {who}", *map(significant, taken), faster, str(told["passes"]), memory, error))
    return "\n".join([*lines, "", footnote(steps)])
