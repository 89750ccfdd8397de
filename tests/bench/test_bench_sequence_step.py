"""The benchmark of the transformers' steps: ways that agree, figures that are what they say, tables and verdicts."""

import pandas as pd
import pytest
import torch

from helpers.bench_host import HOST

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from bench.measure import cggm_step, sequence_step, sequences
from bench.measure.step import Stopwatch
from bench.tables import targets
from bench.tables.sequences import cggm_markdown, sequence_step_markdown

SMALL = {"width": 8, "layers": 1}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Few samples and steps, of few numbers; what is compared is the same."""
    for name, value in {"FEATURES": {"text": 9, "audio": 4, "vision": 3}, "BATCH": 6, "LENGTH": 5}.items():
        monkeypatch.setattr(sequences, name, value)
    sequences._trained.cache_clear()
    yield
    sequences._trained.cache_clear()


def test_every_way_through_a_step_merges_to_the_same_gradients():
    """Also after a step, and for private parameters up to the factor T by which the published way shrinks them."""
    steps = {way: sequence_step.Step(way, **SMALL) for way in (sequence_step.PUBLISHED, *EXACT)}
    for _ in range(2):
        results = {way: step.run(Stopwatch()) for way, step in steps.items()}
        theirs = results[sequence_step.PUBLISHED]
        for way in EXACT:
            network = steps[way].network
            assert sequence_step.shared_difference(network, results[way].merged, theirs.merged) < 1e-4
            private = [p for p, (name, _) in enumerate(network.named_parameters()) if name.startswith("inputs.")]
            whole, shrunk = (torch.cat([one.merged[p].flatten() for p in private]) for one in (results[way], theirs))
            assert (whole - 7 * shrunk).norm() / whole.norm() < 1e-4
        for step in steps.values():
            step.network.load_state_dict(steps[sequence_step.PUBLISHED].network.state_dict())


EXACT = (sequence_step.PLAIN, sequence_step.EXACT, sequence_step.BY_SAMPLE)


def test_the_published_way_goes_through_all_modalities_for_every_objective():
    rows = {row["contestant"]: row for row in sequence_step.measure_sequence_step(**SMALL, rounds=1, on_round=int)}
    passes = {way: row["passes"] for way, row in rows.items()}
    assert passes[sequence_step.PUBLISHED] == 21
    assert passes[sequence_step.EXACT] == passes[sequence_step.PLAIN] == 12
    assert passes[sequence_step.MEAN] == passes[sequence_step.BY_SAMPLE] == 3
    assert passes[sequence_step.COMPRESSED] <= 12
    assert all(row["error"] == "" for row in rows.values())


def test_every_way_has_the_time_of_its_phases():
    rows = pd.DataFrame(sequence_step.measure_sequence_step(**SMALL, rounds=1, on_round=int))
    times = rows.pivot(index="contestant", columns="phase", values="median_ms")
    pd.testing.assert_series_equal(times[list(sequence_step.PHASES)].sum(axis=1), times["total"], check_names=False)
    assert (rows["median_ms"] > 0).all()


def test_wrong_values_of_a_step_are_not_timed(monkeypatch: pytest.MonkeyPatch):
    never = sequence_step.WAYS[sequence_step.EXACT]._replace(tolerance=-1.0)
    monkeypatch.setattr(sequence_step, "WAYS", sequence_step.WAYS | {sequence_step.EXACT: never})
    rows = sequence_step.measure_sequence_step(**SMALL, rounds=1, on_round=int)
    assert [row["contestant"] for row in rows if row["error"]] == [sequence_step.EXACT]
    assert not any("median_ms" in row for row in rows)


def test_cggm_s_gradients_are_joint_s_modulated_and_its_memory_is_counted():
    rows = pd.DataFrame(cggm_step.measure_cggm(**SMALL, rounds=1, on_round=int))
    assert (rows["error"] == "").all()
    whole = rows[rows["phase"] == "total"].set_index("contestant")
    assert whole.loc[cggm_step.JOINT, ["overhead", "held_MB", "extra_MB"]].tolist() == [0, 0, 0]
    # three classifiers of 8 weights and a bias with Adam's two moments, a counter each; and the balance
    assert 3 * 9 * 3 * 4e-6 < whole.loc["cggm", "held_MB"] < 3 * 9 * 3 * 4e-6 + 1e-3
    assert whole.loc["cggm", "extra_MB"] >= whole.loc["cggm", "held_MB"]


def test_a_wrong_factor_is_found():
    joint, ours = (cggm_step.Step(way, **SMALL) for way in (cggm_step.JOINT, cggm_step.MAGNITUDE))
    joint.run(Stopwatch())
    report = ours.run(Stopwatch())
    assert cggm_step.modulation_error(ours, report, joint) < cggm_step.TOLERANCE
    report.modality["factor"][1] *= 1.01
    assert cggm_step.modulation_error(ours, report, joint) == pytest.approx(0.01, rel=0.05)


def timed(case: str, contestant: str, total: float, **told: object) -> list[dict]:
    phases = {"forward": 0.2 * total, "gradients": 0.7 * total, "optimizer": 0.1 * total, "total": total}
    whole = {"case": case, "contestant": contestant, "error": "", "commit": "abc"} | HOST | told
    return [whole | {"phase": phase, "median_ms": ms} for phase, ms in phases.items()]


def test_table_and_verdict_of_the_step():
    told = {"peak_extra_MB": 50.0, "value_error": 2e-6}
    rows = timed("width 64", "published", 500.0, times_faster=1.0, passes=21, peak_extra_MB=60.0, value_error=0.0)
    rows += timed("width 64", "exact by sample", 250.0, times_faster=2.0, passes=12, **told)
    rows += timed("width 128", "exact by sample", 250.0, times_faster=4.0, passes=12, **told)
    table = sequence_step_markdown(pd.DataFrame(rows)).splitlines()
    assert "| width 64: published | 100 | 350 | 50 | 500 | 1.00x | 21 | 60 |  |" in table
    assert "| width 64: exact by sample | 50 | 175 | 25 | 250 | 2.00x | 12 | 50 | 0.0002 % |" in table
    [verdict] = targets.sequence_step_verdicts(pd.DataFrame(rows))
    assert verdict == "exact by sample, times_faster at least 3: MISSED in 1 of 2 cases, 2 in width 64"


def test_table_and_verdicts_of_cggm():
    rows = timed("width 64", "joint", 100.0, overhead=0.0, extra_MB=0.0)
    rows += timed("width 64", "cggm", 115.0, overhead=0.15, extra_MB=9.0)
    table = cggm_markdown(pd.DataFrame(rows)).splitlines()
    assert "| width 64: joint | 20 | 70 | 10 | 100 |  |  |" in table
    assert "| width 64: cggm | 23 | 80.5 | 11.5 | 115 | +15.0 % | 9.000 |" in table
    assert targets.cggm_verdicts(pd.DataFrame(rows)) == [
        "cggm, overhead at most 0.2: reached, 0.15 in width 64",
        "cggm, extra_MB at most 8: MISSED in 1 of 1 cases, 9 in width 64",
    ]


def test_tables_and_verdicts_of_wrong_values_say_so():
    rows = pd.DataFrame([{"case": "width 64", "contestant": "exact", "error": "merged gradient differs"}])
    for markdown in (sequence_step_markdown, cggm_markdown):
        assert markdown(rows) == "not measured: wrong values"
    for verdicts in (targets.sequence_step_verdicts, targets.cggm_verdicts):
        assert "not measured, wrong values" in verdicts(rows)[0]
