"""ROOFLINE's table: what each case should take by arithmetic, and what it took, where that was measured."""

import pandas as pd

from bench.measure.cases import FIRST_GPU_CASES, TINY_GPU_CASES
from bench.measure.contestants import COMBINE, GRAM, OURS
from bench.measure.roofline import Term, expected
from bench.tables.markdown import head, line, significant

CONTESTANTS = (GRAM, COMBINE, OURS)


def roofline_markdown(surgery: pd.DataFrame | None) -> str:
    """Returns microseconds, expected and measured, of the cases that are measured first.

    surgery: the rows of surgery_gpu.csv; None where nothing has run on a GPU
    """
    lines = head("µs", *(f"{name}, {kind}" for name in CONTESTANTS for kind in ("expected", "measured")))
    for case in (FIRST_GPU_CASES | TINY_GPU_CASES).values():
        model = expected(case)
        cells = [(_range(model[name]), _measured(surgery, case.name, name)) for name in CONTESTANTS]
        lines.append(line(case.name, *(cell for pair in cells for cell in pair)))
    return "\n".join(lines)


def _range(term: Term) -> str:
    digits = 1 if term.time < 100 else 0
    return f"{term.time:.{digits}f} ± {term.off:.{digits}f}"


def _measured(surgery: pd.DataFrame | None, case: str, contestant: str) -> str:
    if surgery is None:
        return "not yet"
    chosen = surgery[(surgery["case"] == case) & (surgery["contestant"] == contestant)]
    return "not yet" if chosen.empty else significant(1e3 * chosen["median_ms"].iloc[0])
