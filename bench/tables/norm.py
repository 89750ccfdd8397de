"""The table of GroupNorm + ReLU, from the rows of norm_cpu.csv."""

import pandas as pd

from bench.measure.norm import BOTH_PHASES, CHANNELS, OURS, PYTORCH
from bench.tables.markdown import head, line, significant
from bench.tables.results import footnote

# Two norms at every level of the encoder and, but for the deepest, of the decoder.
NORMS = {channels: 2 if channels == CHANNELS[-1] else 4 for channels in CHANNELS}


def norm_markdown(norm: pd.DataFrame) -> str:
    """Returns milliseconds of ours and how many times as long PyTorch takes: a row for each kind of input.

    There is a column for each level of the U-Net, and one for all norms of a pass together.
    """
    chosen = norm[norm["phase"] == BOTH_PHASES]
    levels = (f"C = {channels}" for channels in CHANNELS)
    lines = head("ms, PyTorch's over ours", *levels, f"all {sum(NORMS.values())}")
    for (size, dtype, layout, batch), rows in chosen.groupby(["size", "dtype", "layout", "batch"], sort=False):
        times = rows.pivot(index="C", columns="contestant", values="median_ms")
        cells = [_cell(times.loc[channels, OURS], times.loc[channels, PYTORCH]) for channels in CHANNELS]
        together = [sum(count * times.loc[c, who] for c, count in NORMS.items()) for who in (OURS, PYTORCH)]
        lines.append(line(f"{size}³, {dtype}, {layout}, batch {batch}", *cells, _cell(*together)))
    return "\n".join([*lines, "", footnote(norm)])


def totals(norm: pd.DataFrame) -> pd.DataFrame:
    """Returns the time of all norms in one forward and backward pass: a row for each size and contestant.

    norm: rows of one type and layout
    """
    chosen = norm[(norm["phase"] == BOTH_PHASES) & (norm["batch"] == 1)]
    weighted = chosen.assign(whole=chosen["median_ms"] * chosen["C"].map(NORMS))
    whole = weighted.groupby(["size", "contestant"])["whole"].sum(min_count=len(CHANNELS)).reset_index()
    ours = whole[whole["contestant"] == OURS].set_index("size")["whole"]
    ratio = whole["whole"] / whole["size"].map(ours)
    return whole.assign(case=whole["size"].map("{}³".format), ratio_to_ours=ratio)


def _cell(ours: float, theirs: float) -> str:
    return f"{significant(ours)}, {significant(theirs / ours)}x"
