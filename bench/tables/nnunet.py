"""The table of what a step of gmd's trainers for nnU-Net costs, from the rows of nnunet_cpu.csv."""

import pandas as pd

from bench.tables.markdown import head, line, megabytes, significant
from bench.tables.results import footnote


def nnunet_markdown(steps: pd.DataFrame) -> str:
    """Returns each trainer's step beside one of nnU-Net's own, its milliseconds and its memory."""
    lines = head("a step", "of nnU-Net's", "ms", "memory, MB", "steps timed")
    for row in steps.to_dict("records"):
        cells = (significant(row["of_plain"]), significant(row["median_ms"]), megabytes(row["peak_MB"]))
        lines.append(line(f"{row['case']}: {row['contestant']}", *cells, f"{row['calls']:.0f}"))
    return "\n".join([*lines, "", footnote(steps)])
