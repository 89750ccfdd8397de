"""The studies of quality: they go on where they stopped, pair what they compare, and say what their numbers say."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.measure import mfeat, study
from bench.measure.arms import ARMS, arms_for
from bench.measure.files import RESULTS
from bench.measure.host import ROOT
from bench.measure.paired_runs import write_setting
from bench.measure.study import Setting
from bench.tables import study as study_tables
from bench.tables.intervals import interval
from bench.tables.methods import which_markdown
from bench.tables.results import read_results
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.scoring.segmentation.tables import Row
from gmd.subsets import all_subsets

STUDY = ROOT / "docs" / "study.md"
TINY = Setting(steps=2, width=0.125, shape=16, batch=1, train_cases=2, test_cases=1)
TWO = ("enumerate", "gmd, tol 0.1")


@pytest.fixture
def trained(monkeypatch):
    """The list of the configurations that the study trains."""
    configs = []

    def counting(config):
        configs.append(config)
        return train(config)

    train = study.train
    monkeypatch.setattr(study, "train", counting)
    return configs


# ---- runs ----


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_stopped(trained, monkeypatch, tmp_path):
    out, work, runs = tmp_path / "study.csv", tmp_path / "work", study.runs_of([3], TWO)
    score = study.score
    monkeypatch.setattr(study, "score", lambda config: score(config) if len(trained) < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study.study(runs, TINY, out, work)
    assert list(pd.read_csv(out)["arm"]) == ["enumerate"]

    monkeypatch.setattr(study, "score", score)
    study.study(runs, TINY, out, work)
    assert [config.method for config in trained] == ["enumerate", "gmd", "gmd"]  # the first is not done again
    table = pd.read_csv(out)
    assert list(table["arm"]) == list(TWO)
    assert (table["steps"] == 2).all()
    assert table["mean"].between(0, 1).all()

    out.unlink()
    study.study(runs, TINY, out, work)
    assert len(trained) == 3
    pd.testing.assert_frame_equal(pd.read_csv(out), table)
    check_pairing(trained)
    check_compression(table)


def check_pairing(configs):
    """Same cases, same weights, same patches: so the first step has the same losses."""
    assert len({config.data for config in configs}) == 1
    first = [study.read_steps(config.out / study.METRICS)[0]["losses"] for config in configs]
    assert all(losses == pytest.approx(first[0], rel=1e-6) for losses in first)
    names = [case.name for split in ("train", "validation", "test") for case in find_cases(configs[0].data[0] / split)]
    assert names == ["Phantom_009_00000", "Phantom_009_00001", "Phantom_010_00000", "Phantom_011_00000"]


def check_compression(table):
    plain, compressed = table.iloc[0], table.iloc[1]
    assert np.isnan(plain["directions"])
    assert np.isnan(plain["tol"])
    assert compressed["tol"] == 0.1
    assert 1 <= compressed["directions"] < 8
    assert 0 < compressed["discarded"] <= 1e-2


def test_runs_of_another_setting_are_not_mixed_in(tmp_path):
    write_setting(tmp_path / "setting.json", asdict(TINY))
    write_setting(tmp_path / "setting.json", asdict(TINY))
    with pytest.raises(ValueError, match=r"holds runs of .*'lr': 0.01.*, not of .*'lr': 0.5.*; give another --work"):
        write_setting(tmp_path / "setting.json", asdict(replace(TINY, lr=0.5)))


@pytest.mark.parametrize("former", [{}, {"parameters": 1_476_659}], ids=["before they were counted", "another count"])
def test_runs_of_another_network_are_not_mixed_in(tmp_path, former):
    """A bug: a study went on with rows of the U-Net that gmd had before."""
    setting = tmp_path / "work" / "160 steps" / "setting.json"
    setting.parent.mkdir(parents=True)
    setting.write_text(json.dumps(asdict(Setting()) | former))
    with pytest.raises(ValueError, match=r"holds runs of .*, not of .*'parameters': 813915.*; give another --work"):
        study.study([], Setting(), tmp_path / "study.csv", tmp_path / "work")


def test_arms_are_configured_as_they_are_named(tmp_path):
    arms = arms_for(BRATS_MODALITIES)
    assert len({arm.name for arm in arms}) == len(arms)
    configs = {arm.name: study.training_config(arm, 4, Setting(), tmp_path, tmp_path) for arm in arms}
    for config in configs.values():
        config.check()
        assert config.seed == 4
    assert [config.method for config in configs.values()].count("gmd") == 5
    assert (configs["gmd"].every, configs["gmd"].tol) == (1, 0)
    assert configs["gmd, every 8"].every == configs["pcd, every 8"].every == 8
    assert configs["gmd, auto"].every == "auto"
    assert configs["gmd, tol 0.1"].tol == 0.1
    assert configs["fairgrad, every 8"].weighting == "fairgrad"
    assert configs["pcd, every 8"].weighting_options == ("primary=flair+t1+t1ce+t2",)
    # but for what is named, all arms are one configuration
    same = {"method": "gmd", "tol": 0.0, "every": 1, "weighting": None, "weighting_options": ()}
    assert len({replace(config, **same) for config in configs.values()}) == 1


# ---- columns ----


def a_step(conflicts, loss=0.3):
    """A step at which gradients were compared, or not: None."""
    numbers = {"directions": [2, 4], "discarded": [0.0, 2e-3], "loss": loss, "finite": True}
    return numbers | {"conflicts": conflicts, "cosines": None if conflicts is None else [[1.0, 0.5], [0.5, 1.0]]}


def test_conflict_rates_are_of_the_first_tenth_and_the_last_quarter():
    steps = [a_step(0.1)] * 4 + [a_step(0.2, loss=0.7)] * 26 + [a_step(0.3)] * 5 + [a_step(0.5)] * 5
    columns = study.training_columns(steps)
    assert columns["conflicts_first"] == pytest.approx(0.1)
    assert columns["conflicts_last"] == pytest.approx(0.4)
    assert columns["loss_last"] == pytest.approx(0.3)
    assert columns["directions"] == 3
    assert columns["discarded"] == pytest.approx(1e-3)
    assert columns["refreshed"] == 1


def test_steps_at_which_no_gradients_were_compared_have_no_conflicts():
    columns = study.training_columns(([a_step(0.1)] + [a_step(None)] * 3) * 10)
    assert columns["refreshed"] == 0.25
    assert columns["conflicts_first"] == columns["conflicts_last"] == pytest.approx(0.1)
    never = study.training_columns([a_step(None)] * 4)
    assert [never[name] for name in ("refreshed", "conflicts_first", "conflicts_last", "directions")] == [None] * 4


def test_the_worst_subset_is_that_of_the_lowest_mean_over_regions():
    def dice(subset):
        low = 0.2 if subset == ("t1", "t2") else 0.6
        return {"WT": 0.9, "TC": low, "ET": 0.7 if subset != ("flair",) else 0.95}

    columns = study.score_columns([Row(subset, 2, dice(subset)) for subset in all_subsets(BRATS_MODALITIES)])
    assert columns["worst_subset"] == "t1+t2"
    assert columns["worst"] == pytest.approx(0.6)
    assert columns["alone_flair"] == pytest.approx(2.45 / 3)
    assert columns["full"] == pytest.approx(2.2 / 3)
    assert columns["mean_TC"] == pytest.approx((14 * 0.6 + 0.2) / 15)


# ---- tables ----

SCORES = list(study_tables.SCORES)
NO_GAP = (0.001, -0.001, 0.0, 0.0005, -0.0005)
GAPS = {"joint": [-0.1 + 0.001 * seed for seed in range(5)], "enumerate": [-0.02] * 5, "gmd": [0.0] * 5}


def made_up(every_8=NO_GAP, auto=NO_GAP):
    """Exact GMD at 0.7 and a bit by seed; joint 10 points below, by another bit."""
    rows = []
    for seed in range(5):
        base = 0.7 + 0.01 * seed
        for arm, gaps in (GAPS | {"gmd, every 8": every_8, "gmd, auto": auto}).items():
            several = arm != "joint"
            scores = dict.fromkeys([*SCORES, "alone_t1"], base + gaps[seed]) | {"worst_subset": "t1"}
            rates = dict.fromkeys(("refreshed", "conflicts_first", "conflicts_last"), 0.125 if several else None)
            kept = {"directions": 8.0 if arm == "gmd" else None, "discarded": 0.0 if arm == "gmd" else None}
            cost = {"loss_last": 0.5, "cpu_s_per_step": 0.5}
            rows.append({"seed": seed, "arm": arm} | scores | rates | kept | cost)
    return pd.DataFrame(rows)


def as_mosi(rows):
    """The same scores in a row for each subset, as bench.measure.sentiment has them: b is the worst of two."""
    subsets = {"a": "mean", "b": "worst", "a+b": "full", "mean": "mean"}
    scores = [rows.assign(subset=subset, **{"Acc-2 neg/non-neg": rows[score]}) for subset, score in subsets.items()]
    other = scores[0].assign(arm="cggm, shared network")
    return pd.concat([*scores, other], ignore_index=True)[["seed", "arm", "subset", "Acc-2 neg/non-neg"]]


def test_intervals_are_paired_t_intervals_with_one_degree_of_freedom_less_than_seeds():
    gaps = study_tables.differences(made_up(), "mean")["joint"]
    mean, half = interval(gaps)
    expected = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((expected.low, expected.high))
    assert half < 0.3  # the seeds differ by much more than their pairs do


def test_tables_say_what_the_rows_say():
    table = made_up()
    scores = study_tables.scores_markdown(table).splitlines()
    assert scores[4].startswith("| gmd | 5 | 72.0 ± 2.0 | 72.0 ± 2.0 | 72.0 ± 2.0 | 72.0 | t1 |")
    assert len({line.count("|") for line in scores}) == 1
    differences = study_tables.differences_markdown(table)
    assert "| joint | 5 | **-9.80 ± 0.20** |" in differences
    assert "| gmd, auto | 5 | +0.00 ± 0.10 |" in differences  # not bold: it does not exclude 0
    training = study_tables.training_markdown(table)
    assert "| gmd | 0.500 | 12.5 % | 12.5 % | 12.5 % | 8.0 | 0.0e+00 | 0.500 |" in training
    assert "| joint | 0.500 |  |  |  |  |  | 0.500 |" in training
    uncompressed = table.drop(columns=["directions", "discarded"])
    assert "| joint | 0.500 |  |  |  | 0.500 |" in study_tables.training_markdown(uncompressed)
    assert "| 3 | 12.5 % | +9.70 | +9.70 | +2.00 | +2.00 |" in study_tables.seeds_markdown(table)
    marked = re.findall("<!-- (.*) -->", STUDY.read_text(encoding="utf-8"))
    assert set(study_tables.sections(table, table, as_mosi(table))) == set(marked) - {"end"}


def test_mosi_has_the_rows_that_the_other_data_have():
    table = made_up()
    table["worst"] -= 0.3
    found = study_tables.whole_rows(as_mosi(table))
    assert list(found["arm"].unique()) == list(table["arm"].unique()), "in their order, and no others"
    found = found.set_index(["seed", "arm"]).sort_index()
    expected = table.set_index(["seed", "arm"]).sort_index()
    assert found[SCORES].to_numpy() == pytest.approx(expected[SCORES].to_numpy())


@pytest.mark.parametrize(
    ("gaps", "cells"),
    [
        (NO_GAP, "+0.00 | -0.10 to +0.10 | yes |"),
        ((0.02, -0.02, 0.01, -0.01, 0.0), "+0.00 | -1.96 to +1.96 | not shown: the interval is wider |"),
        ((-0.02, -0.02, -0.01, -0.01, -0.03), "-1.80 | -2.84 to -0.76 | no |"),
    ],
)
def test_the_verdict_on_weights_now_and_then(gaps, cells):
    table = made_up(every_8=gaps)
    text = study_tables.verdict_markdown(study_tables.data_sets(table, table, as_mosi(table)))
    for name in ("phantoms", "mfeat", "MOSI"):
        assert f"| gmd, every 8 | {name} | 5 | {cells}" in text
        assert f"| gmd, auto | {name} | 5 | +0.00 | -0.10 to +0.10 | yes |" in text


def test_an_arm_is_compared_on_the_seeds_that_it_has_been_run_with():
    """Here the last seed lacks one arm: its difference is that of four seeds, the others keep five."""
    unfinished = made_up(auto=(0.01, 0.01, 0.01, 0.01, 0.5)).iloc[:-1]
    differences = study_tables.differences_markdown(unfinished)
    assert "| gmd, auto | 4 | **+1.00 ± 0.00** |" in differences
    assert "| enumerate | 5 | **-2.00 ± 0.00** |" in differences
    assert study_tables.scores_markdown(unfinished).splitlines()[6].startswith("| gmd, auto | 4 |")


def test_the_picture_shows_every_data_set_arm_and_seed():
    table = made_up()
    axes = study_tables.draw(study_tables.data_sets(table, table, as_mosi(table))).axes
    names = ("phantoms", "mfeat", "MOSI")
    assert [ax.get_title() for ax in axes] == [f"{n}: {s}" for n in names for s in study_tables.SCORES.values()]
    arms = ["gmd, auto", "gmd, every 8", "enumerate", "joint"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == arms
    assert len(axes[0].collections[0].get_offsets()) == 5


def test_the_table_of_which_one_is_of_points_above_joint():
    table = made_up()
    table["full"] -= 0.1 * (table["arm"] == "joint")
    lines = which_markdown(table, table, as_mosi(table)).splitlines()
    assert lines[0].split(" | ")[1:3] == ["phantoms: mean of the subsets", "phantoms: all modalities"]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| enumerate | **+7.8 ± 0.2** | **+17.8 ± 0.2** | **+7.8 ± 0.2** |")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| enumerate", "| gmd", "| gmd, every 8", "| gmd, auto"]


@pytest.mark.parametrize(("name", "arms"), [("study", [arm.name for arm in ARMS]), ("mfeat", mfeat.DEFAULT)])
def test_the_committed_studies_are_of_all_arms_and_of_pairs(name, arms):
    table = read_results(RESULTS / f"{name}.csv")
    assert list(table["arm"].unique()) == arms
    assert not table.duplicated(["seed", "arm"]).any()
    assert (table.groupby("arm")["seed"].agg(set) == set(range(5))).all()
    assert table[SCORES].stack().between(0, 1).all()
    assert (table["skipped"] == 0).all()
