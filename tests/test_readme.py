"""Every figure in README.md and docs/ comes out of a committed file."""

import pytest

from bench.readme import NUMERICS, README, filled


@pytest.mark.parametrize("path", [README, NUMERICS], ids=lambda path: path.name)
def test_it_shows_the_committed_results(path):
    assert filled(path) == path.read_text(encoding="utf-8"), "run `make readme`"
