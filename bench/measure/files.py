"""The CSV files of the results: where they lie, and how they are written."""

from pathlib import Path

import pandas as pd

from bench.measure.host import ROOT
from gmd.files import replacing

RESULTS = ROOT / "bench" / "results"
QUICK_RESULTS = ROOT / "runs" / "bench-quick"  # not beside the real ones


def write_csv(path: Path, rows: list[dict], host: dict[str, object]) -> pd.DataFrame:
    """Writes all rows, each with the host's columns, or leaves the old file as it was. Returns the table."""
    table = pd.DataFrame([row | host for row in rows])
    with replacing(path) as unfinished:
        table.to_csv(unfinished, index=False, na_rep="n/a", float_format="%.6g")
    return table
