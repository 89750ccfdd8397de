"""`gmd predict`: its options, and the modalities that they give files for."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from gmd.errors import UserError
from gmd.models.precision import Precision


@dataclass(frozen=True)
class Predict:
    """Segment a case, or every case of a folder, from whatever modalities there are.

    Example: gmd predict runs/brats --t1 a_t1.nii.gz --flair a_flair.nii.gz -o a_seg.nii.gz

    Example: gmd predict runs/brats BraTS2021_00001 -o seg.nii.gz

    Example: gmd predict runs/brats new_cases -o segmentations
    """

    run: Positional[Path]
    """The folder that was --out in training."""
    source: Positional[Path | None] = None
    """A case folder, or a folder of them, with files named as in training; instead of single files."""
    _: KW_ONLY
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The label map to write, .nii.gz or .nii, in the grid of the input; of several cases the folder for them,
    where cases that are done already are skipped."""
    flair: Path | None = None
    """File of this modality."""
    t1: Path | None = None
    """File of this modality."""
    t1ce: Path | None = None
    """File of this modality."""
    t2: Path | None = None
    """File of this modality."""
    image: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Files of other modalities, NAME=FILE each, with the names given to --modalities in training."""
    channels: tuple[str, ...] = ()
    """The modality of each image that is numbered, or of each volume of a 4-D file, in order, as in training."""
    affine_tolerance: float | None = None
    """Millimetres by which the affines of a case's files may differ; by default as in training."""
    probabilities: bool = False
    """Write the regions' probabilities too, a 4-D file beside each label map."""
    zero_is_missing: bool = False
    """Take a modality whose voxels are all 0, or all of one value, for absent instead of refusing it."""
    checkpoint: Literal["best", "last"] = "best"
    """Of the best or the last epoch."""
    precision: Precision | None = None
    """fp32, bf16 or fp16; by default that of the training."""
    device: str = "auto"
    """auto: a GPU if there is one. Or cpu, cuda, cuda:1, ..."""
    network: str | None = None
    """The network of the run, if that is one of your own, package.module:function. It is code, which is not imported
    because the run's files name it."""


def predict(options: Predict) -> int:
    """Segments what the options ask for, and returns the exit status."""
    from gmd.predict import predict as predict_cases

    return predict_cases(
        options.run,
        options.source,
        _images(options),
        options.out,
        options.checkpoint,
        options.probabilities,
        options.zero_is_missing,
        options.precision,
        options.device,
        options.channels,
        options.affine_tolerance,
        options.network,
    )


def _images(options: Predict) -> dict[str, Path]:
    """Returns the files that the options give, modality -> file.

    Raises UserError for an --image of another form than NAME=FILE, or if two files are given for one modality.
    """
    named = {"flair": options.flair, "t1": options.t1, "t1ce": options.t1ce, "t2": options.t2}
    images = {modality: file for modality, file in named.items() if file is not None}
    for item in (item for items in options.image for item in items):
        name, _, path = item.partition("=")
        if not (name and path):
            raise UserError(f"--image: got {item}, expected NAME=FILE, e.g. t1post=scan.nii.gz")
        if name in images:
            raise UserError(f"--image: got {name} twice, {images[name]} and {path}; give one file for each modality")
        images[name] = Path(path)
    return images
