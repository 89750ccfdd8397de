"""The runs of a study: each leaves its row in a file of its own, and is not done again.

So a study can be stopped at any time, and split over processes: by its seeds or its arms.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from bench.measure.arms import ARMS, Arm
from gmd.data.text_files import write_json
from gmd.files import replacing

Run = Callable[[Arm, int, Path], dict[str, object]]


def measure(name: str, runs: Sequence[tuple[int, Arm]], run: Run, setting: dict, folder: Path, out: Path) -> None:
    """Does the runs that are not done yet, in their order; `out` gets the rows of all that are done.

    Args:
        name: of the study, beside its bar.
        runs: the seed and the arm of each.
        run: (arm, seed, folder of its own) -> the row of a training.
        setting: what is the same in all runs.
        folder: where runs and rows lie.
        out: a CSV file.

    Raises ValueError where runs of another setting are in the folder: rows of both would pass for one study.
    """
    write_setting(folder / "setting.json", setting)
    for seed, arm in tqdm(runs, desc=name, unit="run"):
        row = folder / f"seed {seed}" / arm.name / "row.json"
        if not row.exists():
            head = {"seed": seed, "arm": arm.name, **options_columns(arm)}
            write_json(row, head | run(arm, seed, row.parent))
        collect(folder, out)


def options_columns(arm: Arm) -> dict[str, object]:
    """Returns the options in which arms differ, None where an arm does without."""
    return {name: arm.options.get(name) for name in ("method", "weighting", "every", "tol")}


def write_setting(path: Path, wanted: dict) -> None:
    """Writes down the setting of the runs in a folder.

    Raises ValueError where runs of another one are.
    """
    if path.exists() and (found := json.loads(path.read_text(encoding="utf-8"))) != wanted:
        raise ValueError(f"{path.parent}: holds runs of {found}, not of {wanted}; give another --work")
    write_json(path, wanted)


def collect(folder: Path, out: Path) -> None:
    """Writes the rows of all finished runs, in the order of seeds and arms, whichever process has done them."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/*/row.json")]
    order = [arm.name for arm in ARMS]
    rows = sorted((row for row in rows if row["arm"] in order), key=lambda row: (row["seed"], order.index(row["arm"])))
    with replacing(out) as unfinished:
        pd.DataFrame(rows).to_csv(unfinished, index=False)
