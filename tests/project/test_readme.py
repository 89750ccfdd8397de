"""Every figure in README.md and docs/ comes out of a committed file, and the README is short."""

import re

import pandas as pd
import pytest

from bench.tables import readme, sentiment, study
from bench.tables.intervals import interval
from bench.tables.methods import BASE, METHODS, methods_markdown
from bench.tables.readme import BENCHMARK, GPU, README, RESULTS, filled, tables
from bench.tables.results import read_results
from gmd.training import methods
from helpers.places import ROOT

MOST_LINES = 150
METHODS_PAGE = " ".join((ROOT / "docs" / "methods.md").read_text(encoding="utf-8").split())
SEGMENTATION_PAGE = " ".join((ROOT / "docs" / "segmentation.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("path", tables(), ids=lambda path: path.name)
def test_it_shows_the_committed_results(path):
    assert filled(path) == path.read_text(encoding="utf-8"), "run `make readme`"


def test_the_readme_is_short():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES, "move what only some readers want into docs/, and leave a link"
    assert max(map(len, lines)) <= 250, "lines that are too long are no shorter README"


def test_the_readme_has_one_picture_and_two_tables():
    text = README.read_text(encoding="utf-8")
    assert len(re.findall(r"^!\[", text, re.MULTILINE)) == 1
    assert re.findall(r"<!-- (.* table) -->", text) == ["surgery table", "methods table"]


def test_without_results_of_a_gpu_there_is_no_figure_of_one():
    text, measured = BENCHMARK.read_text(encoding="utf-8"), (RESULTS / "surgery_gpu.csv").exists()
    section = text.split("<!-- gpu -->")[1].split("<!-- end -->")[0]
    assert ("No GPU could be had so far" in section) == (not measured)
    assert ("no figure of one yet" in README.read_text(encoding="utf-8")) == (not measured)
    assert "make gpu OUT=dir" in section
    assert ("_gpu.png" in text) == measured
    assert "_gpu.png" in GPU, "this test would see nothing"
    assert ("|" in section) == measured, "a table"


# The table of methods


@pytest.fixture
def results() -> tuple[pd.DataFrame, ...]:
    """Of phantoms, mfeat, MOSI and digits."""
    return tuple(read_results(RESULTS / f"{name}.csv") for name in ("study", "mfeat", "mosi", "digits"))


def test_the_table_has_every_method_and_its_gain_over_joint_training(results):
    assert list(dict.fromkeys(method.name.split()[0] for method in METHODS)) == list(methods.METHODS)
    phantoms, mfeat, mosi, digits = results
    rows = {row.split(" | ")[0].strip("| `"): row.split(" | ") for row in methods_markdown(*results).splitlines()}
    for column, table in ((3, phantoms), (4, mfeat)):
        by_seed = table.pivot(index="seed", columns="arm", values="mean")
        gain = 100 * (by_seed["enumerate"] - by_seed["joint"]).mean()
        assert rows["enumerate"][column].strip("*").startswith(f"{gain:+.1f} ± ")
    assert rows["mla"][5].strip("*") in sentiment.differences_markdown(mosi)
    assert rows["mla"][6].strip("* |") in sentiment.differences_markdown(digits)
    assert rows["cggm"][3] == "", "not measured"
    assert set(rows[BASE][3:]) == {"the base", "the base |"}


def test_what_the_pages_say_of_the_methods_holds(results):
    """With all modalities no other was clearly better on phantoms or MOSI; surgery over `enumerate` showed no gain."""
    phantoms, mfeat, mosi, digits = results
    gains = [*study.differences(phantoms, "full", BASE).values()]
    for table in (mosi, digits):
        gains += [gain for _, gain in sentiment.differences(table, sentiment.full_of(table)).values()]
    lows = [mean - half for mean, half in map(interval, gains)]
    assert len(lows) > 25, "this test would see nothing"
    assert max(lows) <= 0
    for one in study.data_sets(phantoms, mfeat, mosi):
        mean, half = interval(study.differences(one.rows, "mean", "enumerate")["gmd"])
        assert mean - half <= 0.005 or one.name == "mfeat", one.name
        assert abs(mean) < 0.01 or one.name != "mfeat", "equal on mfeat"


# Figures in running text


def test_the_page_of_methods_quotes_the_results(results):
    phantoms, mfeat, mosi, digits = results

    def gain(rows, arm, base=BASE):
        return f"{study.differences(rows, 'mean', base)[arm].mean():.1f}"

    subsets = f"try `enumerate`: {gain(phantoms, 'enumerate')} points more on the phantoms"
    assert f"{subsets}, {gain(mfeat, 'enumerate')} on mfeat" in METHODS_PAGE
    lost = -sentiment.differences(mosi, "mean")["enumerate"][1].mean()
    assert f"on MOSI it *lost* {lost:.1f} points" in METHODS_PAGE
    conflicts = phantoms[phantoms["arm"] == "gmd"]["conflicts_last"].mean()
    over = gain(phantoms, "gmd", "enumerate")
    assert f"{100 * conflicts:.0f} % do at the end, and `gmd` was {over} points better" in METHODS_PAGE
    assert mfeat[mfeat["arm"] == "gmd"]["conflicts_last"].max() < 0.01
    assert f"`fairgrad` won {gain(mfeat, 'fairgrad, every 8', 'enumerate')} points over `enumerate`" in METHODS_PAGE
    mla, ogm_ge = (sentiment.differences(digits, "mean")[arm][1].mean() for arm in ("mla", "ogm-ge"))
    regression = sentiment.differences(mosi, sentiment.full_of(mosi))["mla"][1].mean()
    assert f"`mla`: {mla:.1f} points more on [digits]" in METHODS_PAGE
    assert f"with all modalities, it lost {-regression:.1f}" in METHODS_PAGE
    assert f"`ogm-ge` lost {-ogm_ge:.1f} points on digits" in METHODS_PAGE


def test_weights_now_and_then_were_not_shown_to_be_as_good_on_phantoms_and_mosi(results):
    """Which is why every step is the default."""
    phantoms, mfeat, mosi, _ = results
    for one in study.data_sets(phantoms, mfeat, mosi):
        words = {study.verdict(study.differences(one.rows, "mean")[arm]) for arm in ("gmd, every 8", "gmd, auto")}
        assert words == ({"yes"} if one.name == "mfeat" else {"not shown: the interval is wider"}), one.name


def test_costs_in_running_text_are_those_of_the_results(results):
    phantoms, *_ = results
    seconds = phantoms.groupby("arm")["cpu_s_per_step"].mean()
    assert round(seconds["gmd"] / seconds["enumerate"]) == 4, "four times a step of enumerate"
    assert f"costs {seconds['gmd, tol 0.1'] / seconds['enumerate']:.1f} times as much" in METHODS_PAGE
    assert f"costs {seconds['gmd, every 8'] / seconds['enumerate']:.1f} times `enumerate`" in METHODS_PAGE
    faster = seconds["gmd"] / seconds["gmd, tol 0.1"]
    assert f"a step was {faster:.1f} times as fast as the exact one" in METHODS_PAGE


def test_the_demo_in_one_sentence_is_of_its_table():
    demo = pd.DataFrame(
        {"subset": ["a", "b", "a+b", "mean"], "a": [1, 0, 1, None], "b": [0, 1, 1, None], "cases": [3, 3, 3, None]}
    ).assign(WT=[0.5, 0.25, 0.75, 0.5], mean=0.1)
    assert " ".join(readme.demo_sentence(demo).split()) == (
        "Dice of the whole tumour, mean over 3 phantoms that the network had not seen: 0.75 from all 2 modalities, "
        "0.50 in the mean of the 3 subsets, 0.25 from `b` alone."
    )


def test_the_prediction_at_full_size_is_what_was_measured():
    whole, subsets = read_results(RESULTS / "prediction_cpu.csv").to_dict("records")
    voxels = whole["size"].replace("x", " x ")
    assert f"A volume of {voxels} voxels" in SEGMENTATION_PAGE
    assert f"{whole['seconds']:.0f} s and {whole['peak_MB']:.0f} MB" in SEGMENTATION_PAGE
    assert f"{subsets['times_one']:.2f} times one prediction" in SEGMENTATION_PAGE
