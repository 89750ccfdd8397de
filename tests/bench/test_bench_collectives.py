"""The table of collectives: what is committed is what a step does, and the model on paper adds up."""

import pytest

from bench.measure.collectives import FILE, WAYS, measure_collectives, row_of
from bench.measure.traffic import Traffic
from bench.tables.collectives import KINDS, collectives_markdown
from bench.tables.processes_model import MACHINES, TRAININGS, Machine, Training, processes_model_markdown, step_seconds
from bench.tables.results import read_results


@pytest.mark.slow
def test_the_committed_counts_are_those_of_today():
    today, committed = measure_collectives(), read_results(FILE)
    assert [row["way"] for row in today] == list(committed["way"]) == [way.name for way in WAYS]
    for row, (_, of_file) in zip(today, committed.iterrows(), strict=True):
        assert {kind: row[kind] for kind in KINDS} == {kind: of_file[kind] for kind in KINDS}, row["way"]
        assert row["sent"] == pytest.approx(of_file["sent"], rel=1e-4), row["way"]


def test_what_is_sent_is_told_in_multiples_of_the_parameters():
    traffic = Traffic(size=2)
    traffic.big.update(reduce_scatter=3, allgather=1)
    traffic.small.update(allreduce=2, broadcast=1)
    traffic.sent = 200.0  # half of the buffers, as there are two processes
    row = row_of("a", traffic, num_bytes=100)
    assert {kind: row[kind] for kind in KINDS} == {"reduce-scatter": 3, "all-gather": 1, "all-reduce": 0, "small": 3}
    assert row["sent"] == pytest.approx(4)


def test_the_table_of_collectives_has_every_way():
    table = collectives_markdown(read_results(FILE))
    assert all(f"| {way.name} |" in table for way in WAYS)


def test_the_model_is_bytes_over_bandwidth_and_messages_times_latency():
    quick = Machine("two", 2, bandwidth=1e9, latency=0.0)
    training = Training("x", parameters=1e9, objectives=3, units=1)
    seconds = step_seconds(quick, training)
    assert seconds["DDP, or local"] == pytest.approx(2 * 4 / 2)
    assert seconds["global"] == pytest.approx(4 * 4 / 2)
    assert seconds["an all-reduce each"] == pytest.approx(6 * 4 / 2)
    assert seconds["global, every=8"] == pytest.approx((8 + 7 * 4) / 8)
    slow = step_seconds(quick._replace(latency=1.0, bandwidth=float("inf"), processes=5), training)
    assert slow["global"] == pytest.approx(4 * 4.0)


def test_the_model_has_every_machine_and_training():
    table = processes_model_markdown()
    assert len(table.splitlines()) == 2 + len(MACHINES) * len(TRAININGS)
