"""Where the files of samples lie: each folder is looked into once, and no link is followed out of the data set."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from gmd.data.manifest.layouts.listed import Listed
from gmd.files import real_path

Kind = Literal["image", "audio", "text", "features"]  # of a column of a manifest
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Tree:
    """What lies below a folder. A link that leads out of it counts as nothing, and is remembered in `outside`."""

    def __init__(self, root: Path):
        self.root = root
        self.outside: set[str] = set()
        self._real = real_path(root)
        self._folders: dict[str, dict[str, str]] = {}  # folder -> name -> "file", "folder" or "outside"

    def has_file(self, path: str) -> bool:
        """Returns whether a file lies at a path below the folder."""
        return self._kind(path) == "file"

    def has_pictures(self, path: str) -> bool:
        """Returns whether a folder lies at a path below the folder, with at least one picture in it."""
        if self._kind(path) != "folder":
            return False
        with os.scandir(self.root / path) as entries:
            return any(entry.name.lower().endswith(PICTURES) for entry in entries)

    def _kind(self, path: str) -> str | None:
        """Returns what lies at a path; None if nothing does that could be meant."""
        place = PurePosixPath(path)
        parent = str(place.parent)
        if parent not in self._folders:
            self._folders[parent] = self._listing(parent)
        kind = self._folders[parent].get(place.name)
        if kind == "outside":
            self.outside.add(str(place))
        return kind

    def _listing(self, folder: str) -> dict[str, str]:
        if not self._is_inside(folder):
            self.outside.add(folder)
            return {}
        try:
            with os.scandir(self.root / folder) as entries:
                return {e.name: kind for e in entries if (kind := self._kind_of_entry(folder, e))}
        except OSError:  # there is no such folder, or no look into it is allowed
            return {}

    def _kind_of_entry(self, folder: str, entry: "os.DirEntry[str]") -> str | None:
        if entry.is_symlink() and not self._is_inside(f"{folder}/{entry.name}"):
            return "outside"
        return "folder" if entry.is_dir() else "file" if entry.is_file() else None

    def _is_inside(self, path: str) -> bool:
        return real_path(self.root / path).is_relative_to(self._real)


class Source(Protocol):
    """A way in which the samples of a data set have a modality."""

    @property
    def kind(self) -> Kind:
        """What its cells hold."""

    def cell(self, sample: Listed, tree: Tree) -> str:
        """Returns the cell of a sample; "" if it lacks the modality."""

    def told(self) -> str:
        """Returns where it was looked for."""


def places_of(sample: Listed, patterns: Sequence[str]) -> Iterator[str]:
    """Yields the paths that patterns such as "audio/{part}/{name}.wav" stand for; those of fields that it lacks not."""
    values: Mapping[str, str] = {"name": sample.name, "part": sample.part, "label": sample.label, **sample.fields}
    for pattern in patterns:
        try:
            yield pattern.format_map(values)
        except KeyError:
            continue


@dataclass(frozen=True)
class Files:
    """A file for each sample; of several patterns the first that there is a file for."""

    kind: Kind
    patterns: tuple[str, ...]

    def cell(self, sample: Listed, tree: Tree) -> str:
        """Returns the path of the file."""
        return next((path for path in places_of(sample, self.patterns) if tree.has_file(path)), "")

    def told(self) -> str:
        """Returns the patterns."""
        return ", ".join(self.patterns)


@dataclass(frozen=True)
class Frames:
    """A folder of pictures for each sample."""

    patterns: tuple[str, ...]
    kind: Kind = field(default="image", init=False)

    def cell(self, sample: Listed, tree: Tree) -> str:
        """Returns the path of the folder."""
        return next((path for path in places_of(sample, self.patterns) if tree.has_pictures(path)), "")

    def told(self) -> str:
        """Returns the patterns."""
        return ", ".join(f"{pattern}/*{PICTURES[0]}" for pattern in self.patterns)


@dataclass(frozen=True)
class Modality:
    """A modality of a data set, and the ways in which samples may have it, the best one first."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Found:
    """A modality as a manifest has it: one way for all samples."""

    modality: Modality
    source: Source
    cells: list[str]  # one a sample

    @property
    def column(self) -> str:
        """Returns the name of the column."""
        return f"{self.source.kind}:{self.modality.name}"


def find(modality: Modality, samples: Sequence[Listed], tree: Tree) -> Found | None:
    """Returns a modality in the way in which most samples have it, of two the better one; None if no sample has it.

    Never two ways in one column, which would be of two kinds.
    """
    best: Found | None = None
    for source in modality.sources:
        cells = [source.cell(sample, tree) for sample in samples]
        count = sum(map(bool, cells))
        if count and (best is None or count > sum(map(bool, best.cells))):
            best = Found(modality, source, cells)
        if count == len(samples):
            break
    return best
