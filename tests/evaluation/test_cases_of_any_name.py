"""Cases of any name are evaluated to the end: tables, pictures, report, and nothing that a reader of these acts on."""

import shutil
import unicodedata
from pathlib import Path

import pytest

import gmd.cli
from gmd.data.segmentation.phantom import write_phantoms
from gmd.evaluation.compare.run_scores import read_run_scores
from gmd.scoring.segmentation.tables import read_cases
from helpers.evaluation_cases import untrained_run

NAMES = ["=1+1", "cost_$5_1_and_$6", "b\udcff", "x\nline: 1 done, 0 failed", "\x1b]0;owned\x07\u202e|`<img src=x>"]

pytestmark = pytest.mark.slow  # evaluations


@pytest.fixture
def run(phantoms: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantoms, tmp_path / "data")
    run = untrained_run(tmp_path, out="r$x_1_2$", modalities=("flair", "t1"))
    write_phantoms(tmp_path / "made", 1, (16, 16, 16), seed=77)
    [case] = (tmp_path / "made").iterdir()
    for name in NAMES:
        shutil.copytree(case, tmp_path / "evil" / name)
    return run


def test_everything_is_written_and_harmless(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture):
    assert gmd.cli.main(["evaluate", str(run), "--data", str(tmp_path / "evil")]) == 0
    results = run / "evaluation" / "evil"
    assert {score.case for score in read_cases(results / "cases.csv")} == set(NAMES)
    lines = (results / "cases.csv").read_text(encoding="utf-8", errors="surrogateescape")
    assert lines.count("\n'=1+1,") == 3 * 4, "of each subset, WT, TC, ET and ET_postpro"
    assert all((results / f"case_{place}.png").stat().st_size > 1000 for place in ("best", "median", "worst"))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<img src=x>" not in page
    told = capfd.readouterr()
    for text in (told.out, told.err.replace("\r", ""), (results / "table.md").read_text(encoding="utf-8")):
        assert not any(unicodedata.category(letter) in ("Cc", "Cf") for letter in text.replace("\n", ""))
        assert not any(line.startswith("line: 1 done") for line in text.splitlines())


def test_runs_are_compared_whatever_they_and_their_cases_are_called(run: Path, tmp_path: Path):
    assert gmd.cli.main(["evaluate", str(run)]) == 0
    other = shutil.copytree(run, tmp_path / "=evil|\n`$a_1_2$")
    assert gmd.cli.main(["compare", str(run), str(other), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "compare.png").stat().st_size > 1000
    text = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    assert r"=evil\|\n\`$a_1_2$" in text.replace(r"\\n", r"\n")
    assert all(line.count(" | ") == text.splitlines()[2].count(" | ") for line in text.splitlines()[2:6])
    assert (tmp_path / "out" / "compare.csv").read_text(encoding="utf-8").splitlines()[1].startswith("r$x_1_2$,")
    assert read_run_scores(run).values
