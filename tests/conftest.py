"""Data that several test modules share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 6 synthetic cases, 32 voxels along each axis, four modalities. Do not write into it."""
    from gmd.data.phantom import write_phantoms

    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, cases=6, shape=(32, 32, 32), seed=0)
    return folder
