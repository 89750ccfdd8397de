"""The cases of a folder to predict: what is wrong with one must not stop the others."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gmd.config import TrainBrats
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.names import parse_patterns
from gmd.data.segmentation.scan import Scan, doubts, scan_cases
from gmd.errors import UserError
from gmd.files import real_path


class FoundCases(NamedTuple):
    """What a search has found.

    Attributes:
        cases: each with a name of its own.
        wrong: folder with images -> why it is no case.
        doubts: sentences on images that are part of no case, beside others that are; and the like.
    """

    cases: list[Case]
    wrong: dict[str, str]
    doubts: list[str]


def search_cases(config: TrainBrats, source: Path, out: Path) -> FoundCases:
    """Finds the cases at or below `source`, in the layouts that a training knows.

    config: of the run, which says what the files are called
    out: where the segmentations go; those that are there already are no cases, so it is not looked into
    Raises UserError if there is no such folder, or no case in it.
    """
    inside = real_path(source) in real_path(out).parents
    try:
        scan = _scan(config, source, out if inside else None)
    except UserError as error:
        raise UserError(f"{error}. {_one_by_one(config)}") from error
    if not scan.cases:
        raise UserError(f"{scan.wrong.get(source, next(iter(scan.wrong.values())))}. {_one_by_one(config)}")
    scan = _without_strange_folders(scan)
    wrong = {
        str(folder.relative_to(source)) if folder != source else source.name: reason
        for folder, reason in scan.wrong.items()
    }
    cases = [replace(case, affine_tolerance=config.affine_tolerance) for case in scan.cases]
    return FoundCases(cases, wrong, doubts(scan))


def _without_strange_folders(scan: Scan) -> Scan:
    """Returns the scan, where a folder whose images are part of no case, none of them, is wrong by itself."""
    with_cases = {path.parent for case in scan.cases for path in (case.folder / "x", *case.images.values())}
    wrong = dict(scan.wrong)
    for path in scan.unused + scan.others:
        if path.parent not in with_cases:
            wrong.setdefault(path.parent, f"{path.parent}: no case found; {path.name} is of no modality, or of another")
    return scan._replace(wrong=wrong, unused=[path for path in scan.unused if path.parent in with_cases])


def check_is_no_case(config: TrainBrats, source: Path, out: Path, outputs: Sequence[Path]) -> None:
    """Raises UserError if `out` is a case of `source`: it has not been looked at, and would be left out in silence.

    outputs: the files that are going to be written
    """
    if real_path(source) not in real_path(out).parents or not out.is_dir():
        return
    try:
        cases = [case for case in _scan(config, out, None).cases if case.folder == out]
    except UserError:
        return
    # a training's patterns may match any name, those of the outputs too
    if any(not set(outputs).issuperset(case.images.values()) for case in cases):
        raise UserError(f"{out}: is itself a case of {source}; give another folder for the segmentations")


def _scan(config: TrainBrats, folder: Path, leave_out: Path | None) -> Scan:
    """Sorts the images at and below a folder into cases. Raises UserError as `scan_cases`, and if a mask lacks."""
    patterns = parse_patterns(config.patterns) or None
    scan = scan_cases(folder, config.modalities, patterns, config.channels, leave_out)
    if patterns is None or "mask" not in patterns:
        return scan
    lacking = {
        case.folder: f"{case.folder}: no brain mask ({patterns['mask']}), which this network was trained inside"
        for case in scan.cases
        if case.mask is None
    }
    return scan._replace(cases=[case for case in scan.cases if case.mask], wrong=scan.wrong | lacking)


def _one_by_one(config: TrainBrats) -> str:
    return f"Or give the files one by one: --image {config.modalities[0]}=FILE"
