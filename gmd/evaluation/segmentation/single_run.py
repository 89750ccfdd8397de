"""`gmd evaluate` of a run that segments: tables of all subsets, every single score, pictures of cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from gmd.config import TrainBrats
from gmd.config.metrics import Metrics
from gmd.config.missing_modalities import MissingInEvaluation
from gmd.data.missing import Missing
from gmd.errors import MOST_OF_A_LINE
from gmd.evaluation.missing_curve import write_missing_curve
from gmd.evaluation.outdated import LABEL_MAPS
from gmd.evaluation.results_folder import results_folder, write_texts
from gmd.evaluation.scored_checkpoint import describe_checkpoint
from gmd.evaluation.segmentation.case_pictures import draw_cases
from gmd.evaluation.segmentation.case_scores import score_cases, tell_failed
from gmd.evaluation.segmentation.further_results import write_further
from gmd.evaluation.segmentation.held_out import HeldOut, NothingScored, own_test_cases, unseen_cases
from gmd.evaluation.segmentation.lacking_cases import lacking_curve, lacking_of, lacking_row
from gmd.evaluation.shapley import OF_DICE, with_contributions
from gmd.evaluation.trained_network import load_segmentation
from gmd.files import real_path
from gmd.models.precision import Precision
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.names import POST_PROCESSED
from gmd.printing import say
from gmd.scoring.segmentation.post_processing import FEWEST, OF, with_post_processed
from gmd.scoring.segmentation.scores import LEGACY_ONLY
from gmd.scoring.segmentation.shapley import case_contributions
from gmd.scoring.segmentation.tables import (
    Row,
    Score,
    cases_csv,
    hd95_markdown,
    subset_table,
    table_csv,
    table_markdown,
)
from gmd.scoring.table_text import markdown_text
from gmd.together import agreed, by_first, is_first
from gmd.training.run_files import CHECKPOINT_RECORD, SCORED_RECORD
from gmd.training.run_lock import locked_together

SHOWN = 10  # cases that could not be scored of which a table says why
ABOUT_LABEL_MAPS = (
    "Scored are label maps as gmd predict writes them: a region consists of the voxels with one of its label values."
)
ABOUT_POST_PROCESSED = (
    f"{POST_PROCESSED} is {OF} where a prediction of fewer than {FEWEST} voxels counts as none, as the field of "
    "missing modalities reports it; means over the regions are without it."
)
ABOUT_HD95 = (
    "HD95 in mm, mean over the same cases: the 95th percentile of the distances between the surfaces of prediction and "
    "truth, the larger of the two directions; 0 where both are empty, the diagonal of the image where only one is."
)


class Evaluation(NamedTuple):
    """What an evaluation came to.

    Attributes:
        rows: one for each subset of the modalities, over the cases that were scored, small subsets first.
        failed: the cases that could not be scored: name -> why.
    """

    rows: list[Row]
    failed: dict[str, str]


def evaluate_run(
    run: Path,
    data: Path | None = None,
    which: Literal["best", "last"] = "best",
    precision: Precision | None = None,
    named: str | None = None,
) -> list[Row]:
    """Scores a trained run as `score_run` does, and returns the rows of its table."""
    return score_run(run, data, which, precision, named).rows


def score_run(
    run: Path,
    data: Path | None = None,
    which: Literal["best", "last"] = "best",
    precision: Precision | None = None,
    named: str | None = None,
    absent: MissingInEvaluation | None = None,
    metrics: Metrics = LEGACY_ONLY,
) -> Evaluation:
    """Scores a trained run, prints the tables; writes these, `cases.csv`, `shapley.csv` and pictures of cases.

    A case that cannot be read or scored is told on stderr and in `table.md`, and the others are scored.

    Args:
        run: its folder; results go to its `evaluation/`, of other data to `evaluation/<name of data>/`, with a number
            behind it if results of another data set have that name.
        data: other labelled cases, those in its `test` if there is one, or the place where the run's own data are now;
            by default the run's test cases, where they were in training.
        which: the checkpoint.
        precision: what the network computes in; by default that of the training.
        named: the network of the run, if that is one of the user's own; see `load_run`.
        absent: for a line more, of each case with one subset of its modalities, drawn by the run's seed or listed, and
            for a curve over the missing rate, see `write_missing_curve`.
        metrics: what is measured beside Dice and HD95, for columns more in `cases.csv`, and `other_metrics.md`.

    Raises UserError: a run of another task, what `load_run` and `find_cases` raise, cases that training or model
        selection has seen, another evaluation that is writing there. Raises NothingScored if no case could be scored,
        OSError if a result cannot be written.
    """
    run = Path(run)
    what = "reading the run and its cases"
    checkpoint, config, network, held_out = agreed(lambda: _opened(run, data, which, precision, named), what)
    names = [case.name for case in held_out.cases]
    lacking = agreed(lambda: lacking_of(absent, config, names), "what cases lack")
    tell_failed(held_out.failed)
    folder = by_first(lambda: results_folder(run, held_out.data), "the folder of the results") or run
    with locked_together(folder):
        rates = absent.missing_curve if absent else ()
        return _score_into(folder, run, checkpoint, config, network, held_out, lacking, rates, metrics)


def _opened(
    run: Path, data: Path | None, which: Literal["best", "last"], precision: Precision | None, named: str | None
) -> tuple[str, TrainBrats, SegmentationNetwork, HeldOut]:
    """Reads what is to be scored, and finds on what: the checkpoint in words, the configuration, the network, cases."""
    checkpoint = describe_checkpoint(run, which)  # before the network is read: a run at it may save a newer one then
    config, network = load_segmentation(run, which, precision, named=named)
    held_out = own_test_cases(run, config) if data is None else unseen_cases(run, config, Path(data))
    return checkpoint, config, network, held_out


def _score_into(
    folder: Path,
    run: Path,
    checkpoint: str,
    config: TrainBrats,
    network: SegmentationNetwork,
    held_out: HeldOut,
    lacking: Missing,
    rates: Sequence[float],
    metrics: Metrics,
) -> Evaluation:
    """Scores the cases and writes the results, as `score_run` does, into a folder that is ours alone meanwhile.

    rates: of the curve
    """
    scores, failed = score_cases(network, held_out.cases, config, folder, held_out.data, metrics)
    failed = held_out.failed | failed
    if not scores:
        raise NothingScored(f"{run}: nothing was scored. {failures(failed, len(failed))}", failed)
    regions = with_post_processed(network.regions)
    rows = subset_table(scores, config.modalities, regions)
    if not is_first():  # which writes the results
        return Evaluation(rows, failed)
    extra, notes = lacking_row(scores, lacking, regions)
    held_out = held_out._replace(notes=[*held_out.notes, *notes])
    about = _about(held_out, failed, f"{checkpoint} of {markdown_text(real_path(run).name)}, {config.precision}")
    texts = score_texts(scores, rows, config.modalities, regions, about, extra)
    curve = lacking_curve(scores, rates, config.seed, regions, lacking)
    written = write_missing_curve(folder, curve, held_out.data)
    written += write_further(folder, scores, metrics, config.modalities, held_out.data)
    written += write_texts(folder, texts | {CHECKPOINT_RECORD: f"{checkpoint}\n"}, held_out.data)
    scored = [case for case in held_out.cases if case.name not in failed]
    written += draw_cases(network, scored, scores, config, folder)
    say(*texts["table.md"].split("\n"), *written)
    return Evaluation(rows, failed)


def _about(held_out: HeldOut, failed: dict[str, str], network: str) -> str:
    """Returns the lines above the first table: what was scored, and what a reader must know of the cases.

    network: which one, in words
    """
    total = len(held_out.cases) + len(held_out.failed)
    place = "the test split" if held_out.data is None else markdown_text(held_out.data)
    notes = [f"Note: {markdown_text(note, MOST_OF_A_LINE)}." for note in held_out.notes]
    lines = [f"Hard Dice, mean over {counted(total, failed)} of {place}; {network}.", *notes]
    return "\n".join([*lines, *([failures(failed, total)] if failed else [])])


def counted(total: int, failed: Mapping[str, str]) -> str:
    """Returns how many cases were scored, and of how many if that is not all: `1 case`, `47 of 50 cases`."""
    scored = f"{total - len(failed)} of {total}" if failed else str(total)
    return f"{scored} case{'s' * (total > 1)}"


def failures(failed: Mapping[str, str], total: int) -> str:
    """Returns the sentence on cases that could not be scored, with why. failed: name -> why"""
    told = {markdown_text(name): markdown_text(" ".join(reason.split()), 500) for name, reason in failed.items()}
    reasons = [f"{name}: {reason}" for name, reason in told.items()]
    more = [f"and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
    return f"{len(failed)} of {total} cases could not be scored: {'; '.join([*reasons[:SHOWN], *more])}."


def score_texts(
    scores: list[Score],
    rows: list[Row],
    modalities: Sequence[str],
    regions: Sequence[str],
    about: str,
    extra: Mapping[str, Row] = MappingProxyType({}),
) -> dict[str, str]:
    """Returns the text files of an evaluation: name -> content.

    scores, rows: every single score, and the row of each subset
    about: what stands above the first table: a sentence on what was scored, and lines of notes
    extra: rows of something else than a subset: what they are called -> a row
    """
    dice, hd95 = (table(rows, modalities, regions, extra) for table in (table_markdown, hd95_markdown))
    first, *notes = about.split("\n")
    post_processed = [ABOUT_POST_PROCESSED] if POST_PROCESSED in regions else []
    head = "\n".join([f"{first} {ABOUT_LABEL_MAPS}", *post_processed, *notes])
    texts = {
        SCORED_RECORD: f"{LABEL_MAPS}\n",
        "table.md": f"{head}\n\n{dice}\n{ABOUT_HD95}\n\n{hd95}",
        "table.csv": table_csv(rows, modalities, regions, extra),
        "cases.csv": cases_csv(scores),
    }
    return with_contributions(texts, case_contributions(scores, modalities, regions), modalities, OF_DICE, "case")
