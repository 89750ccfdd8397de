"""What reading a manifest's files costs, from the rows of manifest_loader_cpu.csv."""

import pandas as pd

from bench.tables.markdown import head, line, significant
from bench.tables.results import footnote

LEAST_KEPT, MOST_SECONDS = 0.9, 20  # of the steps' speed, and of checking 10,000 rows


def manifest_loader_markdown(rows: pd.DataFrame) -> str:
    """Returns a table of training steps, and one of checks, each with what was to be reached."""
    steps, checks = rows[rows["speed_kept"].notna()], rows[rows["seconds"].notna()]
    lines = head("training steps", "in memory, s", "one worker reads, s", "reading alone, s", f"kept, of {LEAST_KEPT}")
    for _, row in steps.iterrows():
        cells = (significant(row[column]) for column in ("memory_s", "files_s", "reading_s"))
        lines.append(line(row["case"], *cells, f"{row['speed_kept']:.2f}"))
    lines += ["", *head("", f"s, of {MOST_SECONDS}", "memory for it, MB", "for reading batches, MB")]
    for _, row in checks.iterrows():
        cells = (significant(row[column]) for column in ("seconds", "peak_MB", "peak_reading_MB"))
        lines.append(line(row["case"], *cells))
    return "\n".join([*lines, "", footnote(rows)])
