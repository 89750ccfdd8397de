"""bench.measure.sentiment: a study on data of users by the commands of users; its tables say what the rows say."""

import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from bench.measure import sentiment
from bench.measure.arms import ARMS, Arm
from bench.measure.sentiment import DIGITS, MANY_SEEDS, MOSI, SEEDS, Study
from bench.tables import sentiment as sentiment_tables
from bench.tables.readme import SENTIMENT
from gmd.config import TASKS
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.training.methods import METHODS
from helpers.bench_host import HOST

SMALL = {"width": 16, "layers": 1, "heads": 2, "epochs": 1, "batch": 16}
JOINT, CLASSES = Arm("joint", {"method": "joint"}), Arm("mla, sign", {"method": "mla", "target": "sign"}, "joint")
TINY = Study("sentiment", "tiny.csv", SMALL, (JOINT, CLASSES))

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated") / "sentiment.npz"
    write_sentiment_phantom(path, samples=40, seed=0)
    return path


@pytest.fixture(scope="module")
def studied(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the two arms' runs, in `work`, and of their table, `tiny.csv`. Do not write into it."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0})  # one process, as each imports for seconds
        sentiment.measure(TINY, data, [3], folder / "tiny.csv", folder / "work")
    return folder


# ---- a study ----


def test_a_study_has_a_row_for_each_subset_and_their_mean(studied: Path):
    table = pd.read_csv(studied / "tiny.csv")
    subsets = ["text", "audio", "vision", "text+audio", "text+vision", "audio+vision", "text+audio+vision", "mean"]
    assert list(zip(table["arm"], table["subset"], strict=True)) == [
        (arm.name, subset) for arm in TINY.arms for subset in subsets
    ]
    assert (table["seed"] == 3).all()
    assert table["base"].fillna("").tolist() == [""] * 8 + ["joint"] * 8
    assert table[list(HOST)].notna().all(axis=None)
    assert (table["threads"] == 1).all()
    scores, classes = table.iloc[:8], table.iloc[8:]
    assert scores["MAE"].between(0, 6).all()
    assert classes["accuracy"].between(0, 1).all()
    assert scores["accuracy"].isna().all()
    assert classes["MAE"].isna().all()
    assert scores["MAE"].iloc[7] == pytest.approx(scores["MAE"].iloc[:7].mean())


def test_what_was_measured_is_not_done_again(studied: Path, data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sentiment, "call_gmd", lambda *words: pytest.fail(f"called again: {words}"))
    rows = sentiment.run_once(TINY, CLASSES, 3, data=data, work=studied / "work", host={"date": "tomorrow"})
    # a hash may be of digits alone
    table = pd.read_csv(studied / "tiny.csv", dtype={"commit": str}).iloc[8:].reset_index(drop=True)
    again = pd.DataFrame(rows)
    pd.testing.assert_frame_equal(again, table[list(again)], check_dtype=False)


@pytest.mark.parametrize(
    ("common", "arm"), [(SMALL | {"lr": 0.5}, CLASSES), (SMALL, Arm("mla, sign", {"method": "mla", "target": "score"}))]
)
def test_rows_of_other_options_are_refused(studied: Path, data: Path, common: dict, arm: Arm):
    other = Study("sentiment", "tiny.csv", common, (arm,))
    kept = studied / "work" / "sentiment" / "mla, sign, seed 3" / "rows.json"
    before = kept.read_bytes()
    with pytest.raises(ValueError, match=r"mla, sign, seed 3: holds a run of .*, not of .*; give another --work"):
        sentiment.run_once(other, arm, 3, data=data, work=studied / "work", host={})
    assert kept.read_bytes() == before


@pytest.mark.parametrize("stopped_in", ["train", "evaluate"])
def test_a_run_that_was_stopped_is_done_anew(
    studied: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_in: str
):
    """In the middle of the training, of which a checkpoint is there, or after it: the rows are those of one go."""
    call = sentiment.call_gmd

    def until(*words: str):
        if words[0] == "train" or stopped_in == "train":
            call(*words)
        if words[0] == stopped_in:
            raise KeyboardInterrupt

    run = tmp_path / "sentiment" / "joint, seed 3"
    with monkeypatch.context() as patched:
        patched.setattr(sentiment, "call_gmd", until)
        with pytest.raises(KeyboardInterrupt):
            sentiment.run_once(TINY, JOINT, 3, data=data, work=tmp_path, host={})
    assert (run / "last.pt").exists()
    assert not (run / "rows.json").exists()
    rows = sentiment.run_once(TINY, JOINT, 3, data=data, work=tmp_path, host={})
    straight = json.loads((studied / "work" / "sentiment" / "joint, seed 3" / "rows.json").read_text())["rows"]
    assert rows == [{name: row[name] for name in rows[0]} for row in straight]


def test_a_command_that_fails_says_why(tmp_path: Path):
    missing, out = str(tmp_path / "nowhere.npz"), str(tmp_path / "run")
    with pytest.raises(RuntimeError, match=r"gmd train sentiment --data .*: exit 2\n(?s:.*)nowhere\.npz"):
        sentiment.call_gmd("train", "sentiment", "--data", missing, "--out", out, "--device", "cpu")


@pytest.mark.parametrize("study", [MOSI, DIGITS], ids=lambda study: study.task)
def test_arms_are_what_they_are_named(study: Study, tmp_path: Path):
    arms = {arm.name: arm for arm in study.arms}
    assert len(arms) == len(study.arms)
    for arm in study.arms:
        options = study.common | arm.options
        config = TASKS[study.task](data=tmp_path, out=tmp_path, **options)
        config = TASKS[study.task].from_dict(config.to_dict(), "here")
        config.check()
        first = arm.name.partition(",")[0]
        methods = [method for method in METHODS if first in (method, arm.options.get("weighting"))]
        assert config.method in (methods or ["joint"])
        if arm.base is None:
            continue
        base = arms[arm.base].options
        differing = {name for name in arm.options.keys() | base.keys() if arm.options.get(name) != base.get(name)}
        assert base["method"] == "joint"
        # one network and two methods, or one method and one other thing
        of_methods = {"method", "rho", "lam", "weighting", "weighting_options", "every", "tol"}
        assert differing <= of_methods if "method" in differing else len(differing) == 1
    for name, (rho, lam) in sentiment_tables.ABLATION.items():
        options = arms[name].options
        with_cggm = options["method"] == "cggm"
        assert (with_cggm and options.get("rho") != 0, with_cggm and options.get("lam") != 0) == (bool(rho), bool(lam))
        assert options["network"] == "late"


def test_arms_that_the_studies_share_are_run_with_more_seeds():
    runs = pd.Series([arm.name for arm, _ in MOSI.runs(range(MANY_SEEDS))]).value_counts()
    assert set(runs[[arm.name for arm in ARMS]]) == {MANY_SEEDS}
    assert set(runs.drop([arm.name for arm in ARMS])) == {SEEDS}
    assert {seed for _, seed in DIGITS.runs(range(MANY_SEEDS))} == set(range(SEEDS))


# ---- tables ----

SUBSETS = ("text", "audio", "text+audio", "mean")
OFFSETS = {"text": 0.0, "audio": -0.2, "text+audio": 0.1, "mean": -1 / 30}
BASES = {name: "joint, late fusion" for name in sentiment_tables.ABLATION if name != "joint, late fusion"}
GAINS = {"joint": (0.0, 0.0), "joint, late fusion": (0.0, 0.02), "cggm, rho": (0.01, 0.04)}
GAINS |= {"cggm, lambda": (0.01, 0.01), "cggm, both": (0.03, 0.05), "sign": (0.05, 0.05)}


def made_up() -> pd.DataFrame:
    """70 % of text alone with joint, and a gain of each arm by seed; `sign` is of classes, which lack the scores."""
    rows = []
    for arm, gains in GAINS.items():
        for seed, gain in enumerate(gains):
            for subset in SUBSETS:
                reached = 0.7 + OFFSETS[subset] + gain
                row = {"arm": arm, "base": BASES.get(arm), "seed": seed, "subset": subset} | HOST
                scores = {"Acc-2 neg/non-neg": reached, "F1 neg/non-neg": reached - 0.01, "MAE": 1.5 - reached}
                classes = {"accuracy": reached, "macro F1": reached - 0.02}
                rows.append(row | (classes if arm == "sign" else scores))
    return pd.DataFrame(rows)


def cells_of(markdown: str, arm: str) -> list[str]:
    [line] = [line for line in markdown.splitlines() if line.startswith(f"| {arm} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_accuracies_are_means_with_the_deviation_over_the_seeds():
    table = made_up()
    markdown = sentiment_tables.subsets_markdown(table, sentiment_tables.accuracies(table))
    assert markdown.splitlines()[0] == "| method | text | audio | text + audio | mean |"
    assert cells_of(markdown, "joint") == ["70.0 ± 0.0", "50.0 ± 0.0", "80.0 ± 0.0", "66.7 ± 0.0"]
    assert cells_of(markdown, "cggm, rho") == ["72.5 ± 2.1", "52.5 ± 2.1", "82.5 ± 2.1", "69.2 ± 2.1"]
    assert cells_of(markdown, "sign")[0] == "75.0 ± 0.0"
    assert len({line.count("|") for line in markdown.splitlines()}) == 1


def test_the_mean_of_other_subsets_is_not_shown_beside_the_others():
    table = made_up()
    alone = table[(table["arm"] == "joint") & table["subset"].isin(["audio", "mean"])].assign(arm="audio alone")
    table = pd.concat([table, alone])
    markdown = sentiment_tables.subsets_markdown(table, sentiment_tables.accuracies(table))
    assert cells_of(markdown, "audio alone") == ["", "50.0 ± 0.0", "", ""]


def test_other_metrics_are_of_arms_that_have_them():
    markdown = sentiment_tables.scores_markdown(made_up(), ["MAE"])
    assert markdown.splitlines()[0] == "| method | MAE, all | MAE, mean |"
    assert cells_of(markdown, "cggm, both") == ["0.660 ± 0.014", "0.793 ± 0.014"]
    assert "sign" not in markdown


def test_differences_are_paired_by_seed_and_bold_where_the_interval_excludes_0():
    table = made_up().sample(frac=1, random_state=0)  # pairs are told by the seed, not by the order
    found = sentiment_tables.differences(table, "mean")
    assert {arm: base for arm, (base, _) in found.items()} == BASES
    assert found["cggm, rho"][1].tolist() == pytest.approx([1.0, 2.0])
    expected = stats.ttest_1samp(found["cggm, rho"][1], 0).confidence_interval(0.95)
    half = (expected.high - expected.low) / 2
    markdown = sentiment_tables.differences_markdown(table)
    assert markdown.splitlines()[0] == "| method | compared with | all modalities | mean of the subsets |"
    assert cells_of(markdown, "cggm, rho") == ["joint, late fusion", *[f"+1.5 ± {half:.1f}"] * 2]
    assert cells_of(markdown, "cggm, both") == ["joint, late fusion", *["**+3.0 ± 0.0**"] * 2]


def test_the_ablation_is_in_the_published_form():
    lines = sentiment_tables.ablation_markdown(made_up()).splitlines()
    assert lines[0] == "| magnitude (rho) | direction (lambda) | accuracy | F1 |"
    assert lines[2:] == [
        "|  |  | 81.0 ± 1.4 | 80.0 ± 1.4 |",
        "| ● |  | 82.5 ± 2.1 | 81.5 ± 2.1 |",
        "|  | ● | 81.0 ± 0.0 | 80.0 ± 0.0 |",
        "| ● | ● | 84.0 ± 1.4 | 83.0 ± 1.4 |",
    ]


def test_the_ablation_of_classes_takes_their_own_f1():
    table = made_up()
    digits = table.assign(accuracy=table["Acc-2 neg/non-neg"], **{"macro F1": 0.5})
    digits = digits.drop(columns=["Acc-2 neg/non-neg", "F1 neg/non-neg"])
    assert sentiment_tables.ablation_markdown(digits).splitlines()[2] == "|  |  | 81.0 ± 1.4 | 50.0 ± 0.0 |"


def test_the_reference_points_are_reached_or_not():
    """77.6 with all modalities all six reach; 67.6 as the mean of the subsets joint, 66.7, does not, nor another."""
    lines = sentiment_tables.reference_markdown(made_up()).splitlines()
    assert lines == [
        "- all three: 77.6 to reach; 6 of 6 methods reach it, the best being sign with 85.0; joint has 80.0.",
        "- mean of the 7 subsets: 67.6 to reach; 5 of 6 methods reach it, the best being sign with 71.7; "
        "joint has 66.7.",
    ]


def test_weights_now_and_then_are_left_to_the_study():
    table = made_up().assign(**dict.fromkeys(("Corr", "Acc-5", "Acc-7"), 0.5))
    more = table[table["arm"] == "joint"].assign(arm="gmd, every 8", base="joint")
    both = sentiment_tables.sections(pd.concat([table, more], ignore_index=True), table)
    assert both == sentiment_tables.sections(table, table)


def test_every_table_has_its_place():
    table = made_up().assign(**dict.fromkeys(("Corr", "Acc-5", "Acc-7"), 0.5))
    marked = re.findall("<!-- (.*) -->\n", SENTIMENT.read_text(encoding="utf-8"))
    costs = {"sequence step table", "cggm table", "owm table"}
    assert set(sentiment_tables.sections(table, table)) | costs == set(marked) - {"end"}
