"""The benchmark measures the right things: its peers compute what ours computes, and its figures are what they say."""

from math import prod

import pandas as pd
import pytest
import torch

import gmd_kernels as gk

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from bench import measure, oracle, plot, step, surgery, tables
from bench.cases import CASES, OBJECTIVES, SIZES, Case
from bench.contestants import OURS, PUBLISHED, TORCHJD, Contestant, contestants
from bench.host import host_columns
from bench.peers import TorchJD, plain_mean, published, torchjd_jacobians, torchjd_order
from bench.run import write_csv

SHAPES = ((8, 4, 3), (5,), (6, 7), (11,), *[(3,)] * 8)


def same(row, other) -> bool:
    """Bit for bit, `None` in the same places."""
    return all(g is o or torch.equal(g, o) for g, o in zip(row, other, strict=True))


@pytest.fixture(scope="module", params=OBJECTIVES)
def grads(request):
    return Case("small", SHAPES, request.param).gradients()


def test_registry_has_the_sizes_it_names():
    assert len(CASES) == len(OBJECTIVES) * len(SIZES) * 2
    for name, case in CASES.items():
        layout, size, t = name.split("-")
        assert len(case.shapes) == {"unet": 74, "transformer": 182}[layout]
        assert case.num_elements == pytest.approx(SIZES[size], rel=0.03)
        assert case.num_objectives == int(t[1:])


def test_small_tensors_are_many_and_weigh_little():
    for layout in ("unet", "transformer"):
        shapes = CASES[f"{layout}-5.6M-T15"].shapes
        vectors = [shape for shape in shapes if len(shape) == 1]
        assert len(vectors) > len(shapes) / 2
        assert sum(map(prod, vectors)) < 0.01 * CASES[f"{layout}-5.6M-T15"].num_elements


@pytest.mark.parametrize("t", OBJECTIVES)
def test_gradients_conflict_in_part_and_some_are_private(t):
    case = CASES[f"unet-0.5M-T{t}"]
    grads, again = case.gradients(), case.gradients()
    assert 0.05 < oracle.conflict_rate(oracle.exact_gram(grads)) < 0.5
    absent = [[g is None for g in row] for row in grads]
    assert 0 < sum(map(sum, absent)) < 0.1 * t * len(case.shapes)
    assert not any(map(all, zip(*absent, strict=True))), "a parameter that nobody reaches"
    assert all(same(row, other) for row, other in zip(grads, again, strict=True))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_published_procedure_computes_what_ours_computes(grads, reduction):
    order = gk.projection_order(len(grads), torch.Generator().manual_seed(3))
    total = gk.pcgrad_weights(gk.gram(grads), order).sum(dim=0)
    rows = oracle.rows_for(grads, total) if reduction == "mean" else total
    ours = gk.combine(grads, rows)
    for mine, theirs in zip(ours, published(grads, order, reduction), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-7)


def test_surgery_draws_the_order_that_the_published_procedure_is_given(grads):
    order = gk.projection_order(len(grads), torch.Generator().manual_seed(5))
    ours = gk.surgery(grads, generator=torch.Generator().manual_seed(5)).merged
    for mine, theirs in zip(ours, published(grads, order), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("skip_concatenation", [False, True])
def test_torchjd_computes_what_ours_computes_in_its_own_order(grads, skip_concatenation):
    total = gk.pcgrad_weights(gk.gram(grads), torchjd_order(len(grads), seed=7)).sum(dim=0)
    torchjd = TorchJD(grads, seed=7, stacked=skip_concatenation, skip_concatenation=skip_concatenation)
    torchjd.prepare()
    for mine, theirs in zip(gk.combine(grads, total), torchjd(), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-7)


def test_oracle_is_the_projection_of_the_vectors_themselves(grads):
    order = gk.projection_order(len(grads), torch.Generator().manual_seed(1))
    flat = [jacobian.flatten(1).double() for jacobian in torchjd_jacobians(grads)]
    vectors = torch.cat(flat, dim=1)
    total = torch.zeros_like(vectors[0])
    for i, others in enumerate(order.tolist()):
        projected = vectors[i].clone()
        for j in others:
            if (product := projected @ vectors[j]) < 0:
                projected -= product / (vectors[j] @ vectors[j]) * vectors[j]
        total += projected
    weights = oracle.exact_weights(oracle.exact_gram(grads), order)
    torch.testing.assert_close(weights @ vectors, total, rtol=1e-9, atol=1e-15)


def test_plain_mean_is_the_mean_and_leaves_the_gradients_alone(grads):
    before = [[None if g is None else g.clone() for g in row] for row in grads]
    rows = oracle.rows_for(grads, torch.ones(len(grads), dtype=torch.float64))
    assert oracle.merge_error(plain_mean(grads), oracle.exact_merge(grads, rows)) < 1e-6
    assert all(same(row, old) for row, old in zip(grads, before, strict=True))


def test_every_contestant_passes_its_own_check_and_a_wrong_one_does_not(grads):
    everyone = contestants(grads, oracle.exact_gram(grads))
    assert {OURS, PUBLISHED, TORCHJD} <= {contestant.name for contestant in everyone}
    for contestant in everyone:
        contestant.prepare()
        assert contestant.error(contestant.call()) <= contestant.tolerance, contestant.name
    peer = next(contestant for contestant in everyone if contestant.name == PUBLISHED)
    assert peer.error(plain_mean(grads)) > 5 * peer.tolerance, "forgetting the projections must show"


def test_wrong_values_get_an_error_and_no_time(monkeypatch):
    def with_one_wrong(grads, gram):
        everyone = contestants(grads, gram)
        return [*everyone[:3], Contestant("wrong", 1, lambda: plain_mean(grads), everyone[2].error)]

    monkeypatch.setattr(surgery, "contestants", with_one_wrong)
    table = pd.DataFrame(surgery.measure_surgery(Case("small-1K-T4", SHAPES, 4), on_round=lambda: None))
    wrong = table.set_index("contestant").loc["wrong"]
    assert pd.isna(wrong["median_ms"])
    assert "differ from float64" in wrong["error"]
    assert [line.split(":")[0] for line in tables.errors(table)] == ["small-1K-T4, wrong"]
    assert table.set_index("contestant").loc[OURS, "ratio_to_ours"] == 1


def test_when_ours_is_wrong_the_table_still_shows_the_others(monkeypatch):
    nonsense = {"_surgery": plain_mean, "_reference_surgery": plain_mean}
    for name, replacement in nonsense.items():
        monkeypatch.setattr(f"bench.contestants.{name}", replacement)
    table = pd.DataFrame(surgery.measure_surgery(Case("small-1K-T4", SHAPES, 4), on_round=lambda: None))
    shown = tables.surgery_table(table).loc["small-1K-T4"]
    assert pd.isna(shown[OURS])
    assert shown[PUBLISHED] > 0
    assert [line.split(":")[0] for line in tables.errors(table)] == [
        "small-1K-T4, surgery (ours)",
        "small-1K-T4, surgery (reference)",
    ]


def test_floor_is_bytes_over_bandwidth():
    # T = 15: 31 passes over 5.6 million float32 at 10 GB/s
    assert measure.floor_ms(31, 5_600_000, 10.0) == pytest.approx(69.44)
    everyone = contestants(small := Case("small", SHAPES, 7).gradients(), oracle.exact_gram(small))
    passes = {contestant.name: contestant.passes for contestant in everyone}
    assert passes[OURS] == passes[PUBLISHED] == passes[TORCHJD] == passes["gram"] + passes["combine"] == 2 * 7 + 1


def test_peak_memory_sees_what_torch_allocates_and_frees():
    def twenty_megabytes() -> float:
        return float(torch.ones(5_000_000).sum())

    result, megabytes = measure.with_peak_memory(Contestant("", 1, twenty_megabytes, error=lambda result: 0.0))
    assert result == 5_000_000
    if megabytes is None:
        pytest.skip("this system does not keep a resettable peak of resident memory")
    assert 19 < megabytes < 40


def test_csv_is_whole_or_untouched(tmp_path):
    path = tmp_path / "results" / "some.csv"
    write_csv(path, [{"case": "a", "median_ms": 1.25}, {"case": "b", "error": "wrong"}], {"cpu": "x, y"})
    table = pd.read_csv(path, keep_default_na=False)
    assert list(table.columns) == ["case", "median_ms", "cpu", "error"]
    assert table.values.tolist() == [["a", "1.25", "x, y", "n/a"], ["b", "n/a", "x, y", "wrong"]]

    class Unprintable:
        def __str__(self):
            raise RuntimeError("in the middle of writing")

    with pytest.raises(RuntimeError):
        write_csv(path, [{"case": "c"}, {"case": Unprintable()}], {})
    assert pd.read_csv(path, keep_default_na=False).equals(table)
    assert list(path.parent.iterdir()) == [path]


def test_targets_are_judged_by_the_ratio_at_the_target_cases():
    rows = [
        {"case": case, "contestant": peer, "ratio_to_ours": ratio}
        for case, (slow, fast) in zip(tables.TARGET_CASES, [(31.0, 5.9), (29.0, 6.1)], strict=True)
        for peer, ratio in ((PUBLISHED, slow), (TORCHJD, fast))
    ]
    verdicts = [line.split(": ", 1)[1] for line in tables.targets(pd.DataFrame(rows))]
    assert verdicts == ["reached: 31.0x", "MISSED: 5.9x", "MISSED: 29.0x", "reached: 6.1x"]


def test_both_ways_through_a_step_merge_to_the_same_gradients():
    """Also after a step, and for private parameters up to the factor T by which the published way shrinks them."""
    ours, theirs = step.Step(width=0.0625, size=16), step.Step(width=0.0625, size=16)
    for _ in range(2):
        mine, published_result = step.our_step(ours, step.Stopwatch()), step.published_step(theirs, step.Stopwatch())
        assert step.shared_difference(ours.network, mine.merged, published_result.merged) < step.TOLERANCE
        theirs.network.load_state_dict(ours.network.state_dict())
    assert len(mine.grads) == 15
    private = [p for p, (name, _) in enumerate(ours.network.named_parameters()) if "norm" in name]
    assert all(sum(row[p] is None for row in mine.grads) == 7 for p in private)
    assert all(row[p] is not None for row in published_result.grads for p in private)
    torch.testing.assert_close(
        torch.cat([mine.merged[p] for p in private]),
        15 * torch.cat([published_result.merged[p] for p in private]),
        rtol=1e-3,
        atol=1e-6,
    )


def test_tables_and_pictures_come_from_the_rows(tmp_path):
    cases = [Case(f"small-1K-T{t}", SHAPES, t) for t in (3, 15)]
    rows = [row for case in cases for row in surgery.measure_surgery(case, on_round=lambda: None)]
    whole = {"size": 32, "T": 15, "N": 5_900_000, "peak_extra_MB": 600.0, "error": ""}
    times = {step.OURS: (400, 8000, 40, 20, 8460), step.PUBLISHED: (400, 9000, 2000, 20, 11420)}
    steps = [
        whole | {"contestant": name, "phase": phase, "median_ms": ms}
        for name, taken in times.items()
        for phase, ms in zip((*step.PHASES, "total"), taken, strict=True)
    ]
    host = host_columns()
    rows, steps = write_csv(tmp_path / "a.csv", rows, host), write_csv(tmp_path / "b.csv", steps, host)

    assert list(tables.surgery_table(rows).index) == ["small-1K-T3", "small-1K-T15"]
    assert tables.surgery_markdown(rows).splitlines()[2].startswith("| small-1K | ")
    markdown = tables.step_markdown(steps).splitlines()
    assert "| ours | 400 | 8000 | 40 | 20 | 8460 | 600 MB |" in markdown
    assert "| published | 400 | 9000 | 2000 | 20 | 11420 | 600 MB |" in markdown
    for figure, name in ((plot.draw_surgery(rows), "a.png"), (plot.draw_step(steps), "b.png")):
        assert plot.save(figure, tmp_path / name).stat().st_size > 10_000
