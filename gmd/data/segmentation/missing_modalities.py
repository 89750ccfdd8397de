"""Cases without the modalities that they are to lack: whoever reads such a case never comes to see these."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from gmd.data.missing import Missing
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.case_lists import CaseFinder
from gmd.errors import UserError, shown


def make_absent(cases: Sequence[Case], missing: Missing) -> list[Case]:
    """Takes from each of the cases what it is to lack, see `Missing`; label map and brain mask stay.

    missing: of `by_case_names`
    Raises UserError as the methods of `Missing`.
    """
    missing.check_named([case.name for case in cases])
    kept = [missing.kept(case.name, tuple(case.images)) for case in cases]
    return [
        replace(case, images={m: case.images[m] for m in modalities})
        for case, modalities in zip(cases, kept, strict=True)
    ]


def by_case_names(missing: Missing, names: Collection[str]) -> Missing:
    """Returns the same, where what the list calls with `HG_` or `LG_`, or without it, has the name of the case.

    names: of the cases
    Raises UserError for a name in the list that could be two cases, and for two names of one case.
    """
    if missing.listed is None:
        return missing
    finder = CaseFinder(names)
    listed: dict[str, Collection[str]] = {}
    for name, kept in missing.listed.items():
        try:
            found = finder.find(name) or name
        except UserError as error:
            raise UserError(f"{missing.source}: {error}") from error
        if found in listed:
            raise UserError(f"{missing.source}: has two masks for {shown(found, 80)}, expected one")
        listed[found] = kept
    return replace(missing, listed=listed)
