"""The cases a run may be scored on: those that neither trained nor selected it."""

from dataclasses import replace
from pathlib import Path

from gmd.checkpoint import read_splits
from gmd.config import TrainBrats
from gmd.data.cases import Case, find_cases, parse_patterns
from gmd.data.labels import SCHEMES, LabelScheme
from gmd.data.splits import patient_of
from gmd.errors import UserError


def own_test_cases(run: Path, config: TrainBrats) -> tuple[list[Case], LabelScheme]:
    """Those of its `splits.json`, read where that says they are: cases that have come or gone since change nothing.

    Raises UserError if they are gone.
    """
    wanted = {Path(case["folder"]): case["name"] for case in read_splits(run)["test"]}
    patterns = parse_patterns(config.patterns) or None
    cases = []
    for folder, name in wanted.items():
        found = find_cases(folder, config.modalities, patterns)[0] if folder.is_dir() else []
        cases += [replace(case, name=name) for case in found if case.folder == folder]
    if lost := sorted(map(str, wanted.keys() - {case.folder for case in cases})):
        raise UserError(f"{run}: {len(lost)} of its test cases are gone, as {lost[0]}; restore them, or give --data")
    return cases, SCHEMES[config.labels]


def other_cases(run: Path, config: TrainBrats, data: Path) -> tuple[list[Case], LabelScheme]:
    """The labelled cases in `data`, or in its folder `test` if it has one, and what their labels mean.

    Raises UserError: what `find_cases` raises; cases or patients that training or model selection has seen.
    """
    data = data / "test" if (data / "test").is_dir() else data
    cases, scheme = find_cases(data, config.modalities, parse_patterns(config.patterns) or None)
    splits = read_splits(run)
    seen = [case for split in ("train", "validation") for case in splits[split]]
    folders = {case["folder"] for case in seen}
    patients = {patient_of(Case(case["name"], {})) for case in seen}
    known = [case.name for case in cases if str(case.folder.resolve()) in folders or patient_of(case) in patients]
    if known:
        named = ", ".join(known[:5]) + ", ..." * (len(known) > 5)
        raise UserError(
            f"{data}: {len(known)} of its {len(cases)} cases have trained or selected this model ({named}); "
            "their scores would say nothing about new ones. Give unseen cases (rename those that only share "
            "a name), or leave --data out to score the run's test cases"
        )
    ours, theirs = SCHEMES[config.labels], SCHEMES[scheme or config.labels]
    # BraTS 2023 numbers the same regions otherwise than the years before
    return cases, theirs if theirs.regions.keys() == ours.regions.keys() else ours
