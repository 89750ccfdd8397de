"""The cases that a run may be scored on: held out, so that they have neither trained nor selected its network."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gmd.config import TrainBrats
from gmd.data.segmentation.cases import Case, find_cases
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.names import parse_patterns
from gmd.data.segmentation.patients import patient_of
from gmd.errors import UserError
from gmd.training.saved_run import read_splits


class ListedCase(NamedTuple):
    """A case as the run's splits.json lists it.

    Attributes:
        name: no other case of the run is called so.
        folder: the folder of its files when the run began, resolved.
        patient: whose examination it is.
        labels: what its label values mean; None in runs of earlier versions, where all cases have those of the run.
    """

    name: str
    folder: Path
    patient: str
    labels: str | None = None


def listed_cases(run: Path, split: str) -> list[ListedCase]:
    """Returns the cases of one split, as the run's splits.json lists them.

    split: "train", "validation" or "test"
    Raises UserError if splits.json does not say.
    """
    try:
        return [
            ListedCase(case["name"], Path(case["folder"]), case["patient"], case.get("labels"))
            for case in read_splits(run)[split]
        ]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{run / 'splits.json'}: does not name the {split} cases, their folders and patients "
            f"({type(error).__name__}: {error}); damaged, or not of gmd train brats? Restore it from a copy"
        ) from error


def own_test_cases(run: Path, config: TrainBrats) -> list[Case]:
    """Finds the run's own test cases in the folders that its splits.json lists.

    Cases that the data have gained or lost since the run began change nothing. Raises UserError if a test case is gone.

    config: of the run; its `labels` name a scheme, as those of every trained run do
    """
    wanted = {listed.folder: listed for listed in listed_cases(run, "test")}
    patterns = parse_patterns(config.patterns) or None
    cases: list[Case] = []
    for folder, listed in wanted.items():
        scheme = SCHEMES[listed.labels] if listed.labels else config.label_scheme()
        found = find_cases(folder, config.modalities, patterns, scheme=scheme) if folder.is_dir() else []
        cases += [replace(case, name=listed.name) for case in found if case.folder == folder]
    if lost := sorted(map(str, wanted.keys() - {case.folder for case in cases})):
        raise UserError(f"{run}: {len(lost)} of its test cases are gone, as {lost[0]}; restore them, or give --data")
    return cases


def unseen_cases(run: Path, config: TrainBrats, data: Path) -> list[Case]:
    """Finds labelled cases of other data, and checks that the run has not seen them.

    Their names tell what their labels mean, as BraTS 2023 numbers the same regions otherwise than the years before.
    Where the names do not, or tell of other regions, it is what those of the run mean.

    config: of the run; its `labels` name a scheme
    data: a folder of cases; if it has a folder `test`, the cases in there
    Raises UserError: what `find_cases` raises; cases or patients that training or model selection has seen.
    """
    data = data / "test" if (data / "test").is_dir() else data
    cases = find_cases(data, config.modalities, parse_patterns(config.patterns) or None)
    seen = [case for split in ("train", "validation") for case in listed_cases(run, split)]
    if known := _names_of_seen(cases, seen):
        named = ", ".join(known[:5]) + ", ..." * (len(known) > 5)
        raise UserError(
            f"{data}: {len(known)} of its {len(cases)} cases have trained or selected this model ({named}); "
            "their scores would say nothing about new ones. Give unseen cases (rename those that only share "
            "a name), or leave --data out to score the run's test cases"
        )
    ours = config.label_scheme()
    return [
        case if case.scheme and case.scheme.regions.keys() == ours.regions.keys() else replace(case, scheme=ours)
        for case in cases
    ]


def _names_of_seen(cases: list[Case], seen: list[ListedCase]) -> list[str]:
    """Returns the names of the cases that are among `seen`: by their folder, their patient, or any of their images.

    A link to a file gives it another name and another folder, and leaves it the image that it was.
    """
    folders = {listed.folder for listed in seen}
    patients = {listed.patient for listed in seen}
    files = {path.resolve() for folder in folders if folder.is_dir() for path in folder.iterdir()}
    return [
        case.name
        for case in cases
        if case.folder.resolve() in folders
        or patient_of(case) in patients
        or any(path.resolve() in files for path in case.images.values())
    ]
