"""The cases that a run may be scored on: held out, so that they have neither trained nor selected its network.

A case is known by its name and by what is in its files, not by where they lie: data are moved, mounted elsewhere, packed
and unpacked, and a copy of a training case is no new case whatever it is called.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from gmd.config import TrainBrats
from gmd.data.segmentation.cases import Case, find_cases, parse_patterns
from gmd.data.segmentation.check import Checked, read_cases
from gmd.data.segmentation.patients import patient_of
from gmd.errors import UserError
from gmd.evaluation.segmentation.listed_cases import ListedCase, case_as_listed, images_of, listed_cases


class NothingScored(UserError):
    """An evaluation in which no case could be scored.

    Attributes:
        failed: all cases: name -> why.
    """

    def __init__(self, message: str, failed: dict[str, str]):
        super().__init__(message)
        self.failed = failed


class HeldOut(NamedTuple):
    """The cases that are to be scored, all of them read once already.

    Attributes:
        cases: those that can be used.
        failed: those that cannot: name -> why.
        notes: what a reader of the scores must know, in sentences without a full stop.
        data: where they come from; None for the run's own test cases, wherever these lie.
    """

    cases: list[Case]
    failed: dict[str, str]
    notes: list[str]
    data: Path | None


def own_test_cases(run: Path, config: TrainBrats) -> HeldOut:
    """Finds the run's own test cases where they were when the run began, and reads each of them once.

    Cases that the data have gained or lost since then change nothing.

    config: of the run; its `labels` name a scheme, as those of every trained run do
    Raises UserError: a run without test cases. Raises NothingScored if all of them are gone.
    """
    tests = _listed_tests(run)
    cases: list[Case] = []
    gone: dict[str, str] = {}
    for listed in tests:
        try:
            cases.append(case_as_listed(listed, config))
        except UserError as error:
            gone[listed.name] = str(error)
    if not cases:
        raise NothingScored(
            f"{run}: its {len(tests)} test cases are not at {_place(tests)} any more; "
            f"if the data moved, give their new place: gmd evaluate {run} --data NEWPLACE",
            gone,
        )
    return _as_own(tests, cases, read_cases(cases), gone, [])


def _listed_tests(run: Path) -> list[ListedCase]:
    """Returns the run's test cases as splits.json lists them. Raises UserError if it has none."""
    if tests := listed_cases(run, "test"):
        return tests
    raise UserError(
        f"{run}: has no test cases, as its data were too few or had no folder test; "
        f"score it on cases that it has not seen: gmd evaluate {run} --data FOLDER"
    )


def unseen_cases(run: Path, config: TrainBrats, data: Path) -> HeldOut:
    """Finds the cases of a folder that the run may be scored on, and reads each of them once.

    These are all of its cases, if the run has seen none of them. If the folder holds the run's own data, moved or copied
    there, they are the run's test cases.

    config: of the run; its `labels` name a scheme
    data: a folder of cases; if it has a folder `test`, the cases in there
    Raises UserError: what `find_cases` raises; cases or patients that training or model selection has seen.
    """
    found = _find(config, data)
    seen = [listed for split in ("train", "validation") for listed in listed_cases(run, split)]
    tests = listed_cases(run, "test")
    known = set(_names_of_seen(found, seen))
    checked = read_cases([case for case in found if case.name not in known])
    seen_images = {checksum for listed in seen for checksum in listed.images()}
    known |= {name for name, checksums in checked.checksums.items() if images_of(checksums) & seen_images}
    place = _Place(data, found, tests, seen, known, checked)
    if place.is_the_runs_own():
        return place.own()
    if known:
        raise UserError(_refusal(data, [case.name for case in found if case.name in known], len(found), tests))
    return place.unseen()


def _find(config: TrainBrats, data: Path) -> list[Case]:
    """Finds the labelled cases of a folder, in its folder `test` if it has one.

    Their names tell what their labels mean, as BraTS 2023 numbers the same regions otherwise than the years before.
    Where the names do not, or tell of other regions, it is what those of the run mean.
    """
    # the folds of a cross-validation test cases of all folders
    root = data / "test" if config.folds is None and (data / "test").is_dir() else data
    ours = config.label_scheme()
    return [
        case if case.scheme and case.scheme.regions.keys() == ours.regions.keys() else replace(case, scheme=ours)
        for case in find_cases(root, config.modalities, parse_patterns(config.patterns) or None)
    ]


@dataclass(frozen=True)
class _Place:
    """A folder of cases beside what a run says of its own.

    Attributes:
        data: the folder.
        found: its cases.
        tests, seen: the run's test cases, and those that trained or selected it.
        known: the names of those found that are among `seen`.
        checked: what the files of the others hold.
    """

    data: Path
    found: list[Case]
    tests: list[ListedCase]
    seen: list[ListedCase]
    known: set[str]
    checked: Checked

    def is_the_runs_own(self) -> bool:
        """Says whether this is the run's data at another place.

        So it is if all of its cases are here by name; or a test case with its images, beside cases that trained the
        run, or with all other test cases and nothing else.
        """
        names = {case.name for case in self.found}
        if self.tests and names.issuperset(listed.name for listed in (*self.tests, *self.seen)):
            return True
        here = {listed.name: case for listed in self.tests if (case := self.match(listed))}
        same = [listed for listed in self.tests if listed.name in here and self.is_same(listed, here[listed.name])]
        strangers = names - self.known - {case.name for case in here.values()}
        return bool(same) and (bool(self.known) or (len(here) == len(self.tests) and not strangers))

    def match(self, listed: ListedCase) -> Case | None:
        """Returns the case found that has the name of a listed one.

        What stands before `__` in a name is where the case lies, as in HGG__a; without it the images must be the same.
        """
        for case in self.found:
            if case.name == listed.name:
                return case
        alike = [case for case in self.found if _last(case.name) == _last(listed.name)]
        return next((case for case in alike if images_of(self._checksums(case)) & listed.images()), None)

    def is_same(self, listed: ListedCase, case: Case) -> bool:
        """Says whether the case has an image of the listed one; of runs that have no checksums the name must do."""
        checksums = self._checksums(case)
        return case.name not in self.checked.bad and (
            not listed.checksums or bool(images_of(checksums) & listed.images())
        )

    def _checksums(self, case: Case) -> dict[str, str]:
        return self.checked.checksums.get(case.name, {})

    def own(self) -> HeldOut:
        """Returns the run's test cases, under their names."""
        here = {listed.name: case for listed in self.tests if (case := self.match(listed))}
        gone = {listed.name: f"is not in {self.data}" for listed in self.tests if listed.name not in here}
        renamed = {case.name: name for name, case in here.items()}
        by_their_names = Checked(
            {renamed[name]: sums for name, sums in self.checked.checksums.items() if name in renamed},
            {renamed[name]: reason for name, reason in self.checked.bad.items() if name in renamed},
        )
        new = [case.name for case in self.found if case.name not in renamed and case.name not in self.known]
        notes = [f"{_cases(new)} of {self.data} not scored, as they are none of the run's"] if new else []
        if any(not listed.checksums for listed in self.tests):
            notes.append(f"the cases of {self.data} are known by their names alone, as the run has no checksums of them")
        return _as_own(
            self.tests, [replace(case, name=name) for name, case in here.items()], by_their_names, gone, notes
        )

    def unseen(self) -> HeldOut:
        """Returns all cases, which the run has not seen."""
        others = [
            listed.name
            for listed in self.tests
            if (case := self.match(listed)) and case.name not in self.checked.bad and not self.is_same(listed, case)
        ]
        notes = [f"{_cases(others)} called like test cases of the run, but with other images"] if others else []
        usable = [case for case in self.found if case.name not in self.checked.bad]
        return HeldOut(usable, dict(self.checked.bad), notes, self.data)


def _as_own(
    tests: Sequence[ListedCase], cases: Sequence[Case], checked: Checked, gone: dict[str, str], notes: list[str]
) -> HeldOut:
    """Returns the run's test cases without those that cannot be used, and says which hold something else by now."""
    listed = {each.name: each.checksums for each in tests}
    changed = [name for name, sums in checked.checksums.items() if listed[name] and listed[name] != sums]
    if changed:
        notes = [*notes, f"{_cases(changed)} with other voxels in their files than when the run began"]
    usable = [case for case in cases if case.name not in checked.bad]
    return HeldOut(usable, gone | checked.bad, notes, None)


def _refusal(data: Path, known: list[str], count: int, tests: list[ListedCase]) -> str:
    """Returns the error message for cases that the run has seen, with advice that works."""
    own = "leave --data out to score the run's test cases"
    if not any(listed.folder.is_dir() for listed in tests):
        own = f"give the folder that the run's own test cases are in now ({_cases([each.name for each in tests])})"
    other = "Give unseen cases (rename those that only share a name)"
    return (
        f"{data}: {len(known)} of its {count} cases have trained or selected this model ({_first(known)}); "
        f"their scores would say nothing about new ones. {other}{f', or {own}' if tests else ''}"
    )


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


def _place(cases: Sequence[ListedCase]) -> str:
    """Returns the folder in which all of the cases were."""
    return os.path.commonpath([str(listed.folder.parent) for listed in cases])


def _last(name: str) -> str:
    """Returns a case's name without the folders that tell it from others of the name."""
    return name.rpartition("__")[2]


def _cases(names: Sequence[str]) -> str:
    """Returns how many cases, and which: `2 cases (a, b)`."""
    return f"{len(names)} case{'s' * (len(names) != 1)} ({_first(names)})"


def _first(names: Sequence[str]) -> str:
    """Returns the first five names, with dots if there are more."""
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)
