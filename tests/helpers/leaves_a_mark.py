"""A module that leaves a file where it is imported, for tests of who imports it: the variable LEFT_MARK says which."""

import os
from pathlib import Path

if mark := os.environ.get("LEFT_MARK"):
    Path(mark).touch()


def network(regions: int, width: float) -> None:
    """As a function for --network that is none."""
