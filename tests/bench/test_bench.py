"""The benchmark measures the right things: its peers compute what ours computes, and its figures are what they say."""

import ctypes
import warnings
from math import prod

import pandas as pd
import pytest
import torch

import gmd_kernels as gk
from helpers.bench_host import HOST

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from bench.measure import oracle, surgery
from bench.measure import timing as measure
from bench.measure.cases import CASES, LAYOUTS, Case
from bench.measure.contestants import (
    COMBINE,
    GRAM,
    LIBMTL,
    MEAN,
    OURS,
    OURS_IN_PLACE,
    PCGRAD,
    PUBLISHED,
    REFERENCE,
    TORCHJD,
    Contestant,
    InPlace,
    Work,
    contestants,
)
from bench.measure.files import write_csv
from bench.measure.host import host_columns
from bench.measure.peers import (
    TorchJD,
    libmtl,
    peer_order,
    plain_mean,
    published,
    pytorch_pcgrad,
    torchjd_jacobians,
    torchjd_order,
)
from bench.tables import plot, targets
from bench.tables import surgery as tables

SHAPES = ((8, 4, 3), (5,), (6, 7), (11,), *[(3,)] * 8)
OBJECTIVES = (3, 4, 7, 15)


def small_case(t: int, dtype: torch.dtype = torch.float32) -> Case:
    return Case("tiny-1K", SHAPES, t, dtype)


def same(row, other) -> bool:
    """Bit for bit, `None` in the same places."""
    return all(g is o or torch.equal(g, o) for g, o in zip(row, other, strict=True))


@pytest.fixture(scope="module", params=OBJECTIVES)
def grads(request):
    return small_case(request.param).gradients()


# the registry


def test_registry_has_the_cases_that_the_targets_name():
    float32 = {f"{layout}-5.6M-T{t}" for layout in ("unet", "transformer") for t in (4, 7, 15)}
    bf16 = {f"transformer-5.6M-T{t}-bf16" for t in (4, 7, 15)}
    assert {*float32, *bf16, "small-0.3M-T7"} <= CASES.keys()
    assert {*float32, "transformer-16M-T15"} == set(targets.LARGE)
    assert bf16 == set(targets.BF16)


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_what_its_name_says(name):
    case = CASES[name]
    layout, size, t, *suffix = name.split("-")
    assert case.name == name
    assert len(case.shapes) == {"unet": 74, "transformer": 182, "small": 120}[layout]
    assert case.num_elements == pytest.approx(1e6 * float(size.rstrip("M")), rel=0.03)
    assert case.num_objectives == int(t[1:])
    types = {(): torch.float32, ("bf16",): torch.bfloat16, ("fp16",): torch.float16, ("fp64",): torch.float64}
    assert case.dtype == types[tuple(suffix)]
    assert case.num_bytes == case.num_elements * torch.finfo(case.dtype).bits // 8


@pytest.mark.parametrize("layout", LAYOUTS)
def test_small_tensors_are_many_and_weigh_little(layout):
    vectors = [shape for shape in LAYOUTS[layout] if len(shape) == 1]
    assert len(vectors) > len(LAYOUTS[layout]) / 2
    assert sum(map(prod, vectors)) < 0.04 * sum(map(prod, LAYOUTS[layout]))


@pytest.mark.parametrize("t", OBJECTIVES)
def test_gradients_conflict_in_part_and_some_are_private(t):
    case = Case("small-0.3M", LAYOUTS["small-0.3M"], t)
    grads, again = case.gradients(), case.gradients()
    assert 0.05 < oracle.conflict_rate(oracle.exact_gram(grads)) < 0.5
    absent = [[g is None for g in row] for row in grads]
    assert 0 < sum(map(sum, absent)) < 0.1 * t * len(case.shapes)
    assert not any(map(all, zip(*absent, strict=True))), "a parameter that nobody reaches"
    assert all(same(row, other) for row, other in zip(grads, again, strict=True))


# the peers and the oracle


def flat(grads) -> torch.Tensor:
    """[T, N] float64, zeros for `None`."""
    return torch.cat([jacobian.flatten(1).double() for jacobian in torchjd_jacobians(grads)], dim=1)


@pytest.mark.parametrize("itself", [False, True])
def test_oracle_is_the_projection_of_the_vectors_themselves(grads, itself):
    order = peer_order(len(grads), seed=1) if itself else gk.projection_order(len(grads))
    vectors = flat(grads)
    total = torch.zeros_like(vectors[0])
    for i, others in enumerate(order.tolist()):
        projected = vectors[i].clone()
        for j in others:
            if (product := projected @ vectors[j]) < 0:
                projected -= product / (vectors[j] @ vectors[j]) * vectors[j]
        total += projected
    weights = oracle.exact_weights(oracle.exact_gram(grads), order)
    torch.testing.assert_close(weights @ vectors, total, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("peer", [published, pytorch_pcgrad, libmtl])
def test_flat_peers_compute_what_ours_computes(grads, peer):
    order = gk.projection_order(len(grads), torch.Generator().manual_seed(3))
    total = gk.pcgrad_weights(gk.gram(grads), order).sum(dim=0)
    ours = gk.combine(grads, total if peer is libmtl else oracle.rows_for(grads, total))
    before = [[None if g is None else g.clone() for g in row] for row in grads]
    for mine, theirs in zip(ours, peer(grads, order), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-7)
    assert all(same(row, old) for row, old in zip(grads, before, strict=True))


def test_flat_peers_are_given_shuffles_of_all_objectives():
    order = peer_order(15, seed=0)
    assert order.sort(dim=1).values.tolist() == [list(range(15))] * 15
    assert len({tuple(row) for row in order.tolist()}) == 15


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


def test_plain_mean_is_the_mean_and_leaves_the_gradients_alone(grads):
    before = [[None if g is None else g.clone() for g in row] for row in grads]
    rows = oracle.rows_for(grads, torch.ones(len(grads), dtype=torch.float64))
    assert oracle.merge_error(plain_mean(grads), oracle.exact_merge(grads, rows)) < 1e-6
    assert all(same(row, old) for row, old in zip(grads, before, strict=True))


# the contestants


@pytest.mark.parametrize("t", OBJECTIVES)
def test_every_contestant_passes_its_own_check_and_a_wrong_one_does_not(t):
    grads = small_case(t).gradients()
    everyone = contestants(small_case(t), grads, oracle.exact_gram(grads))
    assert {OURS, PUBLISHED, PCGRAD, LIBMTL, TORCHJD} <= {contestant.name for contestant in everyone}
    for contestant in everyone:
        contestant.prepare()
        assert contestant.error(contestant.call()) <= contestant.tolerance, contestant.name
        if contestant.name not in (GRAM, MEAN):
            unsurgical = plain_mean(grads)
            assert contestant.error(unsurgical) > 5 * contestant.tolerance, "forgetting the projections must show"


@pytest.mark.filterwarnings("ignore::gmd_kernels.FallbackWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_meet_ours_alone_and_are_judged_by_their_rounding(dtype):
    case = small_case(7, dtype)
    grads = case.gradients()
    everyone = contestants(case, grads, oracle.exact_gram(grads))
    assert not {PUBLISHED, PCGRAD, LIBMTL, TORCHJD} & {contestant.name for contestant in everyone}
    for contestant in everyone:
        contestant.prepare()
        result = contestant.call()
        assert contestant.error(result) <= contestant.tolerance <= 1e-2, contestant.name
        if contestant.name != GRAM:
            assert {merged.dtype for merged in result} == {dtype}
            assert contestant.error([merged * 1.02 for merged in result]) > contestant.tolerance


def test_in_place_results_lie_over_a_copy_of_the_first_gradients(grads):
    before = [[None if g is None else g.clone() for g in row] for row in grads]
    in_place = InPlace(grads, torch.ones(len(grads[0]), len(grads), dtype=torch.float64))
    for _ in range(2):
        in_place.prepare()
        merged = in_place.combine()
        for place, copy, result in zip(in_place.out, in_place.grads[0], merged, strict=True):
            assert result is place
            assert copy is None or copy is place
    expected = gk.combine(grads, in_place.rows)
    assert same(merged, expected)
    assert all(same(row, old) for row, old in zip(grads, before, strict=True))


# what a wrong or a missing contestant leaves in the rows


def test_wrong_values_get_an_error_and_no_time(monkeypatch):
    def with_one_wrong(case, grads, gram):
        everyone = contestants(case, grads, gram)
        judge = next(contestant for contestant in everyone if contestant.name == OURS)
        return [*everyone, Contestant("wrong", Work(1, 0), lambda: plain_mean(grads), judge.error)]

    monkeypatch.setattr(surgery, "contestants", with_one_wrong)
    table = pd.DataFrame(surgery.measure_surgery(small_case(4), on_round=lambda: None))
    wrong = table.set_index("contestant").loc["wrong"]
    assert pd.isna(wrong["median_ms"])
    assert "differ from float64" in wrong["error"]
    assert [line.split(":")[0] for line in tables.errors(table)] == ["tiny-1K-T4, wrong"]
    assert table.set_index("contestant").loc[OURS, "ratio_to_ours"] == 1


def test_kernels_that_fall_back_get_an_error_and_no_time(monkeypatch):
    def fallen_back(grads):
        warnings.warn("no kernels for this", gk.FallbackWarning, stacklevel=1)
        return plain_mean(grads)

    monkeypatch.setattr("bench.measure.contestants._surgery", fallen_back)
    table = pd.DataFrame(surgery.measure_surgery(small_case(4), on_round=lambda: None)).set_index("contestant")
    assert table.loc[OURS, "error"] == "no kernels for this"
    assert table.loc[[OURS, GRAM], "median_ms"].isna().tolist() == [True, False]


def test_when_ours_is_wrong_the_tables_still_show_the_others(monkeypatch):
    for name in ("_surgery", "_reference_surgery"):
        monkeypatch.setattr(f"bench.measure.contestants.{name}", plain_mean)
    rows = surgery.measure_surgery(small_case(4), on_round=lambda: None)
    table = pd.DataFrame([row | host_columns() for row in surgery.with_ratio_to_float32(rows)])
    ours, torchjd = tables.surgery_markdown(table).splitlines()[2].split("|")[2:4]
    assert ours.strip() == "n/a"
    assert float(torchjd.split(",")[0]) > 0
    assert "n/a" in tables.kernels_markdown(table)
    assert [line.split(":")[0] for line in tables.errors(table)] == [f"tiny-1K-T4, {who}" for who in (OURS, REFERENCE)]


# figures


def test_floor_is_bytes_over_bandwidth():
    # T = 15, N = 5.6 million float32: 29 reads at 20 GB/s, and one copy, which reads and writes, at 10 GB/s
    assert measure.floor_ms(Work(29, 1), 22_400_000, 20.0, 10.0) == pytest.approx(32.48 + 4.48)


def test_works_of_the_contestants():
    grads = small_case(7).gradients()
    works = {c.name: c.work for c in contestants(small_case(7), grads, oracle.exact_gram(grads))}
    assert works[GRAM] == (7, 0)
    assert works[COMBINE] == works[MEAN] == (6, 1)
    assert works[OURS] == works[OURS_IN_PLACE] == works[PUBLISHED] == works[TORCHJD] == works[LIBMTL] == (13, 1)


def test_bandwidth_is_that_of_the_fastest_code_by_its_median(monkeypatch):
    seconds = iter([4.0, 2.0, 9.0, 9.0, 9.0, 8.0, 9.0] * 100)  # four codes read, three copy
    monkeypatch.setattr(measure, "_seconds", lambda call: next(seconds))
    bandwidth = measure.Bandwidth(2**20)
    bandwidth.sample()
    gigabytes = 2**20 / 1e9
    assert bandwidth.of_the_fastest() == {"read_GBps": gigabytes / 2, "copy_GBps": gigabytes / 8}


def test_bandwidth_is_positive():
    assert all(value > 0 for value in measure.Bandwidth(2**20).of_the_fastest().values())


def test_peak_memory_sees_what_torch_allocates_and_frees():
    result, megabytes = measure.with_peak_memory(lambda: float(torch.ones(5_000_000).sum()))
    assert result == 5_000_000
    if megabytes is None:
        pytest.skip("this system does not keep a resettable peak of resident memory")
    assert 19 < megabytes < 40


@pytest.mark.parametrize("floats", [5_000_000, 7_000_000, 50_000_000])
def test_peak_memory_sees_a_tensor_that_malloc_would_put_where_another_was(floats):
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("not a glibc whose heap this is about")
    libc.sbrk.argtypes = [ctypes.c_ssize_t]
    libc.mallopt(-3, 2**25)  # tensors up to this size come out of the heap, as after many others
    freed = [torch.ones(5_000_000) for _ in range(floats // 5_000_000)]
    libc.sbrk(4096)  # whoever else moves the end of the heap keeps malloc_trim from giving it back
    del freed
    for twice in range(2):
        result, megabytes = measure.with_peak_memory(lambda: float((torch.ones(5_000_000) + 1).sum()))
        assert result == 10_000_000
        if megabytes is None:
            pytest.skip("this system does not keep a resettable peak of resident memory")
        assert 39 < megabytes < 60, twice


@pytest.mark.parametrize(("result_bytes", "beyond"), [(0, 40), (20_000_000, 20), (100_000_000, 0)])
def test_memory_beyond_the_result_leaves_the_result_out(result_bytes, beyond):
    def twenty_megabytes_by_way_of_twenty_more() -> torch.Tensor:
        return torch.ones(5_000_000) + 1

    call, error = twenty_megabytes_by_way_of_twenty_more, lambda result: 0.0
    checked = surgery._check(Contestant("", Work(1, 0), call, error, result_bytes=result_bytes))
    if pd.isna(checked["peak_extra_MB"]):
        pytest.skip("this system does not keep a resettable peak of resident memory")
    assert checked["beyond_result_MB"] == pytest.approx(beyond, abs=3)


def test_slow_contestants_take_part_in_fewer_rounds(monkeypatch):
    fast, slow, slowest = (Contestant(name, Work(1, 0), None, None) for name in ("fast", "slow", "slowest"))
    lasting = {"fast": 50.0, "slow": 1500.0, "slowest": 6000.0}
    monkeypatch.setattr(measure, "milliseconds", lambda contestant: lasting[contestant.name])
    times = measure.interleaved([fast, slow, slowest], on_round=lambda: None)
    assert [len(times[name]) for name in lasting] == [7, 3, 2]


def test_ratio_to_float32_is_taken_at_the_same_layout_and_objectives():
    def row(layout, t, dtype, who, ms):
        return {"layout": layout, "T": t, "dtype": dtype, "contestant": who, "median_ms": ms}

    rows = [row("a", 4, "float32", GRAM, 10.0), row("a", 4, "bfloat16", GRAM, 4.0), row("a", 7, "bfloat16", GRAM, 4.0)]
    ratios = [row["ratio_to_float32"] for row in surgery.with_ratio_to_float32(rows)]
    assert ratios[:2] == [1.0, 0.4]
    assert pd.isna(ratios[2])


# files, sentences, tables, pictures


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


@pytest.mark.parametrize("commit", ["2724416", "12e4567", "0012345"])
def test_a_commit_of_digits_is_read_as_it_was_written(tmp_path, commit):
    write_csv(tmp_path / "some.csv", [{"case": "a"}], HOST | {"commit": commit})
    assert f"gmd {commit};" in tables.footnote(tables.read_results(tmp_path / "some.csv"))


def test_every_row_names_the_host():
    host = host_columns()
    assert host["cores"] >= 1
    assert host["threads"] == torch.get_num_threads()
    assert host["torch"] == torch.__version__
    assert {"cpu", "isa", "torch_isa", "torchjd", "commit", "date"} <= host.keys()
    assert all(value not in (None, "") for value in host.values())


def test_targets_name_contestants_and_columns_that_are_measured():
    grads = small_case(4).gradients()
    names = {contestant.name for contestant in contestants(small_case(4), grads, oracle.exact_gram(grads))}
    row = surgery.with_ratio_to_float32(surgery.measure_surgery(small_case(4), on_round=lambda: None))[0]
    for target in targets.TARGETS:
        assert target.contestant in names
        assert target.quantity in row
        assert target.bound in targets.BOUNDS
        assert set(target.cases) <= CASES.keys()


def test_targets_are_judged_by_the_case_that_is_furthest_off():
    rows = [("a-T4", GRAM, 0.95, 1.0), ("a-T7", GRAM, 0.85, 0.7), ("a-T4", COMBINE, float("nan"), 0.4)]
    table = pd.DataFrame(rows, columns=["case", "contestant", "fraction_of_floor", "median_ms"])
    both = ("a-T4", "a-T7")
    sentences = targets.verdicts(
        table,
        [
            targets.Target(GRAM, "fraction_of_floor", "at least", 0.9, both),
            targets.Target(GRAM, "fraction_of_floor", "at least", 0.9, both[:1]),
            targets.Target(GRAM, "median_ms", "at most", 0.8, both),
            targets.Target(COMBINE, "fraction_of_floor", "at least", 0.9, both),
            targets.Target(COMBINE, "median_ms", "at most", 0.8, both),
            targets.Target(OURS, "median_ms", "at most", 0.8, both),
        ],
    )
    assert sentences == [
        "gram, fraction_of_floor at least 0.9: MISSED in 1 of 2 cases, 0.85 in a-T7",
        "gram, fraction_of_floor at least 0.9: reached, 0.95 in a-T4",
        "gram, median_ms at most 0.8: MISSED in 1 of 2 cases, 1 in a-T4",
        "combine, fraction_of_floor at least 0.9: not measured",
        "combine, median_ms at most 0.8: not measured in 1 of 2 cases, 0.4 in a-T4",
        "surgery (ours), median_ms at most 0.8: not measured",
    ]


def surgery_rows() -> list[dict]:
    """Made by hand, so that one sees which figure ends where: ours takes T ms, its floor is 80 % of that."""
    times = {GRAM: 0.4, COMBINE: 0.6, "combine (in place)": 0.5, OURS: 1, OURS_IN_PLACE: 0.9, REFERENCE: 10}
    times |= {PUBLISHED: 100.0, PCGRAD: 90, LIBMTL: 50, TORCHJD: 5, MEAN: 0.7}
    rows = []
    for dtype, factor in (("float32", 1), ("bfloat16", 0.5)):
        for t in (4, 15):
            case = {
                "case": f"big-5M-T{t}" + ("-bf16" if factor < 1 else ""),
                "layout": "big-5M",
                "T": t,
                "dtype": dtype,
            }
            for who, ratio in times.items():
                ms = t * ratio * factor
                figures = {"median_ms": ms, "p20_ms": 0.9 * ms, "p80_ms": 1.1 * ms, "ratio_to_ours": ratio}
                floor = {"floor_ms": 0.8 * t * factor, "fraction_of_floor": 0.8 / ratio, "ratio_to_float32": factor}
                memory = {"peak_extra_MB": 22 + ratio, "beyond_result_MB": ratio, "error": ""}
                rows.append(case | {"contestant": who, "N": 5_000_000, "tensors": 12} | figures | floor | memory)
    return [row | {"commit": "abc"} for row in rows]


def test_tables_show_the_figures_of_the_rows(tmp_path):
    write_csv(tmp_path / "surgery.csv", surgery_rows(), HOST)
    rows = pd.read_csv(tmp_path / "surgery.csv")
    assert tables.surgery_markdown(rows).splitlines() == [
        "| ms | surgery (ours) | TorchJD | LibMTL's way | Pytorch-PCGrad's way | published | floor |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
        "| big-5M-T4 | 4 | 20, 5.0x | 200, 50.0x | 360, 90.0x | 400, 100.0x | 3.2 |",
        "| big-5M-T15 | 15 | 75, 5.0x | 750, 50.0x | 1350, 90.0x | 1500, 100.0x | 12 |",
        "",
        "Measured 2026-01-02 03:04 UTC on a CPU, 2 cores, 2 threads, avx2, torch 2, TorchJD 0, gmd abc; medians.",
    ]
    assert tables.memory_markdown(rows).splitlines()[2:] == ["| big-5M-T15 | 1.0 | 0.9 | 10 | 5.0 | 50 | 90 | 100 |"]
    kernels = tables.kernels_markdown(rows).splitlines()
    assert (
        kernels[0] == "| ms, of the floor | gram | combine | combine (in place) | surgery (ours) | of float32's time |"
    )
    assert kernels[2] == "| big-5M-T4 | 1.6, 200 % | 2.4, 133 % | 2, 160 % | 4, 80 % |  |"
    assert kernels[5] == "| big-5M-T15-bf16 | 3, 200 % | 4.5, 133 % | 3.75, 160 % | 7.5, 80 % | 0.5 |"


def test_pictures_come_from_the_rows(tmp_path):
    rows = pd.DataFrame([row | HOST for row in surgery_rows()])
    rows.loc[(rows["contestant"] == LIBMTL) | (rows["contestant"] == COMBINE), ["median_ms", "fraction_of_floor"]] = (
        None
    )
    figures = {"surgery": plot.draw_surgery(rows), "floors": plot.draw_floors(rows)}
    for name, figure in figures.items():
        assert plot.save(figure, tmp_path / f"{name}.png").stat().st_size > 10_000
    labels = [text.get_text() for ax in figures["surgery"].axes for text in ax.texts]
    assert "15 ms, 80 % of the floor" in labels
    assert "1500 ms, 100.0x" in labels
    assert not any("nan" in label for label in labels)
    assert {"200 %", "n/a"} == {text.get_text() for text in figures["floors"].axes[0].texts}
