"""The row of an evaluation in which each case lacks modalities of its own, drawn or listed."""

from collections.abc import Sequence

from gmd.data.missing import Missing
from gmd.errors import UserError
from gmd.scoring.segmentation.tables import Row, Score, chosen_row
from gmd.subsets import Subset

_SHOWN = 5  # names in a note


def lacking_row(scores: Sequence[Score], lacking: Missing, regions: Sequence[str]) -> tuple[dict[str, Row], list[str]]:
    """Returns the row of what each case keeps, by what it is called, and notes on it; neither if nothing lacks.

    No case is predicted anew: all subsets of its modalities are scored. A case that has none of what the list leaves it
    is left out, and named.

    scores: of all cases and subsets; regions: the columns
    """
    if not lacking:
        return {}, []
    has: dict[str, Subset] = {}
    for score in scores:
        has[score.case] = max(has.get(score.case, ()), score.subset, key=len)
    chosen: dict[str, Subset] = {}
    without: list[str] = []
    for case, modalities in has.items():
        try:
            chosen[case] = tuple(lacking.kept(case, modalities))
        except UserError:
            without.append(case)
    notes = lacking.notes(f"cases of the row {lacking.label()}", list(has))
    if without:
        names = ", ".join(without[:_SHOWN]) + ", ..." * (len(without) > _SHOWN)
        notes.append(f"{len(without)} of them left out there, which have none of what the list leaves them: {names}")
    return {lacking.label(): chosen_row(scores, chosen, regions)}, notes
