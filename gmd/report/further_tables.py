"""What an evaluation measured beside Dice and HD95, read from its `other_metrics.csv`: a heat map for each number."""

from collections.abc import Sequence
from pathlib import Path

from gmd.report.subset_table import SubsetTable, rows_of
from gmd.scoring.read_back import read_table
from gmd.scoring.segmentation.further_tables import MEAN, about_column
from gmd.training.run_files import FURTHER_TABLES


def read_further(folder: Path, modalities: Sequence[str]) -> list[SubsetTable]:
    """Returns a table for each number that the page shows, with a column for each region; none without the file.

    folder: of the results; modalities: those of the run, in its order
    Raises UserError if the table is not one of these modalities, or has numbers out of their range.
    """
    path = folder / FURTHER_TABLES[1]
    if not path.exists():
        return []
    counted, columns, lines = read_table(path, modalities)
    tables = []
    for number in dict.fromkeys(column.rpartition(" ")[2] for column in columns):
        if not (about := about_column(number)):
            continue
        places = [place for place, column in enumerate(columns) if column.endswith(f" {number}")]
        names = [columns[place] for place in places]
        own = [line._replace(cells=[line.cells[place] for place in places]) for line in lines]
        rows = rows_of(own, names, modalities)
        main = names.index(f"{MEAN} {number}") if f"{MEAN} {number}" in names else 0
        tables.append(SubsetTable(path, about, modalities, counted, names, main, rows, title=number))
    return tables
