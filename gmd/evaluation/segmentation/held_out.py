"""The cases that a run may be scored on: held out, so that they have neither trained nor selected its network.

A case is known by its name and by what is in its files, not by where they lie: data are moved, mounted elsewhere,
packed and unpacked, and a copy of a training case is no new case whatever it is called.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gmd.config import TrainBrats
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.cases import Usable
from gmd.data.segmentation.check import read_cases
from gmd.data.segmentation.checked_files import Checksums, copies
from gmd.data.segmentation.label_names import told_scheme
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.errors import UserError
from gmd.evaluation.segmentation.found_data import FoundData
from gmd.evaluation.segmentation.listed_cases import ListedCase, case_as_listed, listed_cases
from gmd.evaluation.segmentation.run_labels import RunLabels


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
    tests = listed_cases(run, "test")
    if not tests:
        raise UserError(
            f"{run}: has no test cases, as its data had too few patients or no folder test; score it on cases that it "
            f"has not seen: gmd evaluate {run} --data FOLDER"
        )
    cases: list[Case] = []
    gone: dict[str, str] = {}
    for listed in tests:
        try:
            cases.append(case_as_listed(listed, config))
        except UserError as error:
            gone[listed.name] = str(error)
    if not cases:
        place = os.path.commonpath([str(listed.folder.parent) for listed in tests])
        raise NothingScored(
            f"{run}: {len(tests)} of its test cases are not at {place} any more; "
            f"if the data moved, give their new place: gmd evaluate {run} --data NEWPLACE",
            gone,
        )
    checked = read_cases(cases)
    usable = [case for case in cases if case.name not in checked.bad]
    notes = _notes_on_tests(tests, _seen(run), checked.checksums)
    return HeldOut(usable, gone | checked.bad, notes, None)


def _seen(run: Path) -> list[ListedCase]:
    """Returns the cases that trained or selected the run, as splits.json lists them."""
    return [listed for split in ("train", "validation") for listed in listed_cases(run, split)]


def unseen_cases(run: Path, config: TrainBrats, data: Path) -> HeldOut:
    """Finds the cases of a folder that the run may be scored on, and reads each of them once.

    These are all of its cases, if the run has seen none of them. If the folder holds the run's own data, moved or
    copied there, they are the run's test cases.

    config: of the run; its `labels` name a scheme
    data: a folder of cases; if it has a folder `test`, the cases in there
    Raises UserError: what `usable_cases` raises; cases or patients that training or model selection has seen.
    """
    seen, tests = _seen(run), listed_cases(run, "test")
    (cases, wrong), notes = _find(config, data, [*tests, *seen])
    found = FoundData.read(cases, tests, seen)
    if found.is_the_runs_own():
        own = _own_of(found, data, wrong)
        return own._replace(notes=notes + own.notes)
    if found.known:
        raise UserError(_refusal(found, data))
    if found.others:
        notes.append(f"{_cases(found.others)} called like test cases of the run, but with other images")
    usable = [case for case in cases if case.name not in found.bad]
    return HeldOut(usable, wrong | found.bad, notes, data)


def _find(config: TrainBrats, data: Path, listed: Sequence[ListedCase]) -> tuple[Usable, list[str]]:
    """Finds the labelled cases of a folder, in its folder `test` if it has one; and says what must be known of them.

    What the labels of a case mean is what they mean in the run, if the run has a case of that name, or files named in
    that way. Else their names tell it, as BraTS 2023 numbers the same regions otherwise than the years before. Where
    the names do not, or tell of other regions, it is what those of the run mean.

    listed: the cases of the run
    """
    # the folds of a cross-validation test cases of all folders
    root = data / "test" if config.folds is None and (data / "test").is_dir() else data
    ours = config.label_scheme()
    known = RunLabels.of(listed, config)
    found = replace(config.data_sets()[0], root=root, scheme=ours).usable()
    cases = [replace(case, scheme=known.scheme(case)) for case in found.cases]
    other_labels = [case.label for case in cases if case.label and not case.scheme]
    if not other_labels:
        return found._replace(cases=cases), []
    told = None if config.patterns else told_scheme(root, other_labels, ours)
    theirs, notes = _in_our_order(told or ours, ours, data)
    return found._replace(cases=[replace(case, scheme=case.scheme or theirs) for case in cases]), notes


def _in_our_order(theirs: LabelScheme, ours: LabelScheme, data: Path) -> tuple[LabelScheme, list[str]]:
    """Returns the scheme of other data with the regions in the order of the run's, which is that of the channels.

    If it has other regions, it is the run's own scheme, with a note unless that says the same.
    """
    if theirs.regions.keys() == ours.regions.keys():
        return replace(theirs, regions={region: theirs.regions[region] for region in ours.regions}), []
    note = f"labels of {data} read as the run's ({ours.described()}), though the names tell {theirs.described()}"
    return ours, [] if ours.includes(theirs) else [note]


def _own_of(found: FoundData, data: Path, wrong: Mapping[str, str]) -> HeldOut:
    """Returns the run's own test cases of a folder, under the names that they have in the run.

    wrong: cases and folders in there that cannot be used -> why
    """
    own = found.own_tests
    gone = [listed.name for listed in found.tests if listed.name not in own]
    failed = {name: wrong.get(name, f"is not in {data}") for name in gone}
    failed |= {name: found.bad[case.name] for name, case in own.items() if case.name in found.bad}
    checksums = {name: found.checksums[case.name] for name, case in own.items() if case.name in found.checksums}
    notes = _notes_on_tests(found.tests, found.seen, checksums)
    if found.new:
        notes.append(f"{_cases(found.new)} of {data} not scored, as they are none of the run's")
    if not all(listed.checksums for listed in found.tests):
        notes.append(f"the cases of {data} are known by their names alone, as the run has no checksums of them")
    usable = [replace(case, name=name) for name, case in own.items() if name not in failed]
    return HeldOut(usable, failed, notes, None)


def _notes_on_tests(
    tests: Sequence[ListedCase], seen: Sequence[ListedCase], checksums: Mapping[str, Checksums]
) -> list[str]:
    """Returns a note if test cases hold something else than when the run began, and if they are copies of seen ones.

    checksums: of each test case that can be read, as they are now
    """
    before = {listed.name: listed.checksums for listed in tests}
    notes = []
    if changed := [name for name, sums in checksums.items() if before[name] and before[name] != sums]:
        notes.append(f"{_cases(changed)} with other voxels in their files than when the run began")
    if known := copies(checksums, {listed.name: listed.checksums for listed in seen}):
        notes.append(f"{_cases([name for name, _ in known])} with images that have trained or selected this model")
    return notes


def _refusal(found: FoundData, data: Path) -> str:
    """Returns the error message for cases that the run has seen, with advice that works."""
    known = [case.name for case in found.cases if case.name in found.known]
    if any(listed.folder.is_dir() for listed in found.tests):
        own = ", or leave --data out to score the run's test cases"
    else:
        names = _first([listed.name for listed in found.tests])
        own = f", or the folder that the run's own test cases are in now ({names})" if names else ""
    return (
        f"{data}: {len(known)} of its {len(found.cases)} cases have trained or selected this model ({_first(known)}); "
        f"their scores would say nothing about new ones. Give unseen cases (rename those that only share a name){own}"
    )


def _cases(names: Sequence[str]) -> str:
    """Returns how many cases, and which: `2 cases (a, b)`."""
    return f"{len(names)} case{'s' * (len(names) != 1)} ({_first(names)})"


def _first(names: Sequence[str]) -> str:
    """Returns the first five names, with dots if there are more."""
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)
