"""The table of a step's collectives, from the rows of collectives.csv."""

import pandas as pd

from bench.tables.markdown import markdown_table

KINDS = ("reduce-scatter", "all-gather", "all-reduce", "small")


def collectives_markdown(collectives: pd.DataFrame) -> str:
    """Returns how often each kind of collective is called in a step, and what a process sends, in multiples of N."""
    rows = [("a step of", *KINDS, "sent, times N (R - 1) / R")]
    for _, row in collectives.iterrows():
        rows.append((row["way"], *(str(row[kind] or "") for kind in KINDS), f"{row['sent']:.2f}"))
    return markdown_table(rows)
