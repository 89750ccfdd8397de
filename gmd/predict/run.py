"""The loop of `gmd predict`: one case, or a directory of them of which none stops the others."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

from gmd.config import TrainBrats
from gmd.config.file import CONFIG
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.models.precision import Precision, slowness
from gmd.predict.grid import Grid, is_whole, write_image
from gmd.predict.label_map import paint
from gmd.predict.request import Job, Request, check_writable, make_request
from gmd.predict.summary import case_line, score_line, volumes_of
from gmd.scoring.segmentation.prediction import fuse, predict_modalities, present_volumes
from gmd.subsets import Subset
from gmd.training.saved_run import load_run, read_config

INTERRUPTED = 130  # as a shell has it


class Prediction(NamedTuple):
    """Of one case, in RAS+.

    Attributes:
        present: the modalities that it was made from.
        logits: their mean, float32 [R, X, Y, Z] on the CPU; -inf outside the bounding box of each.
        affine: float64 [4, 4], voxel indices to mm.
    """

    present: Subset
    logits: Tensor
    affine: np.ndarray


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
) -> int:
    """Segments cases of which any modalities may be missing, in the grid of their own files.

    The label map has the header of the first image of the case, in the order of the run's modalities, and the label
    values of the data that the run was trained on. A file for one case replaces what was there; of a directory, cases
    whose file is there already are left out.

    Args:
        run: the folder of a training.
        source: a case folder or a folder of them, files named as in training; or else
        images: modality -> file, and `mask` -> brain mask.
        out: the file to write, .nii.gz or .nii; for a folder of cases the folder, for <case>.nii.gz of each.
        which: the checkpoint.
        probabilities: of each region, float32 [X, Y, Z, R], to <out>_probabilities.nii.gz as well.
        zero_is_missing: a modality that has one value only, such as 0, counts as absent; otherwise it is an error.
        precision: what the network computes in; by default that of the training.
        device: auto, cpu, cuda, cuda:1, ...

    returns the exit status: 0; 1 if a case of a directory failed; 130 if interrupted
    Raises UserError: a run that does not segment; what `make_request` and `load_run` raise; what is wrong with the one
        case that was asked for; a disk that cannot be written to.
    """
    run = Path(run)
    _check_single(run)
    config = read_config(run)
    if not isinstance(config, TrainBrats):
        raise UserError(f"{run}: was trained on {config.TASK}, which has no volumes to segment; give a run of brats")
    request = make_request(config, source, images, Path(out), probabilities)
    config, network = load_run(run, which)
    config = replace(config, precision=precision or config.precision, device=device)
    network.to(config.torch_device())
    if slow := slowness(config.precision, config.torch_device()):
        print(slow)
    check_writable(Path(out) if request.directory else Path(out).parent)
    if which == "last":
        print("No score is told: gmd evaluate scores best.pt, and this is last.pt.")
    predictor = Predictor(run, config, network, zero_is_missing, tell_scores=which == "best")
    try:
        if request.directory:
            return _predict_directory(predictor, request)
        for name, reason in request.wrong.items():
            print(f"left out: {name}: {reason}")
        [job] = request.jobs
        predictor.keep(job, predictor.look_at(job))
        return 0
    except KeyboardInterrupt:
        print("\ngmd: interrupted; what is written is whole, the same command goes on with the rest", file=sys.stderr)
        return INTERRUPTED


def _check_single(run: Path) -> None:
    """Raises UserError for a cross-validation: which of its networks?"""
    if (run / CONFIG).exists():
        return
    from gmd.training.folds import fold_folders  # a report's plots take a while to import

    if folds := fold_folders(run):
        raise UserError(f"{run}: holds {len(folds)} folds, each with a network of its own; give one, e.g. {folds[0]}")


@dataclass
class Predictor:
    """A trained network, and what it takes to predict with it."""

    run: Path
    config: TrainBrats
    network: nn.Module
    zero_is_missing: bool
    tell_scores: bool = True
    scores_told: set[Subset] = field(default_factory=set)

    def look_at(self, job: Job) -> Prediction:
        """Raises UserError for a case that cannot be used."""
        case = load_case(job.case, None, self.zero_is_missing)
        volumes = present_volumes(self.network, case)
        outputs = predict_modalities(self.network, volumes, self.config.patch, self.config.precision, progress=True)
        return Prediction(tuple(volumes), fuse(outputs, volumes).cpu(), case["affine"])

    def keep(self, job: Job, prediction: Prediction) -> None:
        """Writes it, and says what is in it. Raises UserError if it cannot be written."""
        present, logits, affine = prediction
        scheme = SCHEMES[self.config.labels]
        labels = paint((logits > 0).numpy(), scheme)
        grid = Grid.of(next(iter(job.case.images.values())))
        if job.probabilities is not None:
            about = f"probabilities of {', '.join(self.network.regions)}"
            write_image(grid.image(logits.sigmoid().movedim(0, -1).numpy(), about), job.probabilities)
        write_image(grid.image(labels), job.labels)  # last: it is what says that the case is done
        tqdm.write(case_line(job, present, self.config.modalities, volumes_of(labels, affine, scheme)))
        if self.tell_scores and present not in self.scores_told:
            self.scores_told.add(present)
            tqdm.write(score_line(self.run, present, self.network.regions))


def _predict_directory(predictor: Predictor, request: Request) -> int:
    """A case that cannot be used is told of and left out; a disk that cannot be written to would fail every one."""
    failed, skipped, done = dict(request.wrong), 0, 0
    try:
        for job in tqdm(request.jobs, desc="cases", unit="case"):
            if all(path.exists() and is_whole(path) for path in job.outputs):
                skipped += 1
                continue
            try:
                prediction = predictor.look_at(job)
            except UserError as error:
                failed[job.case.name] = str(error)
                continue
            predictor.keep(job, prediction)
            done += 1
    finally:
        there = " (their files are there; delete them to have them done anew)" if skipped else ""
        print(f"{done} done, {skipped} skipped{there}, {len(failed)} failed{':' if failed else ''}")
        for name, reason in failed.items():
            print(f"  {name}: {reason}")
    return 1 if failed else 0
