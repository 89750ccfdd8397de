"""How synthetic tissues look in each modality: their intensities, and all that spoils a scan."""

from typing import Literal, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.phantom_fields import smooth_noise

Kind = Literal["plain", "hard"]


class Look(NamedTuple):
    """How a kind of phantom looks.

    Attributes:
        intensity: modality -> the mean intensity of each tissue class.
        noise: modality -> the standard deviation of its noise.
        bias: the largest deviation of the bias field from 1.
        tumour: the least and the largest part of the brain that the tumour takes.
    """

    intensity: dict[str, tuple[int, ...]]
    noise: dict[str, float]
    bias: float
    tumour: tuple[float, float]


LOOKS: dict[Kind, Look] = {
    # The enhancing rim differs little from what is around it but in t1ce, so ET cannot be read off the others.
    "plain": Look(
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
    "hard": Look(
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


def scan(modality: str, tissue: np.ndarray, brain: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Scans the tissues, int16 [X, Y, Z]: with partial volume, texture, bias field, gain and Rician noise."""
    intensity = np.array(look.intensity[modality])
    means = intensity * rng.uniform(0.96, 1.04, len(intensity))
    # blurred inside the brain only: the background must not darken its surface
    weight = gaussian_filter(brain.astype(float), 0.5)
    signal = gaussian_filter(np.where(brain, means[tissue], 0), 0.5) / np.maximum(weight, 1e-6)
    signal *= 1 + 0.02 * smooth_noise(tissue.shape, 12, rng)
    bias = smooth_noise(tissue.shape, 2, rng)
    signal *= 1 + look.bias * bias / np.abs(bias[brain]).max()
    real, imaginary = look.noise[modality] * rng.standard_normal((2, *tissue.shape))
    scanned = rng.uniform(0.8, 1.25) * np.hypot(signal + real, imaginary)
    # at least 1 inside, so that non-zero means brain, as in skull-stripped data
    return np.where(brain, np.rint(scanned).clip(1, 4095), 0).astype(np.int16)
