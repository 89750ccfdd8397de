"""What the cells of a column have in common: each kind's checks of files, and the input that the column becomes."""

from collections import Counter
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from gmd.data.manifest.cells import Cell, Unreadable
from gmd.data.manifest.features import FeatureFacts, check_array
from gmd.data.manifest.images import check_image
from gmd.data.manifest.inputs import Input, Preparation
from gmd.data.manifest.sound import SoundFacts, check_sound, sound_input
from gmd.data.manifest.texts import TextFacts, check_text
from gmd.errors import UserError

Facts = TypeVar("Facts")


class ColumnCheck(Protocol, Generic[Facts]):
    """The check of a column of one kind. Its cells are looked at in any order and by threads, and added in theirs."""

    def look(self, cell: Cell) -> Facts:
        """Looks at a cell's files. Raises Unreadable for what may be skipped, UserError for what may not be there."""

    def add(self, cell: Cell, facts: Facts) -> int | None:
        """Takes a cell's facts, and returns the bytes of its content; None if there is nothing in it.

        Raises Unreadable for what does not go with the cells before it.
        """

    def input(self) -> Input:
        """Returns what the column becomes. Raises UserError if it can become nothing. At least one cell was added."""

    def notes(self) -> list[str]:
        """Returns sentences for the user, with counts."""


class ImageColumn:
    """Pictures."""

    def __init__(self, name: str, preparation: Preparation):
        self._preparation = preparation

    def look(self, cell: Cell) -> int:
        return check_image(cell)

    def add(self, cell: Cell, facts: int) -> int:
        return facts

    def input(self) -> Input:
        side = self._preparation.image_size
        return Input("image", {"frames": self._preparation.frames, "height": side, "width": side})

    def notes(self) -> list[str]:
        return []


class SoundColumn:
    """Sound, of which other rates are counted, and what is longer. Raises UserError as `sound_input`."""

    def __init__(self, name: str, preparation: Preparation):
        self._name, self._preparation, self._input = name, preparation, sound_input(preparation)
        self._rates, self._channels, self._longer = Counter[int](), Counter[int](), 0

    def look(self, cell: Cell) -> SoundFacts:
        return check_sound(cell)

    def add(self, cell: Cell, facts: SoundFacts) -> int:
        self._rates[facts.rate] += 1
        self._channels[facts.channels] += 1
        self._longer += facts.seconds > self._preparation.seconds
        return facts.size

    def input(self) -> Input:
        return self._input

    def notes(self) -> list[str]:
        rate, seconds = self._preparation.rate, self._preparation.seconds
        others = ", ".join(f"{count} of {found} Hz" for found, count in sorted(self._rates.items()) if found != rate)
        several = sum(count for channels, count in self._channels.items() if channels > 1)
        notes = [f"{self._name}: files of other rates are resampled to {rate} Hz: {others}"] if others else []
        notes += [f"{self._name}: the channels of {several} files are averaged"] if several else []
        notes += [f"{self._name}: {self._longer} files are longer than {seconds:g} s and cut"] if self._longer else []
        return notes


class TextColumn:
    """Words or tokens, not both; empty ones are counted, and longer ones."""

    def __init__(self, name: str, preparation: Preparation):
        self._name, self._preparation = name, preparation
        self._empty, self._longer, self._longest, self._largest = 0, 0, 1, 0
        self._first: tuple[int, bool] | None = None  # line of the first cell, and whether it has tokens

    def look(self, cell: Cell) -> TextFacts:
        return check_text(cell)

    def add(self, cell: Cell, facts: TextFacts) -> int | None:
        if not facts.tokens:
            self._empty += 1
            return None
        given = facts.largest is not None
        self._first = self._first or (cell.line, given)
        if given != self._first[1]:
            kinds = {True: "tokens", False: "words"}
            raise UserError(
                f"{cell.where}: has {kinds[given]}, and line {self._first[0]} has {kinds[not given]}; expected one "
                "of the two in the whole column"
            )
        self._largest = max(self._largest, facts.largest or 0)
        self._longest = max(self._longest, facts.tokens)
        self._longer += facts.tokens > self._preparation.longest
        return facts.size

    def input(self) -> Input:
        vocabulary = max(2, self._largest + 1) if self._has_tokens() else self._preparation.vocabulary
        return Input("text", {"vocabulary": vocabulary, "longest": min(self._longest, self._preparation.longest)})

    def notes(self) -> list[str]:
        most = self._preparation.longest
        notes = [f"{self._name}: {self._empty} texts are empty and count as missing"] if self._empty else []
        notes += (
            [f"{self._name}: {self._longer} texts have more than {most} tokens and are cut"] if self._longer else []
        )
        if self._has_tokens():
            notes.append(
                f"{self._name}: tokens as given, below {self._largest + 1}, the largest of all rows and one more"
            )
        return notes

    def _has_tokens(self) -> bool:
        return self._first is not None and self._first[1]


class FeatureColumn:
    """Features, all vectors of one length."""

    def __init__(self, name: str, preparation: Preparation):
        self._name, self._preparation = name, preparation
        self._longer, self._longest = 0, 1
        self._first: tuple[int, int] | None = None  # line of the first cell, and its features

    def look(self, cell: Cell) -> FeatureFacts:
        return check_array(cell)

    def add(self, cell: Cell, facts: FeatureFacts) -> int:
        self._first = self._first or (cell.line, facts.features)
        if facts.features != self._first[1]:
            raise Unreadable(
                f"{cell.where}: has {facts.features} features, expected {self._first[1]} as in line {self._first[0]}"
            )
        self._longest = max(self._longest, facts.steps)
        self._longer += facts.steps > self._preparation.longest
        return facts.size

    def input(self) -> Input:
        assert self._first is not None  # a cell was added
        sizes = {"features": self._first[1], "longest": min(self._longest, self._preparation.longest)}
        return Input("features", sizes)

    def notes(self) -> list[str]:
        most = self._preparation.longest
        return [f"{self._name}: {self._longer} have more than {most} steps and are cut"] if self._longer else []


CHECKS: dict[str, Callable[[str, Preparation], ColumnCheck]] = {
    "image": ImageColumn,
    "audio": SoundColumn,
    "text": TextColumn,
    "features": FeatureColumn,
}
