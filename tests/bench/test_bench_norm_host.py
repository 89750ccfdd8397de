"""bench.measure.norm_host: every contestant goes the way that its name says, and the table says what the rows say."""

import pandas as pd
import pytest

from bench.measure import norm_host
from bench.measure.norm_host import BACKWARD, OURS, PYTORCH, RECORDED, SMALL, TRITON, UNGRADED
from bench.tables.norm_host import norm_host_markdown, norm_host_verdicts

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_way_is_measured(monkeypatch):
    """But Triton's, which in the tests runs in its interpreter: tests/kernels/triton/test_triton_launches.py."""
    monkeypatch.setattr(norm_host, "CALLS", 2)
    monkeypatch.setattr(norm_host, "has_triton", lambda: False)
    rows = norm_host.measure_norm_host(1, lambda: None)
    assert {(row["way"], row["contestant"]) for row in rows} == {
        (way, name) for way in (UNGRADED, RECORDED, BACKWARD) for name in (OURS, SMALL, PYTORCH)
    }
    assert all(row["calls"] == 2 for row in rows)
    assert all(0 < row["p20_us"] <= row["median_us"] for row in rows if row["way"] != BACKWARD)


def test_without_triton_its_way_is_left_out(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert not norm_host.has_triton()


def rows_of(ours: float, **others: float) -> pd.DataFrame:
    host = dict.fromkeys(("date", "cpu", "cores", "threads", "isa", "torch", "torchjd", "commit"), "?")
    names = {OURS: ours, SMALL: 30.0, PYTORCH: 25.0, **others}
    ways = (UNGRADED, RECORDED, BACKWARD)
    return pd.DataFrame(
        [{"way": way, "contestant": name, "median_us": us} | host for way in ways for name, us in names.items()]
    )


def test_the_table_and_the_verdicts():
    table = norm_host_markdown(rows_of(9.0, **{TRITON: 90.0})).splitlines()
    assert table[0] == f"| µs a call | {OURS} | {SMALL} | {TRITON} | {PYTORCH} |"
    assert table[2] == f"| {UNGRADED} | 9 | 30 | 90 | 25 |"
    assert TRITON not in norm_host_markdown(rows_of(9.0)), "it was not installed"
    for us, said in ((19.0, "reached"), (21.0, "missed")):
        forward, backward = norm_host_verdicts(rows_of(us, **{TRITON: 90.0}))
        assert forward == (
            f"host's part of the norm, {RECORDED}: {us:.0f} µs without CUDA's own calls, expected at most 20: {said}, "
            "through Triton 90"
        )
        assert BACKWARD in backward
