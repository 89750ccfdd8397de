"""bench.measure.owm: values are judged before speed, and the table says what the rows say."""

import pandas as pd
import pytest
import torch

from bench.measure import owm
from bench.measure.owm import OURS, PRODUCT, PYTORCH, OwmCase, measure_case
from bench.tables import targets
from bench.tables.owm import owm_markdown

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("classes", "kept"), [(10, False), (101, False), (10, True)])
def test_a_case(classes: int, kept: bool):
    rows = measure_case(OwmCase(512, classes, 1, kept), rounds=1)
    assert [row["contestant"] for row in rows] == [OURS, PYTORCH, PRODUCT]
    for row in rows:
        assert row["error"] == ""
        assert row["value_error"] < owm.TOLERANCE
        assert 0 < row["p20_ms"] <= row["median_ms"] <= row["p80_ms"]
        assert row["fraction_of_floor"] == pytest.approx(row["floor_ms"] / row["median_ms"])
        assert row["traffic_MB"] == pytest.approx(4e-6 * (3 * 512**2 + 2 * 512 * classes))
    assert rows[0]["ratio_to_ours"] == 1
    assert rows[1]["ratio_to_ours"] == pytest.approx(rows[1]["median_ms"] / rows[0]["median_ms"])


def _only_the_projector(state):
    gradient = state.weight.grad.clone()
    owm.ours(state)
    return [state.projector, gradient]


def _only_the_gradient(state):
    projector = state.projector.clone()
    owm.ours(state)
    return [projector, state.weight.grad]


def _by_an_outer_product(state):
    """The published code's mistake."""
    k = state.projector @ state.mean_input
    state.projector -= torch.outer(k, k) / (owm.ALPHA + torch.outer(state.mean_input, k))
    state.weight.grad = state.weight.grad @ state.projector
    return [state.projector, state.weight.grad]


@pytest.mark.parametrize("wrong", [_only_the_projector, _only_the_gradient, _by_an_outer_product])
def test_who_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch, wrong):
    monkeypatch.setitem(owm.WAYS, PYTORCH, wrong)
    rows = {row["contestant"]: row for row in measure_case(OwmCase(512, 10, 1), rounds=1)}
    assert {name for name, row in rows.items() if row["error"]} == {PYTORCH}
    assert rows[PYTORCH]["median_ms"] is None
    assert "values differ from float64" in rows[PYTORCH]["error"]
    assert rows[OURS]["median_ms"] > 0


def test_every_call_has_a_gradient_and_an_input_of_its_own():
    state = owm.make_state(OwmCase(512, 10, 1))
    state.prepare()
    first = state.mean_input
    owm.ours(state)
    state.prepare()
    assert torch.equal(state.weight.grad, state.fresh)
    assert not torch.equal(state.mean_input, first)


def test_cases_and_threads():
    names = [case.name for case in owm.cases()]
    sizes = [f"d = {d}, C = {c}, 1 thread" for d in (512, 768) for c in (10, 101)]
    assert names == [size + where for where in ("", ", in the caches") for size in sizes]
    before = torch.get_num_threads()
    with owm.on_threads(2):
        assert torch.get_num_threads() == 2
        assert len(owm.cases()) == 16
    assert torch.get_num_threads() == before


def table(ours: float, theirs: float) -> pd.DataFrame:
    host = dict.fromkeys(("date", "cpu", "cores", "threads", "isa", "torch", "torchjd", "commit"), "?")
    times = {OURS: ours, PYTORCH: theirs, PRODUCT: 0.05}
    rows = [
        case.columns() | {"contestant": who, "median_ms": ms, "ratio_to_ours": ms / ours, "error": ""} | host
        for case in owm.cases()
        for who, ms in times.items()
    ]
    return pd.DataFrame(rows).assign(floor_ms=0.025, fraction_of_floor=0.25)


def test_the_table():
    head, _, line, *_ = owm_markdown(table(0.1, 0.4)).splitlines()
    assert head.startswith("| µs | owm_update_ |")
    assert line == "| d = 512, C = 10, 1 thread | 100 | 400, 4x | 50 | 25 | 25% |"


def test_the_verdicts():
    assert all("reached, 4" in verdict for verdict in targets.owm_verdicts(table(0.1, 0.4)))
    assert all("MISSED in 2 of 2 cases, 2" in verdict for verdict in targets.owm_verdicts(table(0.1, 0.2)))
    assert len(targets.owm_verdicts(table(0.1, 0.2))) == 4
