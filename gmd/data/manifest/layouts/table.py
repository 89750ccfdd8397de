"""The table of a manifest: samples, the split of each, and the columns of their modalities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

from gmd.data.manifest.layouts.layout import Layout
from gmd.data.manifest.layouts.listed import Listed
from gmd.data.manifest.layouts.places import Found


@dataclass(frozen=True)
class Table:
    """What a manifest is made of; all lists are as long as there are samples."""

    layout: Layout
    samples: list[Listed]
    splits: list[str]
    found: list[Found]

    def parted(self) -> tuple["Table", list[str]]:
        """Returns the table of the samples that have a modality, and the names of those that have none."""
        kept = [any(cells) for cells in zip(*(found.cells for found in self.found), strict=True)]

        def only(values: Sequence[Any]) -> list[Any]:
            return list(compress(values, kept))

        found = [replace(found, cells=only(found.cells)) for found in self.found]
        out = [sample.name for sample, is_kept in zip(self.samples, kept, strict=True) if not is_kept]
        return replace(self, samples=only(self.samples), splits=only(self.splits), found=found), out

    def lines(self) -> Iterator[list[str]]:
        """Yields the lines of the manifest, its header first."""
        groups = [group for group in self.layout.groups if group != "text"]
        yield ["id", "split", "label", *groups, *(found.column for found in self.found)]
        for i, (sample, split) in enumerate(zip(self.samples, self.splits, strict=True)):
            cells = [_plain(found, found.cells[i]) for found in self.found]
            yield [sample.name, split, sample.label, *(sample.groups[group] for group in groups), *cells]


def _plain(found: Found, cell: str) -> str:
    """Returns a cell; one that is a path begins in such a way that no spreadsheet takes it for a formula."""
    return f"./{cell}" if found.source.kind != "text" and cell[:1] in ("=", "+", "-", "@", "'") else cell
