"""`gmd advise`: what it sees in a run, what it advises, and that its commands work."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure.files import RESULTS
from bench.tables.readme import ADVICE, advice_section
from gmd.advice import advise
from gmd.advice.evidence import Finding, findings
from gmd.advice.rules import Advice, advise_on
from gmd.advice.seen import Conflict, Seen, look_at
from gmd.advice.skill import Skill, read_skill
from gmd.advice.text import command
from gmd.cli import main
from gmd.config import TrainConfig, TrainSentiment
from gmd.errors import UserError
from gmd.evaluation.compare.paired import Difference
from helpers.report_cases import START, brats, epoch, step, write_run

NAMES = ("flair", "t1", "flair+t1")


def finding(conflicts: float | None, low: float, high: float, method: str = "gmd", weakest: float = 0.5) -> Finding:
    against = "enumerate" if method == "gmd" else "joint"
    middle = (low + high) / 2
    return Finding(f"data at {conflicts}", "Dice", conflicts, weakest, method, against, 5, middle, low, high, 0, -1, 1)


def skill(full: float, mean: float, alone: dict[str, float], units: int = 50) -> Skill:
    gap = Difference(units, units, mean, full, full - mean, full - mean - 0.01, full - mean + 0.01)
    return Skill("Dice", {**alone, "+".join(alone): full}, alone, gap, "patient")


def seen(method: str = "gmd", share: float | None = 0.1, of: Skill | None = None, dominant: str | None = None) -> Seen:
    conflict = None if share is None else Conflict(share, 2.0, 30, 3)
    return Seen(Path("run"), brats(method=method), 2, 100, conflict, dominant, of)


def test_the_table_that_is_quoted_is_what_the_results_say():
    assert ADVICE.read_text(encoding="utf-8") == advice_section(RESULTS)
    assert {(one.method, one.against) for one in findings()} >= {("gmd", "enumerate"), ("enumerate", "joint")}
    assert all(one.mean_low <= one.mean <= one.mean_high for one in findings())


def compared(number: int, conflicts: float, norms: tuple[float, ...]) -> dict:
    line = step(number, names=NAMES)
    line["dominance"]["norms"] = dict(zip(NAMES, norms, strict=True))
    return line | {"conflicts": conflicts}


def test_conflicts_are_those_of_the_last_quarter(tmp_path: Path):
    early = [compared(n, 1.0, (1, 1, 1)) for n in range(1, 7)]
    late = [compared(7, 0.0, (1, 2, 4)), compared(8, 0.5, (16, 1, 2))]
    found = look_at(write_run(tmp_path, brats(method="gmd"), [START, *early, *late]))
    assert found.conflict == Conflict(0.25, pytest.approx(8.0), 2, 3)  # the geometric mean of 4 and 16
    assert (found.steps, found.epochs, found.skill) == (8, 0, None)


def test_a_method_of_one_gradient_has_no_conflicts(tmp_path: Path):
    one = step(1, names=("flair+t1",)) | {"conflicts": None, "cosines": None}
    found = look_at(write_run(tmp_path, brats(method="joint"), [START, one, epoch(1)]))
    assert found.conflict is None
    assert found.dominant is None
    assert "evaluate first" in "\n".join(advise(tmp_path))


def test_a_run_without_a_step_is_no_error(tmp_path: Path):
    text = "\n".join(advise(write_run(tmp_path, brats(method="gmd"))))
    assert "0 steps" in text
    assert "look again later" in text


@pytest.mark.parametrize("share", [0.0, 0.009])
def test_rare_conflicts_need_no_surgery(share: float):
    [advice] = advise_on(seen(share=share), [finding(0.005, -0.1, 0.1), finding(0.2, 1, 2), finding(0.3, 1, 2)])
    assert advice.method == "enumerate"
    assert [one.conflicts for one in advice.evidence] == [0.005, 0.2]  # the nearest come first


def test_surgery_stays_where_it_has_paid():
    paid, not_shown = [finding(0.1, 0.5, 2), finding(0.2, 0.2, 1)], [finding(0.1, 0.5, 2), finding(0.2, -0.2, 1)]
    assert advise_on(seen(share=0.12), paid)[0].method is None
    assert advise_on(seen(share=0.12), not_shown)[0].method == "enumerate"


@pytest.mark.parametrize("method", ["enumerate", "dropout", "scalarised"])
def test_who_does_not_compare_gradients_is_told_how_to(method: str):
    options = {"weighting": "stch"} if method == "scalarised" else {}
    found = seen(method, None)._replace(config=brats(method=method, **options))
    [advice] = advise_on(found, [finding(0.1, 0, 1)])
    assert (advice.method, advice.options) == ("gmd", ("--every", "auto"))


@pytest.mark.parametrize(
    ("mean", "method"), [(0.5, "enumerate"), (0.68, None)], ids=["subsets are worse", "subsets are as good"]
)
def test_joint_training_goes_on_to_subsets_where_they_lack_something(mean: float, method: str | None):
    found = seen("joint", None, skill(0.7, mean, {"flair": 0.6, "t1": 0.1}))
    [advice] = advise_on(found, [finding(None, -3, -1, "enumerate", 0.05), finding(None, 1, 3, "enumerate", 0.6)])
    assert advice.method == method
    if method:  # what was lost is told with what was won
        assert [one.weakest for one in advice.evidence] == [0.6, 0.05]


def test_a_modality_that_tells_nothing_speaks_for_joint_training():
    found = seen("enumerate", None, skill(0.7, 0.5, {"flair": 0.65, "t1": 0.02}))
    advice = advise_on(found, [finding(None, -3, -1, "enumerate", 0.05), finding(None, 1, 3, "enumerate", 0.6)])
    assert [one.method for one in advice] == ["joint", "gmd"]
    assert "t1" in advice[0].why
    assert [one.weakest for one in advice[0].evidence] == [0.05]


def test_nothing_learnt_comes_before_any_method():
    [advice] = advise_on(seen("gmd", 0.5, skill(0.05, 0.04, {"flair": 0.03, "t1": 0.02})), findings())
    assert advice.method is None
    assert "tell next to nothing" in advice.why


def test_a_dominant_modality_speaks_for_turns_where_the_task_has_them(tmp_path: Path):
    sentiment = TrainSentiment(data=Path("s.npz"), out=Path("run"), method="gmd")
    found = seen(dominant="text")._replace(config=sentiment)
    assert [one.method for one in advise_on(found, [])] == ["enumerate", "mla"]
    assert [one.method for one in advise_on(seen(dominant="flair"), [])] == ["enumerate"]  # volumes have no mla


def test_a_cross_validation_and_a_folder_that_is_none_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"config\.yaml"):
        advise(tmp_path)
    (tmp_path / "fold0").mkdir()
    write_run(tmp_path / "fold0", brats())
    with pytest.raises(UserError, match="a cross-validation of 1 runs; give one of them, such as"):
        advise(tmp_path)


def test_a_damaged_line_is_named(tmp_path: Path):
    run = write_run(tmp_path, brats(method="gmd"), [START, {"kind": "step", "step": "x"}])
    with pytest.raises(UserError, match="line 2"):
        advise(run)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sequences")
    assert main(["phantom", str(folder / "data.npz"), "--task", "sentiment", "--cases", "60"]) == 0
    small = ["--width", "16", "--layers", "1", "--heads", "2", "--epochs", "1", "--device", "cpu"]
    given = ["--data", str(folder / "data.npz"), "--out", str(folder / "run"), "--method", "surgery", "--weighting"]
    assert main(["train", "sentiment", *given, "cagrad", "--weighting-options", "c=0.4", "--every", "2", *small]) == 0
    assert main(["evaluate", str(folder / "run")]) == 0
    return folder


def test_the_skill_of_numbers_is_by_the_median(sequences: Path):
    found = read_skill(sequences / "run")
    assert found is not None
    assert found.what.startswith("MAE below the ")
    assert set(found.of) == {
        "text",
        "audio",
        "vision",
        "text+audio",
        "text+vision",
        "audio+vision",
        "text+audio+vision",
    }
    assert found.full == pytest.approx(found.gap.other)
    assert found.mean == pytest.approx(found.gap.base)


@pytest.mark.parametrize(
    "advice", [("enumerate",), ("joint",), ("gmd", "--every", "auto"), ("mla", "--network", "branches")]
)
def test_the_command_that_is_printed_trains(sequences: Path, advice: tuple[str, ...]):
    """With the options of the run but for those that mean nothing to the other method."""
    found = look_at(sequences / "run")
    words = shlex.split(command(found, Advice(advice[0], advice[1:], "", [])))
    assert words[0] == "gmd"
    assert main(words[1:]) == 0
    trained: TrainConfig = look_at(Path(words[-1])).config
    assert trained.method == advice[0]
    assert replace(trained, lr=0).width == 16


def test_it_is_a_command(sequences: Path, capsys: pytest.CaptureFixture):
    assert main(["advise", str(sequences / "run")]) == 0
    said = capsys.readouterr().out
    for part in ("run: surgery, 1 of 1 epochs", "Seen", "Try next", "How sure", "why: "):
        assert part in said
    assert all(len(line) <= 100 for line in said.splitlines() if not line.startswith(("  gmd train", str(sequences))))
    assert main(["advise", str(sequences / "data.npz")]) == 2


def test_a_damaged_evaluation_is_named(sequences: Path, tmp_path: Path):
    run = Path(shutil.copytree(sequences / "run", tmp_path / "run"))
    (run / "evaluation" / "predictions.csv").write_text("nonsense\n")
    with pytest.raises(UserError, match=r"predictions\.csv"):
        advise(run)
