"""The cases of a run as its splits.json lists them: their names, patients, files, and what is in the files."""

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gmd.config import TrainBrats
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.checked_files import Checksums, images_of
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.own_labels import read_scheme
from gmd.errors import UserError
from gmd.training.saved_run import read_splits


class ListedCase(NamedTuple):
    """A case as the run's splits.json lists it.

    Attributes:
        name: no other case of the run is called so.
        folder: the folder of its files when the run began, resolved.
        patient: whose examination it is.
        labels: what its label values mean, as --labels has it; None in runs of earlier versions, where all cases have
            those of the run.
        files: modality, "seg" or "mask" -> its file when the run began; empty in runs of earlier versions.
        channels: modality -> its place on the fourth axis of the file; empty if each file holds one modality.
        checksums: those of the voxels in these files; empty in runs of earlier versions, and after --no-check.
    """

    name: str
    folder: Path
    patient: str
    labels: str | None
    files: dict[str, Path]
    channels: dict[str, int]
    checksums: Checksums

    def images(self) -> set[str]:
        """Returns the checksums of the images."""
        return images_of(self.checksums)

    def scheme(self, config: TrainBrats) -> LabelScheme:
        """Returns what the label values mean. config: of the run"""
        return read_scheme(self.labels) if self.labels else config.label_scheme()


def listed_cases(run: Path, split: str) -> list[ListedCase]:
    """Returns the cases of one split, as the run's splits.json lists them.

    split: "train", "validation" or "test"
    Raises UserError if splits.json does not say.
    """
    try:
        return [_listed(case) for case in dict(read_splits(run))[split]]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{run / 'splits.json'}: does not name the {split} cases, their folders and patients "
            f"({type(error).__name__}: {error}); damaged, or not of gmd train brats? Restore it from a copy"
        ) from error


def _listed(case: dict) -> ListedCase:
    """Returns a case of splits.json. Raises KeyError, TypeError or AttributeError if it does not say what it should."""
    root = Path(case.get("root", ""))
    files = {key: root / path for key, path in case.get("files", {}).items()}
    channels, checksums = (dict(case.get(key, {})) for key in ("channels", "checksums"))
    labels = case.get("labels")
    return ListedCase(case["name"], Path(case["folder"]), case["patient"], labels, files, channels, checksums)


def case_as_listed(listed: ListedCase, config: TrainBrats) -> Case:
    """Returns the case, to be read from the place where its files were when the run began.

    Raises UserError if one of them is not there any more; of runs of earlier versions, what `find_cases` raises.
    """
    if not listed.files:
        return _case_in_folder(listed, config)
    if gone := [path for path in listed.files.values() if not os.path.lexists(path)]:
        raise UserError(f"{gone[0]} is not there any more")
    images = {modality: listed.files[modality] for modality in config.modalities if modality in listed.files}
    return Case(
        listed.name,
        images,
        listed.files.get("seg"),
        listed.files.get("mask"),
        listed.scheme(config),
        listed.channels,
        listed.folder,
        config.affine_tolerance,
    )


def _case_in_folder(listed: ListedCase, config: TrainBrats) -> Case:
    """Finds a case by its folder, which is all that runs of earlier versions say."""
    if not os.path.isdir(listed.folder):
        raise UserError(f"{listed.folder} is not there any more")
    found = replace(config.data_sets()[0], root=listed.folder, scheme=listed.scheme(config)).cases()
    if own := [case for case in found if case.folder == listed.folder]:
        return replace(own[0], name=listed.name)
    raise UserError(f"{listed.folder} holds no case any more")
