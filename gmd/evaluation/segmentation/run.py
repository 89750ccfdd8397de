"""`gmd evaluate` of a run that segments: tables of all subsets, every single score, pictures of cases."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from gmd.data.segmentation.volumes import load_case
from gmd.evaluation.results_folder import CHECKPOINT, checkpoint_name, results_folder, write_texts
from gmd.evaluation.segmentation.case_pictures import draw_cases
from gmd.evaluation.segmentation.held_out import other_cases, own_test_cases
from gmd.models.precision import Precision, slowness
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
from gmd.training.saved_run import load_run

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

    Raises UserError: what `load_run` and `find_cases` raise, cases that training or model selection has seen.
    """
    run = Path(run)
    checkpoint = checkpoint_name(run, which)  # before: of a run that is training, results may seem outdated, never new
    config, network = load_run(run, which)
    config = replace(config, precision=precision or config.precision)
    network.to(config.torch_device())
    if slow := slowness(config.precision, config.torch_device()):
        print(slow)
    cases, scheme = own_test_cases(run, config) if data is None else other_cases(run, config, Path(data))
    loaded = (load_case(case, scheme) for case in tqdm(cases, desc="evaluation", unit="case"))
    scores = evaluate_cases(network, loaded, config.patch, config.precision, hd95=True)

    out = results_folder(run, data)
    rows = subset_table(scores, config.modalities, network.regions)
    count = f"{len(cases)} case{'s' * (len(cases) > 1)} of {data or 'the test split'}"
    about = f"Hard Dice, mean over {count}; {checkpoint} of {run.resolve().name}, {config.precision}."
    texts = score_texts(scores, rows, config.modalities, network.regions, about)
    written = write_texts(out, texts | {CHECKPOINT: f"{checkpoint}\n"}, data)
    written += draw_cases(network, cases, scheme, scores, config, out)
    print(texts["table.md"], *written, sep="\n")
    return rows


def score_texts(
    scores: list[Score], rows: list[Row], modalities: tuple[str, ...], regions: tuple[str, ...], about: str
) -> dict[str, str]:
    """The files of an evaluation: name -> content. `about`: the sentence above the first table."""
    dice, hd95 = (table(rows, modalities, regions) for table in (table_markdown, hd95_markdown))
    return {
        "table.md": f"{about}\n\n{dice}\n{ABOUT_HD95}\n\n{hd95}",
        "table.csv": table_csv(rows, modalities, regions),
        "cases.csv": cases_csv(scores),
    }
