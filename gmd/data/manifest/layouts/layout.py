"""What a data set consists of: whose lists there may be, where files lie, and what its samples share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gmd.data.manifest.layouts.listed import Listed, Part
from gmd.data.manifest.layouts.places import Modality
from gmd.errors import UserError

Reader = Callable[[Path, Part], Iterator[Listed]]


@dataclass(frozen=True)
class Lists:
    """The lists of one publication."""

    name: str  # for --list
    files: Mapping[Part, str]  # train and test have to be there, dev may be
    read: Reader
    folders: tuple[str, ...] = ("",)  # below that of the data set, in which the lists may lie

    def found(self, root: Path) -> dict[Part, str]:
        """Returns the paths of the lists that are there, below the data set's folder `root`; nothing if none are.

        Raises UserError if one of train and test is missing.
        """
        for folder in self.folders:
            paths = {part: f"{folder}/{name}".lstrip("/") for part, name in self.files.items()}
            there = {part: path for part, path in paths.items() if (root / path).is_file()}
            if {"train", "test"} <= there.keys():
                return there
            if there and there.keys() != {"dev"}:
                missing = next(path for part, path in paths.items() if part != "dev" and part not in there)
                raise UserError(f"{root}: {missing} is missing beside {next(iter(there.values()))}; add it")
        return {}

    def told(self) -> str:
        """Returns what is looked for."""
        names = ", ".join(self.files.values())
        below = [folder for folder in self.folders if folder]
        return f"{self.name}: {names}" + (f" (also in {', '.join(below)})" if below else "")


@dataclass(frozen=True)
class Layout:
    """A data set of the field."""

    name: str
    lists: tuple[Lists, ...]  # the first that is there is taken
    modalities: tuple[Modality, ...]
    groups: Sequence[str] = ()  # what samples share, of which is told how much of it leaks; texts or columns
    splits: Mapping[str, str] = field(default_factory=dict)  # without leakage: the name -> the group that is kept whole
    unread: Mapping[str, str] = field(default_factory=dict)  # a folder in which something else lies -> what to do
