"""A page that may be given away: without the names of cases, people, places and machines, and without their pictures.

What stays is listed here, and all else goes. So what a page shows one day is left out until somebody enters it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

from gmd.config import TrainConfig
from gmd.report.configuration import Option, command
from gmd.report.data_splits import Split
from gmd.report.facts import Fact
from gmd.report.subset_table import Row, SubsetTable
from gmd.training.run_files import EVALUATION

LEFT_OUT = "left out"
RUN = Path("RUN")  # in the place of the run's folder
# what the page has that names nobody: figures, and the names of modalities, regions, metrics and classes
AS_THEY_ARE = (
    *("config", "conflicts", "contributions", "dominance", "dominance_plots", "fold_plot", "folds", "headline"),
    *("missing_curves", "pace", "sections", "segments", "state", "surgical", "tiles", "training", "version"),
)
OF_RESOURCES = ("Time of all epochs", "Median epoch", "Median epoch, per step", "Peak memory", "Parameters", "Versions")
OF_DATA = ("Fold", "Features", "Inputs", "Output", "Classes")
OUTDATED = "An evaluation is outdated: the run has changed since, or an earlier gmd has made it."


def anonymous_page(page: dict[str, Any]) -> dict[str, Any]:
    """Returns what the templates show of an anonymous page. page: what they show of the page itself"""
    config: TrainConfig = page["config"]
    kept = {name: page[name] for name in AS_THEY_ARE if name in page}
    shown = {field.name for field in fields(config) if _names_nothing(config, field)}
    options = [Option(o.name, o.value if o.name in shown else LEFT_OUT, o.changed) for o in page["options"]]
    changed = {
        "anonymous": True,
        "run": RUN,
        "name": "An anonymous run",
        "tables": [_table(table, number) for number, table in enumerate(page["tables"])],
        "further_tables": [[replace(each, rows=_rows(each)) for each in tables] for tables in page["further_tables"]],
        "outdated": [OUTDATED] if page["outdated"] else [],
        "cases": {},
        "wrong_pictures": [],
        "wrong_curves": [],
        "options": options,
        "command": f"{command(config, shown)} --data DATA",
        "resources": _facts(page.get("resources", ()), OF_RESOURCES),
        "data": _facts(page.get("data", ()), OF_DATA),
        "splits": _numbered(page.get("splits", ()), "case" if page["segments"] else "sample"),
    }
    return kept | changed


def _names_nothing(config: TrainConfig, field: Field[Any]) -> bool:
    """Returns whether an option's value says nothing of where and whose: numbers, choices, names of modalities."""
    value = getattr(config, field.name)
    values = value if isinstance(value, tuple) else (value,)
    chosen = get_origin(get_type_hints(type(config))[field.name]) is Literal
    chosen |= field.name == "network" and ":" not in str(value)  # a module of one's own may be called after anybody
    return (
        chosen
        or field.name in ("modalities", "preset", "pictures")
        or all(isinstance(v, int | float | None) for v in values)
    )


def _table(table: SubsetTable, number: int) -> SubsetTable:
    """Returns a table without the words on what was scored, in which data and cases are named. number: on the page"""
    counts = {row.count for row in table.rows if row.count not in ("", "0")}
    count = f"{counts.pop()} " if len(counts) == 1 else ""
    about = f"Means over {count}{table.counted}{f' of other data ({number})' if number else ''}."
    folder = RUN / EVALUATION / (f"other data {number}" if number else "")
    return replace(table, about=about, path=folder / "table.csv", rows=_rows(table), rules=(), of_shapley="")


def _rows(table: SubsetTable) -> list[Row]:
    """Returns the rows without the name of a list of what is missing, which is a file."""
    return [row if row.marks or row.label == "mean" else replace(row, label="modalities missing") for row in table.rows]


def _facts(facts: Sequence[Fact], names: Sequence[str]) -> list[Fact]:
    return [fact for fact in facts if fact.name in names]


def _numbered(splits: Sequence[Split], noun: str) -> list[Split]:
    """Returns the splits with numbers for names: the same ones in each fold, in an order that says nothing of them."""
    names = {name for split in splits for name in split.names}
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())
    numbers = {name: f"{noun} {number}" for number, name in enumerate(ordered, start=1)}
    return [split._replace(names=[numbers[name] for name in split.names]) for split in splits]
