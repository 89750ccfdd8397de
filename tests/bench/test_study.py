"""The study of quality: that it goes on where it stopped, pairs what it compares, and says what its numbers say."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.measure import study
from bench.measure.host import ROOT
from bench.measure.study import ARMS, Arm, Setting
from bench.tables import study as study_tables
from bench.tables.intervals import interval
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.scoring.segmentation.tables import Row
from gmd.subsets import all_subsets

pytestmark = pytest.mark.slow

STUDY = ROOT / "docs" / "study.md"
TINY = Setting(steps=2, width=0.125, shape=16, batch=1, train_cases=2, test_cases=1)
TWO = (Arm("enumerate", "enumerate"), Arm("gmd, 1e-3", "gmd", energy=1e-3))


@pytest.fixture
def two_arms(monkeypatch):
    """The study with two arms; returns the list of the runs that it trains."""
    trained = []

    def counting(config):
        trained.append(config)
        return train(config)

    train = study.train
    monkeypatch.setattr(study, "train", counting)
    monkeypatch.setattr(study, "ARMS", TWO)
    return trained


def test_a_study_goes_on_where_it_was_stopped(two_arms, monkeypatch, tmp_path):
    out, work = tmp_path / "study.csv", tmp_path / "work"
    score = study.score
    monkeypatch.setattr(study, "score", lambda config: score(config) if len(two_arms) < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study.study([3], TINY, out, work)
    assert list(pd.read_csv(out)["arm"]) == ["enumerate"]

    monkeypatch.setattr(study, "score", score)
    study.study([3], TINY, out, work)
    assert [config.method for config in two_arms] == ["enumerate", "gmd", "gmd"]  # the first is not done again
    table = pd.read_csv(out)
    assert list(table["arm"]) == ["enumerate", "gmd, 1e-3"]
    assert (table["steps"] == 2).all()
    assert table["dice_mean"].between(0, 1).all()

    out.unlink()
    study.study([3], TINY, out, work)
    assert len(two_arms) == 3
    pd.testing.assert_frame_equal(pd.read_csv(out), table)
    check_pairing(two_arms)
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
    assert 1 <= compressed["directions"] < 8
    assert 0 < compressed["discarded"] <= 1e-3


def test_runs_of_another_setting_are_not_mixed_in(two_arms, tmp_path):
    study.write_setting(tmp_path / "setting.json", TINY)
    study.write_setting(tmp_path / "setting.json", TINY)
    with pytest.raises(ValueError, match=r"holds runs of .*'lr': 0.01.*, not of .*'lr': 0.5.*; give another --work"):
        study.write_setting(tmp_path / "setting.json", replace(TINY, lr=0.5))


@pytest.mark.parametrize("former", [{}, {"parameters": 1_476_659}], ids=["before they were counted", "another count"])
def test_runs_of_another_network_are_not_mixed_in(tmp_path, former):
    """A bug: a study went on with rows of the U-Net that gmd had before."""
    (tmp_path / "setting.json").write_text(json.dumps(asdict(Setting()) | former))
    with pytest.raises(ValueError, match=r"holds runs of .*, not of .*'parameters': 813915.*; give another --work"):
        study.write_setting(tmp_path / "setting.json", Setting())


def test_arms_are_configured_as_they_are_named(tmp_path):
    assert len({arm.name for arm in ARMS}) == len(ARMS)
    configs = {arm.name: study.training_config(arm, 4, Setting(), tmp_path, tmp_path) for arm in ARMS}
    for config in configs.values():
        config.check()
        assert config.seed == 4
    assert [config.method for config in configs.values()].count("gmd") == 6
    assert configs["gmd"].tol == 0
    assert configs["gmd, 1e-2"].tol == pytest.approx(0.1)
    assert configs["gmd, by tensor"].granularity == "tensor"
    # but for what is named, all arms are one configuration
    same = {"method": "gmd", "tol": 0.0, "granularity": "model"}
    assert len({replace(config, **same) for config in configs.values()}) == 1


def test_conflict_rates_are_of_the_first_tenth_and_the_last_quarter():
    def step(cosine, parts):
        numbers = {"directions": [2, 4], "discarded": [0.0, 2e-3], "loss": parts, "finite": True}
        return {"cosines": [[1.0, cosine], [cosine, 1.0]], "conflicts": parts} | numbers

    steps = [step(0.5, 0.1)] * 4 + [step(-0.5, 0.2)] * 26 + [step(0.0, 0.3)] * 5 + [step(-0.1, 0.3)] * 5
    columns = study.training_columns(steps)
    assert columns["conflicts_first"] == 0
    assert columns["conflicts_last"] == 0.5  # a right angle is no conflict
    assert columns["parts_first"] == pytest.approx(0.1)
    assert columns["parts_last"] == pytest.approx(0.3)
    assert columns["loss_last"] == pytest.approx(0.3)
    assert columns["directions"] == 3
    assert columns["discarded"] == pytest.approx(1e-3)


def test_the_worst_subset_is_that_of_the_lowest_mean_over_regions():
    def dice(subset):
        low = 0.2 if subset == ("t1", "t2") else 0.6
        return {"WT": 0.9, "TC": low, "ET": 0.7 if subset != ("flair",) else 0.95}

    columns = study.score_columns([Row(subset, 2, dice(subset)) for subset in all_subsets(BRATS_MODALITIES)])
    assert columns["worst"] == "t1+t2"
    assert columns["dice_worst"] == pytest.approx(0.6)
    assert columns["best"] == "flair"
    assert columns["dice_flair"] == pytest.approx(2.45 / 3)
    assert columns["dice_full"] == pytest.approx(2.2 / 3)
    assert columns["mean_TC"] == pytest.approx((14 * 0.6 + 0.2) / 15)


def made_up(compressed=(0.001, -0.001, 0.0, 0.0005, -0.0005), seeds=5):
    """Exact GMD at 0.7 and a bit by seed; joint 10 points below, by another bit."""
    rows = []
    for seed in range(seeds):
        base = 0.7 + 0.01 * seed
        gaps = {"joint": -0.1 + 0.001 * seed, "enumerate": -0.02, "gmd": 0.0, "gmd, 1e-3": compressed[seed]}
        for arm, gap in gaps.items():
            scores = {name: base + gap for name in (*study_tables.SCORES, *study_tables.SINGLES)}
            steps = {"steps": 300, "loss_last": 0.5, "cpu_s_per_step": 0.5, "worst": "t1"}
            steps["granularity"] = "tensor" if arm == "gmd" else "model"
            rates = dict.fromkeys(
                ("conflicts_first", "conflicts_last", "parts_last"), 0.125 if arm != "joint" else None
            )
            kept = {"directions": 8.0 if arm == "gmd" else None, "discarded": 0.0 if arm == "gmd" else None}
            rows.append({"seed": seed, "arm": arm} | scores | steps | rates | kept)
    return pd.DataFrame(rows)


def test_intervals_are_paired_t_intervals_with_one_degree_of_freedom_less_than_seeds():
    gaps = study_tables.differences(made_up(), "dice_mean")["joint"]
    mean, half = interval(gaps)
    expected = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((expected.low, expected.high))
    assert half < 0.003  # the seeds differ by much more than their pairs do


def test_tables_say_what_the_rows_say():
    table = made_up()
    scores = study_tables.scores_markdown(table).splitlines()
    assert scores[4].startswith("| gmd | 5 | 72.0 ± 2.0 | 72.0 ± 2.0 | 72.0 ± 2.0 | 72.0 | 72.0 | 72.0 | 72.0 | t1 |")
    assert len({line.count("|") for line in scores}) == 1
    differences = study_tables.differences_markdown(table)
    assert "| joint | 5 | **-9.80 ± 0.20** |" in differences
    assert "| gmd, 1e-3 | 5 | +0.00 ± 0.10 |" in differences  # not bold: it does not exclude 0
    training = study_tables.training_markdown(table)
    assert "| gmd | 0.500 | 12.5 % | 12.5 % | 12.5 % | 8.0 | 0.0e+00 | 0.50 |" in training
    assert "| joint | 0.500 |  |  |  |  |  | 0.50 |" in training
    assert "| 3 | 12.5 % | +9.70 | +9.70 | +2.00 | +2.00 |" in study_tables.seeds_markdown(table)
    assert set(study_tables.sections(table)) == set(
        re.findall("<!-- (study .*) -->", STUDY.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize(
    ("compressed", "words"),
    [
        (
            (0.001, -0.001, 0.0, 0.0005, -0.0005),
            "+0.00 points, interval -0.10 to +0.10; the whole interval lies within",
        ),
        ((0.02, -0.02, 0.01, -0.01, 0.0), "not the whole interval: no loss was seen, and none is excluded"),
        ((-0.02, -0.02, -0.01, -0.01, -0.03), "-1.80 points, interval .* outside of half a point"),
    ],
)
def test_the_verdict_on_compression(compressed, words):
    text = study_tables.verdict(made_up(compressed))
    assert "5 seeds" in text
    assert pd.Series(text).str.contains(words.replace("+", r"\+")).all(), text


def test_an_arm_is_compared_on_the_seeds_that_it_has_been_run_with():
    """Here the last seed lacks one arm: its difference is that of four seeds, the others keep five."""
    table = made_up(compressed=(0.01, 0.01, 0.01, 0.01, 0.5))
    unfinished = table.drop(index=table.index[-1])
    differences = study_tables.differences_markdown(unfinished)
    assert "| gmd, 1e-3 | 4 | **+1.00 ± 0.00** |" in differences
    assert "| enumerate | 5 | **-2.00 ± 0.00** |" in differences
    assert "4 seeds" in study_tables.verdict(unfinished)
    assert study_tables.scores_markdown(unfinished).splitlines()[5].startswith("| gmd, 1e-3 | 4 |")


def test_the_picture_shows_every_arm_and_seed():
    axes = study_tables.draw(made_up()).axes
    assert [ax.get_title() for ax in axes] == list(study_tables.SCORES.values())
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["gmd, 1e-3", "enumerate", "joint"]
    assert len(axes[0].collections[0].get_offsets()) == 5


def test_the_committed_study_is_of_one_setting_and_of_pairs():
    table = pd.read_csv(study.CSV)
    assert table["steps"].nunique() == 1
    assert set(table["arm"]) == {arm.name for arm in ARMS}
    assert not table.duplicated(["seed", "arm"]).any()
    for _, rows in table.groupby("seed"):
        assert {"joint", "enumerate", "gmd"} <= set(rows["arm"])
    assert table[["dice_mean", "dice_worst", "dice_full"]].stack().between(0, 1).all()
    assert (table["skipped"] == 0).all()
