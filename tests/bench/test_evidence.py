"""`python -m bench.evidence`: which runs are made, in which order, what is kept and what is told."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

from bench.evidence import command, once, plan, session
from bench.evidence.code import code_hash, sources
from bench.evidence.command import evidence
from bench.evidence.plan import Job, left_out, ordered, told
from bench.evidence.store import Key, Store
from bench.evidence.task import Outcome, Task
from bench.evidence.tuning import check_settings
from bench.measure.files import RESULTS
from helpers.evidence_cases import ARMS, BEST, Alone, begun, outcome, task
from helpers.places import ROOT

TABLES = ("evidence.csv", "evidence_subsets.csv", "evidence_tuning.csv", "evidence_tasks.csv")
NAMES = [arm.name for arm in ARMS]
TUNED = 2 * len(ARMS)  # runs of the tuning


class Place:
    """Folders of data, of rows and of tables, and the command on them."""

    def __init__(self, folder: Path):
        self.data, self.work, self.out = (folder / name for name in ("data", "work", "out"))
        self.data.mkdir()
        (self.data / "toy").mkdir()

    def command(self, *words: str, tasks: tuple[Task, ...] = (task(),), crew=Alone) -> int:
        folders = ("--data", str(self.data), "--work", str(self.work), "--out", str(self.out))
        return evidence([*folders, *words], tasks, lambda out: [], crew)

    def tables(self) -> dict[str, bytes]:
        return {name: (self.out / name).read_bytes() for name in TABLES}

    def runs(self) -> pd.DataFrame:
        return pd.read_csv(self.out / "evidence.csv", dtype={"commit": str})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ---- the plan ----


def order_of(jobs: list[Job]) -> list[str]:
    """Of each job the task and the round, runs of the same put together."""
    found = (f"{job.task.name} {'tuning' if job.candidate is not None else job.seed}" for job in jobs)
    return list(dict.fromkeys(found))


def cost(job: Job) -> float:
    return job.task.seconds[job.arm.name]


def test_a_task_is_tuned_and_has_three_seeds_before_the_next_and_all_have_before_any_has_four():
    tasks = [task("one", seeds=4), task("two", seeds=5)]
    jobs = ordered(tasks, cost, 1e9)
    assert order_of(jobs) == [
        *("one tuning", "one 0", "one 1", "one 2", "two tuning", "two 0", "two 1", "two 2", "one 3", "two 3", "two 4"),
    ]
    assert len(jobs) == len(set(map(key_of, jobs))) == 2 * TUNED + 9 * len(ARMS)
    assert {job.seed for job in jobs if job.candidate is not None} == {1000}


def key_of(job: Job) -> tuple:
    return job.task.name, job.arm.name, job.seed, job.candidate


def test_a_small_budget_makes_whole_tables_of_the_tasks_that_fit():
    """Two cheap ones around a dear one: these have three seeds before that one has anything."""
    tasks = [task("one", seconds=1), task("dear", seconds=50), task("two", seconds=1)]
    jobs = ordered(tasks, cost, 112)
    first = [*("one tuning", "one 0", "one 1", "one 2", "two tuning", "two 0", "two 1", "two 2"), "dear tuning"]
    assert order_of(jobs)[: len(first)] == first
    assert order_of(jobs)[-3:] == ["one 3", "dear 3", "two 3"]
    left = left_out(jobs, cost, 112)
    assert told(left)[0].startswith("dear: 9 runs of the tuning; seeds 0, 1, 2, 3")
    assert {job.task.name for job in left} == {"dear"}


def test_cells_that_lack_the_same_are_told_in_one_line():
    cells = [task(f"toy-{angle}", group="knob", seeds=seeds) for angle, seeds in ((0, 2), (60, 2), (90, 3))]
    later = [job for job in ordered([*cells, task()], cost, 1e9) if job.seed in (1, 2)]
    assert told(later) == ["knob, 2 cells: seed 1", "toy-90: seeds 1, 2", "toy: seeds 1, 2"]


def test_what_waits_for_a_tuning_that_does_not_fit_is_left_out_with_it():
    toy = task(seconds=1, seeds=1)
    left = left_out(ordered([toy], cost, TUNED - 1), cost, TUNED - 1)
    assert told(left) == ["toy: 1 runs of the tuning; seed 0"]
    assert not left_out(ordered([toy], cost, 15), cost, 15)


def test_all_arms_are_tuned_alike_or_none_is():
    uneven = replace(task(), settings=lambda arm: [{}] * (1 + (arm.name == "gmd")))
    with pytest.raises(ValueError, match=r"toy: expected as many settings for each arm, got .*'gmd': 2"):
        check_settings(uneven)


# ---- runs, and what is kept of them ----


def test_every_arm_is_tuned_and_then_run_with_its_best_setting(place: Place):
    assert place.command() == 0
    runs = place.runs()
    assert list(zip(runs["seed"], runs["arm"], strict=True)) == [(seed, arm) for seed in range(4) for arm in NAMES]
    assert [json.loads(text)["lr"] for text in runs["setting"][:5]] == list(BEST.values())
    assert runs["base"].fillna("").tolist()[:5] == ["", "joint", "joint", "", "joint, late"]
    assert runs["conflicts"].notna().tolist()[:5] == [False, False, True, False, False]
    assert (runs["worst"] <= runs["mean"]).all()
    assert (runs["mean"] <= runs["full"]).all()
    assert set(runs["worst_subset"]) <= {"a", "b"}
    assert set(runs["code"]) == {code_hash()}
    assert runs[["commit", "cpu", "torch", "date", "steps", "cpu_s"]].notna().all(axis=None)
    assert (runs["threads"] == 1).all()
    subsets = pd.read_csv(place.out / "evidence_subsets.csv")
    assert len(subsets) == 3 * len(runs)
    assert runs["mean"].iloc[0] == pytest.approx(subsets["score"].iloc[:3].mean(), abs=1e-5)
    tuning = pd.read_csv(place.out / "evidence_tuning.csv")
    assert len(tuning) == TUNED
    assert tuning.groupby("arm")["chosen"].sum().eq(1).all()
    assert (tuning["seed"] == 1000).all()
    [row] = pd.read_csv(place.out / "evidence_tasks.csv").to_dict("records")
    assert (row["title"], row["modalities"], row["settings"], row["seeds"]) == ("the toy", "a+b", 2, 4)
    assert not list(place.work.rglob("weights")), "what a run writes goes with it"


def test_what_was_run_is_not_run_again_and_the_tables_are_the_same_bytes(place: Place):
    assert place.command() == 0
    before, log = place.tables(), begun(place.data)
    for name in TABLES:
        (place.out / name).unlink()
    assert place.command() == 0
    assert place.tables() == before
    assert begun(place.data) == log


def test_a_run_from_nothing_gives_the_same_tables_but_for_times(place: Place, tmp_path: Path):
    place.command()
    first = place.runs()
    shutil.rmtree(place.work)
    place.command()
    times = ["date", "cpu_s"]
    pd.testing.assert_frame_equal(place.runs().drop(columns=times), first.drop(columns=times))


def test_a_command_that_is_stopped_goes_on_where_it_was(place: Place, monkeypatch: pytest.MonkeyPatch):
    """Whatever stops it: what was in work is lost, and nothing else."""

    class Stopped(Alone):
        def ended(self, seconds: float):
            if len(begun(place.data)) == TUNED + 7:
                raise KeyboardInterrupt
            return super().ended(seconds)

    assert place.command(crew=Stopped) == 130
    assert len(place.runs()) == 7
    assert place.command() == 0
    assert len(begun(place.data)) == TUNED + 4 * len(ARMS)
    assert len(set(begun(place.data))) == len(begun(place.data))


def test_what_a_killed_run_left_is_removed(place: Place):
    left = Store(place.work, code_hash()).in_work / "abc" / "weights"
    left.parent.mkdir(parents=True)
    left.touch()
    assert place.command("--seeds", "1") == 0
    assert not left.exists()


def test_further_seeds_and_arms_are_added_to_what_is_there(place: Place):
    assert place.command("--seeds", "1", "--arms", "joint", "gmd") == 0
    assert list(place.runs()["arm"]) == ["joint", "gmd"]
    assert place.command("--seeds", "2") == 0
    assert list(place.runs()["arm"]) == NAMES * 2
    assert place.command("--seeds", "1", "--arms", "joint") == 0
    assert list(place.runs()["arm"]) == NAMES * 2, "rows of arms that were not asked for now stay"


# ---- the budget ----


def test_a_budget_that_is_too_small_says_what_it_leaves_out(place: Place, capsys: pytest.CaptureFixture):
    hours = str(20 / 3600)  # tuning takes 10 runs, three seeds 15
    assert place.command("--hours", hours, "--plan", tasks=(task(seconds=1),)) == 0
    told = capsys.readouterr().out
    assert "toy: 0 of 30 runs are done; 0.5 processor minutes to go" in told
    assert "toy: seeds 2, 3" in told
    assert "some tables would have fewer than 3 seeds: give more --hours, or call it again" in told
    assert not begun(place.data)
    assert not place.work.exists()
    assert not place.out.exists()


def test_no_run_begins_that_should_not_end_in_time(place: Place, capsys: pytest.CaptureFixture):
    toys = (task(seconds=1), task("dear", seconds=10_000))
    (place.data / "dear").mkdir()
    assert place.command("--hours", "1", tasks=toys) == 0
    assert set(place.runs()["task"]) == {"toy"}
    told = capsys.readouterr().out
    assert "not done within 1 hours; the same command goes on:\ndear: 10 runs of the tuning; seeds 0, 1, 2, 3" in told


def test_runs_end_with_the_budget(place: Place, monkeypatch: pytest.MonkeyPatch):
    """By the clock of the test, on which a run takes five minutes."""
    now = mock.Mock(side_effect=lambda: 1000.0 + 300 * len(begun(place.data)))
    monkeypatch.setattr(session.time, "monotonic", now)
    assert place.command("--hours", "1", tasks=(task(seconds=1),)) == 0
    assert len(begun(place.data)) == 12
    assert len(place.runs()) == 2


def test_estimates_are_of_the_runs_that_were_made_here(place: Place, capsys: pytest.CaptureFixture):
    place.command("--seeds", "1", tasks=(task(seconds=1),))
    for path in place.work.rglob("seed *.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_s": 12.0}))
    place.command("--seeds", "2", "--plan", tasks=(task(seconds=1),))
    assert "toy: 15 of 20 runs are done; 1.0 processor minutes to go" in capsys.readouterr().out


# ---- what goes wrong ----


def test_a_run_that_fails_is_told_and_the_others_go_on(place: Place, capsys: pytest.CaptureFixture):
    (place.data / "failing").write_text("today")
    assert place.command() == 1
    told = capsys.readouterr()
    assert "failed: toy, cggm, seed 1000, setting 0: RuntimeError: made to fail: today" in told.err
    assert "2 runs failed: why is in" in told.err
    assert "not done" not in told.out, "without a setting there is nothing more to do for this arm"
    assert set(place.runs()["arm"]) == set(NAMES) - {"cggm"}
    [first, _] = sorted(place.work.rglob("*.failed.txt"))
    assert "Traceback" in first.read_text()
    (place.data / "failing").unlink()
    assert place.command() == 0, "it is tried again"
    assert set(place.runs()["arm"]) == set(NAMES)
    assert not list(place.work.rglob("*.failed.txt"))


def test_a_run_whose_process_dies_is_kept_as_one_that_failed(place: Place):
    """A bug: tables left out the arm, as one that was not tuned, though its other settings were."""

    class Killed(Alone):
        def ended(self, seconds: float):
            if self.in_work[0].key[1:] == ("gmd", 1000, 0):
                [order], self.in_work, self.free = self.in_work, [], 1
                return [(order, "its process died")]
            return super().ended(seconds)

    assert place.command("--seeds", "1", crew=Killed) == 1
    assert list(place.runs()["arm"]) == NAMES
    [left] = place.work.rglob("*.failed.txt")
    assert left.read_text() == "its process died\n"


def test_a_candidate_that_fails_or_diverges_is_not_chosen(place: Place, monkeypatch: pytest.MonkeyPatch):
    def run(request):
        found = outcome(request, ("a", "b"))
        if request.arm.name == "gmd" and request.setting["lr"] == BEST["gmd"]:
            raise RuntimeError("too high")
        if request.arm.name == "joint" and request.setting["lr"] == BEST["joint"]:
            return Outcome(float("nan"), {"a": float("nan")}, None, float("inf"), 1, 0.1)
        return found

    toy = replace(task(seeds=1), run=run)
    assert place.command(tasks=(toy,)) == 1
    runs = place.runs().set_index("arm")
    assert json.loads(runs["setting"]["gmd"])["lr"] != BEST["gmd"]
    assert json.loads(runs["setting"]["joint"])["lr"] != BEST["joint"]
    assert place.command(tasks=(toy,)) == 1
    assert len(place.runs()) == len(ARMS), "the same setting after another try"


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ({"a": 0.5, "b": 0.5}, r"expected scores of a, b, a\+b, got a, b"),
        ({"a": 0.5, "b": 1.5, "a+b": 0.5}, r"the score of b is 1.5, expected one in \[0, 1\]"),
        ({"a": float("nan"), "b": 0.5, "a+b": 0.5}, "the score of a is nan, expected"),
    ],
)
def test_scores_that_are_none_are_refused(scores: dict[str, float], why: str):
    with pytest.raises(ValueError, match=why):
        once.check(Outcome(0.5, scores, None, None, 1, 0.1), ("a", "b", "a+b"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--hours", "0"), "--hours: got 0.0, expected more than 0"),
        (("--hours", "nan"), "--hours: got nan, expected more than 0"),
        (("--seeds", "0"), "--seeds: got 0, expected 1 to 999"),
        (("--tasks", "moon"), "--tasks: there is no moon\nexpected of: other, toy"),
        (("--arms", "moon"), "--arms: there is no moon\nexpected of: cggm, enumerate, gmd, joint, joint, late"),
        (("--tasks", "other", "--arms", "gmd"), "nothing to do: no task that was asked for has its data and such arms"),
        (("--out", "file/out"), "--out"),
        (("--work", "file"), "--work"),
        (("--data", "nowhere"), "--data: nowhere: expected the folder of all data sets, there is none"),
    ],
)
def test_options_that_nothing_can_be_done_with_are_refused(place: Place, capsys, words: tuple[str, ...], why: str):
    (place.data / "file").touch()
    words = tuple(str(place.data / word) if word.startswith("file") else word for word in words)
    assert place.command(*words, tasks=(task(), task("other", ARMS[:1]))) == 2
    assert why in capsys.readouterr().err
    assert not place.work.exists()


def test_a_data_folder_that_is_half_there_gives_half_the_tables(place: Place, capsys: pytest.CaptureFixture):
    toys = (task("moon"), task())
    assert place.command(tasks=toys) == 0
    assert f"skipped: moon: {place.data / 'moon'} is not there" in capsys.readouterr().out
    assert set(place.runs()["task"]) == {"toy"}
    assert place.command("--tasks", "moon", tasks=toys) == 2
    assert "nothing to do: no task that was asked for has its data and such arms" in capsys.readouterr().err


def test_a_group_of_tasks_is_asked_for_by_its_name(place: Place):
    cells = tuple(task(f"toy-{angle}", group="knob", knob={"angle": angle}) for angle in (0, 90))
    for cell in cells:
        (place.data / cell.name).mkdir()
    assert place.command("--tasks", "knob", "--seeds", "1", tasks=(task(), *cells)) == 0
    assert set(place.runs()["task"]) == {"toy-0", "toy-90"}


def test_rows_of_another_code_are_not_mixed_in(place: Place, monkeypatch: pytest.MonkeyPatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(command, "code_hash", lambda: "0123456789ab")
        place.command("--seeds", "2")
    before = len(begun(place.data))
    capsys.readouterr()
    assert place.command("--seeds", "1") == 0
    assert f"{place.work / '0123456789ab'}: 20 rows of another version of the code, not used" in capsys.readouterr().out
    assert len(begun(place.data)) == before + TUNED + len(ARMS), "all is made anew"
    assert set(place.runs()["code"]) == {code_hash()}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not valid JSON"),
        ("[]", "lacks arm, base"),
        ('{"arm": "gmd"}', "lacks base, candidate"),
        (None, "holds a run of toy, joint, seed 7, setting 0"),
    ],
)
def test_a_damaged_row_is_named(place: Place, capsys: pytest.CaptureFixture, text: str | None, why: str):
    place.command("--seeds", "1", "--arms", "joint")
    path = Store(place.work, code_hash()).row(Key("toy", "joint", 0, 0))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 7}) if text is None else text)
    assert place.command("--seeds", "1", "--arms", "joint") == 2
    told = capsys.readouterr().err
    assert why in told
    assert str(path) in told
    assert "Delete it, and the run is made again" in told or text == "{"


def test_only_one_command_works_in_a_folder(place: Place, capsys: pytest.CaptureFixture):
    class Second(Alone):
        def begin(self, order):
            assert place.command() == 2
            super().begin(order)

    assert place.command("--seeds", "1", "--arms", "joint", crew=Second) == 0
    assert "in use" in capsys.readouterr().err


# ---- which code ----


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small repository: bench/evidence needs one file of bench/measure, which needs another."""
    files = {
        "gmd/a.py": "a = 1",
        "gmd/advice/b.py": "b = 1",
        "gmd_kernels/k.cu": "k",
        "csrc/x.h": "x",
        "bench/evidence/run.py": "def f():\n    from bench.measure.one import two",
        "bench/measure/one.py": "from bench.measure import three",
        "bench/measure/three.py": "t = 1",
        "bench/measure/four.py": "f = 1",
        "docs/a.md": "text",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", ["gmd/a.py", "gmd_kernels/k.cu", "csrc/x.h", "bench/measure/three.py"])
def test_a_change_of_what_rows_depend_on_is_another_code(checkout: Path, name: str):
    before = code_hash(checkout)
    assert re.fullmatch("[0-9a-f]{12}", before)
    (checkout / name).write_text("changed")
    assert code_hash(checkout) != before


@pytest.mark.parametrize("name", ["docs/a.md", "bench/measure/four.py", "gmd/advice/b.py", "gmd/advice/evidence.csv"])
def test_a_change_of_anything_else_throws_no_hours_away(checkout: Path, name: str):
    before = code_hash(checkout)
    (checkout / name).write_text("changed")
    assert code_hash(checkout) == before


def test_the_hash_is_of_the_sources_of_this_project():
    names = {path.relative_to(ROOT).as_posix() for path in sources(ROOT)}
    assert {"gmd/surgery/gmd.py", "bench/evidence/task.py", "bench/measure/arms.py", "csrc/ops.h"} <= names
    assert not any(name.startswith(("tests/", "docs/", "bench/tables/")) for name in names)


def test_committed_rows_are_of_one_code_and_are_paired():
    if not (RESULTS / "evidence.csv").exists():
        pytest.skip("no run has been made yet")
    runs = pd.read_csv(RESULTS / "evidence.csv", dtype={"code": str})
    assert runs["code"].nunique() == 1
    assert not runs.duplicated(["task", "arm", "seed"]).any()
    assert runs[["mean", "worst", "full"]].stack().between(0, 1).all()
    assert (runs.groupby(["task", "arm"])["seed"].nunique() >= plan.MIN_SEEDS).all()
    assert (runs.groupby(["task", "arm"])["setting"].nunique() == 1).all()
