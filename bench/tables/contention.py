"""The table of a step beside busy processes, from the rows of contention_cpu.csv."""

import pandas as pd

from bench.tables.markdown import head, line, significant
from bench.tables.results import footnote


def contention_markdown(contention: pd.DataFrame) -> str:
    """Returns seconds of a step: a row for each way to wait, a column for each number of busy processes."""
    cases = contention["case"].unique()
    lines = head("seconds a step", *cases)
    for way, rows in contention.groupby("contestant", sort=False):
        by_case = rows.set_index("case")
        lines.append(line(str(way), *(_cell(by_case.loc[case]) for case in cases)))
    return "\n".join([*lines, "", footnote(contention)])


def _cell(row: pd.Series) -> str:
    """Returns the seconds and how many times as slow that is; of a way that was late, what it did not do."""
    if row["late"]:
        return f"no {row['wanted']} steps in {row['limit_s']:.0f} s"
    slower = "" if pd.isna(row["times_slower"]) else f", {row['times_slower']:.2f}x"
    return significant(row["median_s"]) + slower
