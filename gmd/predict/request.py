"""What is asked for: one case from files, one case folder, or a folder of cases; and where it is to be written."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gmd.config import TrainBrats
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.image_files import is_image, stem
from gmd.data.segmentation.names import parse_patterns
from gmd.errors import UserError
from gmd.files import check_regular, real_path
from gmd.output_paths import check_file, check_folder
from gmd.predict.case_folders import check_is_no_case, search_cases
from gmd.predict.signature import check_replaceable


@dataclass(frozen=True)
class Job:
    """A case and the files to write.

    Attributes:
        case: what to predict from; without a label map.
        labels: the label map.
        probabilities: the probabilities of the regions, if they are asked for.
    """

    case: Case
    labels: Path
    probabilities: Path | None

    @property
    def outputs(self) -> list[Path]:
        """Returns the files to write, the label map last."""
        return [path for path in (self.probabilities, self.labels) if path is not None]


@dataclass(frozen=True)
class Request:
    """Cases to predict.

    Attributes:
        jobs: one for each case.
        directory: whether a folder of cases is asked for, in which one that fails does not stop the others.
        wrong: folder with images -> why it is no case.
        doubts: sentences on what was found, for people.
    """

    jobs: list[Job]
    directory: bool
    wrong: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


def make_request(
    config: TrainBrats, source: Path | None, images: dict[str, Path], out: Path, probabilities: bool
) -> Request:
    """Decides what is a case, and checks all that can be checked before any image is read or anything is written.

    Args:
        config: of the run to predict with.
        source: a case folder, named as in training or as in BraTS, or a folder of such; or else
        images: modality -> file, and `mask` -> brain mask.
        out: the file to write for one case, .nii or .nii.gz; for a folder of cases a folder.
        probabilities: whether those of the regions are to be written, too.

    Raises UserError for whatever of that cannot be done.
    """
    if (source is None) == (not images):
        raise UserError("expected either a case, or folder of cases, or files by modality; not both, nor nothing")
    if source is None:
        request = Request([_job(_case_of_files(config, images, out), out, probabilities)], directory=False)
    else:
        request = _request_of_folder(config, Path(source), out, probabilities)
    _check_outputs(request.jobs)
    if request.directory:
        check_folder(out, "--out")
        return request
    for path in request.jobs[0].outputs:
        check_file(path, "--out")
    check_replaceable(request.jobs[0].outputs)
    return request


def _request_of_folder(config: TrainBrats, source: Path, out: Path, probabilities: bool) -> Request:
    """Returns the request for a case folder or a folder of cases. Raises UserError if that or `out` is unsuitable."""
    if source.is_file():
        raise UserError(f"{source}: which modality is it? Say --image {config.modalities[0]}={source}, for example")
    cases, wrong, doubts = search_cases(config, source, out)
    if [case.folder for case in cases] == [source]:
        return Request([_job(cases[0], out, probabilities)], False, wrong, doubts)
    if is_image(out.name) or out.is_file():
        raise UserError(f"{out}: {source} holds {len(cases)} case(s), expected a folder to write one file for each to")
    if real_path(out) == real_path(source):
        raise UserError(f"{out}: is the folder of the cases itself; give another, e.g. {out / 'segmentations'}")
    jobs = [_job(case, out / f"{case.name}.nii.gz", probabilities) for case in cases]
    check_is_no_case(config, source, out, [path for job in jobs for path in job.outputs])
    return Request(jobs, True, wrong, doubts)


def _case_of_files(config: TrainBrats, images: dict[str, Path], out: Path) -> Case:
    """Returns the case that is given file by file, named after `out`. Raises UserError if the files are none."""
    _check_files(config, images)
    ordered = {modality: images[modality] for modality in config.modalities if modality in images}
    if not ordered:
        raise UserError(f"expected at least one of {', '.join(config.modalities)}, got none")
    if len({real_path(path) for path in images.values()}) < len(images):
        raise UserError(f"{' and '.join(images)}: one file is given twice; give each its own")
    return Case(stem(out.name), ordered, mask=images.get("mask"), affine_tolerance=config.affine_tolerance)


def _check_files(config: TrainBrats, images: dict[str, Path]) -> None:
    """Raises UserError for a modality that the network does not know, a file that is not there, a mask that lacks."""
    if unknown := [key for key in images if key not in (*config.modalities, "mask")]:
        raise UserError(f"{unknown[0]}: this network does not know it; it knows {', '.join(config.modalities)}")
    for path in images.values():
        try:
            check_regular(path)
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no such file") from error
        except (OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path}: there is no such file ({error})") from error
    if "mask" in parse_patterns(config.patterns) and "mask" not in images:
        raise UserError("this network was trained inside brain masks and needs one here; add --image mask=FILE")


def _job(case: Case, labels: Path, probabilities: bool) -> Job:
    """Returns a job that writes to `labels` and beside it. Raises UserError if `labels` lacks a NIfTI's ending."""
    if not is_image(labels.name):
        raise UserError(f"{labels}: expected a name that ends in .nii.gz or .nii, for the segmentation of one case")
    return Job(case, labels, labels.with_name(f"{stem(labels.name)}_probabilities.nii.gz") if probabilities else None)


def _check_outputs(jobs: Sequence[Job]) -> None:
    """Raises UserError if a file to write is one that is read, whatever way leads to it."""
    sources = {
        os.path.realpath(path)
        for job in jobs
        for path in (*job.case.images.values(), job.case.mask, job.case.label)
        if path
    }
    for path in (path for job in jobs for path in job.outputs):
        if os.path.realpath(path) in sources:
            raise UserError(f"{path}: is one of the files to predict from; give another name")
