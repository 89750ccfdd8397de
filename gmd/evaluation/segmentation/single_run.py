"""`gmd evaluate` of a run that segments: tables of all subsets, every single score, pictures of cases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from gmd.data.segmentation.volumes import load_case
from gmd.evaluation.outdated import LABEL_MAPS, SCORED_RECORD
from gmd.evaluation.results_folder import results_folder, write_texts
from gmd.evaluation.scored_checkpoint import CHECKPOINT_RECORD, describe_checkpoint
from gmd.evaluation.segmentation.case_pictures import draw_cases
from gmd.evaluation.segmentation.held_out import own_test_cases, unseen_cases
from gmd.evaluation.trained_network import load_segmentation
from gmd.models.precision import Precision
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import (
    Row,
    Score,
    cases_csv,
    hd95_markdown,
    subset_table,
    table_csv,
    table_markdown,
)

ABOUT_LABEL_MAPS = (
    "Scored are label maps as gmd predict writes them: a region consists of the voxels with one of its label values."
)
ABOUT_HD95 = (
    "HD95 in mm, mean over the same cases: the 95th percentile of the distances between the surfaces of prediction and "
    "truth, the larger of the two directions; 0 where both are empty, the diagonal of the image where only one is."
)


def evaluate_run(
    run: Path,
    data: Path | None = None,
    which: Literal["best", "last"] = "best",
    precision: Precision | None = None,
) -> list[Row]:
    """Scores a trained run, prints the tables, writes `table.md`, `table.csv`, `cases.csv` and pictures of cases.

    Args:
        run: its folder; results go to its `evaluation/`, of other data to `evaluation/<name of data>/`, with a number
            behind it if results of another data set have that name.
        data: other labelled cases, those in its `test` if there is one; by default the run's test cases.
        which: the checkpoint.
        precision: what the network computes in; by default that of the training.

    returns a row for each subset of the run's modalities, small subsets first
    Raises UserError: a run of another task, what `load_run` and `find_cases` raise, cases that training or model
        selection has seen.
    """
    run = Path(run)
    checkpoint = describe_checkpoint(run, which)  # before the network is read: a run at it may save a newer one then
    config, network = load_segmentation(run, which, precision)
    cases, scheme = own_test_cases(run, config) if data is None else unseen_cases(run, config, Path(data))
    loaded = (load_case(case, scheme) for case in tqdm(cases, desc="evaluation", unit="case"))
    scores = evaluate_cases(network, loaded, config.label_scheme(), config.patch, config.precision, hd95=True)

    folder = results_folder(run, data)
    rows = subset_table(scores, config.modalities, network.regions)
    count = f"{len(cases)} case{'s' * (len(cases) > 1)} of {data or 'the test split'}"
    about = f"Hard Dice, mean over {count}; {checkpoint} of {run.resolve().name}, {config.precision}."
    texts = score_texts(scores, rows, config.modalities, network.regions, about)
    written = write_texts(folder, texts | {CHECKPOINT_RECORD: f"{checkpoint}\n"}, data)
    written += draw_cases(network, cases, scheme, scores, config, folder)
    print(texts["table.md"], *written, sep="\n")
    return rows


def score_texts(
    scores: list[Score], rows: list[Row], modalities: Sequence[str], regions: Sequence[str], about: str
) -> dict[str, str]:
    """Returns the text files of an evaluation: name -> content.

    scores, rows: every single score, and the row of each subset
    about: the sentence above the first table
    """
    dice, hd95 = (table(rows, modalities, regions) for table in (table_markdown, hd95_markdown))
    return {
        SCORED_RECORD: f"{LABEL_MAPS}\n",
        "table.md": f"{about} {ABOUT_LABEL_MAPS}\n\n{dice}\n{ABOUT_HD95}\n\n{hd95}",
        "table.csv": table_csv(rows, modalities, regions),
        "cases.csv": cases_csv(scores),
    }
