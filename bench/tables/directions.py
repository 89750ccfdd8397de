"""The table of directions that bounds on compression take, from the rows of directions.csv."""

import pandas as pd

from bench.measure.directions import RULES
from bench.tables.markdown import head, line

TOGETHER, SUBSET, PRINCIPAL, OURS, LEAST = RULES


def directions_markdown(table: pd.DataFrame) -> str:
    """Returns a row for each case and tol: mean directions of an output by each rule, and what the old bound lost."""
    lines = head("cotangents of", "tol", "none", "all together", "its worst error", "subset", "principal", "gmd", LEAST)
    for (case, tol), rows in table.groupby(["case", "tol"], sort=False):
        of = rows.set_index("rule")
        counts = {name: f"{of.at[name, 'directions']:.1f}" for name in RULES}
        lost = f"{100 * of.at[TOGETHER, 'worst_error']:.0f} %"
        own = f"{rows['own'].iloc[0]:.1f}"
        kept = [counts[name] for name in (SUBSET, PRINCIPAL, OURS, LEAST)]
        lines.append(line(case, f"{tol:g}", own, counts[TOGETHER], lost, *kept))
    return "\n".join(lines)
