"""bench.measure.sketch and one_gradient: values are judged before speed, and the tables say what the rows say."""

import pandas as pd
import pytest
import torch

import gmd_kernels as gk
from bench.measure import one_gradient, sketch
from bench.measure.one_gradient import AUTOGRAM, JOINT, KEPT, NAMES, SKETCHES
from bench.measure.sketch import OURS, PYTORCH, SketchCase, measure_case
from bench.tables import targets
from bench.tables.sketch import one_gradient_markdown, sketch_markdown
from helpers.bench_host import HOST as MACHINE

pytestmark = pytest.mark.usefixtures("one_thread")
HOST = MACHINE | {"commit": "?", "error": ""}
SMALL = SketchCase("small-0.3M", torch.bfloat16, 1)


def test_a_case():
    rows = measure_case(SMALL, rounds=1)
    assert [row["contestant"] for row in rows] == [OURS, PYTORCH]
    for row in rows:
        assert row["error"] == ""
        assert row["value_error"] < sketch.TOLERANCE
        assert row["fraction_of_floor"] == pytest.approx(row["floor_ms"] / row["median_ms"])
        assert row["traffic_MB"] == pytest.approx(2e-6 * row["elements"])
    assert rows[0]["ratio_to_ours"] == 1


def test_who_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    right = gk.sketch_

    def wrong(into, row, seed):
        right(into, row, seed + (into.dtype == torch.float32))

    monkeypatch.setattr(gk, "sketch_", wrong)
    rows = {row["contestant"]: row for row in measure_case(SMALL, rounds=1)}
    assert {name for name, row in rows.items() if row["error"]} == {OURS}
    assert rows[OURS]["median_ms"] is None
    assert rows[PYTORCH]["ratio_to_ours"] is None


def test_cases_have_threads_that_are_there():
    assert {case.threads for case in sketch.cases()} == {1}
    with sketch.on_threads(2):
        assert {case.threads for case in sketch.cases()} == {1, 2}


def test_table_and_target():
    rows = [
        {"case": case.name, "dtype": "float32", "contestant": name, "median_ms": ms, "floor_ms": 0.9, **HOST}
        for case in sketch.cases()
        for name, ms in ((OURS, 1.0), (PYTORCH, 50.0))
    ]
    table = pd.DataFrame(rows).assign(fraction_of_floor=lambda t: t["floor_ms"] / t["median_ms"])
    assert "| 1 | 0.9 | 90% | 50, 50x |" in sketch_markdown(table)
    [verdict] = targets.sketch_verdicts(table)
    assert "reached" in verdict
    [verdict] = targets.sketch_verdicts(table.assign(fraction_of_floor=0.7))
    assert "MISSED" in verdict


@pytest.mark.parametrize("name", NAMES)
def test_every_way_makes_a_gradient(name: str):
    if name not in (JOINT, KEPT, SKETCHES):
        pytest.importorskip("torchjd")
    row = one_gradient.measure_one(name, one_gradient.SIZES["quick"])
    assert row["contestant"] == name
    assert row["median_ms"] > 0
    assert (name == SKETCHES) == ("bound_MB" in row)


@pytest.mark.slow
def test_ways_in_processes_of_their_own():
    rows = one_gradient.measure_one_gradient("quick", lambda: None)
    assert [row["contestant"] for row in rows] == list(NAMES)
    assert rows[0]["of_joint"] == 1
    assert not any(row["error"] for row in rows if row["contestant"] in (JOINT, KEPT, SKETCHES))


def test_the_table_of_memory_and_its_target():
    numbers = {JOINT: (403, 1.0), KEPT: (1612, 4.5), SKETCHES: (404, 5.5), AUTOGRAM: (900, 9.0)}
    rows = pd.DataFrame(
        [
            {
                "case": "100M",
                "contestant": name,
                "allocated_MB": peak,
                "peak_MB": peak + 20,
                "gradients": peak / 403,
                "gradient_MB": 403.0,
            }
            | {"median_ms": 1000 * ratio, "of_joint": ratio, "bound_MB": 404.1 if name == SKETCHES else None, **HOST}
            for name, (peak, ratio) in numbers.items()
        ]
    )
    text = one_gradient_markdown(rows)
    assert "| gmd, gradients kept | 1612 | 4 | 1632 | 4500 | 4.5 |" in text
    assert "N + T d is 404 MB" in text
    [verdict] = targets.one_gradient_verdicts(rows)
    assert "reached" in verdict
    [verdict] = targets.one_gradient_verdicts(rows.assign(allocated_MB=500.0))
    assert "MISSED" in verdict
