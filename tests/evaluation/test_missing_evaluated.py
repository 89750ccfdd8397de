"""Evaluations with modalities missing: a line as a list or rates say, and the curve over the rate, of every task."""

import csv
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import gmd.cli
import gmd.evaluation.missing_curve
import gmd.evaluation.segmentation.single_run
import gmd.evaluation.sequences.single_run
from gmd.config import TrainSentiment
from gmd.config.missing_modalities import CURVE_RATES, MissingInEvaluation, curve_rates
from gmd.data.missing import Missing
from gmd.data.sequences.missing_modalities import make_absent
from gmd.errors import UserError
from gmd.evaluation.compare.command import compare
from gmd.evaluation.compare.missing_curves import draw_runs
from gmd.evaluation.segmentation.cross_validation import score_folds
from gmd.evaluation.segmentation.single_run import score_run
from gmd.evaluation.sequences.single_run import evaluate_run
from gmd.report import write_report
from gmd.scoring.missing_curve import read_curve
from gmd.scoring.sequences.kept import kept_predictions
from gmd.scoring.sequences.prediction import predict_samples
from gmd.subsets import all_subsets
from gmd.training.loop import train
from gmd.training.saved_run import load_run
from gmd.training.tasks import open_task
from helpers.evaluation_cases import names, untrained_run
from helpers.pictures import is_picture
from helpers.report_cases import Page

pytestmark = pytest.mark.usefixtures("one_thread")

THREE = ("text", "audio", "vision")
OF_A_CURVE = ("missing.csv", "missing.png")


def trained_on(data: Path, out: Path, **options) -> TrainSentiment:
    small = {"width": 16, "layers": 1, "heads": 2, "epochs": 1, "batch": 16, "device": "cpu"}
    return TrainSentiment(data=data, out=out, **small | options)


@pytest.fixture(scope="module")
def run(sentiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run on sequences; what a test writes into its evaluation, the next finds there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmd.training.loop.draw_pictures", lambda run, task: "not drawn")
        yield train(trained_on(sentiment, tmp_path_factory.mktemp("runs") / "run"))


def lines_of(path: Path) -> dict[str, dict[str, str]]:
    with open(path, newline="") as file:
        return {line["subset"]: line for line in csv.DictReader(file)}


# ---- sequences ----


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    "options", [{}, {"network": "late"}, {"network": "branches", "method": "mla", "target": "sign"}], ids=str
)
def test_what_is_picked_is_what_the_network_says_of_samples_that_lack_the_rest(sentiment, tmp_path, options):
    """No network runs for a rate: its predictions from all subsets are there."""
    task = open_task(trained_on(sentiment, tmp_path / "run", **options))
    network = task.build_network()
    samples = task.data.splits["test"]
    missing = Missing(dict.fromkeys(THREE, 0.5), 3)
    lacking = make_absent(samples, missing)
    predict = partial(predict_samples, network, config=task.config, outcomes=task.data.outcomes)
    whole, lessened = (predict(some, all_subsets(THREE)) for some in (samples, lacking))
    has = {sample.name: tuple(sample.values) for sample in lacking}
    assert missing.kept_by({sample.name: THREE for sample in samples}) == has
    picked = kept_predictions(whole, has)
    torch.testing.assert_close(picked.subsets[None], kept_predictions(lessened, has).subsets[None])
    assert (picked.names, picked.steps) == (lessened.names, lessened.steps)
    assert torch.equal(picked.targets, lessened.targets)


def test_the_curve_begins_with_all_and_its_draws_are_lines_of_the_table(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gmd.scoring.missing_curve.DRAWS", 2)
    rates = (0.0, 0.5)
    rows = evaluate_run(run, absent=MissingInEvaluation(missing_curve=rates))
    whole, half = read_curve(run / "evaluation" / "missing.csv")
    assert whole.means == pytest.approx(rows[-1].metrics)
    assert set(whole.deviations.values()) == {0.0}
    drawn = []
    for seed in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                MissingInEvaluation, "missing_of", lambda self, m, _, seed=seed: Missing({x: 0.5 for x in m}, seed)
            )
            evaluate_run(run, absent=MissingInEvaluation(("0.5",)))
        drawn.append(float(lines_of(run / "evaluation" / "table.csv")[f"50 % absent, seed {seed}"]["MAE"]))
    assert half.means["MAE"] == pytest.approx(sum(drawn) / 2)
    assert half.deviations["MAE"] == pytest.approx(torch.tensor(drawn, dtype=torch.float64).std().item())


def test_nothing_of_an_earlier_evaluation_is_left_behind(run: Path, capsys: pytest.CaptureFixture):
    assert gmd.cli.main(["evaluate", str(run), "--missing", "0.3", "--missing-curve"]) == 0
    said = capsys.readouterr().out
    folder = run / "evaluation"
    assert all(f"{folder / name}\n" in said for name in OF_A_CURVE)
    assert [point.rate for point in read_curve(folder / "missing.csv")] == list(CURVE_RATES)
    assert is_picture(folder / "missing.png")
    evaluate_run(run, absent=MissingInEvaluation(missing_curve=(0.0, 0.9)))
    assert [point.rate for point in read_curve(folder / "missing.csv")] == [0, 0.9]
    assert not (folder / "predictions_absent.csv").exists()
    evaluate_run(run)
    assert not [name for name in OF_A_CURVE if (folder / name).exists()]


def test_a_picture_that_cannot_be_drawn_costs_no_table(run: Path, monkeypatch, capsys):
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation" / "missing.png").write_text("of another curve")

    def fail(*_: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(gmd.evaluation.missing_curve, "draw_missing_curves", fail)
    evaluate_run(run, absent=MissingInEvaluation(missing_curve=(0.5,)))
    assert "gmd: no picture of the missing rates: RuntimeError: no ink" in capsys.readouterr().err
    assert not (run / "evaluation" / "missing.png").exists()
    assert [point.rate for point in read_curve(run / "evaluation" / "missing.csv")] == [0.5]


def curves_on(page: Page) -> int:
    return sum("missing rate" in attributes.get("alt", "") for tag, attributes in page.elements if tag == "img")


def test_the_report_shows_the_curve_and_names_no_list(run: Path, tmp_path: Path):
    listed = tmp_path / "Annas masks.csv"
    listed.write_text("id,text,audio,vision\n" + "".join(f"{name},1,0,0\n" for name in names(run, "test")))
    evaluate_run(run, absent=MissingInEvaluation(missing_list=listed, missing_curve=(0.0, 0.5)))
    table = lines_of(run / "evaluation" / "table.csv")
    assert table["Annas masks.csv"]["MAE"] == pytest.approx(table["text"]["MAE"])
    *_, point = read_curve(run / "evaluation" / "missing.csv")
    assert (point.listed, point.absent) == ("Annas masks.csv", pytest.approx(2 / 3)), "text alone, of three"
    assert point.means["MAE"] == pytest.approx(float(table["text"]["MAE"]))
    for anonymous in (False, True):
        page = Page(write_report(run, anonymous).read_text(encoding="utf-8"))
        assert curves_on(page) == 1
        assert ("Annas masks.csv" in page.text()) != anonymous
    (run / "evaluation" / "missing.png").write_bytes(b"rubbish")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert curves_on(page) == 0
    assert "missing.png cannot be shown: not a picture" in page.text()


def test_a_list_of_other_samples_is_told_before_the_network_runs(run: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        gmd.evaluation.sequences.single_run, "predict_samples", lambda *_: pytest.fail("the network has run")
    )
    (tmp_path / "masks.csv").write_text("id,text,audio,vision\nsomebody else,1,0,0\n")
    with pytest.raises(UserError, match=r"masks\.csv: names no sample that there is; it begins with somebody else"):
        evaluate_run(run, absent=MissingInEvaluation(missing_list=tmp_path / "masks.csv"))


def with_curve(run: Path, text: str) -> Path:
    (run / "evaluation").mkdir(parents=True)
    (run / "evaluation" / "missing.csv").write_text(text)
    return run


CURVE = "rate,draws,absent,Corr,Corr std\n0,5,0,1,0\n0.5,5,0.4,0.5,0.1\n"


def test_the_curves_of_runs_are_drawn_together(tmp_path: Path):
    picture = tmp_path / "compare_missing.png"
    runs = {name: with_curve(tmp_path / name, CURVE) for name in ("a", "b")}
    assert draw_runs(runs, picture) == [picture]
    assert is_picture(picture)
    (tmp_path / "b" / "evaluation" / "missing.csv").write_text(CURVE.replace("Corr", "MAE"))
    assert draw_runs(runs, picture) == []
    assert not picture.exists(), "of curves that one run has no more"
    (tmp_path / "b" / "evaluation" / "missing.csv").unlink()
    assert draw_runs(runs, picture) == []
    (tmp_path / "b" / "evaluation" / "missing.csv").write_text("rubbish\n1\n")
    with pytest.raises(UserError, match=r"missing\.csv: its columns are rubbish"):
        draw_runs(runs, picture)


def shown_of(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> dict:
    """What is drawn of the curves of runs."""
    drawn: list[dict] = []
    module = "gmd.evaluation.compare.missing_curves.draw_missing_curves"
    monkeypatch.setattr(module, lambda curves, path: drawn.append(curves) or path)
    draw_runs(runs, Path("picture.png"))
    return drawn[0]


def test_metrics_that_an_earlier_gmd_did_not_measure_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = "rate,draws,absent,accuracy,accuracy std,ECE,ECE std\n0,5,0,1,0,0.1,0\n"
    before = "rate,draws,absent,accuracy,accuracy std\n0,5,0,0.5,0\n"
    runs = {"now": with_curve(tmp_path / "now", now), "before": with_curve(tmp_path / "before", before)}
    shown = shown_of(runs, monkeypatch)
    assert {name: [point.means for point in curve] for name, curve in shown.items()} == {
        "now": [{"accuracy": 1}],
        "before": [{"accuracy": 0.5}],
    }


def test_lists_are_drawn_that_all_runs_were_scored_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = "rate,draws,absent,list,Corr,Corr std\n0,5,0,,1,0\n0.5,1,0.5,masks.csv,0.5,0\n"
    others = {"b": text, "c": text.replace("masks", "others"), "d": text.replace("0.5,1,0.5", "0.4,1,0.4")}
    runs = {name: with_curve(tmp_path / name, each) for name, each in {"a": text, **others}.items()}
    for name in others:
        shown = shown_of({"a": runs["a"], name: runs[name]}, monkeypatch)
        lists = [[point.listed for point in curve] for curve in shown.values()]
        assert lists == [["", "masks.csv"] if name == "b" else [""]] * 2


@pytest.mark.slow
def test_a_comparison_has_their_picture_and_replaces_its_own(run: Path, tmp_path: Path):
    evaluate_run(run, absent=MissingInEvaluation(missing_curve=(0.0, 0.5)))
    other = Path(shutil.copytree(run, tmp_path / "other"))
    for _ in range(2):
        compare([run, other], tmp_path / "out")
        assert is_picture(tmp_path / "out" / "compare_missing.png")
    others = tmp_path / "theirs"
    others.mkdir()
    (others / "compare_missing.png").write_text("somebody's")
    with pytest.raises(UserError, match="is there already, and gmd compare has not written it"):
        compare([run, other], others)


# ---- rates ----


@pytest.mark.parametrize("rate", ["1", "-0.1", "nan", "inf"])
def test_rates_of_a_curve_are_below_1(run: Path, rate: str, capsys: pytest.CaptureFixture):
    assert gmd.cli.main(["evaluate", str(run), "--missing-curve", "0.1", rate]) == 2
    assert f"--missing-curve: got {float(rate):g}, expected rates from 0 to less than 1" in capsys.readouterr().err


def test_rates_are_those_given_or_tenths_or_none():
    assert curve_rates(None) == ()
    assert curve_rates(()) == CURVE_RATES == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert curve_rates((0.5, 0.25, 0.5)) == (0.25, 0.5)


def test_of_one_modality_nothing_can_be_missing():
    with pytest.raises(UserError, match="--missing-curve: the run has text alone, which every sample keeps"):
        MissingInEvaluation(missing_curve=(0.5,)).check_curve(("text",))
    MissingInEvaluation().check_curve(("text",))


# ---- segmentation ----


@pytest.fixture
def no_case_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])


@pytest.mark.usefixtures("no_case_pictures")
def test_the_curve_of_segmentation_is_looked_up(phantoms: Path, tmp_path: Path):
    (tmp_path / "data").symlink_to(phantoms)
    brats = untrained_run(tmp_path, modalities=("flair", "t1ce"))
    rows = score_run(brats, absent=MissingInEvaluation(("0.5",), missing_curve=(0.0, 0.5))).rows
    whole, half = read_curve(brats / "evaluation" / "missing.csv")
    table = lines_of(brats / "evaluation" / "table.csv")
    assert list(whole.means) == list(table["mean"])[4:], "the columns of the table, behind subset, modalities, cases"
    assert all(value == pytest.approx(float(table["flair+t1ce"][name])) for name, value in whole.means.items())
    assert whole.means["WT"] == pytest.approx(rows[-1].dice["WT"])
    assert "50 % absent, seed 0" in table
    assert 0 < half.absent < 0.5
    assert is_picture(brats / "evaluation" / "missing.png")
    masks = tmp_path / "test.csv"  # as IM-Fuse's: of flair, t1ce, t1, t2
    masks.write_text("case,mask\n" + "".join(f'{name},"[True, False, True, True]"\n' for name in names(brats, "test")))
    score_run(brats, absent=MissingInEvaluation(missing_list=masks, missing_curve=(0.0,)))
    _, listed = read_curve(brats / "evaluation" / "missing.csv")
    assert (listed.listed, listed.rate, listed.absent, listed.draws) == ("test.csv", 0.5, 0.5, 1)
    assert listed.means["WT"] == pytest.approx(rows[0].dice["WT"]), "flair alone"
    score_run(brats)
    assert not [name for name in OF_A_CURVE if (brats / "evaluation" / name).exists()]


@pytest.mark.slow
@pytest.mark.usefixtures("no_case_pictures")
def test_the_folds_of_a_cross_validation_have_a_line_and_a_curve_together(phantoms: Path, tmp_path: Path):
    (tmp_path / "data").symlink_to(phantoms)
    for fold in range(2):
        untrained_run(tmp_path, f"cv/fold{fold}", modalities=("flair", "t1ce"), folds=2, fold=fold)
    folder, listed = tmp_path / "cv", tmp_path / "masks.csv"
    listed.write_text("id,flair,t1ce\n" + "".join(f"{path.name},0,1\n" for path in phantoms.iterdir()))
    score_folds(folder, absent=MissingInEvaluation(missing_list=listed, missing_curve=(0.0, 0.9)))
    table = lines_of(folder / "evaluation" / "table.csv")
    assert table["masks.csv"]["WT"] == table["t1ce"]["WT"]
    assert "6 of 6 cases of the row masks.csv have" in (folder / "evaluation" / "table.md").read_text(encoding="utf-8")
    whole, _, listed_alone = read_curve(folder / "evaluation" / "missing.csv")
    assert (listed_alone.listed, listed_alone.absent) == ("masks.csv", 0.5)
    assert listed_alone.means["WT"] == pytest.approx(float(table["t1ce"]["WT"]))
    assert whole.means["mean"] == pytest.approx(float(table["flair+t1ce"]["mean"]))
    assert not (folder / "fold0" / "evaluation" / "missing.csv").exists()
    listed.write_text("id,flair,t1ce\nnobody,0,1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmd.evaluation.segmentation.cross_validation.score_run", lambda *_: pytest.fail("scored"))
        with pytest.raises(UserError, match=r"masks\.csv: names no sample that there is"):
            score_folds(folder, absent=MissingInEvaluation(missing_list=listed))


# ---- training: what a list says is a part of the run ----


@pytest.mark.usefixtures("no_pictures")
def test_a_training_is_not_continued_with_another_list(sentiment: Path, tmp_path: Path):
    listed = tmp_path / "masks.csv"
    config = trained_on(sentiment, tmp_path / "run", missing_list=listed)
    everybody = [sample.name for sample in open_task(replace(config, missing_list=None)).data.splits["train"]]
    listed.write_text("id,text,audio,vision\n" + "".join(f"{name},1,0,1\n" for name in everybody))
    run = train(config)
    assert load_run(run)[0].missing_list == listed
    listed.write_text("id,text,audio,vision\n" + "".join(f"{name},1,1,0\n" for name in everybody))
    with pytest.raises(UserError, match="missing_list"):
        train(replace(config, resume=True))
    listed.write_text("name,vision,audio,text\n" + "".join(f"{name},1,0,1\n" for name in reversed(everybody)))
    train(replace(config, resume=True))  # which says the same


@pytest.mark.usefixtures("no_pictures")
def test_a_file_of_options_may_have_the_words_of_missing_modalities(sentiment: Path, tmp_path: Path):
    listed = tmp_path / "masks.csv"
    first = open_task(trained_on(sentiment, tmp_path / "run")).data.splits["train"][0].name
    listed.write_text(f"id,text,audio,vision\n{first},0,1,0\n")
    run = train(trained_on(sentiment, tmp_path / "run", missing=("text=0.5", "audio=0.2"), missing_list=listed))
    words = ["train", "sentiment", "--config", str(run / "config.yaml"), "--data", str(sentiment)]
    assert gmd.cli.main([*words, "--out", str(tmp_path / "again")]) == 0
    config, _ = load_run(tmp_path / "again")
    assert (config.missing, config.missing_list) == (("text=0.5", "audio=0.2"), listed)
    listed.unlink()
    evaluate_run(run)  # which is of training
    assert gmd.cli.main([*words, "--out", str(tmp_path / "third")]) == 2
    assert not (tmp_path / "third").exists()
