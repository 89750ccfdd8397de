"""Which versions of Python, torch and numpy were tried, as a table."""

import math
from pathlib import Path

import pandas as pd

NEVER = "Not tried yet: `make compat` fills this table."


def compat_markdown(table: pd.DataFrame) -> str:
    """Returns the table of bench/results/compat.csv: an environment a row, what happened, what it took."""
    head = "| Python | torch | numpy | torch's build | outcome | tests passed | minutes |"
    rows = [_row(row) for row in table.to_dict("records")]
    last = table.sort_values("date").iloc[-1]
    note = f"Last tried {last['date']} UTC on {last['system']}, {last['cores']} cores, gmd {last['commit']}."
    return "\n".join([head, "| :-- | :-- | :-- | :-- | :-- | --: | --: |", *rows, "", note])


def compat_section(results: Path) -> str:
    """Returns the table, or plainly that nothing has been tried."""
    path = results / "compat.csv"
    return compat_markdown(read_compat(path)) if path.exists() else NEVER


def read_compat(path: Path) -> pd.DataFrame:
    """Returns the rows; versions are text, as 2.10 is not 2.1."""
    return pd.read_csv(path, dtype={"python": str, "torch": str, "numpy": str, "commit": str})


def _row(row: dict) -> str:
    outcome = row["outcome"] if pd.isna(row.get("why")) else f"{row['outcome']}: {row['why']}"
    numpy, torch = str(row["numpy"]), str(row["torch"])
    if pd.isna(row.get("tests")):
        return f"| {row['python']} | {torch} | {numpy} |  | {outcome} |  |  |"
    parts = [float(row.get(f"{part}_s", "nan")) for part in ("install", "build", "doctor", "tests", "commands")]
    minutes = sum(part for part in parts if not math.isnan(part)) / 60  # a step that failed has none
    return f"| {row['python']} | {torch} | {numpy} | {row['build']} | {outcome} | {row['tests']:.0f} | {minutes:.1f} |"
