"""The tables of a whole step: the U-Net's by phase, from step_cpu.csv, and each method's, from step_methods_cpu.csv."""

import pandas as pd

from bench.measure.step import PHASES, WAYS
from bench.measure.step_names import AUTO_CONFLICTING, AUTO_QUIET, JOINT
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


def step_methods_markdown(steps: pd.DataFrame) -> str:
    """Returns what a step of each method costs: a row for each network and method, beside joint's step."""
    if "of_joint" not in steps:
        return "not measured: wrong values"
    columns = ("of joint", "ms", "between", "refresh", "refreshes", "memory, MB", "at a refresh", "off by")
    lines = head("a step", *columns)
    for row in steps.to_dict("records"):
        first = f"{row['case']}: {row['contestant']}"
        if pd.isna(row["of_joint"]):
            wrong = row["error"] if isinstance(row["error"], str) and row["error"] else f"cannot: {row['cannot']}"
            lines.append(line(first, wrong, *[""] * (len(columns) - 1)))
        else:
            lines.append(line(first, *_cells(row)))
    return "\n".join([*lines, "", f"{_counted(steps)} {footnote(steps)}"])


def _cells(row: dict) -> list[str]:
    apart = ["", "", ""]  # where all steps are alike
    if not pd.isna(row["refresh_ms"]):
        apart = [significant(row["ordinary_ms"]), significant(row["refresh_ms"]), f"{100 * row['refreshes']:.3g} %"]
    at_refresh = "" if pd.isna(row["refresh_MB"]) else megabytes(row["refresh_MB"])
    error = f"{100 * row['value_error']:.1g} %" if row["value_error"] > 0 else ""
    of_joint = "1" if row["contestant"] == JOINT else f"{row['of_joint']:.2f}"
    return [of_joint, significant(row["median_ms"]), *apart, megabytes(row["ordinary_MB"]), at_refresh, error]


def _counted(steps: pd.DataFrame) -> str:
    """Returns the sentence on the trainings in which the refreshes of "auto" were counted."""
    each = steps[steps["counted_steps"].notna()].drop_duplicates("contestant").set_index("contestant")
    told = [
        f"{row['refreshes'] * row['counted_steps']:.0f} of {row['counted_steps']:.0f} steps, "
        f"{100 * row['counted_conflicts']:.1f} % of the pairs in conflict"
        for row in (each.loc[name] for name in (AUTO_QUIET, AUTO_CONFLICTING) if name in each.index)
    ]
    return f"Refreshes of auto were counted: {'; '.join(told)}." if told else ""
