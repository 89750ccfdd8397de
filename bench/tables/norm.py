"""The table of GroupNorm + ReLU, from the rows of norm_cpu.csv."""

import pandas as pd

from bench.measure.norm import BOTH_PHASES, NORMS, OURS, PYTORCH
from bench.tables.markdown import head, line, significant
from bench.tables.results import footnote


def norm_markdown(norm: pd.DataFrame) -> str:
    """Returns milliseconds of ours and how many times as long PyTorch takes: a row for each kind of input.

    There is a column for each shape that norms of the U-Net have, and one for all norms of a pass together.
    """
    chosen = norm[norm["phase"] == BOTH_PHASES]
    shapes = (f"{channels}, s" + f"/{2**level}" * (level > 0) for channels, level in NORMS)
    lines = head("ms, PyTorch's over ours", *shapes, f"all {sum(NORMS.values())}")
    for (size, dtype, layout, batch), rows in chosen.groupby(["size", "dtype", "layout", "batch"], sort=False):
        times = rows.pivot(index=["C", "level"], columns="contestant", values="median_ms")
        cells = [_cell(times.at[shape, OURS], times.at[shape, PYTORCH]) for shape in NORMS]
        together = [sum(count * times.at[shape, who] for shape, count in NORMS.items()) for who in (OURS, PYTORCH)]
        lines.append(line(f"{size}³, {dtype}, {layout}, batch {batch}", *cells, _cell(*together)))
    return "\n".join([*lines, "", footnote(norm)])


def totals(norm: pd.DataFrame) -> pd.DataFrame:
    """Returns the time of all norms in one forward and backward pass: a row for each size and contestant.

    norm: rows of one type and layout
    """
    chosen = norm[(norm["phase"] == BOTH_PHASES) & (norm["batch"] == 1)]
    times_each = [NORMS[shape] for shape in zip(chosen["C"], chosen["level"], strict=True)]
    weighted = chosen.assign(whole=chosen["median_ms"] * times_each)
    whole = weighted.groupby(["size", "contestant"])["whole"].sum(min_count=len(NORMS)).reset_index()
    ours = whole[whole["contestant"] == OURS].set_index("size")["whole"]
    ratio = whole["whole"] / whole["size"].map(ours)
    return whole.assign(case=whole["size"].map("{}³".format), ratio_to_ours=ratio)


def _cell(ours: float, theirs: float) -> str:
    return f"{significant(ours)}, {significant(theirs / ours)}x"
