"""An evaluation is of one checkpoint: where its scores are shown, it is told if the run has another one by now."""

import shutil
from pathlib import Path

import pytest

from gmd.evaluation.outdated import LABEL_MAPS, why_outdated
from gmd.evaluation.results_folder import write_texts
from gmd.evaluation.scored_checkpoint import checkpoint_change, describe_checkpoint
from gmd.predict.summary import score_line
from gmd.report import write_report
from gmd.scoring.segmentation.tables import Score, cases_csv, read_cases
from gmd.training.checkpoint import save_checkpoint
from gmd.training.run_files import RESULTS, SCORED_RECORD
from gmd.training.run_folder import open_run
from gmd.training.run_mark import MARK, write_mark
from helpers.report_cases import Page, brats, write_run, write_table

MODALITIES = ("flair", "t1")


def set_epoch(run: Path, epochs: int, which: str = "best") -> None:
    save_checkpoint(run / f"{which}.pt", {"config": {}, "epochs": epochs})


def evaluated(run: Path, **options) -> Path:
    """A run whose best.pt of epoch 3 was scored."""
    write_run(run, brats(**options))
    write_table(run)
    set_epoch(run, 3)
    (run / "evaluation" / "checkpoint.txt").write_text(f"{describe_checkpoint(run, 'best')}\n")
    return run


def told_by_report(run: Path) -> str:
    """What stands above the figures."""
    return Page(write_report(run).read_text(encoding="utf-8")).text().partition("all 2 modalities")[0]


def test_report_and_prediction_tell_that_scores_are_of_other_weights(tmp_path: Path):
    run = evaluated(tmp_path / "my run")
    line = score_line(run, MODALITIES, MODALITIES, ("WT",))
    assert line.endswith(" in its evaluation of best.pt (epoch 3), over the label maps of 5 cases.")
    assert "outdated" not in told_by_report(run)
    set_epoch(run, 30)
    assert score_line(run, MODALITIES, MODALITIES, ("WT",)) == (
        f"{line} That is outdated: scored was best.pt (epoch 3), the run has best.pt (epoch 30) now; "
        f"gmd evaluate '{run}' again."
    )
    assert (
        "evaluation is outdated: scored was best.pt (epoch 3), the run has best.pt (epoch 30) now. "
        f"Score anew by: gmd evaluate '{run}'"
    ) in told_by_report(run)


def test_results_on_other_data_are_of_a_checkpoint_too(tmp_path: Path):
    run = evaluated(tmp_path)
    other = shutil.copytree(run / "evaluation", run / "evaluation" / "clinic")
    set_epoch(run, 7, "last")
    write_texts(other, {"checkpoint.txt": "last.pt (epoch 5)\n"}, Path("/some/clinic"))
    told = told_by_report(run)
    assert "evaluation/clinic is outdated: scored was last.pt (epoch 5), the run has last.pt (epoch 7) now." in told
    assert f"gmd evaluate {run} --data /some/clinic" in told
    assert "evaluation is outdated" not in told


@pytest.mark.parametrize("record", [None, "best.pt", "", "<b>", "worst.pt (epoch 3)"])
def test_nothing_is_told_of_what_nobody_knows(tmp_path: Path, record: str | None):
    """Results of earlier versions, damaged records, and runs whose checkpoints were deleted to save room."""
    run = evaluated(tmp_path)
    set_epoch(run, 30)
    path = run / "evaluation" / "checkpoint.txt"
    assert checkpoint_change(run, path.parent)
    path.unlink() if record is None else path.write_text(record)
    assert not checkpoint_change(run, path.parent)
    path.write_text("best.pt (epoch 3)\n")
    (run / "best.pt").unlink()
    assert not checkpoint_change(run, path.parent)


def scored_together(folder: Path) -> Path:
    """A cross-validation of two folds with two cases each, pooled as `evaluate_folds` does."""
    pooled = []
    for fold in range(2):
        cases = evaluated(folder / f"fold{fold}", folds=2, fold=fold) / "evaluation" / "cases.csv"
        scores = [Score(f"{fold}{case}", ("t1",), "WT", (1 + case) / 3, 0.1 + 0.2) for case in (0, 1)]
        write_texts(cases.parent, {"cases.csv": cases_csv(scores), SCORED_RECORD: f"{LABEL_MAPS}\n"})
        pooled += read_cases(cases)
    write_table(folder)
    (folder / "evaluation" / "cases.csv").write_text(cases_csv(pooled))
    return folder


def test_a_cross_validation_tells_which_fold_has_changed(tmp_path: Path):
    folder = scored_together(tmp_path / "cv")
    assert "outdated" not in told_by_report(folder)
    set_epoch(folder / "fold1", 30)
    told = told_by_report(folder)
    assert "outdated: of fold1 scored was best.pt (epoch 3), the run has best.pt (epoch 30) now." in told
    assert told.count("outdated") == 1
    assert f"Score anew by: gmd evaluate {folder}" in told


def test_folds_that_were_evaluated_again_by_themselves_are_not_in_the_table_of_all(tmp_path: Path):
    folder = scored_together(tmp_path / "cv")
    cases = folder / "fold0" / "evaluation" / "cases.csv"
    cases.write_text(cases.read_text().replace("0.3333", "0.4333"))
    assert "it is not what the folds' own evaluations say now" in told_by_report(folder)
    shutil.rmtree(cases.parent)
    assert "it is not what the folds' own evaluations say now" in told_by_report(folder)


def test_scores_of_channels_are_outdated(tmp_path: Path):
    """What an earlier gmd scored; as a run, as folds, and where the score of a prediction is told."""
    run = evaluated(tmp_path / "run")
    write_texts(run / "evaluation", {"cases.csv": cases_csv([])})
    what = "an earlier gmd scored the network's channels, not the label maps"
    assert why_outdated(run, run / "evaluation") == what
    assert f"evaluation is outdated: {what}. Score anew by: gmd evaluate {run}" in told_by_report(run)
    told = score_line(run, MODALITIES, MODALITIES, ("WT",))
    assert told.endswith(f", over 5 cases. That is outdated: {what}; gmd evaluate {run} again.")
    folder = scored_together(tmp_path / "cv")
    (folder / "fold1" / "evaluation" / SCORED_RECORD).unlink()
    assert f"outdated: of fold1 {what}. Score anew by: gmd evaluate {folder}" in told_by_report(folder)
    set_epoch(run, 30)
    assert why_outdated(run, run / "evaluation").startswith("scored was best.pt (epoch 3), the run has")


def test_what_has_no_label_maps_is_not_outdated_for_that(tmp_path: Path):
    """The evaluation of sequences, which writes predictions.csv."""
    run = evaluated(tmp_path)
    assert why_outdated(run, run / "evaluation") == ""


def test_a_new_run_does_not_show_what_an_old_one_has_left(tmp_path: Path):
    """A bug: with its last.pt deleted, a run began anew and showed the scores and pictures of the old weights."""
    run = evaluated(tmp_path)
    write_mark(run)
    for name in RESULTS:
        (run / name).touch()
    assert set(RESULTS) >= {"report.html", "curves.png", "cosines.png", "dominance.png", "dominance.txt"}
    open_run(brats(out=run), {"data": "phantoms"})
    assert {path.name for path in run.iterdir()} == {MARK, "config.yaml", "splits.json"}


def test_what_is_no_run_keeps_its_evaluation(tmp_path: Path):
    """Somebody else's folder that is given as --out."""
    write_table(tmp_path)
    open_run(brats(out=tmp_path), {"data": "phantoms"})
    assert (tmp_path / "evaluation" / "table.csv").exists()
