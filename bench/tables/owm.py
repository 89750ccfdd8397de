"""The table of the update of MLA's projector, from the rows of owm_cpu.csv."""

import pandas as pd

from bench.measure.owm import OURS, PRODUCT, PYTORCH
from bench.tables.markdown import head, line, significant
from bench.tables.results import footnote


def owm_markdown(owm: pd.DataFrame) -> str:
    """Returns microseconds of ours, PyTorch's and the product alone, and the share of ours that memory would take."""
    lines = head("µs", "owm_update_", "PyTorch's four lines", "the product alone", "memory's floor", "of the floor")
    for case, rows in owm.groupby("case", sort=False):
        of = rows.set_index("contestant")
        ours, theirs, alone = (1e3 * of.at[name, "median_ms"] for name in (OURS, PYTORCH, PRODUCT))
        cells = [significant(ours), f"{significant(theirs)}, {significant(theirs / ours)}x", significant(alone)]
        floor = [significant(1e3 * of.at[OURS, "floor_ms"]), f"{of.at[OURS, 'fraction_of_floor']:.0%}"]
        lines.append(line(case, *cells, *floor))
    return "\n".join([*lines, "", footnote(owm)])
