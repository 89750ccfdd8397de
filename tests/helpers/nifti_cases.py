"""Small cases on disk, for the tests of the readers."""

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff, ornt_transform

from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.errors import UserError
from helpers.places import REAL_DATA

SHAPE = (6, 5, 4)
SUFFIXES = {
    "brats2018": {"flair": "_flair", "t1": "_t1", "t1ce": "_t1ce", "t2": "_t2", "seg": "_seg"},
    "brats2023": {"flair": "-t2f", "t1": "-t1n", "t1ce": "-t1c", "t2": "-t2w", "seg": "-seg"},
}
OPEN_MS = {
    "flair": "FLAIR_*.nii.gz",
    "t1": "T1_*.nii.gz",
    "t1ce": "T1POST_*.nii.gz",
    "t2": "T2_*.nii.gz",
    "seg": "GOLD_STANDARD_*.nii.gz",
}
BRATS15 = {
    "flair": "Flair_*.nii.gz",
    "t1ce": "T1c_*.nii.gz",
    "seg": "OTMultiClass.nii.gz",
    "mask": "brainmask.nii.gz",
}
RAS = np.array([[0, 1], [1, 1], [2, 1]])
# the 48 ways in which a volume's axes can be stored: input axis i goes along axis [i, 0] of RAS+, flipped if [i, 1] < 0
ORIENTATIONS = [
    np.column_stack([axes, flips]) for axes, flips in product(permutations(range(3)), product([1, -1], repeat=3))
]
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.1, -0.2, 0.15) @ np.diag([1.0, 1.5, 2.0]), [-9, 5, 7]
)


def stored_as(orientation, data, affine=OBLIQUE):
    """A volume in RAS+, and its affine, as a file of this orientation has them."""
    back = ornt_transform(RAS, orientation)
    return apply_orientation(data, back), affine @ inv_ornt_aff(back, data.shape[:3])


def save(path, data, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def random_image(seed=0):
    image = np.random.default_rng(seed).integers(1, 1000, SHAPE).astype(np.int16)
    image[0] = 0  # background
    return image


def labels_of(*values):
    labels = np.zeros(SHAPE, np.uint8)
    labels.flat[-len(values) :] = values
    return labels


def make_case(folder, naming="brats2018", keys=(*BRATS_MODALITIES, "seg"), ending=".nii.gz"):
    for seed, key in enumerate(keys):
        data = labels_of(1, 2) if key == "seg" else random_image(seed)
        save(folder / f"{folder.name}{SUFFIXES[naming][key]}{ending}", data)


def empty_case(folder, *names):
    """For tests that only look at names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or (f"{folder.name}_flair.nii.gz", f"{folder.name}_seg.nii.gz"):
        (folder / name).touch()


def error_of(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def names(cases):
    return [case.name for case in cases]


def real_data(name):
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"real data not there: {folder}")
    return folder
