"""A page to give away has the figures of a run, and nothing that says whose they are."""

from dataclasses import fields
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import gmd.cli
from gmd.config import TASKS, TrainBrats, TrainConfig, TrainSentiment
from gmd.report import write_report
from gmd.report.anonymous import AS_THEY_ARE, LEFT_OUT, _names_nothing, anonymous_page
from gmd.report.page import _run_page
from helpers.report_cases import START, Page, epoch, step, write_run, write_table

SECRET = "Zyxw"  # in every name of a case, a person, a place and a machine


def secret_run(folder: Path, config: TrainConfig, **splits) -> Path:
    start = START | {"device": f"{SECRET} Xeon", "time": f"{SECRET}-11-21", "threads": 31337}
    lines = [start, step(1), epoch(1, 0.5), step(2, 2, -0.25), epoch(2, 0.75, memory_MB=4321.0)]
    run = write_run(folder / f"{SECRET} run", config, lines, splits)
    write_table(run)
    (run / "evaluation" / "table.md").write_text(f"Mean over 5 cases of /home/{SECRET}; note: {SECRET} could not.\n")
    matplotlib.image.imsave(run / "evaluation" / "case_worst.png", np.zeros((40, 60, 3)))
    own = run / "evaluation"
    own.rename(run / f"{SECRET} hospital")
    write_table(run)
    (run / f"{SECRET} hospital").rename(run / "evaluation" / f"{SECRET} hospital")
    (run / "evaluation" / f"{SECRET} hospital" / "data.txt").write_text(f"/mnt/{SECRET}\n")
    return run


def brats(**options) -> TrainBrats:
    patterns = (f"flair={SECRET}_FL.nii.gz", f"t1={SECRET}_T1.nii.gz")
    data = (Path(f"/data/{SECRET}"), Path(f"/other/{SECRET}"))
    options |= {"patterns": patterns, "labels": ("brats2018",)}
    return TrainBrats(data=data, modalities=("flair", "t1"), epochs=2, lr=0.03125, **options)


CASES = [{"name": f"{SECRET} {n}", "patient": f"{SECRET} {n}", "folder": f"/data/{SECRET}"} for n in range(3)]


def test_nothing_in_it_says_whose_the_run_is(tmp_path: Path):
    run = secret_run(tmp_path, brats(), train=CASES, notes=[f"read as {SECRET}"])
    whole = write_report(run).read_text(encoding="utf-8")
    assert all(told in whole for told in (f"{SECRET} run", f"{SECRET} Xeon", f"{SECRET} 1", f"{SECRET} hospital"))
    text = write_report(run, anonymous=True).read_text(encoding="utf-8")
    assert SECRET.lower() not in text.lower()
    assert str(tmp_path) not in text
    assert "31337" not in text
    assert "data:image/webp" not in text, "pictures of cases"
    told = Page(text).text()
    assert "Anonymous: without names and pictures" in told
    assert "Pictures of cases are left out" in told
    for figure in ("best validation 0.750", "4,321 MB", "1,234,567", "0.03125", "3 cases", "Means over 5 cases"):
        assert figure in told, figure
    assert "Means over 5 cases of other data (1)" in told
    assert "gmd train brats --modalities flair t1 --epochs 2 --lr 0.03125 --data DATA" in told
    assert f"data {LEFT_OUT}" in told
    assert f"patterns {LEFT_OUT}" in told


@pytest.mark.parametrize("token", ["\udcff", "<b>", "\u202e", "'"])
def test_names_of_any_kind(token: str, tmp_path: Path):
    cases = [{"name": f"{SECRET}{token}", "patient": token}]
    run = secret_run(tmp_path, brats(), train=cases)
    assert SECRET not in write_report(run, anonymous=True).read_text(encoding="utf-8")


def test_a_run_on_sequences(tmp_path: Path):
    config = TrainSentiment(data=Path(f"{SECRET}.npz"), modalities=("flair", "t1"), epochs=2)
    about = {"features": {"flair": 5, "t1": 6}, "classes": None, "per_step": False}
    run = secret_run(tmp_path, config, test=[{"name": f"{SECRET}$_$7"}], about=about)
    text = write_report(run, anonymous=True).read_text(encoding="utf-8")
    assert SECRET not in text
    assert "sample 1" in text


def test_cases_have_the_same_numbers_in_every_fold(tmp_path: Path):
    def numbers(run: Path, order: list[dict]) -> dict:
        page = _run_page(write_run(run, brats(), [step(1)], {"train": order[:1], "test": order[1:], "validation": []}))
        shown = [name for split in anonymous_page(page)["splits"] for name in split.names]
        return dict(zip([case["name"] for case in order], shown, strict=True))

    first, second = numbers(tmp_path / "a", CASES), numbers(tmp_path / "b", CASES[::-1])
    assert first == second
    assert sorted(first.values()) == ["case 1", "case 2", "case 3"]


def test_what_a_page_will_show_one_day_is_left_out_until_somebody_decides(tmp_path: Path):
    page = _run_page(secret_run(tmp_path, brats())) | {"new": SECRET}
    assert "new" not in anonymous_page(page)
    assert set(AS_THEY_ARE) >= {"config", "version"}


@pytest.mark.parametrize("task", TASKS.values())
def test_options_that_may_hold_names_are_left_out(task: type[TrainConfig]):
    config = task(data=Path("d"), out=Path("o"), device=SECRET)
    hidden = {field.name for field in fields(config) if not _names_nothing(config, field)}
    assert {"data", "out", "device"} <= hidden
    assert not {"seed", "method", "modalities", "epochs", "precision"} & hidden


def test_by_the_command(tmp_path: Path):
    run = secret_run(tmp_path, brats())
    assert gmd.cli.main(["report", str(run), "--anonymous"]) == 0
    assert SECRET not in (run / "report.html").read_text(encoding="utf-8")


def test_a_cross_validation_and_its_folds(tmp_path: Path):
    whole = tmp_path / SECRET
    for fold in range(2):
        secret_run(whole, brats(folds=2, fold=fold), train=CASES, folds=2, fold=fold).rename(whole / f"fold{fold}")
    for page in (write_report(whole, anonymous=True), whole / "fold0" / "report.html", whole / "fold1" / "report.html"):
        text = page.read_text(encoding="utf-8")
        assert SECRET not in text
        assert "Anonymous: without names" in text
    assert "2 of 2 folds are here" in (whole / "report.html").read_text(encoding="utf-8")
