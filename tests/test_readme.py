"""Every figure in the README comes out of a committed file."""

from bench.readme import README, filled


def test_the_readme_shows_the_committed_results():
    text = README.read_text(encoding="utf-8")
    assert filled(text) == text, "run `make readme`"
