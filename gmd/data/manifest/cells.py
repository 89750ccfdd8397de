"""One cell of a manifest: what a sample has of one modality, of which nothing is loaded yet."""

from dataclasses import dataclass
from pathlib import Path

from gmd.errors import UserError, shown


class Unreadable(UserError):
    """A cell whose file is missing, damaged, or something else: such cells are counted, and left out where asked."""


@dataclass(frozen=True)
class Table:
    """Where cells come from.

    Attributes:
        path: of the manifest.
        root: the folder that the paths in its cells are relative to, absolute and without links.
    """

    path: Path
    root: Path


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell with something in it.

    Attributes:
        table: whose cell it is; all cells of a manifest share one.
        line: of the table, its header being line 1.
        column: the name of the column, such as "image:face".
        text: what stands in it.
        size: bytes of its file, of a folder's files together, or of the text itself; 0 where nobody has looked.
    """

    table: Table
    line: int
    column: str
    text: str
    size: int = 0

    @property
    def where(self) -> str:
        """The beginning of a message about this cell."""
        return f"{self.table.path}: line {self.line}, {shown(self.column, 80)}"
