"""What every table needs of a file of results: its rows, whose values were wrong, and what it was measured on."""

from pathlib import Path

import pandas as pd


def read_results(path: Path) -> pd.DataFrame:
    """Returns the rows that `write_csv` wrote. A commit is text, also where it has digits only, or one e among them."""
    return pd.read_csv(path, dtype={"commit": str})


def errors(table: pd.DataFrame) -> list[str]:
    """Returns a sentence for each row whose contestant had wrong values: the case, who, and how wrong."""
    wrong = table[table["error"].fillna("") != ""]
    case = wrong["case"] if "case" in wrong else ["whole step"] * len(wrong)
    return [f"{c}, {who}: {error}" for c, who, error in zip(case, wrong["contestant"], wrong["error"], strict=True)]


def footnote(table: pd.DataFrame) -> str:
    """Returns the sentence under a table that says when, on what and with which versions its figures were measured."""
    row = table.iloc[0]
    if "gpu" in row:
        copy = (
            f" A copy on the device moved {row['copy_GBps']:.0f} GB/s, counted both ways." if "copy_GBps" in row else ""
        )
        return (
            f"Measured {row['date']} UTC on {row['gpu']}, driver {row['driver']}, CUDA {row['cuda']}, torch "
            f"{row['torch']}, Triton {row['triton']}, TorchJD {row['torchjd']}, gmd {row['commit']}; medians, caches "
            f"{row['caches']}.{copy}"
        )
    return (
        f"Measured {row['date']} UTC on {row['cpu']}, {row['cores']} cores, {row['threads']} threads, {row['isa']}, "
        f"torch {row['torch']}, TorchJD {row['torchjd']}, gmd {row['commit']}; medians."
    )
