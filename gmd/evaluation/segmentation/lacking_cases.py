"""What an evaluation says of cases that lack modalities, each its own, drawn or listed: a row, and a curve.

No case is predicted anew: all subsets of its modalities are scored.
"""

from collections.abc import Collection, Mapping, Sequence

from gmd.config import TrainBrats
from gmd.config.missing_modalities import MissingInEvaluation
from gmd.data.missing import Missing
from gmd.data.segmentation.missing_modalities import by_case_names
from gmd.errors import UserError
from gmd.scoring.missing_curve import Curve, Kept, listed_point, missing_curve
from gmd.scoring.segmentation.tables import Row, Score, chosen_row, row_numbers
from gmd.subsets import Subset

_SHOWN = 5  # names in a note


def lacking_of(absent: MissingInEvaluation | None, config: TrainBrats, names: Collection[str]) -> Missing:
    """Returns what cases are to lack.

    config: of the run; names: of the cases
    Raises UserError for rates that cannot be, a list that cannot be read or names none of the cases, and a curve of a
    network of one modality.
    """
    absent = absent or MissingInEvaluation()
    absent.check_curve(config.modalities)
    lacking = by_case_names(absent.missing_of(config.modalities, config.seed), names)
    lacking.check_named(names)
    return lacking


def lacking_row(scores: Sequence[Score], lacking: Missing, regions: Sequence[str]) -> tuple[dict[str, Row], list[str]]:
    """Returns the row of what each case keeps, by what it is called, and notes on it; neither if nothing lacks.

    A case that has none of what the list leaves it is left out, and named.

    scores: of all cases and subsets; regions: the columns
    """
    if not lacking:
        return {}, []
    has = _modalities_of(scores)
    chosen, without = _chosen(lacking, has)
    notes = lacking.notes(f"cases of the row {lacking.label()}", list(has))
    if without:
        names = ", ".join(without[:_SHOWN]) + ", ..." * (len(without) > _SHOWN)
        notes.append(f"{len(without)} of them left out there, which have none of what the list leaves them: {names}")
    return {lacking.label(): chosen_row(scores, chosen, regions)}, notes


def lacking_curve(
    scores: Sequence[Score], rates: Sequence[float], seed: int, regions: Sequence[str], lacking: Missing
) -> Curve:
    """Returns the numbers of the table over the missing rate, see `missing_curve`, and those of a list behind them.

    scores: of all cases and subsets; regions: the columns; lacking: what the row of the table lacks
    """

    def measure(kept: Kept) -> dict[str, float]:
        return row_numbers(chosen_row(scores, kept, regions), regions)

    has = _modalities_of(scores)
    curve = missing_curve(has, rates, seed, measure)
    if curve and lacking.listed is not None and (chosen := _chosen(lacking, has)[0]):
        curve.append(listed_point(lacking.label(), has, chosen, measure))
    return curve


def _chosen(lacking: Missing, has: Mapping[str, Subset]) -> tuple[dict[str, Subset], list[str]]:
    """Returns what each case keeps, and the cases that have none of what the list leaves them."""
    chosen: dict[str, Subset] = {}
    without: list[str] = []
    for case, modalities in has.items():
        try:
            chosen[case] = tuple(lacking.kept(case, modalities))
        except UserError:
            without.append(case)
    return chosen, without


def _modalities_of(scores: Sequence[Score]) -> dict[str, Subset]:
    """Returns the modalities that each case has: those of the largest subset that it was scored with."""
    has: dict[str, Subset] = {}
    for score in scores:
        has[score.case] = max(has.get(score.case, ()), score.subset, key=len)
    return has
