"""The tissues of a synthetic brain: a folded cortex, white matter, ventricles, nuclei, harmless finds, and a tumour."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from gmd.data.segmentation.phantom_fields import grid_around_a_voxel, grid_of, radius, smooth_noise

# tissue classes; vessels and cysts are in hard phantoms only
CSF, GREY, WHITE, NUCLEUS, SPOT, OEDEMA, ENHANCING, NECROSIS, SOLID, VESSEL, CYST = range(11)


def make_anatomy(shape: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shapes a healthy brain.

    returns three arrays [X, Y, Z]: the brain, bool; the tissue classes, uint8, to be read inside the brain; the depth
    below the brain's surface, float64, 0 on it and 1 where it is deepest
    """
    x, y, z = grid = grid_of(shape)
    half_axes = np.array([0.76, 0.92, 0.80]) * rng.uniform(0.94, 1.04)
    depth = 1 - radius(grid, half_axes) + 0.035 * smooth_noise(shape, 4, rng)
    depth = np.minimum(depth, 1.2 * (z + 0.62) + 0.08 * smooth_noise(shape, 5, rng))  # a flat base
    brain = depth > 0

    # the fissure between the hemispheres, and sulci: the sheets where a smooth field crosses zero
    midline = x + 0.02 * smooth_noise(shape, 3, rng)
    fissure = (np.abs(midline) < 0.022) & (depth < 0.45) & (z > -0.3)
    sulcus = np.abs(smooth_noise(shape, 15, rng)) < 1.8 * (0.24 - depth)
    fluid = ~brain | fissure | sulcus
    to_fluid = distance_transform_edt(~fluid, sampling=2 / np.array(shape))

    tissue = np.full(shape, WHITE, np.uint8)
    tissue[to_fluid < rng.uniform(0.075, 0.095)] = GREY
    for side in (-1, 1):
        nucleus = radius((x - side * 0.25, y - 0.02, z + 0.05), (0.11, 0.22, 0.15))
        tissue[nucleus + 0.06 * smooth_noise(shape, 7, rng) < 1] = NUCLEUS
        # a lateral ventricle bends outwards and down at both of its ends
        width = rng.uniform(0.7, 1.3)
        bent = (x - side * (0.11 + 0.06 * np.abs(y)), y - 0.05, z - 0.16 + 0.12 * y**2)
        ventricle = radius(bent, (0.07 * width, 0.40, 0.11 * width))
        tissue[ventricle + 0.08 * smooth_noise(shape, 7, rng) < 1] = CSF
    tissue[fluid] = CSF
    return brain, tissue, depth


def add_spots(tissue: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> None:
    """Adds a few small white-matter hyperintensities to `tissue`: bright in FLAIR and T2, but no tumour."""
    white = brain & (tissue == WHITE)
    for _ in range(rng.integers(2, 7)):
        spot = radius(grid_around_a_voxel(white, rng), rng.uniform(0.05, 0.09, 3)) < 1
        tissue[spot & white] = SPOT


def add_vessels_and_cysts(tissue: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> None:
    """Adds what is as large as a tumour and none: vessels, in t1ce alone like its rim, and cysts, in T2 like oedema."""
    deep = brain & (tissue != CSF)
    for _ in range(rng.integers(2, 4)):
        offsets = grid_around_a_voxel(deep, rng)
        shell = np.abs(radius(offsets, rng.uniform(0.16, 0.26, 3)) - 1 + 0.1 * smooth_noise(tissue.shape, 7, rng))
        tissue[(shell < 0.22) & deep] = VESSEL
    for _ in range(rng.integers(1, 3)):
        offsets = grid_around_a_voxel(deep, rng)
        cyst = radius(offsets, rng.uniform(0.12, 0.24, 3)) + 0.1 * smooth_noise(tissue.shape, 7, rng) < 1
        tissue[cyst & deep] = CYST


def add_tumour(
    tissue: np.ndarray, brain: np.ndarray, depth: np.ndarray, part: tuple[float, float], rng: np.random.Generator
) -> None:
    """Adds a tumour of nested parts, by their distance from a centre, which noise deforms.

    depth: of the voxels below the brain's surface, as `make_anatomy` returns it
    part: least and largest part of the brain that the tumour takes; its volume is drawn between them
    """
    room = brain & (tissue != CSF)
    offsets = grid_around_a_voxel(room & (depth > 0.28), rng)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turned = [sum(cosine * offset for cosine, offset in zip(row, offsets, strict=True)) for row in turn]
    distance = radius(turned, rng.uniform(0.75, 1.3, 3))

    whole_volume = rng.uniform(*part) * brain.sum()
    core_volume = rng.uniform(0.3, 0.6) * whole_volume
    necrosis_volume = rng.uniform(0.25, 0.5) * core_volume
    enhances = rng.random() >= 0.1
    # oedema creeps along white matter, rather than into the cortex
    creeping = distance * (1 + 0.16 * smooth_noise(tissue.shape, 6, rng)) + 0.12 * (tissue == GREY)
    whole = _nearest(creeping, room, whole_volume)
    core = _nearest(distance * (1 + 0.15 * smooth_noise(tissue.shape, 7, rng)), whole, core_volume)
    necrosis = _nearest(distance * (1 + 0.12 * smooth_noise(tissue.shape, 8, rng)), core, necrosis_volume)
    tissue[whole] = OEDEMA
    tissue[core] = ENHANCING if enhances else SOLID
    tissue[necrosis] = NECROSIS if enhances else SOLID


def _nearest(distance: np.ndarray, inside: np.ndarray, volume: float) -> np.ndarray:
    """Returns the mask, bool [X, Y, Z], of the `volume` voxels of `inside` at the smallest distance."""
    candidates = distance[inside]
    count = min(max(1, round(volume)), candidates.size)
    return inside & (distance <= np.partition(candidates, count - 1)[count - 1])
