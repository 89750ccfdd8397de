"""Reading a manifest: its rows as samples whose files are checked, and loaded later."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gmd.data.manifest.inputs import Input, Output, Preparation
from gmd.data.sequences.samples import Sample


@dataclass(frozen=True)
class ManifestData:
    """A data set of files.

    Attributes:
        inputs: modality -> what it gives a network, in the order of the columns.
        outputs: what the labels are.
        splits: "train", "validation" and "test", none of them empty; `values` of a sample are modality -> Cell, and its
            `target` is int64 [] (a class) or float32 [] (a number) for one output, float32 [O] for several: the class
            as a number, or the number, NaN where the label is not known.
        notes: what was left out, held out, resampled, with counts, in sentences for the user.
    """

    inputs: dict[str, Input]
    outputs: tuple[Output, ...]
    splits: dict[str, list[Sample]]
    notes: tuple[str, ...]

    def checksum(self) -> str:
        """Returns a checksum of names, targets, and what stands in the cells with the sizes of their files."""
        raise NotImplementedError


def read_manifest(
    path: str | Path,
    root: Path | None,
    preparation: Preparation,
    unreadable: Literal["refuse", "skip"] = "refuse",
    target: Literal["auto", "class", "number"] = "auto",
    seed: int = 0,
) -> ManifestData:
    """Reads a manifest and checks every file that it names."""
    raise NotImplementedError
