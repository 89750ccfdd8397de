"""The tables of the missing-modality literature: a row per subset of the modalities, a column per region.

The regions of scores, rows and tables may have ET after post-processing among them, see `post_processing.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import NamedTuple

from gmd.config.metrics import metric_of
from gmd.data.text_files import EVALUATE_AGAIN, LARGEST, brief, damaged, read_csv
from gmd.scoring.read_back import number, one_of, range_of
from gmd.scoring.segmentation.post_processing import mean_over_regions
from gmd.scoring.table_text import ABSENT, Line, column_means, csv_text, lines_csv, lines_markdown
from gmd.subsets import Subset, all_subsets, subset_name

_ALWAYS = ("case", "subset", "region", "dice", "hd95")  # columns of the file of every score
_NONE: Mapping[str, "Row"] = MappingProxyType({})


class Score(NamedTuple):
    """How well one region of one case was predicted from one subset of the case's modalities.

    Attributes:
        case, subset, region: what was predicted, and from which modalities.
        dice: hard Dice in [0, 1].
        hd95: in mm, see `hausdorff95`; None where it was not measured, as in the validation during training.
        further: what else was measured, pairs of a column and its number, None where that is not defined.
    """

    case: str
    subset: Subset
    region: str
    dice: float
    hd95: float | None = None
    further: tuple[tuple[str, float | None], ...] = ()


class Row(NamedTuple):
    """One subset's line of the tables.

    Attributes:
        subset: the modalities that the predictions are made from.
        cases: how many cases have them.
        dice: region -> mean over these cases; empty if there are none.
        hd95: region -> mean HD95 over these cases in mm; empty where it was not measured.
    """

    subset: Subset
    cases: int
    dice: dict[str, float]
    hd95: Mapping[str, float] = MappingProxyType({})


def subset_table(scores: Iterable[Score], modalities: Sequence[str], regions: Sequence[str]) -> list[Row]:
    """Makes all 2^M - 1 rows, small subsets first. A subset that no case has keeps its row, without numbers."""
    scores = list(scores)
    subsets = all_subsets(modalities)
    return [_row(subset, [s for s in scores if s.subset == subset], regions) for subset in subsets]


def chosen_row(scores: Iterable[Score], chosen: Mapping[str, Subset], regions: Sequence[str]) -> Row:
    """Makes the row of one subset for each case: with a mask of its own, as in a test of missing modalities.

    chosen: case -> the subset that counts of it; other cases do not
    returns a row without a subset
    """
    return _row((), [s for s in scores if chosen.get(s.case) == s.subset], regions)


def mean_over_subsets(rows: Sequence[Row]) -> dict[str, float]:
    """Returns each region's Dice, mean over the subsets that exist, each counted once however many cases it has."""
    return column_means([row.dice for row in rows if row.cases])


def table_markdown(
    rows: Sequence[Row], modalities: Sequence[str], regions: Sequence[str], extra: Mapping[str, Row] = _NONE
) -> str:
    """Returns the table of Dice for people, with a column of counts only if existing subsets differ in these.

    extra: rows behind the mean: what they are called -> a row
    """
    lines = [line._replace(cells=_cells(row.dice, regions)) for line, row in _lines(rows, extra, with_count=True)]
    return lines_markdown(lines, modalities, "cases", [*regions, "mean"])


def hd95_markdown(
    rows: Sequence[Row], modalities: Sequence[str], regions: Sequence[str], extra: Mapping[str, Row] = _NONE
) -> str:
    """Returns the table of HD95 in mm for people, with the lines of `table_markdown`."""
    lines = [
        line._replace(cells=_in_mm(_cells(row.hd95, regions))) for line, row in _lines(rows, extra, with_count=True)
    ]
    return lines_markdown(lines, modalities, "cases", [*regions, "mean"])


def table_csv(
    rows: Sequence[Row], modalities: Sequence[str], regions: Sequence[str], extra: Mapping[str, Row] = _NONE
) -> str:
    """Returns both tables for programs: modalities as 1 and 0, all digits, `absent` where no case has the subset."""
    lines = [
        line._replace(cells=[*_cells(row.dice, regions), *_cells(row.hd95, regions)])
        for line, row in _lines(rows, extra, with_count=False)
    ]
    return lines_csv(lines, modalities, "cases", _columns(regions))


def row_numbers(row: Row, regions: Sequence[str]) -> dict[str, float]:
    """Returns the numbers of a row that has some, by their columns in `table_csv`."""
    cells = [*_cells(row.dice, regions), *_cells(row.hd95, regions)]
    return {name: cell for name, cell in zip(_columns(regions), cells, strict=True) if not isinstance(cell, str)}


def cases_csv(scores: Iterable[Score]) -> str:
    """Returns the file of every single score, in long format, with all digits. `read_cases` reads it back.

    What was measured beside Dice and HD95 has columns of its own, empty where it is not defined.
    """
    scores = list(scores)
    further = list(dict.fromkeys(column for score in scores for column, _ in score.further))
    lines = (
        (s.case, subset_name(s.subset), s.region, s.dice, s.hd95, *map(dict(s.further).get, further)) for s in scores
    )
    return csv_text([[*_ALWAYS, *further], *lines])


def read_cases(path: Path, modalities: Sequence[str] | None = None) -> list[Score]:
    """Reads the scores of a `cases.csv`.

    modalities: those of the run, whose subsets the lines must be about; None: any
    Raises UserError, which names the line, if it is not one, for numbers out of their range, and for a score that is
    there twice.
    """
    known = None if modalities is None else {subset_name(subset) for subset in all_subsets(modalities)}
    lines = read_csv(path, _ALWAYS, further=lambda column: metric_of(column) != "")
    _, header = next(lines)
    scores: dict[tuple[str, str, str], Score] = {}
    for line, cells in lines:
        case, subset, region, dice, hd95, *more = cells
        try:
            if known is not None:
                one_of(subset, "subset", known)
            if (case, subset, region) in scores:
                raise ValueError(f"{brief(case)} with {subset} has a score of {brief(region)} before it already")
            numbers = number(dice, "dice", 0, 1), number(hd95, "hd95", 0, LARGEST)
            further = _further(header[len(_ALWAYS) :], more)
        except ValueError as error:
            raise damaged(path, f"line {line}: {error}", EVALUATE_AGAIN) from error
        scores[case, subset, region] = Score(case, tuple(subset.split("+")), region, *numbers, further)
    return list(scores.values())


def _further(columns: Sequence[str], cells: Sequence[str]) -> tuple[tuple[str, float | None], ...]:
    """Returns what else was measured in a line. Raises ValueError for numbers out of their range."""
    if not any(cells):  # nothing is measured beside Dice and HD95 of ET after post-processing
        return ()
    pairs = zip(columns, cells, strict=True)
    return tuple((name, number(cell, name, *range_of(name)) if cell else None) for name, cell in pairs)


def _row(subset: Subset, scores: list[Score], regions: Sequence[str]) -> Row:
    """Returns the means over the cases of one subset, whose scores these are."""
    by_region = {region: [s for s in scores if s.region == region] for region in regions if scores}
    dice = {region: fmean(s.dice for s in some) for region, some in by_region.items()}
    measured = {region: [s.hd95 for s in some if s.hd95 is not None] for region, some in by_region.items()}
    hd95 = {region: fmean(values) for region, values in measured.items() if values}
    return Row(subset, len({s.case for s in scores}), dice, hd95)


def _lines(rows: Sequence[Row], extra: Mapping[str, Row], with_count: bool) -> list[tuple[Line, Row]]:
    """Returns the lines of a table, without cells, and the row that fills each; the mean's behind those of subsets.

    with_count: whether the mean's label says of how many subsets it is
    """
    there = [row for row in rows if row.cases]
    mean = Row((), 0, mean_over_subsets(rows), column_means([row.hd95 for row in there]))
    lines = [(Line(subset_name(row.subset), row.subset, row.cases, []), row) for row in rows]
    lines.append((Line(f"mean of {len(there)}" if with_count else "mean", None, None, []), mean))
    return [*lines, *((Line(label, None, row.cases, []), row) for label, row in extra.items())]


def _columns(regions: Sequence[str]) -> list[str]:
    """Returns the names of the columns of numbers in the table for programs."""
    columns = [*regions, "mean"]
    return [*columns, *(f"hd95_{column}" for column in columns)]


def _cells(values: Mapping[str, float], regions: Sequence[str]) -> list[float | str]:
    """Returns the cells of the regions and of their mean, or as many words for their absence."""
    if not values:
        return [ABSENT] * (len(regions) + 1)
    return [*(values[region] for region in regions), mean_over_regions(values)]


def _in_mm(cells: Sequence[float | str]) -> list[str]:
    """Returns the cells of a table of distances, with two digits."""
    return [cell if isinstance(cell, str) else f"{cell:.2f}" for cell in cells]
