"""`gmd nnunet predict`: nnU-Net's prediction of cases whose channels may be missing; one bad case stops no other."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from gmd.config import TrainBrats
from gmd.data.text_files import read_json, write_json
from gmd.errors import UserError
from gmd.evaluation.segmentation.failed_case import why_failed
from gmd.files import real_path, replacing
from gmd.nnunet.model import CHECKPOINT, Model, find_model, is_ours, load_predictor, quiet
from gmd.nnunet.raw_cases import RawCase, check_order, group_cases
from gmd.nnunet.read_case import ReadCase, read_case
from gmd.output_paths import check_folder
from gmd.printing import say

if TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

RECORD = "gmd_nnunet_predict.json"  # beside the predictions: which model made them
INTERRUPTED = 130  # the exit status of a command that Ctrl-C has ended, as shells have it


class Job(NamedTuple):
    """A case and the file to write."""

    case: RawCase
    out: Path


def predict(
    source: Path,
    out: Path,
    folder: Path,
    folds: Sequence[str] = (),
    checkpoint: str = CHECKPOINT,
    tta: bool = True,
    device: str = "auto",
) -> int:
    """Segments the cases of a folder with nnU-Net's own predictor, a channel without a file being one of zeros.

    The label maps are those that `nnUNetv2_predict` writes where the missing channels are files of zeros: in the grid
    of a case's first file, with the label values of training. A case whose file is there is left out.

    Args:
        source: folder of files CASE_0000.nii.gz and so on, numbered and ending as in training.
        out: folder for CASE.nii.gz of each.
        folder: that of the model, TRAINER__PLANS__CONFIGURATION.
        folds: whose models' logits are averaged; by default all that are trained.
        checkpoint: name of the file in the folder of a fold.
        tta: whether to average over mirrored images, as nnU-Net does by default.
        device: auto, cpu, cuda, cuda:1, ...

    returns the exit status: 0; 1 if a case failed; 130 if interrupted
    Raises UserError: folders that cannot be used, what `find_model` and `load_predictor` raise, channels in another
        order than in training, and files in `out` of another model.
    """
    source, out = Path(source), Path(out)
    model = find_model(Path(folder), folds, checkpoint)
    jobs = _find_jobs(model, source, out)
    record = _record_of(model, tta)
    _check_record(out, record)
    on = TrainBrats((source,), device=device).torch_device()  # checks the name of a device as every command does
    predictor = load_predictor(model, tta, on)
    try:
        return _segment(predictor, model, jobs, record)
    except KeyboardInterrupt:
        say("", "gmd: interrupted; what is written is whole, the same command goes on with the rest", error=True)
        return INTERRUPTED


def segment(predictor: "nnUNetPredictor", data: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
    """Returns nnU-Net's label map of a case, uint8 or uint16 [X, Y, Z].

    data: float32 [M, X, Y, Z] as nnU-Net's reader gives it, with `properties`, which is not changed
    """
    with quiet():
        # it writes into the properties what it has cropped
        return predictor.predict_single_npy_array(data, dict(properties), None, None)


def _find_jobs(model: Model, source: Path, out: Path) -> list[Job]:
    """Returns the cases to segment. Raises UserError for folders that cannot be used, and for one without a case."""
    if not source.is_dir():
        raise UserError(f"{source}: there is no such folder; give one with files such as CASE_0000.nii.gz")
    check_folder(out, "-o")
    if real_path(out) == real_path(source):
        raise UserError(f"{out}: is the folder of the images itself; give another for the segmentations")
    check_order(model.dataset, source)
    ending = model.dataset.ending
    cases = group_cases(source, ending)
    if not cases:
        told = ", ".join(f"_{index:04d} {name}" for index, name in enumerate(model.dataset.channels))
        raise UserError(f"{source}: holds no file such as CASE_0000{ending}; the channels of the model are {told}")
    return [Job(case, out / f"{case.name}{ending}") for case in cases]


def _record_of(model: Model, tta: bool) -> dict[str, Any]:
    """Returns what tells predictions of one model, or in one way, from those of another."""
    return {
        "model": str(real_path(model.folder)),
        "folds": list(model.folds),
        "checkpoint": model.checkpoint,
        "tta": tta,
    }


def _check_record(out: Path, record: dict[str, Any]) -> None:
    """Raises UserError if a folder has predictions that were made otherwise: they would be left, and pass for these."""
    path = out / RECORD
    if path.exists() and (before := read_json(path)) != record:
        raise UserError(f"{out}: holds predictions that were made otherwise ({before}); give another folder")


def _segment(predictor: "nnUNetPredictor", model: Model, jobs: Sequence[Job], record: dict[str, Any]) -> int:
    """Segments the cases that are not done, and returns the exit status."""
    failed: dict[str, str] = {}
    skipped = done = 0
    try:
        for job in tqdm(jobs, desc="cases", unit="case"):
            if job.out.exists():
                skipped += 1
                continue
            try:
                case = _read(predictor, model, job.case)
                labels = segment(predictor, case.data, case.properties)
            except (UserError, MemoryError, RuntimeError) as error:
                failed[job.case.name] = why_failed(error)
                continue
            if not done:
                _write_records(model, job.out.parent, record)
            _write(predictor, labels, case.properties, job.out)
            say(_case_line(job, case, model.dataset.channels, labels))
            done += 1
    finally:
        there = " (their files are there; delete them to have them done anew)" if skipped else ""
        say(f"{done} done, {skipped} skipped{there}, {len(failed)} failed{':' if failed else ''}")
        for name, reason in failed.items():
            say(f"  {name}: {reason}")
    return 1 if failed else 0


def _read(predictor: "nnUNetPredictor", model: Model, case: RawCase) -> ReadCase:
    """Reads a case. Raises UserError as `read_case`, and for a channel that may not be missing with this model."""
    channels = model.dataset.channels
    read = predictor.plans_manager.image_reader_writer_class().read_images
    found = read_case(read, case, channels)
    missing = [name for name in channels if name not in found.present]
    if missing and not is_ours(predictor):
        raise UserError(
            f"{', '.join(missing)} missing, but the model is one of {predictor.trainer_name}, which has never seen "
            "that; train with nnUNetTrainerGMD or its relatives, or see what it makes of zeros: gmd nnunet fill"
        )
    schemes = predictor.configuration_manager.normalization_schemes
    if ct := [name for name, scheme in zip(channels, schemes, strict=True) if name in missing and "CT" in scheme]:
        raise UserError(f"{', '.join(ct)} missing, but nnU-Net's normalisation of CT makes something else of zeros")
    return found


def _write(predictor: "nnUNetPredictor", labels: np.ndarray, properties: dict[str, Any], path: Path) -> None:
    """Writes a label map with nnU-Net's own writer, whole or not at all. Raises OSError if it cannot be written."""
    writer = predictor.plans_manager.image_reader_writer_class()
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / f"labels{predictor.dataset_json['file_ending']}"  # by which it chooses the format
        writer.write_seg(labels, str(written), properties)
        with replacing(path) as unfinished:
            shutil.copyfile(written, unfinished)


def _write_records(model: Model, out: Path, record: dict[str, Any]) -> None:
    """Writes what says which model made the predictions; nnU-Net's postprocessing wants the model's two files too."""
    write_json(out / RECORD, record)
    for name in ("dataset.json", "plans.json"):
        with replacing(out / name) as unfinished:
            shutil.copyfile(model.folder / name, unfinished)


def _case_line(job: Job, case: ReadCase, channels: tuple[str, ...], labels: np.ndarray) -> str:
    """Returns the line on a case: the channels it was segmented from, and what was written."""
    missing = [name for name in channels if name not in (*case.present, *case.zeros)]
    absent = [f"{what}: {', '.join(those)}" for what, those in (("missing", missing), ("zeros", case.zeros)) if those]
    source = f"from {', '.join(case.present)}" + (f" ({'; '.join(absent)})" if absent else "")
    empty = "" if labels.any() else "; warning: nothing but background"
    return f"{job.case.name}, {source}{empty}; written: {job.out}"
