"""`gmd compare`: which cases and subsets are paired, what is written and drawn, what is refused."""

import csv
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import gmd.evaluation.compare.command
from gmd.config import TrainBrats, TrainDigits, TrainSentiment
from gmd.config.file import CONFIG, write_config
from gmd.data.text_files import write_json
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare, distinct_names
from gmd.evaluation.compare.run_scores import read_run_scores
from gmd.evaluation.outdated import LABEL_MAPS
from gmd.evaluation.results_folder import write_texts
from gmd.scoring.segmentation.tables import Score, cases_csv
from gmd.subsets import Subset, all_subsets, subset_name
from gmd.training.run_files import SCORED_RECORD
from gmd.training.saved_run import read_config

TWO = ("flair", "t1ce")
SUBSETS = all_subsets(TWO)
REGIONS = ("WT", "TC")


def dice_of(case: int, subset: Subset, region: str) -> float:
    """Some number that is another one for each."""
    return 0.5 + 0.03 * case + 0.05 * SUBSETS.index(subset) - 0.02 * REGIONS.index(region) + 0.01 * (case % 3)


def listed(case: int, data: str = "/data") -> dict:
    """As splits.json has it."""
    return {"name": f"case{case}", "folder": f"{data}/case{case}", "patient": f"case{case}"}


def evaluated(run: Path, shift: float = 0.0, cases: range = range(6), without: tuple[int, Subset] = (-1, ())) -> Path:
    """A run, as far as its evaluation; HD95 is 10 mm less Dice's shift in per cent."""
    scores = [
        Score(f"case{case}", subset, region, dice_of(case, subset, region) + shift, 10 - 100 * shift + case)
        for case in cases
        for subset in SUBSETS
        for region in REGIONS
        if (case, subset) != without
    ]
    run.mkdir(parents=True)
    write_config(run / CONFIG, TrainBrats(run, run, modalities=TWO))
    write_json(run / "splits.json", {"test": [listed(k) for k in cases]})
    write_texts(run / "evaluation", {"cases.csv": cases_csv(scores), SCORED_RECORD: f"{LABEL_MAPS}\n"})
    return run


def with_post_processed(run: Path, dice: float) -> Path:
    """The same as it is evaluated now, with ET after post-processing in the place behind TC."""
    path = run / "evaluation/cases.csv"
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    for place in range(len(lines), 0, -2):
        case, subset, *_ = lines[place - 1].split(",")
        lines.insert(place, f"{case},{subset},ET_postpro,{dice},5.0")
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return run


def lines_of(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_et_after_post_processing_is_compared_and_counts_in_no_mean(tmp_path: Path):
    joint, better = (with_post_processed(evaluated(tmp_path / name), dice) for name, dice in (("a", 0.25), ("b", 0.75)))
    compare([joint, better])
    lines = lines_of(joint / "evaluation/compare_b/compare.csv")
    gains = {(line["metric"], line["region"]): float(line["difference"]) for line in lines if line["metric"] == "Dice"}
    assert gains == {("Dice", "WT"): 0, ("Dice", "TC"): 0, ("Dice", "ET_postpro"): 0.5, ("Dice", "mean"): 0}


@pytest.mark.parametrize("first", [True, False])
def test_beside_a_run_that_an_earlier_gmd_has_evaluated_it_is_left_out(tmp_path: Path, first: bool):
    old, now = evaluated(tmp_path / "old"), with_post_processed(evaluated(tmp_path / "now", 0.02), 0.5)
    runs = [old, now] if first else [now, old]
    compare(runs)
    out = runs[0] / f"evaluation/compare_{runs[1].name}"
    assert {line["region"] for line in lines_of(out / "compare.csv")} == {"WT", "TC", "mean"}
    assert "ET_postpro left out, which an earlier gmd has not scored" in (out / "compare.md").read_text("utf-8")


def test_a_constant_gain_is_found_in_every_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    joint, better = evaluated(tmp_path / "joint"), evaluated(tmp_path / "gmd", 0.02)
    compare([joint, better])
    out = joint / "evaluation/compare_gmd"
    assert {path.name for path in out.iterdir()} == {"compare.md", "compare.csv", "compare.png", "compare_shapley.csv"}
    lines = lines_of(out / "compare.csv")
    assert len(lines) == (len(SUBSETS) + 1) * 2 * (len(REGIONS) + 1)
    for line in lines:
        shift = {"Dice": 0.02, "HD95": -2}[line["metric"]]
        numbers = [float(line[name]) for name in ("difference", "low", "high")]
        assert numbers == pytest.approx([shift] * 3, abs=1e-9)
        assert float(line["run_mean"]) - float(line["baseline_mean"]) == pytest.approx(shift)
        assert (line["baseline"], line["run"], line["cases"], line["patients"]) == ("joint", "gmd", "6", "6")
    [flair] = [line for line in lines if (line["metric"], line["region"], line["subset"]) == ("Dice", "WT", "flair")]
    assert float(flair["baseline_mean"]) == pytest.approx(np.mean([dice_of(k, ("flair",), "WT") for k in range(6)]))

    text, printed = (out / "compare.md").read_text(encoding="utf-8"), capsys.readouterr().out
    assert text in printed
    assert all(str(path) in printed for path in out.iterdir())
    assert "gmd - joint: Dice, mean of the 3 subsets +2.0 points [+2.0, +2.0], 6 cases\n" in text
    assert "gmd - joint: HD95, mean of the 3 subsets -2.0 mm [-2.0, -2.0], 6 cases\n" in text
    assert "Note" not in text


def test_scores_of_channels_beside_scores_of_label_maps_are_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Of an earlier gmd: a gain would be that of the label maps over the channels."""
    joint, better = evaluated(tmp_path / "joint"), evaluated(tmp_path / "gmd", 0.02)
    (joint / "evaluation" / SCORED_RECORD).unlink()
    compare([better, joint])
    note = "Note: an earlier gmd scored the network's channels of joint, which may differ from its label maps, as they "
    assert f"{note}are scored now; evaluate it again." in (text := capsys.readouterr().out)
    assert text.count("an earlier gmd") == 1


def test_a_run_and_its_copy_differ_by_nothing(tmp_path: Path):
    compare([evaluated(tmp_path / "a"), evaluated(tmp_path / "b")], tmp_path / "out")
    lines = lines_of(tmp_path / "out/compare.csv")
    assert {(float(line["difference"]), float(line["low"]), float(line["high"])) for line in lines} == {(0, 0, 0)}
    assert "*" not in (tmp_path / "out/compare.md").read_text(encoding="utf-8").partition("[low, high]")[0]


def test_the_other_way_round_the_signs_change(tmp_path: Path):
    """Scores that differ in each case; three runs: the second and third against the first."""
    a, b, c = evaluated(tmp_path / "a"), evaluated(tmp_path / "b", 0.03), evaluated(tmp_path / "c", -0.01)
    scores = (b / "evaluation/cases.csv").read_text().splitlines()
    noise = np.random.default_rng(0).normal(0, 0.01, len(scores))
    changed = [
        ",".join([*line.split(",")[:3], f"{0.5 + z}", f"{9 + z}"]) for line, z in zip(scores, noise, strict=True)
    ]
    (b / "evaluation/cases.csv").write_text("\n".join([scores[0], *changed[1:]]) + "\n")
    compare([a, b, c], tmp_path / "there")
    compare([b, a], tmp_path / "back")
    there = [line for line in lines_of(tmp_path / "there/compare.csv") if line["run"] == "b"]
    for ours, theirs in zip(there, lines_of(tmp_path / "back/compare.csv"), strict=True):
        expected = [-float(ours[name]) for name in ("difference", "high", "low")]
        assert [float(theirs[name]) for name in ("difference", "low", "high")] == pytest.approx(expected, abs=1e-9)
        assert float(ours["low"]) < float(ours["high"])
    assert len(lines_of(tmp_path / "there/compare.csv")) == 2 * len(there)


def test_only_what_all_have_scored_is_compared_and_the_rest_named(tmp_path: Path):
    """Cases that only one run tests, and a subset that a case lacks in one of them."""
    a = evaluated(tmp_path / "a", cases=range(6))
    b = evaluated(tmp_path / "b", 0.01, cases=range(2, 9), without=(3, TWO))
    compare([a, b], tmp_path / "out")
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert "Note: 2 cases of a left out, which not every run has scored: case0, case1.\n" in text
    assert "Note: 3 cases of b left out, which not every run has scored: case6, case7, case8.\n" in text
    assert "an interval from fewer than 5 patients means little; some here are from 3" in text
    counts = {line["subset"]: line["cases"] for line in lines_of(tmp_path / "out/compare.csv")}
    assert counts == {"flair": "4", "t1ce": "4", "flair+t1ce": "3", "mean": "4"}
    differences = [float(line["difference"]) for line in lines_of(tmp_path / "out/compare.csv")]
    assert [abs(d) for d in differences] == pytest.approx([0.01 if abs(d) < 0.5 else 1 for d in differences])


def test_a_run_of_more_modalities_is_compared_on_the_subsets_of_both(tmp_path: Path):
    a, b = evaluated(tmp_path / "a"), evaluated(tmp_path / "b")
    lines = (b / "evaluation/cases.csv").read_text().splitlines()
    more = [line.replace(",flair,", f",{name},") for line in lines if ",flair," in line for name in ("t2", "flair+t2")]
    (b / "evaluation/cases.csv").write_text("\n".join([*lines, *more]) + "\n")
    write_config(b / CONFIG, replace(read_config(b), modalities=(*TWO, "t2")))
    compare([a, b], tmp_path / "out")
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert "Note: 2 of b's subsets left out, which not every run has: flair+t2, t2.\n" in text
    assert {line["subset"] for line in lines_of(tmp_path / "out/compare.csv")} == {*map(subset_name, SUBSETS), "mean"}


def test_the_order_of_the_modalities_means_nothing(tmp_path: Path):
    a, b = evaluated(tmp_path / "a"), evaluated(tmp_path / "b", 0.01)
    path = b / "evaluation/cases.csv"
    path.write_text(path.read_text().replace("flair+t1ce", "t1ce+flair"))
    write_config(b / CONFIG, replace(read_config(b), modalities=TWO[::-1]))
    compare([a, b], tmp_path / "out")
    assert {line["subset"] for line in lines_of(tmp_path / "out/compare.csv")} == {*map(subset_name, SUBSETS), "mean"}
    assert "Note" not in (tmp_path / "out/compare.md").read_text(encoding="utf-8")


def test_the_mean_over_subsets_is_taken_within_a_case_first(tmp_path: Path):
    """A case with one subset counts as much as one with three."""
    score = {("a", s): 0.0 for s in SUBSETS} | {("b", ("flair",)): 0.0}
    for name, gains in (("base", (0, 0)), ("other", (0.3, 0.1))):
        run = evaluated(tmp_path / name)
        lines = [Score(case, s, "WT", v + gains[case == "b"], 1.0) for (case, s), v in score.items()]
        (run / "evaluation/cases.csv").write_text(cases_csv(lines))
    compare([tmp_path / "base", tmp_path / "other"], tmp_path / "out")
    lines = {
        (x["metric"], x["region"], x["subset"]): float(x["difference"]) for x in lines_of(tmp_path / "out/compare.csv")
    }
    assert lines["Dice", "WT", "mean"] == pytest.approx(0.2)
    assert lines["Dice", "WT", "flair"] == pytest.approx(0.2)
    assert lines["Dice", "WT", "t1ce"] == pytest.approx(0.3)


def test_examinations_of_one_patient_belong_together(tmp_path: Path):
    for name, shift in (("a", 0.0), ("b", 0.1)):
        run = evaluated(tmp_path / name)
        scores = [
            Score(f"BraTS-GLI-{k // 2:05}-{k % 2:03}", ("flair",), "WT", 0.5 + shift * (k < 4), 1.0) for k in range(12)
        ]
        (run / "evaluation/cases.csv").write_text(cases_csv(scores))
    compare([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert {(x["cases"], x["patients"]) for x in lines_of(tmp_path / "out/compare.csv")} == {("12", "6")}
    assert "12 cases of 6 patients" in (tmp_path / "out/compare.md").read_text(encoding="utf-8")


def test_of_one_case_there_is_a_difference_and_no_interval(tmp_path: Path):
    compare([evaluated(tmp_path / "a", cases=range(1)), evaluated(tmp_path / "b", 0.1, range(1))], tmp_path / "out")
    lines = lines_of(tmp_path / "out/compare.csv")
    assert {(line["low"], line["high"]) for line in lines} == {("", "")}
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert "Note: of a single patient there is no interval, and one of fewer than 5 means little.\n" in text
    assert "mean of the 3 subsets +10.0 points, 1 case\n" in text
    assert "nan" not in text
    assert is_picture(tmp_path / "out/compare.png")


def is_picture(path: Path) -> bool:
    pixels = matplotlib.image.imread(path)
    return min(pixels.shape[:2]) > 300 and pixels[..., :3].std() > 0.05


def test_a_cross_validation_is_compared_like_a_run(tmp_path: Path):
    """Its configuration is that of its folds, its cases those of all of them."""
    folds = evaluated(tmp_path / "folds", 0.02)
    (folds / "fold0").mkdir()
    for name in (CONFIG, "splits.json"):
        (folds / name).rename(folds / "fold0" / name)
    compare([evaluated(tmp_path / "run"), folds], tmp_path / "out")
    assert "folds - run: Dice, mean of the 3 subsets +2.0 points" in (tmp_path / "out/compare.md").read_text("utf-8")


def test_cases_that_share_only_their_names_are_told(tmp_path: Path):
    """Phantoms of two seeds, say. Not where a run does not say where its case is."""
    runs = [evaluated(tmp_path / name) for name in "abc"]
    told = [listed(0, "/other"), *map(listed, range(1, 5))]
    write_json(runs[1] / "splits.json", {"test": told})
    compare(runs, tmp_path / "out")
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert "Note: paired by name alone: 1 case of a and b in other folders, as /data/case0 and /other/case0; " in text
    assert text.count("Note: ") == 1


# Sequences


def sequences(run: Path, kind: type, header: str, rows: list[str]) -> Path:
    classes = None if kind is TrainSentiment else ["zero", "one"]
    run.mkdir(parents=True)
    write_config(run / CONFIG, kind(data=run, out=run))
    about = {"features": dict.fromkeys(read_config(run).modalities, 1), "classes": classes, "per_step": False}
    write_json(run / "splits.json", {"about": about})
    (run / "evaluation").mkdir()
    (run / "evaluation/predictions.csv").write_text("\n".join([header, *rows]) + "\n")
    return run


def test_sentiment_is_compared_by_its_errors_sample_by_sample(tmp_path: Path):
    """Steps of a sample belong together; b lacks audio."""
    header = f"sample,step,target,{','.join(map(subset_name, all_subsets(('text', 'audio', 'vision'))))}"
    rows = ["a,0,1.0,1.5,0.5,1,1,1,1,{x}", "a,1,-1.0,-1,-1,-1,-1,-1,-1,{x}", "b,0,2.0,1.0,,2,,2,,"]
    runs = [
        sequences(tmp_path / name, TrainSentiment, header, [row.format(x=x) for row in rows])
        for name, x in (("bad", "0.0"), ("good", "0.5"))
    ]
    assert read_config(runs[0]).modalities == ("text", "audio", "vision")
    compare(runs, tmp_path / "out")
    lines = {line["subset"]: line for line in lines_of(tmp_path / "out/compare.csv")}
    whole = lines["text+audio+vision"]
    assert (whole["metric"], whole["predictions"], whole["samples"]) == ("MAE", "2", "1")
    assert (float(whole["baseline_mean"]), float(whole["run_mean"])) == (1.0, (0.5 + 1.5) / 2)
    assert float(lines["text"]["baseline_mean"]) == pytest.approx((0.5 + 0 + 1) / 3)
    assert (lines["text"]["predictions"], lines["text"]["samples"]) == ("3", "2")
    text = (tmp_path / "out/compare.md").read_text(encoding="utf-8")
    assert "good - bad: MAE, lower is better" in text
    assert "3 predictions of 2 samples" in text


def test_digits_are_compared_by_how_many_are_right(tmp_path: Path):
    modalities = read_config(sequences(tmp_path / "x", TrainDigits, "", [])).modalities
    names = [subset_name(subset) for subset in all_subsets(modalities)]
    header = ",".join(["sample,step,target", *(f"{name},{name} p(zero),{name} p(one)" for name in names)])
    runs = [
        sequences(
            tmp_path / run,
            TrainDigits,
            header,
            [f"s{k},0,one,{','.join([f'{told},0.1,0.9'] * len(names))}" for k, told in enumerate(answers)],
        )
        for run, answers in (("half", ["one", "zero"] * 4), ("all", ["one"] * 8))
    ]
    compare(runs, tmp_path / "out")
    for line in lines_of(tmp_path / "out/compare.csv"):
        assert (line["metric"], float(line["baseline_mean"]), float(line["run_mean"])) == ("accuracy", 0.5, 1.0)
        assert 0 < float(line["low"]) < 0.5 < float(line["high"]) < 1
    assert "accuracy, mean of the 3 subsets +50.0 points" in (tmp_path / "out/compare.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("row", "told"),
    [("a,0,1.0,x,1,1,1,1,1,1", "line 2: text is 'x', expected a number"), ("a,0,1.0,1,1", "line 2 has 5 cells")],
)
def test_damaged_predictions_are_refused(row: str, told: str, tmp_path: Path):
    header = f"sample,step,target,{','.join(map(subset_name, all_subsets(('text', 'audio', 'vision'))))}"
    whole = sequences(tmp_path / "whole", TrainSentiment, header, ["a,0,1.0,1,1,1,1,1,1,1"])
    with pytest.raises(UserError, match=f"predictions.csv: {told}"):
        compare([whole, sequences(tmp_path / "damaged", TrainSentiment, header, [row])])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a,0,nan,1,1,1,1,1,1,1", "target is 'nan'"),
        ("a,0,1,inf,1,1,1,1,1,1", "text is 'inf'"),
        ("a,x,1,1,1,1,1,1,1,1", "step is 'x'"),
        ("b,0,1,1,1,1,1,1,1,1", "'b' has a prediction of step 0 before it already"),
    ],
)
def test_predictions_that_are_no_numbers_are_refused(row: str, told: str, tmp_path: Path):
    header = f"sample,step,target,{','.join(map(subset_name, all_subsets(('text', 'audio', 'vision'))))}"
    run = sequences(tmp_path / "run", TrainSentiment, header, ["b,0,1.0,1,1,1,1,1,1,1", row])
    with pytest.raises(UserError, match=f"predictions.csv: line 3: {told}"):
        read_run_scores(run)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a,0,two" + ",one,0.1,0.9" * 3, "target is 'two', expected one of"),
        ("a,0,one" + ",two,0.1,0.9" * 3, "audio is 'two', expected one of"),
        ("a,0,one" + ",one,0.1,1.5" * 3, r"audio p\(one\) is '1.5', expected a number in \[0, 1\]"),
        ("a,0,one" + ",one,0.1," * 3, r"audio p\(one\) is ''"),
    ],
)
def test_classes_that_the_run_has_not_are_refused(row: str, told: str, tmp_path: Path):
    names = [subset_name(subset) for subset in all_subsets(("audio", "image"))]
    header = ",".join(["sample,step,target", *(f"{name},{name} p(zero),{name} p(one)" for name in names)])
    with pytest.raises(UserError, match=f"predictions.csv: line 2: {told}"):
        read_run_scores(sequences(tmp_path / "run", TrainDigits, header, [row]))


def test_the_order_of_the_regions_means_nothing(tmp_path: Path):
    a, b = evaluated(tmp_path / "a"), evaluated(tmp_path / "b", 0.02)
    path = b / "evaluation/cases.csv"
    header, *lines = path.read_text().splitlines()
    swapped = [line for pair in zip(lines[1::2], lines[::2], strict=True) for line in pair]
    path.write_text("\n".join([header, *swapped]) + "\n")
    compare([a, b], tmp_path / "out")
    for line in lines_of(tmp_path / "out/compare.csv"):
        assert float(line["difference"]) == pytest.approx({"Dice": 0.02, "HD95": -2}[line["metric"]])


def test_predictions_that_are_no_text_are_refused(tmp_path: Path):
    run = sequences(tmp_path / "run", TrainSentiment, "", [])
    (run / "evaluation/predictions.csv").write_bytes(b"sample,\xff\n")
    with pytest.raises(UserError, match=r"predictions\.csv: has the columns .*, expected sample, .*Evaluate"):
        read_run_scores(run)


@pytest.mark.parametrize("lines", [-1, -2, -3, -4, -5])
def test_a_file_of_cases_that_was_cut_is_refused(lines: int, tmp_path: Path):
    """At the end of a line each line is whole, but the last case is not. Cut between two subsets nobody can tell."""
    run = evaluated(tmp_path / "run")
    path = run / "evaluation/cases.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:lines]) + "\n")
    if lines % 2:
        with pytest.raises(UserError, match=r"cases\.csv: damaged, case5 with .* has scores of WT, expected WT, TC"):
            read_run_scores(run)
    else:
        assert len(read_run_scores(run).values[("case5",)]) == len(SUBSETS) + lines // 2


def test_targets_that_differ_are_of_other_data(tmp_path: Path):
    header = f"sample,step,target,{','.join(map(subset_name, all_subsets(('text', 'audio', 'vision'))))}"
    runs = [
        sequences(tmp_path / name, TrainSentiment, header, [f"a,0,{target},1,1,1,1,1,1,1"])
        for name, target in (("one", "1.0"), ("two", "2.0"))
    ]
    with pytest.raises(UserError, match="the targets of 1 predictions differ, as of a 0"):
        compare(runs, tmp_path / "out")


# What is refused


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path):
    runs = [tmp_path / place / "fold" for place in ("a", "b")]
    assert distinct_names(runs) == ["a/fold", "b/fold"]
    assert distinct_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    compare([evaluated(runs[0]), evaluated(runs[1], 0.01)])
    assert (runs[0] / "evaluation/compare_b-fold/compare.md").exists()


@pytest.mark.parametrize("below", ["", "/deeper/still"])
def test_a_place_to_write_to_that_is_a_file_is_found_before_the_work(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        gmd.evaluation.compare.command, "compare_scores", lambda *_: pytest.fail("compared before that")
    )
    (tmp_path / "file").touch()
    runs = [evaluated(tmp_path / name) for name in "ab"]
    with pytest.raises(UserError, match=f"--out: {tmp_path / 'file'} is a file; expected a folder"):
        compare(runs, tmp_path / f"file{below}")


def test_what_cannot_be_compared_is_refused(tmp_path: Path):
    run = evaluated(tmp_path / "run")
    with pytest.raises(UserError, match=r"got 1 run\(s\), expected at least two"):
        compare([run])
    with pytest.raises(UserError, match="are one run"):
        compare([run, tmp_path / "." / "run"])
    with pytest.raises(UserError, match=r"no config\.yaml, so this is not the folder of a run"):
        compare([run, tmp_path])
    with pytest.raises(UserError, match="have no case in common"):
        compare([run, evaluated(tmp_path / "elsewhere", cases=range(10, 12))])
    other = evaluated(tmp_path / "other")
    path = other / "evaluation/cases.csv"
    path.write_text(path.read_text().replace(",TC,", ",ET,"))
    with pytest.raises(UserError, match=r"one has Dice WT, Dice TC, .*, the other Dice WT, Dice ET"):
        compare([run, other])
    path.unlink()
    with pytest.raises(
        UserError, match=f"not evaluated yet, there is no evaluation/cases.csv; first: gmd evaluate {other}"
    ):
        compare([run, other])
    assert not list((run / "evaluation").glob("compare*"))


@pytest.mark.parametrize("name", ["compare.md", "compare.csv", "compare.png"])
def test_files_of_others_are_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    runs = [evaluated(tmp_path / "a"), evaluated(tmp_path / "b", 0.01)]
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("my thesis\nrun,metric,region", encoding="utf-8")
    for place, folder in ((out, out), (None, runs[0] / "evaluation" / "compare_b")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("my thesis", encoding="utf-8")
        with pytest.raises(UserError, match=f"{folder / name}: is there already, and gmd compare has not written it"):
            compare(runs, place)
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name).read_text(encoding="utf-8") == "my thesis"


def test_a_comparison_is_written_over_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs, out = [evaluated(tmp_path / "a"), evaluated(tmp_path / "b", 0.01)], tmp_path / "out"
    compare(runs, out)
    (out / "mine.txt").touch()

    def accepted(*_):
        raise InterruptedError

    monkeypatch.setattr(gmd.evaluation.compare.command, "compare_scores", accepted)
    for name in ("mine.txt", "compare.png", "compare.csv", "compare.md"):  # as after a kill, which leaves the first
        with pytest.raises(InterruptedError):
            compare(runs, out)
        (out / name).unlink()


def test_a_picture_without_the_tables_of_its_comparison_is_somebody_elses(tmp_path: Path):
    runs, out = [evaluated(tmp_path / "a"), evaluated(tmp_path / "b", 0.01)], tmp_path / "out"
    compare(runs, out)
    (out / "compare.csv").unlink()
    with pytest.raises(UserError, match=r"compare\.png: is there already, and gmd compare has not written it"):
        compare(runs, out)


def test_names_of_runs_that_add_up_to_more_than_a_name_may_have(tmp_path: Path):
    runs = [tmp_path / "first", *(tmp_path / (letter * 100) for letter in "abc")]
    with pytest.raises(UserError, match=r"--out: a name of 310 bytes, of which 255 are possible; shorten"):
        compare(runs)
