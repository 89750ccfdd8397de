"""Where the project and the real data for its tests lie."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS, HELPERS = ROOT / "tests", ROOT / "tests" / "helpers"
REAL_DATA = ROOT.parent / "shared" / "data"


def with_tests_on_path() -> dict[str, str]:
    """The environment of a process that imports `helpers`, as the tests do."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
