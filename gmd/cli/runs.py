"""The commands on trained runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from gmd.errors import UserError
from gmd.models.precision import Precision


def evaluate(
    run: Positional[Path],
    data: Path | None = None,
    precision: Precision | None = None,
    missing: float | None = None,
) -> None:
    """Score a trained run with every subset of the modalities: tables, pictures, every case, and the report.

    Of a cross-validation, made by gmd train brats --folds 5, all its folds, and the table of all cases together.

    Example: gmd evaluate runs/brats

    Args:
        run: The folder that was --out in training.
        data: Other labelled cases to score on, of a file of sequences its test split; by default the run's own.
        precision: fp32, bf16 or fp16; by default that of the training.
        missing: sentiment and digits: a row more, of test samples that lack each modality with this probability.
    """
    from gmd.config import TrainSequences
    from gmd.report import write_report
    from gmd.training.folds import fold_folders
    from gmd.training.saved_run import read_config

    if fold_folders(run):
        if data is not None or missing is not None:
            raise UserError(f"{run}: holds folds, each scored on its own test cases; leave --data and --missing out")
        from gmd.evaluation.segmentation.cross_validation import evaluate_folds

        evaluate_folds(run, precision=precision)
    elif isinstance(read_config(run), TrainSequences):
        from gmd.evaluation.sequences.single_run import evaluate_run

        evaluate_run(run, data, precision=precision, missing=missing)
    elif missing is not None:
        raise UserError(f"--missing: {run} segments; its cases lack what they lack, leave --missing out")
    else:
        from gmd.evaluation.segmentation.single_run import evaluate_run

        evaluate_run(run, data, precision=precision)
    print(write_report(run))


def predict(
    run: Positional[Path],
    source: Positional[Path | None] = None,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    flair: Path | None = None,
    t1: Path | None = None,
    t1ce: Path | None = None,
    t2: Path | None = None,
    image: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = (),
    probabilities: bool = False,
    zero_is_missing: bool = False,
    checkpoint: Literal["best", "last"] = "best",
    precision: Precision | None = None,
    device: str = "auto",
) -> int:
    """Segment a case, or every case of a folder, from whatever modalities there are.

    Example: gmd predict runs/brats --t1 a_t1.nii.gz --flair a_flair.nii.gz -o a_seg.nii.gz

    Example: gmd predict runs/brats BraTS2021_00001 -o seg.nii.gz

    Example: gmd predict runs/brats new_cases -o segmentations

    Args:
        run: The folder that was --out in training.
        source: A case folder, or a folder of them, with files named as in training; instead of single files.
        out: The label map to write, .nii.gz or .nii, in the grid of the input; of several cases the folder for them,
            where cases that are done already are skipped.
        flair: File of this modality.
        t1: File of this modality.
        t1ce: File of this modality.
        t2: File of this modality.
        image: Files of other modalities, NAME=FILE each, with the names given to --modalities in training.
        probabilities: Write the regions' probabilities too, a 4-D file beside each label map.
        zero_is_missing: Take a modality whose voxels are all 0, or all of one value, for absent instead of refusing it.
        checkpoint: Of the best or the last epoch.
        precision: fp32, bf16 or fp16; by default that of the training.
        device: auto: a GPU if there is one. Or cpu, cuda, cuda:1, ...
    """
    from gmd.predict import predict

    named = {"flair": flair, "t1": t1, "t1ce": t1ce, "t2": t2}
    images = _images([item for items in image for item in items], {k: v for k, v in named.items() if v is not None})
    return predict(run, source, images, out, checkpoint, probabilities, zero_is_missing, precision, device)


def _images(given: Sequence[str], named: dict[str, Path]) -> dict[str, Path]:
    """`named` and those of the items NAME=FILE. Raises UserError for another form, or a name that comes twice."""
    images = dict(named)
    for item in given:
        name, _, path = item.partition("=")
        if not (name and path):
            raise UserError(f"--image: got {item}, expected NAME=FILE, e.g. t1post=scan.nii.gz")
        if name in images:
            raise UserError(f"--image: got {name} twice, {images[name]} and {path}; give one file for each modality")
        images[name] = Path(path)
    return images


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


def report(run: Positional[Path]) -> None:
    """Write what a run did into one page, report.html, which needs nothing else to be looked at.

    Example: gmd report runs/brats

    Args:
        run: The folder that was --out in training; it may still be at it.
    """
    from gmd.report import write_report

    print(write_report(run))
