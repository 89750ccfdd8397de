"""The cases of a folder to predict, found folder by folder: what is wrong with one must not stop the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gmd.config import TrainBrats
from gmd.data.segmentation.cases import Case, find_cases, parse_patterns, walk_folders, with_unique_names
from gmd.errors import UserError

ENDINGS = (".nii.gz", ".nii")


class FoundCases(NamedTuple):
    """What a search has found.

    Attributes:
        cases: each with a name of its own.
        wrong: folder with images -> why it is no case.
    """

    cases: list[Case]
    wrong: dict[str, str]


def search_cases(config: TrainBrats, source: Path, out: Path) -> FoundCases:
    """Finds the cases at or below `source`.

    config: of the run, which says what the files are called
    out: where the segmentations go; those that are there already are no cases, so it is not looked into
    Raises UserError if there is no such folder, or no case in it.
    """
    if not source.is_dir():
        raise UserError(f"{source}: there is no such folder; give a case folder, or the folder that holds them")
    cases: list[Case] = []
    wrong: dict[Path, str] = {}
    for folder, names in walk_folders(source):
        if folder != source and folder.resolve() == out.resolve():
            continue
        try:
            cases += cases_in(config, folder)
        except UserError as error:
            if any(map(is_image, names)):
                wrong[folder] = str(error)
    if not cases and (source in wrong or not wrong):
        reason = wrong.get(source, f"{source}: no case found, no folder at or below it holds images (.nii.gz, .nii)")
        raise UserError(f"{reason}. Or give the files one by one: --image {config.modalities[0]}=FILE")
    named = {folder: str(folder.relative_to(source)) if folder != source else source.name for folder in wrong}
    return FoundCases(with_unique_names(cases, source), {named[folder]: reason for folder, reason in wrong.items()})


def cases_in(config: TrainBrats, folder: Path) -> list[Case]:
    """Returns the one case that the folder itself is, in a list. Raises UserError if it is none."""
    patterns = parse_patterns(config.patterns) or None
    return find_cases(folder, config.modalities, patterns, require_label=False, below=False)


def check_apart(config: TrainBrats, source: Path, out: Path, outputs: Sequence[Path]) -> None:
    """Raises UserError if `out` is a case of `source`: it has not been looked at, and would be left out in silence.

    outputs: the files that are going to be written
    """
    if source.resolve() not in out.resolve().parents or not out.is_dir():
        return
    try:
        [case] = cases_in(config, out)
    except UserError:
        return
    # a training's patterns may match any name, those of the outputs too
    if not set(outputs).issuperset(case.images.values()):
        raise UserError(f"{out}: is itself a case of {source}; give another folder for the segmentations")


def is_image(name: str) -> bool:
    """Returns whether a file's name is that of a NIfTI image."""
    return name.lower().endswith(ENDINGS)


def stem(path: Path) -> str:
    """Returns the file's name without .nii.gz or .nii; dots before that belong to the name."""
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]
