"""The evaluation of a cross-validation: every patient tested once, by the fold that has not seen them."""

from pathlib import Path
from typing import Literal

from gmd.checkpoint import read_config, read_splits
from gmd.config import TrainBrats
from gmd.errors import UserError
from gmd.evaluation.brats import evaluate_run, score_texts
from gmd.evaluation.folder import results_folder, write_texts
from gmd.evaluation.tables import Row, read_cases, subset_table
from gmd.precision import Precision


def evaluate_folds(
    folder: Path, which: Literal["best", "last"] = "best", precision: Precision | None = None
) -> list[Row]:
    """Evaluates every fold, then all of their test cases together, as one table.

    Each fold is evaluated anew, into its own `evaluation/`; `table.md`, `table.csv` and `cases.csv` of all go to
    `evaluation/` of the folder, where `gmd compare` finds them.

    Args:
        folder: what --out was, with the runs fold0, fold1, ... in it.
        which: the checkpoint.
        precision: what the networks compute in; by default that of the training.

    Raises UserError: a fold that is missing or belongs to another cross-validation, a patient who is tested twice or
        never, what `evaluate_run` raises.
    """
    folder = Path(folder)
    runs = find_folds(folder)
    check_tested_once(runs)
    for run in runs:
        evaluate_run(run, which=which, precision=precision)
    scores = [score for run in runs for score in read_cases(run / "evaluation" / "cases.csv")]
    config = read_config(runs[0])
    regions = tuple(dict.fromkeys(score.region for score in scores))
    rows = subset_table(scores, config.modalities, regions)
    cases = len({score.case for score in scores})
    about = (
        f"Hard Dice, mean over the {cases} cases of {len(runs)} folds, each tested by the fold that has not seen its "
        f"patient; {which}.pt of {folder.resolve().name}, {precision or config.precision}."
    )
    texts = score_texts(scores, rows, config.modalities, regions, about)
    print(texts["table.md"], *write_texts(results_folder(folder, None), texts), sep="\n")
    return rows


def find_folds(folder: Path) -> list[Path]:
    """fold0 to fold{K-1}, in this order. Raises UserError if one is missing, or is of another cross-validation."""
    first = read_config(folder / "fold0")
    if not isinstance(first, TrainBrats) or first.folds is None:
        raise UserError(f"{folder / 'fold0'}: not a fold of a cross-validation; evaluate it as a run by itself")
    runs = [folder / f"fold{fold}" for fold in range(first.folds)]
    for fold, run in enumerate(runs):
        if not run.is_dir():
            raise UserError(f"{run}: there is no such fold of {first.folds}; train it first, with --resume")
        config = read_config(run)
        told = {name: (getattr(config, name), getattr(first, name)) for name in ("folds", "seed", "modalities")}
        told["fold"] = (config.fold, fold)
        if odd := [f"{name} {got}, expected {expected}" for name, (got, expected) in told.items() if got != expected]:
            raise UserError(f"{run}: not of this cross-validation: {'; '.join(odd)}; train it anew")
    return runs


def check_tested_once(runs: list[Path]) -> None:
    """Raises UserError, naming them, unless each patient of the folds is in exactly one test split."""
    splits = [read_splits(run) for run in runs]
    tested_by: dict[str, list[str]] = {}
    for run, split in zip(runs, splits, strict=True):
        for patient in {case["patient"] for name in ("train", "validation", "test") for case in split[name]}:
            tested_by.setdefault(patient, [])
        for patient in {case["patient"] for case in split["test"]}:
            tested_by[patient].append(run.name)
    if wrong := {patient: by for patient, by in sorted(tested_by.items()) if len(by) != 1}:
        patient, by = next(iter(wrong.items()))
        raise UserError(
            f"{runs[0].parent}: {len(wrong)} of {len(tested_by)} patients are not tested by exactly one fold, as "
            f"{patient} by {' and '.join(by) or 'none'}; have the data changed between the folds? Train them anew"
        )
