"""The commands that read trained runs: `gmd evaluate`, `gmd compare` and `gmd report`."""

from collections.abc import Callable
from pathlib import Path

from tyro.conf import Positional

from gmd.config.missing_modalities import MissingInEvaluation, curve_rates
from gmd.decoration import decoration
from gmd.errors import UserError
from gmd.models.precision import Precision
from gmd.output_paths import check_file, check_folder
from gmd.printing import say
from gmd.together import agreed, is_first, joined, refuse


def evaluate(
    run: Positional[Path],
    data: Path | None = None,
    precision: Precision | None = None,
    missing: tuple[str, ...] = (),
    missing_list: Path | None = None,
    missing_curve: tuple[float, ...] | None = None,
    network: str | None = None,
) -> int:
    """Score a trained run with every subset of the modalities: tables, pictures, every case, and the report.

    Of a cross-validation, made by gmd train brats --folds 5, all its folds, and the table of all cases together. A case
    that cannot be read is told and left out; the exit status is 1 then.

    Example: gmd evaluate runs/brats

    Args:
        run: The folder that was --out in training.
        data: Other labelled cases to score on, of a file of sequences its test split; by default the run's own. Or the
            folder that the run's own data are in now, if they moved.
        precision: fp32, bf16 or fp16; by default that of the training.
        missing: A row more, of test samples that lack each modality with this probability, such as 0.3, or by name,
            text=0.5 audio=0.2.
        missing_list: A row more, of what a table says that test samples keep: columns of 1 and 0, or a mask file.
        missing_curve: Scores at these missing rates of all modalities, as a picture and a table, missing.png and
            missing.csv; without rates behind it at 0, 0.1, ... 0.9. Each is the mean of five draws.
        network: The network of the run, if that is one of your own, package.module:function. It is code, which is not
            imported because the run's files name it.
    """
    absent = MissingInEvaluation(missing, missing_list, curve_rates(missing_curve))
    with joined():
        return _evaluate(run, data, precision, network, absent)


def _evaluate(
    run: Path, data: Path | None, precision: Precision | None, network: str | None, absent: MissingInEvaluation
) -> int:
    """Scores a run or a cross-validation, and writes its report; returns the exit status."""
    from gmd.evaluation.segmentation.held_out import NothingScored
    from gmd.report import write_report

    evaluated = agreed(lambda: _evaluation_of(run), "the check of the folder")
    try:
        failed = evaluated(run, data, precision, network, absent)
    except NothingScored as error:  # in all processes, if there are several
        refuse(error, "the end of the evaluation")
    if not is_first():
        return 1 if failed else 0
    page = decoration("no report is written", lambda: write_report(run))  # the tables are there
    if page is not None:
        say(page)
    return 1 if failed or page is None else 0


def _evaluation_of(run: Path) -> Callable[..., dict[str, str]]:
    """Returns what evaluates this run, or these folds.

    Raises UserError if results cannot be written: what is written last must not fail after all cases are scored.
    """
    from gmd.training.run_files import EVALUATION, REPORT
    from gmd.training.saved_run import fold_folders

    check_folder(run / EVALUATION, "the results")
    check_file(run / REPORT, "the report")
    return _evaluate_folds if fold_folders(run) else _evaluate_run


def _evaluate_folds(
    run: Path,
    data: Path | None,
    precision: Precision | None,
    network: str | None,
    absent: MissingInEvaluation,
) -> dict[str, str]:
    """Evaluates a cross-validation, and returns the cases that could not be scored: name -> why."""
    from gmd.evaluation.segmentation.cross_validation import score_folds

    return score_folds(run, precision=precision, data=data, named=network, absent=absent).failed


def _evaluate_run(
    run: Path,
    data: Path | None,
    precision: Precision | None,
    network: str | None,
    absent: MissingInEvaluation,
) -> dict[str, str]:
    """Evaluates a run, and returns the cases that could not be scored: name -> why."""
    from gmd.config import TrainSamples
    from gmd.training.saved_run import read_config

    if isinstance(agreed(lambda: read_config(run), "reading the configuration"), TrainSamples):
        from gmd.evaluation.sequences.single_run import evaluate_run

        if network is not None:
            own = f"--network: {run} is no run of brats: its network is gmd's own; leave --network out"
            refuse(UserError(own), "the check of the options")
        evaluate_run(run, data, precision=precision, absent=absent)
        return {}
    from gmd.evaluation.segmentation.single_run import score_run

    return score_run(run, data, precision=precision, named=network, absent=absent).failed


def compare(runs: Positional[tuple[Path, ...]], out: Path | None = None, seed: int = 0) -> None:
    """Compare evaluated runs with the first of them, case by case: differences with 95 % bootstrap intervals.

    Example: gmd compare runs/joint runs/gmd

    Args:
        runs: Folders of runs or of cross-validations, at least two, that gmd evaluate has scored on the same cases.
        out: Folder for the table, the numbers and the picture; by default beside the first run's evaluation.
        seed: Of the bootstrap.
    """
    from gmd.evaluation.compare.command import compare

    compare(runs, out, seed)


def advise(run: Positional[Path]) -> None:
    """Say which method to try next, and why: from what a training shows so far, and what was measured of the methods.

    Example: gmd advise runs/brats

    Args:
        run: The folder that was --out in training; it may still be at it. More is told once it is evaluated.
    """
    from gmd.advice import advise

    say(*advise(run))


def report(run: Positional[Path], anonymous: bool = False) -> None:
    """Write what a run did into one page, report.html, which needs nothing else to be looked at.

    Example: gmd report runs/brats

    Example: gmd report runs/brats --anonymous

    Args:
        run: The folder that was --out in training; it may still be at it.
        anonymous: For a page to give away: leave out names and pictures of cases, paths, machines and dates.
    """
    from gmd.report import write_report

    say(write_report(run, anonymous))
