"""`gmd predict`: segments one case, or every case of a folder, of which none stops the others."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from gmd.config import TrainBrats
from gmd.config.checks import check_option
from gmd.data.segmentation.grid_notes import grid_notes
from gmd.errors import UserError
from gmd.evaluation.segmentation.failed_case import why_failed
from gmd.evaluation.trained_network import check_segments, load_segmentation
from gmd.models.precision import Precision
from gmd.names import check_apart, check_names
from gmd.predict.predictor import Prediction, Predictor
from gmd.predict.request import Job, Request, make_request
from gmd.predict.signature import is_done
from gmd.printing import say
from gmd.training.saved_run import fold_folders, read_config

INTERRUPTED = 130  # the exit status of a command that Ctrl-C has ended, as shells have it


def predict(
    run: Path,
    source: Path | None,
    images: dict[str, Path],
    out: Path,
    which: Literal["best", "last"] = "best",
    probabilities: bool = False,
    zero_is_missing: bool = False,
    precision: Precision | None = None,
    device: str = "auto",
    channels: tuple[str, ...] = (),
    affine_tolerance: float | None = None,
    named: str | None = None,
) -> int:
    """Segments cases of which any modalities may be missing, in the grid of their own files.

    The label map has the header of the case's first image, and the label values of the run's data. The file of a single
    case is replaced if gmd wrote it and nobody corrected it; in a folder, cases whose file is there are left out.

    Args:
        run: the folder of a training.
        source: a case folder or a folder of them, files named as in training; or else
        images: modality -> file, and `mask` -> brain mask.
        out: the file to write, .nii.gz or .nii; for a folder of cases the folder, for <case>.nii.gz of each.
        which: the checkpoint.
        probabilities: whether to write <out>_probabilities.nii.gz as well: each region's, float32 [X, Y, Z, R].
        zero_is_missing: a modality that has one value only, such as 0, counts as absent; otherwise it is an error.
        precision: what the network computes in; by default that of the training.
        device: auto, cpu, cuda, cuda:1, ...
        channels: the modality of each numbered image, or volume of a 4-D file; by default told as in training.
        affine_tolerance: mm by which the affines of a case's files may differ; by default that of the training.
        named: the network of the run, if that is one of the user's own; see `load_run`.
    returns the exit status: 0; 1 if a case of a folder failed; 130 if interrupted
    Raises UserError: a run that does not segment, what `make_request` and `load_run` raise, a single bad case.
    """
    run, out = Path(run), Path(out)
    config = _read_config(run, channels, affine_tolerance, device)
    request = make_request(config, source, images, out, probabilities)
    config, network = load_segmentation(run, which, precision, device, named)
    return _run_request(Predictor(run, config, network, zero_is_missing, show_scores=which == "best"), request)


def _read_config(run: Path, channels: tuple[str, ...], affine_tolerance: float | None, device: str) -> TrainBrats:
    """Returns the run's configuration, with what is asked for otherwise.

    Raises UserError for a cross-validation (many networks) or another task, and for options that cannot be used.
    """
    if folds := fold_folders(run):
        raise UserError(f"{run}: holds {len(folds)} folds, each with a network of its own; give one, e.g. {folds[0]}")
    config = check_segments(run, read_config(run))
    tolerance = config.affine_tolerance if affine_tolerance is None else affine_tolerance
    check_option(0 <= tolerance < math.inf, "affine_tolerance", tolerance, "a distance in mm")
    check_apart("--channels", channels, ("seg", "mask"))
    known = (*config.modalities, *config.channels)  # of a run made before, perhaps, whose names stay what they are
    check_names("--channels", [channel for channel in channels if channel not in known])
    asked = replace(config, channels=channels or config.channels, affine_tolerance=tolerance, device=device)
    asked.torch_device()  # is it there?
    return asked


def _run_request(predictor: Predictor, request: Request) -> int:
    """Segments what is asked for, and returns the exit status."""
    if not predictor.show_scores:
        say("No score is told: gmd evaluate scores best.pt, and this is last.pt.")
    for doubt in request.doubts:
        say(f"note: {doubt}")
    try:
        if request.directory:
            return _segment_folder(predictor, request)
        for name, reason in request.wrong.items():
            say(f"left out: {name}: {reason}")
        [job] = request.jobs
        predictor.write(job, _predicted(predictor, job))
        _print_notes(predictor)
        return 0
    except KeyboardInterrupt:
        say("", "gmd: interrupted; what is written is whole, the same command goes on with the rest", error=True)
        return INTERRUPTED


def _predicted(predictor: Predictor, job: Job) -> Prediction:
    """Predicts a case. Raises UserError for one that cannot be used, or that there is no memory for."""
    try:
        return predictor.predict_case(job)
    except (MemoryError, RuntimeError) as error:
        raise UserError(f"case {job.case.name}: {why_failed(error)}") from error


def _print_notes(predictor: Predictor) -> None:
    """Prints what is unusual about the grids of the cases that were segmented."""
    for note in grid_notes(predictor.affines):
        say(f"note: {note}")


def _segment_folder(predictor: Predictor, request: Request) -> int:
    """Segments the cases of a folder that are not done, and returns the exit status.

    A case that cannot be used is reported and left out. A disk that cannot be written to would fail every case, so it
    is a UserError.
    """
    failed, skipped, done = dict(request.wrong), 0, 0
    try:
        for job in tqdm(request.jobs, desc="cases", unit="case"):
            try:
                if is_done(job.outputs):
                    skipped += 1
                    continue
                prediction = _predicted(predictor, job)
            except UserError as error:
                failed[job.case.name] = str(error)
                continue
            predictor.write(job, prediction)
            done += 1
    finally:
        there = " (their files are there; delete them to have them done anew)" if skipped else ""
        _print_notes(predictor)
        say(f"{done} done, {skipped} skipped{there}, {len(failed)} failed{':' if failed else ''}")
        for name, reason in failed.items():
            say(f"  {name}: {reason}")
    return 1 if failed else 0
