"""The cases of a folder beside those of a run: which the run has seen, which it tests, which are new to it."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.check import read_cases
from gmd.data.segmentation.checked_files import Checksums, copies, images_of
from gmd.data.segmentation.patients import patient_of
from gmd.evaluation.segmentation.listed_cases import ListedCase


@dataclass(frozen=True)
class FoundData:
    """The cases of a folder, and what a run says of its own.

    Attributes:
        cases: those of the folder.
        tests, seen: the run's test cases, and those that trained or selected it.
        known: the names of those of the folder's cases that are among `seen`.
        checksums: those of the others that can be read: name -> the checksums of their files.
        bad: those of the others that cannot be used: name -> why.
    """

    cases: list[Case]
    tests: list[ListedCase]
    seen: list[ListedCase]
    known: set[str]
    checksums: dict[str, Checksums]
    bad: dict[str, str]

    @classmethod
    def read(cls, cases: list[Case], tests: list[ListedCase], seen: list[ListedCase]) -> "FoundData":
        """Reads the cases that are not known to be seen by where they lie or whose they are, to know what they hold."""
        known = set(_names_of_seen(cases, tests, seen))
        checked = read_cases([case for case in cases if case.name not in known])
        copied = copies(checked.checksums, {listed.name: listed.checksums for listed in seen})
        own = {listed.name: listed.checksums for listed in tests}  # copies already when the run began
        known |= {name for name, _ in copied if own.get(name) != checked.checksums[name]}
        return cls(cases, tests, seen, known, checked.checksums, checked.bad)

    @cached_property
    def own_tests(self) -> dict[str, Case]:
        """Returns the run's test cases that are here by name, as they are called in the run: name -> case."""
        return {listed.name: case for listed in self.tests if (case := self._called(listed))}

    def _called(self, listed: ListedCase) -> Case | None:
        """Returns the case that has the name of a listed one.

        What stands before `__` in a name is where the case lies, as in HGG__a: without it the images must be the same.
        """
        last = listed.name.rpartition("__")[2]
        alike = [case for case in self.cases if case.name.rpartition("__")[2] == last and case.name not in self.known]
        exact = [case for case in alike if case.name == listed.name]
        same = [case for case in alike if images_of(self.checksums.get(case.name, {})) & listed.images()]
        return next(iter(exact + same), None)

    @property
    def others(self) -> list[str]:
        """Returns the run's test cases whose name is here with other images."""
        return [listed.name for listed in self.tests if listed.name in self.own_tests and not self._may_be(listed)]

    def _may_be(self, listed: ListedCase) -> bool:
        """Says whether the case of that name has an image of the listed one, as far as both can be known."""
        name = self.own_tests[listed.name].name
        return not listed.checksums or name in self.bad or bool(images_of(self.checksums[name]) & listed.images())

    @property
    def new(self) -> list[str]:
        """Returns the names of the cases that are neither seen by the run nor called like its test cases."""
        tests = {case.name for case in self.own_tests.values()}
        return [case.name for case in self.cases if case.name not in self.known | tests]

    def is_the_runs_own(self) -> bool:
        """Says whether these are the run's data, perhaps at another place.

        So it is if all of its cases are here by name; or a test case with its images, beside cases that trained the
        run, or with all other test cases and nothing else.
        """
        names = {case.name for case in self.cases}
        if self.tests and names.issuperset(listed.name for listed in (*self.tests, *self.seen)):
            return True
        unsure = [name for name, case in self.own_tests.items() if case.name in self.bad]
        same = self.own_tests.keys() - {*self.others, *unsure}
        return bool(same) and (bool(self.known) or (len(self.own_tests) == len(self.tests) and not self.new))


def _names_of_seen(cases: list[Case], tests: list[ListedCase], seen: list[ListedCase]) -> list[str]:
    """Returns the names of the cases that are among `seen`: by their patient, or any of their images.

    A link to a file gives it another name and another folder, and leaves it the image that it was. A patient who is
    tested too, as lists of cases may have it, tells nothing.
    """
    patients = {listed.patient for listed in seen} - {listed.patient for listed in tests}
    files = {os.path.realpath(path) for listed in seen for path in _files(listed)}
    return [
        case.name
        for case in cases
        if patient_of(case) in patients or any(os.path.realpath(path) in files for path in case.images.values())
    ]


def _files(listed: ListedCase) -> list[Path]:
    """Returns the files of a case.

    Runs of earlier versions say its folder only, of which all files are its then; now several cases may lie in one.
    """
    if listed.files:
        return list(listed.files.values())
    return [Path(entry) for entry in os.scandir(listed.folder)] if os.access(listed.folder, os.R_OK | os.X_OK) else []
