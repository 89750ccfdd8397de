"""What the CUDA kernels should take by arithmetic, and the table that has it beside what they took."""

import pandas as pd
import pytest

from bench.measure.cases import FIRST_GPU_CASES, TINY_GPU_CASES, Case
from bench.measure.contestants import COMBINE, GRAM, OURS
from bench.measure.roofline import COPY, expected, weights
from bench.tables.roofline import roofline_markdown

CASES = list((FIRST_GPU_CASES | TINY_GPU_CASES).values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_kernel_is_expected_to_beat_the_memory(case: Case):
    model, rows = expected(case), case.num_objectives
    for name, passes in ((GRAM, rows), (COMBINE, rows + 1), (OURS, rows + 1)):
        assert model[name].time > passes * case.num_bytes / COPY
    assert model[OURS].time > max(model[GRAM].time, model[COMBINE].time)


def test_what_is_kept_on_the_chip_is_read_once():
    """28 MB: the terms of the model come to about 20 us, and twice the memory's time would be 13 of them."""
    kept = expected(FIRST_GPU_CASES["small-0.46M-T15"])
    assert kept[OURS].time == pytest.approx(20, abs=1)
    assert kept[OURS].time - kept[GRAM].time < 8


def test_tiny_cases_differ_by_the_weights_alone():
    two, fifteen = (expected(TINY_GPU_CASES[f"tiny-1K-T{t}"])[OURS].time for t in (2, 15))
    assert fifteen - two == pytest.approx(weights(15).time - weights(2).time, abs=0.1)


def test_the_table_says_what_was_measured_and_what_was_not():
    rows = [{"case": "small-0.3M-T7", "contestant": name, "median_ms": 0.0125} for name in (GRAM, OURS)]
    without, found = roofline_markdown(None), roofline_markdown(pd.DataFrame(rows))
    assert without.count("not yet") == 3 * len(CASES)
    assert found.count("not yet") == 3 * len(CASES) - 2
    [line] = [line for line in found.splitlines() if "small-0.3M-T7" in line]
    assert [cell.strip() for cell in line.split("|")][3::2] == ["12.5", "not yet", "12.5"]
