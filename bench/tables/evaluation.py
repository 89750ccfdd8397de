"""The table of the evaluation with all subsets, from the rows of evaluation_cpu.csv."""

import pandas as pd

from bench.tables.markdown import head, line, megabytes, significant
from bench.tables.results import footnote


def evaluation_markdown(evaluation: pd.DataFrame) -> str:
    """Returns milliseconds of all subsets of one case: a row for each size and way."""
    if "median_ms" not in evaluation:
        return "not measured: wrong values"
    evaluation = evaluation[evaluation["median_ms"].notna()]
    lines = head("all 15 subsets", "ms", "speed-up", "passes", "extra memory, MB")
    for _, row in evaluation.iterrows():
        faster, memory = f"{row['times_faster']:.1f}x", megabytes(row["peak_extra_MB"])
        name = f"{row['case']} {row['contestant']}"
        lines.append(line(name, significant(row["median_ms"]), faster, str(row["passes"]), memory))
    return "\n".join([*lines, "", footnote(evaluation)])
