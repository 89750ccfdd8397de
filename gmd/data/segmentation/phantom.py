"""Synthetic brain tumours in the layout of BraTS 2021: to learn, test and demonstrate with, without patients.

Schematic, not anatomical: a folded cortex, white matter, ventricles, deep nuclei, harmless bright spots, and
a tumour of oedema, enhancing rim and necrosis. What matters: each modality shows what the real one shows.
"""

import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import nibabel
import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from tqdm import tqdm

from gmd.data.segmentation.cases import BRATS_MODALITIES, walk_folders
from gmd.errors import UserError

Shape = tuple[int, int, int]
Kind = Literal["plain", "hard"]

# tissue classes: the columns of a look's intensities; vessels and cysts are in hard phantoms only
_CSF, _GREY, _WHITE, _NUCLEUS, _SPOT, _OEDEMA, _ENHANCING, _NECROSIS, _SOLID, _VESSEL, _CYST = range(11)
# as in BraTS 2018-2021, where a solid core that does not enhance counts as 1 too
_LABEL_OF = {_OEDEMA: 2, _ENHANCING: 4, _NECROSIS: 1, _SOLID: 1}


class _Look(NamedTuple):
    """How a kind of phantom is scanned: mean intensity of each tissue, and what spoils it."""

    intensity: dict[str, tuple[int, ...]]  # modality -> one for each tissue class
    noise: dict[str, float]  # modality -> standard deviation
    bias: float  # largest deviation of the bias field from 1
    tumour: tuple[float, float]  # least and largest part of the brain that it takes


_LOOKS: dict[Kind, _Look] = {
    # The enhancing rim differs little from what is around it but in t1ce, so ET cannot be read off the others.
    "plain": _Look(
        {
            #        CSF  grey white nucl spot oedem enh  necr solid
            "flair": (230, 800, 660, 760, 1180, 1250, 1210, 1150, 1180),
            "t1": (300, 720, 1000, 840, 880, 760, 640, 560, 600),
            "t1ce": (310, 740, 1030, 870, 900, 790, 1700, 480, 620),
            "t2": (1420, 850, 620, 720, 1080, 1280, 1270, 1350, 1310),
        },
        dict.fromkeys(BRATS_MODALITIES, 60.0),  # in FLAIR the oedema is 7 of these above grey matter
        bias=0.2,
        tumour=(0.04, 0.15),
    ),
    # FLAIR dominates: it shows every part, strongly. What the others show is weak, and contradicts it and one another:
    # the rim is bright in FLAIR and t1ce and dark in T2, necrosis dark in FLAIR and bright in T2. And each has anatomy
    # that it takes for tumour: spots in FLAIR, nuclei in T1, vessels in t1ce, cysts and fluid in T2.
    "hard": _Look(
        {
            #        CSF  grey white nucl spot oedem enh  necr solid vessel cyst
            "flair": (230, 800, 660, 760, 1250, 1200, 1550, 480, 1300, 500, 260),
            "t1": (420, 740, 960, 820, 860, 810, 760, 600, 660, 700, 480),
            "t1ce": (420, 760, 980, 840, 880, 820, 1450, 560, 700, 1450, 480),
            "t2": (1400, 850, 660, 740, 900, 1200, 700, 1300, 1100, 450, 1300),
        },
        {"flair": 60.0, "t1": 100.0, "t1ce": 90.0, "t2": 90.0},
        bias=0.35,
        tumour=(0.10, 0.24),  # large, so that its rim has some voxels at a coarse resolution too
    ),
}


def write_phantoms(out: str | Path, cases: int, shape: Sequence[int], seed: int, kind: Kind = "plain") -> None:
    """Write synthetic cases, `out/Phantom_000_00000/Phantom_000_00000_flair.nii.gz` and so on, label maps 0/1/2/4.

    cases: how many
    shape: of the stored arrays, [X, Y, Z], each at least 16; voxels are 1 mm
    seed: case i depends on the seed, i, the shape and the kind only, down to the bytes of its files
    kind: "hard" for modalities that contradict each other, one that dominates, and more noise
    Raises UserError: a number that cannot be used, or an `out` that already holds images.
    A case's folder appears under its name only when all of its files are written. The seed is part of the name: a
    second set can serve to evaluate a network that was trained on the first.
    """
    out = Path(out)
    if cases < 1 or seed < 0:
        raise UserError(f"{cases} cases with seed {seed}: at least 1 case and a seed of 0 or more are needed")
    if len(shape) != 3 or min(shape) < 16:
        raise UserError(f"shape {tuple(shape)}: a phantom needs three axes of at least 16 voxels each")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder to write to")
    if any(".nii" in name for _, names in walk_folders(out) for name in names):
        raise UserError(f"{out}: already holds cases; give another folder, or delete this one first")
    for index in tqdm(range(cases), desc="phantoms", unit="case"):
        _write_case(out, f"Phantom_{seed:03d}_{index:05d}", *make_phantom(tuple(shape), seed, index, kind))


def make_phantom(shape: Shape, seed: int, index: int, kind: Kind = "plain") -> tuple[dict[str, np.ndarray], np.ndarray]:
    """One case in memory: modality -> int16 [X, Y, Z], 0 outside the brain only; labels uint8 [X, Y, Z]."""
    look, rng = _LOOKS[kind], np.random.default_rng([seed, index])
    brain, tissue, depth = _anatomy(shape, rng)
    _add_spots(tissue, brain, rng)
    if kind == "hard":
        _add_vessels_and_cysts(tissue, brain, rng)
    _add_tumour(tissue, brain, depth, look.tumour, rng)
    labels = np.zeros(shape, np.uint8)
    for tissue_class, label in _LABEL_OF.items():
        labels[brain & (tissue == tissue_class)] = label
    return {modality: _scan(modality, tissue, brain, look, rng) for modality in BRATS_MODALITIES}, labels


def _anatomy(shape: Shape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """brain: bool; tissue: uint8 classes, to be read inside the brain; depth: 0 on its surface, 1 deepest."""
    x, y, z = grid = _grid(shape)
    half_axes = np.array([0.76, 0.92, 0.80]) * rng.uniform(0.94, 1.04)
    depth = 1 - _radius(grid, half_axes) + 0.035 * _smooth_noise(shape, 4, rng)
    depth = np.minimum(depth, 1.2 * (z + 0.62) + 0.08 * _smooth_noise(shape, 5, rng))  # a flat base
    brain = depth > 0

    # the fissure between the hemispheres, and sulci: the sheets where a smooth field crosses zero
    midline = x + 0.02 * _smooth_noise(shape, 3, rng)
    fissure = (np.abs(midline) < 0.022) & (depth < 0.45) & (z > -0.3)
    sulcus = np.abs(_smooth_noise(shape, 15, rng)) < 1.8 * (0.24 - depth)
    fluid = ~brain | fissure | sulcus
    to_fluid = distance_transform_edt(~fluid, sampling=2 / np.array(shape))

    tissue = np.full(shape, _WHITE, np.uint8)
    tissue[to_fluid < rng.uniform(0.075, 0.095)] = _GREY
    for side in (-1, 1):
        nucleus = _radius((x - side * 0.25, y - 0.02, z + 0.05), (0.11, 0.22, 0.15))
        tissue[nucleus + 0.06 * _smooth_noise(shape, 7, rng) < 1] = _NUCLEUS
        # a lateral ventricle bends outwards and down at both of its ends
        width = rng.uniform(0.7, 1.3)
        bent = (x - side * (0.11 + 0.06 * np.abs(y)), y - 0.05, z - 0.16 + 0.12 * y**2)
        ventricle = _radius(bent, (0.07 * width, 0.40, 0.11 * width))
        tissue[ventricle + 0.08 * _smooth_noise(shape, 7, rng) < 1] = _CSF
    tissue[fluid] = _CSF
    return brain, tissue, depth


def _add_spots(tissue: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> None:
    """A few small white-matter hyperintensities: bright in FLAIR and T2, but no tumour."""
    white = brain & (tissue == _WHITE)
    for _ in range(rng.integers(2, 7)):
        spot = _radius(_grid_around_a_voxel(white, rng), rng.uniform(0.05, 0.09, 3)) < 1
        tissue[spot & white] = _SPOT


def _add_vessels_and_cysts(tissue: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> None:
    """Of a tumour's size each, and no tumour: what t1ce alone takes for its rim, and T2 alone for oedema."""
    deep = brain & (tissue != _CSF)
    for _ in range(rng.integers(2, 4)):
        offsets = _grid_around_a_voxel(deep, rng)
        shell = np.abs(_radius(offsets, rng.uniform(0.16, 0.26, 3)) - 1 + 0.1 * _smooth_noise(tissue.shape, 7, rng))
        tissue[(shell < 0.22) & deep] = _VESSEL
    for _ in range(rng.integers(1, 3)):
        offsets = _grid_around_a_voxel(deep, rng)
        cyst = _radius(offsets, rng.uniform(0.12, 0.24, 3)) + 0.1 * _smooth_noise(tissue.shape, 7, rng) < 1
        tissue[cyst & deep] = _CYST


def _add_tumour(
    tissue: np.ndarray, brain: np.ndarray, depth: np.ndarray, part: tuple[float, float], rng: np.random.Generator
) -> None:
    """Nested parts by distance from a centre, which noise deforms; their volumes are drawn beforehand."""
    room = brain & (tissue != _CSF)
    offsets = _grid_around_a_voxel(room & (depth > 0.28), rng)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turned = [sum(cosine * offset for cosine, offset in zip(row, offsets, strict=True)) for row in turn]
    distance = _radius(turned, rng.uniform(0.75, 1.3, 3))

    whole_volume = rng.uniform(*part) * brain.sum()
    core_volume = rng.uniform(0.3, 0.6) * whole_volume
    necrosis_volume = rng.uniform(0.25, 0.5) * core_volume
    enhances = rng.random() >= 0.1
    # oedema creeps along white matter, rather than into the cortex
    creeping = distance * (1 + 0.16 * _smooth_noise(tissue.shape, 6, rng)) + 0.12 * (tissue == _GREY)
    whole = _nearest(creeping, room, whole_volume)
    core = _nearest(distance * (1 + 0.15 * _smooth_noise(tissue.shape, 7, rng)), whole, core_volume)
    necrosis = _nearest(distance * (1 + 0.12 * _smooth_noise(tissue.shape, 8, rng)), core, necrosis_volume)
    tissue[whole] = _OEDEMA
    tissue[core] = _ENHANCING if enhances else _SOLID
    tissue[necrosis] = _NECROSIS if enhances else _SOLID


def _nearest(distance: np.ndarray, inside: np.ndarray, volume: float) -> np.ndarray:
    """The `volume` voxels of `inside` at the smallest distance, as a bool mask."""
    candidates = distance[inside]
    count = min(max(1, round(volume)), candidates.size)
    return inside & (distance <= np.partition(candidates, count - 1)[count - 1])


def _scan(modality: str, tissue: np.ndarray, brain: np.ndarray, look: _Look, rng: np.random.Generator) -> np.ndarray:
    """What the scanner makes of it, int16: partial volume, texture, bias field, gain and Rician noise."""
    intensity = np.array(look.intensity[modality])
    means = intensity * rng.uniform(0.96, 1.04, len(intensity))
    # blurred inside the brain only: the background must not darken its surface
    weight = gaussian_filter(brain.astype(float), 0.5)
    signal = gaussian_filter(np.where(brain, means[tissue], 0), 0.5) / np.maximum(weight, 1e-6)
    signal *= 1 + 0.02 * _smooth_noise(tissue.shape, 12, rng)
    bias = _smooth_noise(tissue.shape, 2, rng)
    signal *= 1 + look.bias * bias / np.abs(bias[brain]).max()
    real, imaginary = look.noise[modality] * rng.standard_normal((2, *tissue.shape))
    scanned = rng.uniform(0.8, 1.25) * np.hypot(signal + real, imaginary)
    # at least 1 inside, so that non-zero means brain, as in skull-stripped data
    return np.where(brain, np.rint(scanned).clip(1, 4095), 0).astype(np.int16)


def _grid(shape: Shape) -> list[np.ndarray]:
    """Coordinates -1..1 along each axis, shaped to broadcast to [X, Y, Z]."""
    return list(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True))


def _grid_around_a_voxel(mask: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Coordinates whose origin is a random voxel of the mask."""
    voxel = rng.choice(np.argwhere(mask))
    return [axis - axis.flat[index] for axis, index in zip(_grid(mask.shape), voxel, strict=True)]


def _radius(grid: Sequence[np.ndarray], half_axes: Sequence[float]) -> np.ndarray:
    """Distance from the origin in units of an ellipsoid's half axes: below 1 is inside."""
    return np.sqrt(sum((g / a) ** 2 for g, a in zip(grid, half_axes, strict=True)))


def _smooth_noise(shape: Shape, cells: int, rng: np.random.Generator) -> np.ndarray:
    """A random field with about `cells` bumps along each axis; mean 0, standard deviation 1.

    Drawn on a coarse grid and interpolated, so that its cost does not grow with its smoothness.
    """
    field = rng.standard_normal((cells + 2,) * 3)
    nodes = np.linspace(-1 - 1 / cells, 1 + 1 / cells, cells + 2)
    for n in shape:  # each turn replaces the leading coarse axis by a fine one at the end
        basis = np.exp(-0.5 * ((np.linspace(-1, 1, n)[:, None] - nodes) / (1.3 / cells)) ** 2)
        field = np.tensordot(field, basis, axes=(0, 1))
    return (field - field.mean()) / field.std()


def _write_case(out: Path, name: str, images: dict[str, np.ndarray], labels: np.ndarray) -> None:
    """Into a hidden folder, then renamed: a kill leaves no case behind that seems to lack modalities."""
    unfinished = out / f".{name}"
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = labels.shape[1] - 1
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        for key, data in {**images, "seg": labels}.items():
            image = nibabel.Nifti1Image(data, affine)
            image.header.set_xyzt_units("mm")
            image.set_sform(affine, code=1)
            image.set_qform(affine, code=1)
            # no time stamp, so that the same case is the same bytes
            content = gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)
            (unfinished / f"{name}_{key}.nii.gz").write_bytes(content)
        os.replace(unfinished, out / name)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
