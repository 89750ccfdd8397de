"""bench.measure.rfnet_data: real cases become RFNet's volumes, in which gmd finds the brain that they had."""

import numpy as np

from bench.measure import rfnet_data
from helpers.nifti_cases import BRATS15, save


def test_volumes_are_written_as_rfnet_does(tmp_path):
    """A sphere in a volume with another value than 0 for its background, as the shared data are."""
    grid = np.stack(np.meshgrid(*[np.arange(140)] * 3, indexing="ij"))
    mask = ((grid - 70) ** 2).sum(axis=0) < 30**2
    rng = np.random.default_rng(0)
    for number, split in enumerate(("train", "validation", "test", "test")):
        folder = tmp_path / "data" / split / f"brats_2013_pat000{number}_1"
        for key in ("flair", "t1ce"):
            image = np.where(mask, rng.standard_normal(mask.shape), -3).astype(np.float32)
            save(folder / BRATS15[key].replace("*", "x"), image)
        save(folder / BRATS15["seg"], (mask * 4).astype(np.float32))
        save(folder / BRATS15["mask"], mask.astype(np.float32))
    found = rfnet_data.write_volumes(tmp_path / "data", tmp_path / "work")
    assert found == {"brain_agrees": 1.0, "not_zero": 1.0}
    volume = np.load(tmp_path / "work/npy/vol/brats_2013_pat0000_1_vol.npy")
    assert volume.shape == (128, 128, 128, 4)
    assert not volume[..., 2:].any()
    inside = volume[..., 0] != volume[0, 0, 0, 0]
    assert abs(volume[inside][:, :2].mean()) < 1e-3
    assert (tmp_path / "work/test.csv").read_text().splitlines()[
        1
    ] == 'brats_2013_pat0002_1,"[True, False, False, False]"'
