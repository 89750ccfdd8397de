"""The tables of what sharing a network costs and what a lone sample gains, from the rows of share_cpu.csv."""

import pandas as pd

from bench.measure.share import LONE, SHARING
from bench.tables.markdown import head, line, significant
from bench.tables.results import footnote


def share_markdown(share: pd.DataFrame) -> str:
    """Returns a table of each of the two: a row for each network and way, its time beside the first way's."""
    if "median_ms" not in share:
        return "not measured: wrong values"
    both = [_table(share[share["what"] == what], what) for what in (SHARING, LONE)]
    return "\n\n".join([*both, footnote(share)])


def _table(rows: pd.DataFrame, what: str) -> str:
    lines = head(what, "ms", "of the first", "parameters", "output off by", "gradient off by")
    for _, row in rows.iterrows():
        errors = (f"{row[column]:.1e}" if row[column] else "" for column in ("output_error", "gradient_error"))
        cells = significant(row["median_ms"]), f"{row['of_first']:.3f}", f"{row['N']:,}", *errors
        lines.append(line(f"{row['case']}: {row['contestant']}", *cells))
    return "\n".join(lines)
