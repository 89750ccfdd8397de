"""Synthetic brain tumours in the layout of BraTS 2021: to learn, test and demonstrate with, without patients.

They are schematic, not anatomical: a folded cortex, white matter, ventricles, deep nuclei, harmless bright spots, and a
tumour of oedema, enhancing rim and necrosis. What matters is that each modality shows what the real one shows.
"""

import gzip
import math
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from tqdm import tqdm

from gmd.data.segmentation.image_files import walk_folders
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.phantom_anatomy import (
    ENHANCING,
    NECROSIS,
    OEDEMA,
    SOLID,
    add_spots,
    add_tumour,
    add_vessels_and_cysts,
    make_anatomy,
)
from gmd.data.segmentation.phantom_scan import LOOKS, Kind, scan
from gmd.errors import UserError
from gmd.files import making_folder
from gmd.memory_limit import most_bytes
from gmd.output_paths import check_folder, free_bytes

# as in BraTS 2018-2021, where a solid core that does not enhance counts as 1 too
LABEL_OF = {OEDEMA: 2, ENHANCING: 4, NECROSIS: 1, SOLID: 1}

MEMORY = 80  # bytes for each voxel of a phantom while it is made: a little less than measured
DISK = 1  # byte for each voxel of its files, at least


def write_phantoms(out: str | Path, cases: int, shape: Sequence[int], seed: int, kind: Kind = "plain") -> None:
    """Writes synthetic cases, `out/Phantom_000_00000/Phantom_000_00000_flair.nii.gz` and so on, label maps 0/1/2/4.

    cases: how many
    shape: of the stored arrays, [X, Y, Z], each at least 16; voxels are 1 mm
    seed: case i depends on the seed, i, the shape and the kind only, down to the bytes of its files
    kind: "hard" for modalities that contradict each other, one that dominates, and more noise
    Raises UserError: a number that cannot be used, or an `out` that already holds images.
    A case's folder appears under its name only when all of its files are written. The seed is part of the name: a
    second set can serve to evaluate a network that was trained on the first.
    """
    out = Path(out)
    if cases < 1 or not 0 <= seed < 2**32:
        raise UserError(
            f"{cases} cases with seed {seed}: at least 1 case and a seed of 0 or more are needed, below 2^32"
        )
    if len(shape) != 3 or min(shape) < 16:
        raise UserError(f"shape {tuple(shape)}: a phantom needs three axes of at least 16 voxels each")
    check_folder(out, "out")
    _check_size(out, cases, shape)
    names = [f"Phantom_{seed:03d}_{index:05d}" for index in range(cases)]
    _check_free(out, names)
    for index, name in enumerate(tqdm(names, desc="phantoms", unit="case")):
        try:
            _write_case(out, name, *make_phantom(shape, seed, index, kind))
        except FileExistsError as error:
            raise UserError(f"{error.filename}: there already, by another process; give another folder") from error


def make_phantom(
    shape: Sequence[int], seed: int, index: int, kind: Kind = "plain"
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Makes one case in memory: modality -> int16 [X, Y, Z], 0 outside the brain only; and labels, uint8 [X, Y, Z]."""
    look, rng = LOOKS[kind], np.random.default_rng([seed, index])
    brain, tissue, depth = make_anatomy(shape, rng)
    add_spots(tissue, brain, rng)
    if kind == "hard":
        add_vessels_and_cysts(tissue, brain, rng)
    add_tumour(tissue, brain, depth, look.tumour, rng)
    labels = np.zeros(shape, np.uint8)
    for tissue_class, label in LABEL_OF.items():
        labels[brain & (tissue == tissue_class)] = label
    return {modality: scan(modality, tissue, brain, look, rng) for modality in BRATS_MODALITIES}, labels


def _check_free(out: Path, names: Sequence[str]) -> None:
    """Raises UserError if the folder holds images, or anything that is called like one of the cases."""
    if any(".nii" in name for _, those in walk_folders(out) for name in those):
        raise UserError(f"{out}: already holds cases; give another folder, or delete this one first")
    if taken := next((out / name for name in names if os.path.lexists(out / name)), None):
        raise UserError(f"{taken}: is there already; give another folder, or delete it first")


def _check_size(out: Path, cases: int, shape: Sequence[int]) -> None:
    """Raises UserError for phantoms that memory or disk have no room for."""
    voxels, axes = math.prod(shape), " x ".join(map(str, shape))
    if (memory := MEMORY * voxels) > most_bytes():
        raise UserError(
            f"shape: a phantom of {axes} voxels takes {memory / 1e9:.3g} GB of memory, more than the "
            f"{most_bytes() / 1e9:.3g} GB that it may take here; give a smaller shape"
        )
    if (disk := DISK * voxels * cases) > (free := free_bytes(out)):
        raise UserError(
            f"{out}: {cases} cases of {axes} voxels take {disk / 1e9:.3g} GB or more, where {free / 1e9:.3g} GB are "
            "free; give fewer cases, a smaller shape or another disk"
        )


def _write_case(out: Path, name: str, images: dict[str, np.ndarray], labels: np.ndarray) -> None:
    """Writes a case so that its folder appears with all of its files: a kill leaves none that seems to lack any."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = labels.shape[1] - 1
    with making_folder(out / name) as unfinished:
        for key, data in {**images, "seg": labels}.items():
            image = nibabel.Nifti1Image(data, affine)
            image.header.set_xyzt_units("mm")
            image.set_sform(affine, code=1)
            image.set_qform(affine, code=1)
            # no time stamp, so that the same case is the same bytes
            content = gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)
            (unfinished / f"{name}_{key}.nii.gz").write_bytes(content)
