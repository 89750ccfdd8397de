"""The tables of sketches: what folding a gradient takes, and what a surgery with sketches takes of memory and time."""

import pandas as pd

from bench.measure.one_gradient import JOINT, SKETCHES
from bench.measure.sketch import OURS, PYTORCH
from bench.tables.markdown import head, line, megabytes, significant, with_note
from bench.tables.results import footnote


def sketch_markdown(sketches: pd.DataFrame) -> str:
    """Returns milliseconds of ours and of PyTorch's index_add_, and the share of ours that reading takes."""
    lines = head("ms", OURS, "memory's floor", "of the floor", PYTORCH)
    for case, rows in sketches.groupby("case", sort=False):
        of = rows.set_index("contestant")
        ours, theirs = (of.at[name, "median_ms"] for name in (OURS, PYTORCH))
        floor = [significant(of.at[OURS, "floor_ms"]), f"{of.at[OURS, 'fraction_of_floor']:.0%}"]
        lines.append(line(case, significant(ours), *floor, with_note(theirs, f"{significant(theirs / ours)}x")))
    return "\n".join([*lines, "", footnote(sketches)])


def one_gradient_markdown(rows: pd.DataFrame) -> str:
    """Returns the memory of the backward pass beyond parameters, optimizer and graph, and its time."""
    lines = head("", "allocated, MB", "in gradients", "resident, MB", "backward pass, ms", "of joint training's")
    for _, row in rows.iterrows():
        ratio = "1" if row["contestant"] == JOINT else significant(row["of_joint"])
        memory = megabytes(row["allocated_MB"]), significant(row["gradients"]), megabytes(row["peak_MB"])
        lines.append(line(row["contestant"], *memory, significant(row["median_ms"]), ratio))
    bound = rows.set_index("contestant")["bound_MB"].get(SKETCHES)
    size = f"A gradient has {megabytes(rows['gradient_MB'].iloc[0])} MB, N + T d is {megabytes(bound)} MB."
    return "\n".join([*lines, "", size, footnote(rows)])
