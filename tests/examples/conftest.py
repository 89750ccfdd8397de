"""Small trainings for the tests of the examples."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.images.options import Options


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Options]:
    """Makes the options of a training of seconds, on the drawn shapes."""

    def make(**given: object) -> Options:
        options: dict = {"data": "generated", "out": tmp_path / "run", "network": "strip:16:1-1-1-1", "image_size": 32}
        options |= {"epochs": 2, "warmup_epochs": 1, "batch": 60, "augmentation": "none"}
        return Options(**(options | given))

    return make
