"""The evaluation of a cross-validation: every patient tested once, by the fold that has not seen them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from gmd.config import TrainBrats, differences
from gmd.config.metrics import Metrics
from gmd.config.missing_modalities import MissingInEvaluation
from gmd.data import SPLITS
from gmd.data.missing import Missing
from gmd.errors import UserError
from gmd.evaluation.missing_curve import write_missing_curve
from gmd.evaluation.results_folder import results_folder, write_texts
from gmd.evaluation.segmentation.further_results import write_further
from gmd.evaluation.segmentation.held_out import NothingScored, unseen_cases
from gmd.evaluation.segmentation.lacking_cases import lacking_curve, lacking_of, lacking_row
from gmd.evaluation.segmentation.listed_cases import listed_cases
from gmd.evaluation.segmentation.single_run import Evaluation, counted, failures, score_run, score_texts
from gmd.evaluation.trained_network import check_segments
from gmd.files import real_path
from gmd.models.precision import Precision
from gmd.printing import say
from gmd.scoring.segmentation.scores import LEGACY_ONLY
from gmd.scoring.segmentation.tables import Row, Score, read_cases, subset_table
from gmd.scoring.table_text import markdown_text
from gmd.together import agreed, by_first, gathered, is_first
from gmd.training.checkpoint import count_in, load_checkpoint
from gmd.training.run_files import EVALUATION
from gmd.training.run_lock import locked_together
from gmd.training.saved_run import fold_folders, read_config


def evaluate_folds(
    folder: Path,
    which: Literal["best", "last"] = "best",
    precision: Precision | None = None,
    data: Path | None = None,
    named: str | None = None,
) -> list[Row]:
    """Evaluates a cross-validation as `score_folds` does, and returns the rows of its table."""
    return score_folds(folder, which, precision, data, named).rows


def score_folds(
    folder: Path,
    which: Literal["best", "last"] = "best",
    precision: Precision | None = None,
    data: Path | None = None,
    named: str | None = None,
    absent: MissingInEvaluation | None = None,
    metrics: Metrics = LEGACY_ONLY,
) -> Evaluation:
    """Evaluates every fold, then all of their test cases together, as one table.

    Each fold is evaluated anew, into its own `evaluation/`; `table.md`, `table.csv` and `cases.csv` of all go to
    `evaluation/` of the folder, where `gmd compare` finds them. Cases that cannot be scored are told, and left out.

    Args:
        folder: the --out of the training, with the runs fold0, fold1, ... in it.
        which: the checkpoint.
        precision: what the networks compute in; by default that of the training.
        data: where the data of the folds are now; by default where they were in training.
        named: the network of the folds, if that is one of the user's own; see `load_run`.
        absent: as in `score_run`; the line and the curve are of all cases together, and of no fold by itself.
        metrics: as in `score_run`, of every fold and of all cases together.

    Raises UserError: a fold that is missing or belongs to another cross-validation, a patient who is tested twice or
        never, data that are not the folds' own, another evaluation of them that is at work, what `score_run` raises of
        a run. Raises NothingScored if no case could be scored.
    """
    folder = Path(folder)
    runs, lacking = agreed(lambda: _opened(folder, data, absent), "reading the folds")
    together = agreed(lambda: results_folder(folder, None), "the folder of the results")
    with locked_together(together):
        rates = absent.missing_curve if absent else ()
        return _score_into(together, runs, which, precision, data, named, lacking, rates, metrics)


def _opened(folder: Path, data: Path | None, absent: MissingInEvaluation | None) -> tuple[list[Path], Missing]:
    """Returns the folds, and what their cases lack for a line more. Raises UserError as `score_folds`."""
    runs = find_folds(folder)
    check_tested_once(runs)
    if data is not None:
        _check_own(runs, Path(data))
    names = [case.name for run in runs for case in listed_cases(run, "test")]
    return runs, lacking_of(absent, check_segments(runs[0], read_config(runs[0])), names)


def _score_into(
    together: Path,
    runs: list[Path],
    which: Literal["best", "last"],
    precision: Precision | None,
    data: Path | None,
    named: str | None,
    lacking: Missing,
    rates: Sequence[float],
    metrics: Metrics,
) -> Evaluation:
    """Evaluates every fold, and writes the results of all of them into the folder `together`, which is ours alone.

    lacking: what cases lack for a line more; rates: of the curve
    """
    folder = runs[0].parent
    scores, failed = _score_each(runs, which, precision, data, named, metrics)
    if not scores:
        raise NothingScored(
            f"{folder}: nothing was scored. {failures(failed, len(failed))} "
            f"If the data moved, give their new place: gmd evaluate {folder} --data NEWPLACE",
            failed,
        )
    config = read_config(runs[0])
    regions = tuple(dict.fromkeys(score.region for score in scores))
    rows = subset_table(scores, config.modalities, regions)
    if not is_first():  # which writes the results
        return Evaluation(rows, failed)
    total = len({score.case for score in scores}) + len(failed)
    network = f"{which}.pt of {markdown_text(real_path(folder).name)}, {precision or config.precision}"
    extra, notes = lacking_row(scores, lacking, regions)
    about = [_about(runs, counted(total, failed), network), *(f"Note: {markdown_text(note)}." for note in notes)]
    about += [failures(failed, total)] if failed else []
    texts = score_texts(scores, rows, config.modalities, regions, "\n".join(about), extra)
    written = write_missing_curve(together, lacking_curve(scores, rates, config.seed, regions, lacking))
    written += write_further(together, scores, metrics, config.modalities)
    say(*texts["table.md"].split("\n"), *write_texts(together, texts), *written)
    return Evaluation(rows, failed)


def _about(runs: list[Path], count: str, networks: str) -> str:
    """Returns the sentences above the first table: what was scored. count, networks: of what, in words"""
    folds = f"{len(runs)} folds, each tested by the fold that has not seen its patient"
    unfinished = unfinished_folds(runs)
    untrained = f" Not known to be trained to the end: {', '.join(unfinished)}." if unfinished else ""
    return f"Hard Dice, mean over the {count} of {folds}; {networks}.{untrained}"


def _score_each(
    runs: list[Path],
    which: Literal["best", "last"],
    precision: Precision | None,
    data: Path | None,
    named: str | None,
    metrics: Metrics,
) -> tuple[list[Score], dict[str, str]]:
    """Evaluates every fold, and returns all scores, and the cases that could not be scored: name -> why.

    A fold none of whose cases could be scored has failed with all of them, and is told on stderr.
    """
    scores: list[Score] = []
    failed: dict[str, str] = {}
    for run in runs:
        try:
            failed |= score_run(run, data, which, precision, named, metrics=metrics).failed
        except NothingScored as error:
            failed |= error.failed
            if is_first():
                say(*f"gmd: {error}".split("\n"), error=True)
        else:
            what = f"the scores of {run.name}"  # which the first process has written
            scores += gathered(by_first(partial(read_cases, run / EVALUATION / "cases.csv"), what), what)[0]
    return scores, failed


def _check_own(runs: list[Path], data: Path) -> None:
    """Raises UserError if the data are others than those of the folds, each of which tests its own part of them."""
    for run in runs:
        config = check_segments(run, read_config(run))
        if unseen_cases(run, config, data).data is not None:
            raise UserError(
                f"{data}: not the data that the folds in {run.parent} were trained on; score other data with one fold: "
                f"gmd evaluate {run} --data {data}"
            )


def find_folds(folder: Path) -> list[Path]:
    """Returns the K runs of a cross-validation, fold0 to fold{K-1} in the folder, in this order.

    Raises UserError if a fold is missing, or is of another cross-validation, or was trained with other settings.
    """
    there = fold_folders(folder)
    if not there:
        raise UserError(f"{folder}: holds no folds, fold0 and so on; give what --out was in training")
    first = read_config(there[0])
    if not isinstance(first, TrainBrats) or first.folds is None:
        raise UserError(f"{there[0]}: not a fold of a cross-validation; evaluate it as a run by itself")
    runs = [folder / f"fold{fold}" for fold in range(first.folds)]
    for fold, run in enumerate(runs):
        if run not in there:
            raise UserError(f"{run}: there is no such fold of {first.folds}; train it first, with --resume")
        config = read_config(run)
        if isinstance(config, TrainBrats) and config.fold != fold:
            raise UserError(f"{run}: was trained as fold {config.fold}, expected {fold}; train it anew")
        # what is pooled must differ in nothing but the patients
        if odd := differences(config, replace(first, fold=fold)):
            raise UserError(
                f"{run}: was trained with other settings than {there[0].name} ('there'): {'; '.join(odd)}; "
                "train it anew with the same"
            )
    return runs


def unfinished_folds(runs: list[Path]) -> list[str]:
    """Returns the runs with epochs left that --patience has not ended, as `"fold1 (3 of 100 epochs)"`."""
    unfinished = []
    for run in runs:
        if not (run / "last.pt").exists():
            unfinished.append(f"{run.name} (no last.pt)")
            continue
        config, last = read_config(run), run / "last.pt"
        state = load_checkpoint(last)
        epochs, not_better = (count_in(state, name, last) for name in ("epochs", "not_better"))
        out_of_patience = config.patience is not None and not_better >= config.patience
        if epochs < config.epochs and not out_of_patience:
            unfinished.append(f"{run.name} ({epochs} of {config.epochs} epochs)")
    return unfinished


def check_tested_once(runs: list[Path]) -> None:
    """Raises UserError unless each patient of the folds is in exactly one test split; it names the first who is not."""
    tested_by: dict[str, list[str]] = {}
    for run in runs:
        splits = {name: {case.patient for case in listed_cases(run, name)} for name in SPLITS}
        for patient in set().union(*splits.values()):
            tested_by.setdefault(patient, [])
        for patient in splits["test"]:
            tested_by[patient].append(run.name)
    if wrong := {patient: by for patient, by in sorted(tested_by.items()) if len(by) != 1}:
        patient, by = next(iter(wrong.items()))
        raise UserError(
            f"{runs[0].parent}: {len(wrong)} of {len(tested_by)} patients are not tested by exactly one fold, as "
            f"{patient} by {' and '.join(by) or 'none'}; have the data changed between the folds? Train them anew"
        )
