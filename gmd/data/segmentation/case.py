"""The files of one examination."""

from dataclasses import dataclass, field
from pathlib import Path

from gmd.data.segmentation.image_files import is_npy
from gmd.data.segmentation.label_scheme import LabelScheme

SAME_PLACE = 1e-3  # mm by which the affines of a case may differ


@dataclass(frozen=True)
class Case:
    """The files of one examination.

    Attributes:
        name: no other case of the data set is called so.
        images: modality -> its file, for the modalities that exist only, in canonical order; at least one.
        label: the label map, if there is one.
        mask: the brain mask, if there is one.
        scheme: what the values of the label map mean, if that is known.
        channels: modality -> its place on the fourth axis of the file, for all of that axis; empty if each file holds
            one modality.
        home: the folder of the case, if its images lie further down; see `folder`.
        affine_tolerance: mm by which the affines of its files may differ.
    """

    name: str
    images: dict[str, Path]
    label: Path | None = None
    mask: Path | None = None
    scheme: LabelScheme | None = None
    channels: dict[str, int] = field(default_factory=dict)
    home: Path | None = None
    affine_tolerance: float = SAME_PLACE

    @property
    def folder(self) -> Path:
        """Returns the folder that the case's files lie in, or below."""
        return self.home or next(iter(self.images.values())).parent

    @property
    def z_scored(self) -> bool:
        """Returns whether images are arrays of numpy, which come z-scored, see `z_scored.py`."""
        return any(is_npy(path) for path in self.images.values())
