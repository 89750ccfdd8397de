"""What is made of the benchmark's rows: files, sentences, tables and pictures that say what the rows say."""

import pandas as pd
import pytest
import torch

from helpers.bench_cases import small_case
from helpers.bench_host import HOST

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from bench.measure import oracle, surgery
from bench.measure.cases import CASES
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
    contestants,
)
from bench.measure.files import write_csv
from bench.measure.host import host_columns
from bench.tables import plot, targets
from bench.tables.results import footnote, read_results
from bench.tables.surgery import kernels_markdown, memory_markdown, surgery_markdown


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
    assert f"gmd {commit};" in footnote(read_results(tmp_path / "some.csv"))


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
    assert surgery_markdown(rows).splitlines() == [
        "| ms | surgery (ours) | TorchJD | LibMTL's way | Pytorch-PCGrad's way | published | floor |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
        "| big-5M-T4 | 4 | 20, 5.0x | 200, 50.0x | 360, 90.0x | 400, 100.0x | 3.2 |",
        "| big-5M-T15 | 15 | 75, 5.0x | 750, 50.0x | 1350, 90.0x | 1500, 100.0x | 12 |",
        "",
        "Measured 2026-01-02 03:04 UTC on a CPU, 2 cores, 2 threads, avx2, torch 2, TorchJD 0, gmd abc; medians.",
    ]
    assert memory_markdown(rows).splitlines()[2:] == ["| big-5M-T15 | 1.0 | 0.9 | 10 | 5.0 | 50 | 90 | 100 |"]
    kernels = kernels_markdown(rows).splitlines()
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
