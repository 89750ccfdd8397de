"""The benchmark of the whole step, of the norm and of the evaluation: ways that agree, tables and verdicts."""

import itertools

import pandas as pd
import pytest
import torch

from bench.measure import norm, step
from bench.tables import plot, targets
from bench.tables.evaluation import evaluation_markdown
from bench.tables.norm import norm_markdown
from bench.tables.results import errors
from bench.tables.step import step_markdown
from helpers.bench_host import HOST

pytestmark = pytest.mark.slow


def test_every_way_through_a_step_merges_to_the_same_gradients():
    """Also after a step, and for private parameters up to the factor T by which the published way shrinks them."""
    ours, theirs = (step.Step(way, width=0.0625, size=16) for way in ("exact float32", step.PUBLISHED))
    for _ in range(2):
        mine, published_result = ours.run(step.Stopwatch()), theirs.run(step.Stopwatch())
        assert step.shared_difference(ours.network, mine.merged, published_result.merged) < 5e-3
        theirs.network.load_state_dict(ours.network.state_dict())
    assert mine.basis.directions == (8, 8, 8, 8)
    private = [p for p, (name, _) in enumerate(ours.network.named_parameters()) if "norm" in name]
    assert all(sum(row[p] is None for row in mine.basis.rows) == 7 for p in private)
    assert all(row[p] is not None for row in published_result.basis.rows for p in private)
    whole, shrunk = (torch.cat([result.merged[p] for p in private]) for result in (mine, published_result))
    assert float((whole - 15 * shrunk).norm() / whole.norm()) < 5e-3


def test_wrong_values_of_a_step_are_not_timed(monkeypatch):
    ways = {name: step.WAYS[name] for name in (step.PUBLISHED, "exact float32")}
    monkeypatch.setattr(step, "WAYS", ways | {"exact float32": step.Way(tolerance=0.0)})
    rows = step.measure_step(width=0.0625, size=16, rounds=1, on_round=lambda: None)
    assert [bool(row["error"]) for row in rows] == [False, True]
    assert not any("median_ms" in row for row in rows)


def test_table_of_the_step_shows_its_phases():
    markdown = step_markdown(pd.DataFrame(step_rows())).splitlines()
    assert markdown[0].startswith("| ms | forward | backward | surgery | optimizer | total | speed-up | paths |")
    assert "| 32³ published | 400 | 9000 | 2000 | 20 | 11420 | 1.00x | 60 | 600 |  |" in markdown
    assert "| 32³ exact float32 | 400 | 8000 | 40 | 20 | 8460 | 1.35x | 32 | 300 | 0.02 % |" in markdown
    assert sum(line.startswith("| 48³") for line in markdown) == len(step.WAYS)


def test_verdicts_on_the_step_come_from_its_totals():
    sentences = targets.step_verdicts(pd.DataFrame(step_rows()))
    assert "exact float32, times_faster at least 1.4: MISSED in 2 of 2 cases, 1.35 in 32³" in sentences
    assert "exact float32, memory_of_published at most 0.6: reached, 0.5 in 32³" in sentences
    assert sum("no instructions for bfloat16" in sentence for sentence in sentences) == 2


def step_rows() -> list[dict]:
    whole = {"T": 15, "N": 3_245_235, "error": "", "commit": "abc", "bfloat16": "none"} | HOST
    ours = {"memory_of_published": 0.5, "peak_extra_MB": 300.0, "passes": 32, "value_error": 2e-4}
    theirs = {"memory_of_published": 1.0, "peak_extra_MB": 600.0, "passes": 60, "value_error": 0.0}
    rows = []
    for case in ("32³", "48³"):
        for way in step.WAYS:
            first = way == step.PUBLISHED
            taken = (400, 9000, 2000, 20, 11420) if first else (400, 8000, 40, 20, 8460)
            told = whole | {"case": case, "contestant": way} | (theirs if first else ours)
            rows += [
                told | {"phase": phase, "median_ms": ms, "times_faster": 11420 / taken[-1]}
                for phase, ms in zip((*step.PHASES, "total"), taken, strict=True)
            ]
    return rows


def test_the_picture_of_a_step_names_every_way_and_its_speed(tmp_path):
    figure = plot.draw_step(pd.DataFrame(step_rows()))
    assert plot.save(figure, tmp_path / "step.png").stat().st_size > 10_000
    for ax in figure.axes:
        assert [label.get_text() for label in ax.get_yticklabels()] == list(step.WAYS)[::-1]
        assert " 11.42 s, 1.0x" in [text.get_text() for text in ax.texts]


def norm_rows() -> list[dict]:
    """PyTorch takes three times as long, but at the lowest level as long as ours."""
    whole = {"error": "", "commit": "abc", "phase": "forward + backward", "batch": 1} | HOST
    kinds = itertools.product((32, 48), ("float32", "bfloat16"), norm.NORMS, (norm.OURS, norm.PYTORCH))
    return [
        whole
        | {"size": size, "dtype": dtype, "layout": "channels-last", "C": channels, "level": level}
        | {"contestant": who, "median_ms": 3.0 if who == norm.PYTORCH and level < 4 else 1.0}
        for size, dtype, (channels, level), who in kinds
    ]


def test_the_norms_of_a_pass_are_added_up_as_often_as_the_network_has_them():
    rows = pd.DataFrame(norm_rows())
    markdown = norm_markdown(rows).splitlines()
    assert f"| 32³, bfloat16, channels-last, batch 1 |{' 1, 3x |' * 7} 1, 1x | 18, 2.78x |" in markdown
    assert targets.norm_verdicts(rows) == ["PyTorch, ratio_to_ours at least 2.5: reached, 2.78 in 32³"]


def test_table_and_verdict_of_the_evaluation():
    told = {"commit": "abc", "error": "", "case": "32³", "peak_extra_MB": 5.0} | HOST
    rows = pd.DataFrame(
        [
            told | {"contestant": "ours", "median_ms": 100.0, "times_faster": 14.0, "passes": 4},
            told | {"contestant": "published", "median_ms": 1400.0, "times_faster": 1.0, "passes": 60},
        ]
    )
    assert "| 32³ ours | 100 | 14.0x | 4 | 5.0 |" in evaluation_markdown(rows).splitlines()
    assert targets.evaluation_verdicts(rows) == ["ours, times_faster at least 12: reached, 14 in 32³"]


def test_a_size_with_wrong_values_leaves_the_others_in_the_table():
    bad = {key: value for key, value in step_rows()[0].items() if key not in ("phase", "median_ms", "times_faster")}
    rows = pd.DataFrame([*step_rows(), bad | {"case": "64³", "error": "merged gradient differs"}])
    assert not any("64³" in line for line in step_markdown(rows).splitlines())
    assert len(plot.draw_step(rows).axes) == 2
    assert errors(rows) == ["64³, published: merged gradient differs"]
