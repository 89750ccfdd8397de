"""What is asked for: one case from files, one case folder, or a directory of cases; and where it is to go."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gmd.config import TrainBrats
from gmd.data.segmentation.cases import Case, find_cases, parse_patterns, walk_folders, with_unique_names
from gmd.errors import UserError

ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Job:
    """A case and the files to write: the label map and, if asked for, the probabilities."""

    case: Case
    labels: Path
    probabilities: Path | None

    @property
    def outputs(self) -> list[Path]:
        return [path for path in (self.probabilities, self.labels) if path is not None]


@dataclass(frozen=True)
class Request:
    """Cases to predict; a `directory` goes on where one fails. `wrong`: folder with images -> why it is no case."""

    jobs: list[Job]
    directory: bool
    wrong: dict[str, str] = field(default_factory=dict)


def make_request(
    config: TrainBrats, source: Path | None, images: dict[str, Path], out: Path, probabilities: bool
) -> Request:
    """Decides what is a case, and checks all that can be checked before anything is read or written.

    source: a case folder, named as in training or as in BraTS, or a folder of such; or else
    images: modality, or `mask` for a brain mask -> file
    out: the file to write for one case, .nii or .nii.gz; for a folder of cases a folder
    Raises UserError.
    """
    if (source is None) == (not images):
        raise UserError("expected either a case, or folder of cases, or files by modality; not both, nor nothing")
    if images:
        request = Request([_job(_case_of(config, images, out), out, probabilities)], directory=False)
    else:
        request = _request_of(config, Path(source), out, probabilities)
    _check_outputs(request.jobs)
    return request


def check_writable(folder: Path) -> None:
    """Before minutes are spent on a prediction that cannot be kept. Makes the folder. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); give another place with --out") from error


def _request_of(config: TrainBrats, source: Path, out: Path, probabilities: bool) -> Request:
    if source.is_file():
        raise UserError(f"{source}: which modality is it? Say --image {config.modalities[0]}={source}, for example")
    cases, wrong = _search(config, source, out)
    if [case.folder for case in cases] == [source]:
        return Request([_job(cases[0], out, probabilities)], False, wrong)
    if _is_image(out.name) or out.is_file():
        raise UserError(f"{out}: {source} holds {len(cases)} case(s), expected a folder to write one file for each to")
    if out.resolve() == source.resolve():
        raise UserError(f"{out}: is the folder of the cases itself; give another, e.g. {out / 'segmentations'}")
    jobs = [_job(case, out / f"{case.name}.nii.gz", probabilities) for case in cases]
    _check_apart(config, source, out, jobs)
    return Request(jobs, True, wrong)


def _case_of(config: TrainBrats, images: dict[str, Path], out: Path) -> Case:
    if unknown := [key for key in images if key not in (*config.modalities, "mask")]:
        raise UserError(f"{unknown[0]}: this network does not know it; it knows {', '.join(config.modalities)}")
    if gone := [path for path in images.values() if not path.is_file()]:
        raise UserError(f"{gone[0]}: there is no such file")
    if "mask" in parse_patterns(config.patterns) and "mask" not in images:
        raise UserError("this network was trained inside brain masks and needs one here; add --image mask=FILE")
    ordered = {modality: images[modality] for modality in config.modalities if modality in images}
    if not ordered:
        raise UserError(f"expected at least one of {', '.join(config.modalities)}, got none")
    twice = {path.resolve() for path in images.values()}
    if len(twice) < len(images):
        raise UserError(f"{' and '.join(images)}: one file is given twice; give each its own")
    return Case(_stem(out), ordered, mask=images.get("mask"))


def _search(config: TrainBrats, source: Path, out: Path) -> tuple[list[Case], dict[str, str]]:
    """The cases at or below `source`, but for what lies in `out`; and the folders with images that are none, and why.

    Folder by folder: what is wrong with one must not stop the others.
    """
    if not source.is_dir():
        raise UserError(f"{source}: there is no such folder; give a case folder, or the folder that holds them")
    cases, wrong = [], {}
    for folder, names in walk_folders(source):
        # what an earlier run of the same command has written is no case
        if folder != source and folder.resolve() == out.resolve():
            continue
        try:
            cases += _cases_in(config, folder)
        except UserError as error:
            if any(map(_is_image, names)):
                wrong[folder] = str(error)
    if not cases and (source in wrong or not wrong):
        reason = wrong.get(source, f"{source}: no case found, no folder at or below it holds images (.nii.gz, .nii)")
        raise UserError(f"{reason}. Or give the files one by one: --image {config.modalities[0]}=FILE")
    named = {folder: str(folder.relative_to(source)) if folder != source else source.name for folder in wrong}
    return with_unique_names(cases, source), {named[folder]: reason for folder, reason in wrong.items()}


def _cases_in(config: TrainBrats, folder: Path) -> list[Case]:
    """The one that the folder is. Raises UserError if it is none."""
    patterns = parse_patterns(config.patterns) or None
    return find_cases(folder, config.modalities, patterns, require_label=False, below=False)[0]


def _check_apart(config: TrainBrats, source: Path, out: Path, jobs: Sequence[Job]) -> None:
    """A case in the very folder of the outputs has not been looked for: it would be left out in silence."""
    if source.resolve() not in out.resolve().parents or not out.is_dir():
        return
    try:
        [case] = _cases_in(config, out)
    except UserError:
        return
    # a training's patterns may match any name, those of the outputs too
    if not {path for job in jobs for path in job.outputs}.issuperset(case.images.values()):
        raise UserError(f"{out}: is itself a case of {source}; give another folder for the segmentations")


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def _job(case: Case, labels: Path, probabilities: bool) -> Job:
    if not _is_image(labels.name):
        raise UserError(f"{labels}: expected a name that ends in .nii.gz or .nii, for the segmentation of one case")
    return Job(case, labels, labels.with_name(f"{_stem(labels)}_probabilities.nii.gz") if probabilities else None)


def _stem(path: Path) -> str:
    """Without .nii.gz or .nii; dots before that belong to the name."""
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def _check_outputs(jobs: Sequence[Job]) -> None:
    """No file that is read may be written, whatever way leads to it."""
    sources = {
        path.resolve() for job in jobs for path in (*job.case.images.values(), job.case.mask, job.case.label) if path
    }
    for path in (path for job in jobs for path in job.outputs):
        if path.resolve() in sources:
            raise UserError(f"{path}: is one of the files to predict from; give another name")
        if path.is_dir():
            raise UserError(f"{path}: is a folder, expected the name of a file")
