"""The table of Strip-MLP's time, from the rows of strip_mlp_cpu.csv."""

import pandas as pd

from bench.tables.markdown import head, line, significant
from bench.tables.results import footnote


def strip_mlp_markdown(rows: pd.DataFrame) -> str:
    """Returns a table with a row for each case and way, its time beside that of the first way."""
    if "median_ms" not in rows:
        return "not measured: wrong values"
    lines = head("forward and backward", "ms", "of the first", "off by")
    for _, row in rows.iterrows():
        cells = significant(row["median_ms"]), f"{row['of_first']:.2f}", f"{row['off_by']:.1e}"
        lines.append(line(f"{row['case']}: {row['contestant']}", *cells))
    return "\n".join([*lines, "", footnote(rows)])
