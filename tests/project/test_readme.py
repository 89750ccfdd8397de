"""Every figure in README.md and docs/ comes out of a committed file."""

import pytest

from bench.tables.readme import GPU, README, RESULTS, filled, tables


@pytest.mark.parametrize("path", tables(), ids=lambda path: path.name)
def test_it_shows_the_committed_results(path):
    assert filled(path) == path.read_text(encoding="utf-8"), "run `make readme`"


def test_without_results_of_a_gpu_there_is_no_figure_of_one():
    text, measured = README.read_text(encoding="utf-8"), (RESULTS / "surgery_gpu.csv").exists()
    section = text.split("<!-- gpu -->")[1].split("<!-- end -->")[0]
    assert ("No GPU could be had so far" in section) == (not measured)
    assert "make gpu OUT=dir" in section
    assert ("_gpu.png" in text) == measured
    assert "_gpu.png" in GPU, "this test would see nothing"
    assert ("|" in section) == measured, "a table"
