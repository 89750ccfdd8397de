"""Two commands at once on the same files: one is refused and says who is at it, or both are right."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch

from helpers.attacks import BRATS, SENTIMENT, content, done, ended_well, half_written, left_over, refused
from helpers.results import result
from helpers.run_cases import assert_same_run

pytestmark = pytest.mark.slow

EPOCHS = 8
OFFSETS = (0.0, 0.1, 0.4)  # seconds from the first to the second


@pytest.fixture(scope="session")
def straight(gmd, made, tmp_path_factory):
    """Runs of two seeds that nobody has disturbed."""
    place = tmp_path_factory.mktemp("straight")
    for seed in (0, 1):
        done(gmd(*words(made, seed), "--out", place / f"run{seed}"))
    return place


def words(made: Path, seed: int = 0) -> tuple[object, ...]:
    return (*("train", "sentiment", "--data", made / "sequences.npz", *SENTIMENT), "--epochs", EPOCHS, "--seed", seed)


def both(first, second, offset=0.0):
    """Outcomes of two commands, the second of which begins so many seconds after the first."""
    one = first()
    time.sleep(offset)
    other = second()
    return ended_well(one.wait()), ended_well(other.wait())


def winner(outcomes, run: Path) -> int:
    """Which of two won; the other was told in a line, about this run."""
    assert sorted(outcome.status for outcome in outcomes) == [0, 2], [outcome.told for outcome in outcomes]
    [loser] = [outcome for outcome in outcomes if outcome.status == 2]
    refused(loser, str(run))
    return [outcome.status for outcome in outcomes].index(0)


def steps(run: Path) -> list[int]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record["step"] for record in records if record["kind"] == "step"]


def seeds(run: Path) -> set[int]:
    return {torch.load(run / f"{name}.pt", weights_only=True)["config"]["seed"] for name in ("best", "last")}


@pytest.mark.parametrize("offset", OFFSETS)
def test_two_trainings_into_one_folder(gmd, made, straight, tmp_path, offset):
    run = tmp_path / "run"
    commands = [lambda seed=seed: gmd.start(*words(made, seed), "--out", run) for seed in (0, 1)]
    outcomes = both(*commands, offset)
    won = winner(outcomes, run)
    assert seeds(run) == {won}
    assert f"seed: {won}\n" in (run / "config.yaml").read_text()
    assert_same_run(straight / f"run{won}", run)
    assert not left_over(run)


def test_the_second_says_who_is_at_it(gmd, made, tmp_path):
    """By another name of the folder, and from another folder, too."""
    run = tmp_path / "run"
    first = gmd.start(*words(made), "--out", run)
    first.wait_until((run / "last.pt").exists)
    (tmp_path / "link").symlink_to(run)
    for out in (run, tmp_path / "link", "run", "./x/../run"):
        (tmp_path / "x").mkdir(exist_ok=True)
        for more in ((), ("--resume",)):
            outcome = refused(gmd(*words(made, 1), "--out", out, *more, cwd=tmp_path))
            assert str(first.pid) in outcome.err or (not more and "already holds a run" in outcome.err)
    assert first.runs(), "the first was too quick for this test"
    done(first.wait())
    assert steps(run) == list(range(1, len(steps(run)) + 1))


@pytest.fixture(scope="module")
def begun(gmd, made, tmp_path_factory):
    """A run that was killed after some epochs."""
    run = tmp_path_factory.mktemp("begun") / "run"
    running = gmd.start(*words(made), "--out", run)
    running.wait_until(lambda: (run / "best.pt").exists() and len(steps_so_far(run)) > 7)
    running.kill()
    running.wait()
    return run


def steps_so_far(run: Path) -> list[bytes]:
    return [line for line in (run / "metrics.jsonl").read_bytes().splitlines() if b'"step"' in line]


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_run_resumed_twice(gmd, made, straight, begun, tmp_path, offset):
    """As when a scheduler takes a job for lost and starts it again."""
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    outcomes = both(*[lambda: gmd.start(*words(made), "--out", run, "--resume")] * 2, offset)
    winner(outcomes, run)
    assert_same_run(straight / "run0", run)
    assert not left_over(run)


def test_a_run_resumed_by_many(gmd, made, straight, begun, tmp_path):
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    commands = [gmd.start(*words(made), "--out", run, "--resume") for _ in range(5)]
    outcomes = [ended_well(command.wait()) for command in commands]
    assert sorted(outcome.status for outcome in outcomes) == [0, 2, 2, 2, 2]
    assert_same_run(straight / "run0", run)


def test_a_new_training_beside_a_resumed_one(gmd, made, straight, begun, tmp_path):
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    outcomes = both(
        lambda: gmd.start(*words(made), "--out", run, "--resume"), lambda: gmd.start(*words(made, 1), "--out", run)
    )
    assert winner(outcomes, run) == 0
    assert_same_run(straight / "run0", run)


def test_the_lock_of_a_killed_job_is_taken_over_and_told(gmd, made, begun, tmp_path):
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    [lock] = locks(run)
    outcome = done(gmd(*words(made), "--out", run, "--resume"))
    assert str(json.loads(lock_text(begun))["process"]["pid"]) in outcome.out + outcome.err
    assert not lock.exists()


def lock_text(run: Path) -> str:
    [lock] = locks(run)
    return lock.read_text()


def locks(run: Path) -> list[Path]:
    return [path for path in run.iterdir() if "lock" in path.name]


def of_another_host(lock: Path) -> None:
    text = lock.read_text()
    assert os.uname().nodename in text
    lock.write_text(text.replace(os.uname().nodename, "elsewhere"))


@pytest.mark.parametrize(
    "changed",
    [
        of_another_host,
        lambda lock: lock.write_bytes(b"\xff\xfe{"),
        lambda lock: lock.write_bytes(b"[" * 100_000),
        lambda lock: lock.write_text('{"process": 5}'),
    ],
)
def test_a_lock_of_which_nobody_can_say_whether_it_holds_needs_force(gmd, made, straight, begun, tmp_path, changed):
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    [lock] = locks(run)
    changed(lock)
    before = content(run)
    refused(gmd(*words(made), "--out", run, "--resume"), "--force")
    assert content(run) == before
    if changed is of_another_host:
        done(gmd(*words(made), "--out", run, "--resume", "--force"))
        assert_same_run(straight / "run0", run)
        assert not left_over(run)
        refused(gmd(*words(made), "--out", run), "already holds a run")


def test_force_takes_nothing_from_a_job_that_runs(gmd, made, straight, tmp_path):
    run = tmp_path / "run"
    first = gmd.start(*words(made), "--out", run)
    first.wait_until((run / "best.pt").exists)
    refused(gmd(*words(made), "--out", run, "--resume", "--force"), str(first.pid))
    assert first.runs(), "the first was too quick for this test"
    done(first.wait())
    assert_same_run(straight / "run0", run)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link"])
def test_a_lock_that_is_no_file_is_said(gmd, made, begun, tmp_path, kind):
    run, victim = Path(shutil.copytree(begun, tmp_path / "run")), tmp_path / "victim"
    for path in locks(run):
        path.unlink()
    victim.write_bytes(b"theirs")
    lock = run / ".gmd-lock"
    {
        "folder": lambda: lock.mkdir(),
        "pipe": lambda: os.mkfifo(lock),
        "device": lambda: lock.symlink_to("/dev/zero"),
        "link": lambda: lock.symlink_to(victim),
    }[kind]()
    refused(gmd(*words(made), "--out", run, "--resume"), ".gmd-lock")
    assert victim.read_bytes() == b"theirs"


def test_two_cross_validations_into_one_folder(gmd, made, tmp_path):
    run = tmp_path / "run"
    start = lambda: gmd.start("train", "brats", "--data", made / "cases", *BRATS, "--folds", 2, "--out", run)  # noqa: E731
    winner(both(start, start, 0.02), run)
    for fold in ("fold0", "fold1"):
        assert steps(run / fold) == [1, 2]
    assert not half_written(run)
    assert not left_over(run)


def test_a_fold_beside_its_cross_validation(gmd, made, tmp_path):
    """Each fold may be a job of its own; one that is being trained is nobody else's."""
    run = tmp_path / "run"
    options = ("train", "brats", "--data", made / "cases", *BRATS, "--folds", 2)
    outcomes = both(
        lambda: gmd.start(*options, "--out", run),
        lambda: gmd.start(*options, "--fold", 0, "--out", run / "fold0"),
        0.02,
    )
    assert {outcome.status for outcome in outcomes} <= {0, 2}
    assert steps(run / "fold0") == [1, 2]
    assert not half_written(run)


# Other commands


@pytest.mark.parametrize("name", ["brats", "sentiment"])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_two_evaluations_of_one_run(gmd, copied, name, offset):
    run = copied(name)
    done(gmd("evaluate", run))
    expected = result(run)
    outcomes = both(*[lambda: gmd.start("evaluate", run)] * 2, offset)
    assert 0 in (statuses := {outcome.status for outcome in outcomes})
    assert statuses <= {0, 2}
    for outcome in outcomes:
        assert outcome.status == 0 or str(run) in outcome.err
    assert result(run) == expected
    assert not half_written(run)
    assert not left_over(run)


def test_two_evaluations_with_other_options_are_not_mixed(gmd, copied):
    """--missing adds a row: the table and the predictions are of one of them."""
    run = copied("sentiment")
    results = {}
    for missing in (0.5, None):
        done(gmd("evaluate", run, *([] if missing is None else ["--missing", missing])))
        results[missing] = result(run)
    for offset in OFFSETS:
        outcomes = both(
            lambda: gmd.start("evaluate", run), lambda: gmd.start("evaluate", run, "--missing", 0.5), offset
        )
        assert 0 in {outcome.status for outcome in outcomes}
        assert result(run) in results.values()


def test_two_predictions_into_one_folder(gmd, made, tmp_path):
    done(gmd("predict", made / "brats", made / "cases", "-o", tmp_path / "expected"))
    for offset in OFFSETS[:2]:
        out = tmp_path / f"o{offset}"
        outcomes = both(*[lambda out=out: gmd.start("predict", made / "brats", made / "cases", "-o", out)] * 2, offset)
        assert {outcome.status for outcome in outcomes} <= {0, 2}
        assert result(out) == result(tmp_path / "expected")
        assert not left_over(out)


def test_two_files_of_one_name(gmd, made, tmp_path):
    """Converted or made: the file is whole, and one of the two."""
    for seed in (0, 1):
        done(gmd("phantom", tmp_path / f"{seed}.npz", "--task", "sentiment", "--cases", 200, "--seed", seed))
    expected = [result(tmp_path)[f"{seed}.npz"] for seed in (0, 1)]
    place = tmp_path / "place"
    place.mkdir()
    for offset in OFFSETS[:2]:
        for commands in (
            [("phantom", place / "x.npz", "--task", "sentiment", "--cases", 200, "--seed", seed) for seed in (0, 1)],
            [("convert", tmp_path / f"{seed}.npz", place / "x.npz") for seed in (0, 1)],
        ):
            (place / "x.npz").unlink(missing_ok=True)
            outcomes = both(*[lambda words=words: gmd.start(*words) for words in commands], offset)
            assert 0 in {outcome.status for outcome in outcomes}
            assert result(place)["x.npz"]["target"] in [one["target"] for one in expected]
            assert not left_over(place)


@pytest.mark.parametrize("second", [0, 1])
def test_two_sets_of_phantoms_in_one_folder(gmd, tmp_path, second):
    for seed in {0, second}:
        done(gmd("phantom", tmp_path / f"{seed}", "--cases", 4, "--shape", 24, 24, 24, "--seed", seed))
    for offset in OFFSETS[:2]:
        out = tmp_path / f"out{offset}"
        outcomes = both(
            *[
                lambda seed=seed, out=out: gmd.start(
                    "phantom", out, "--cases", 4, "--shape", 24, 24, 24, "--seed", seed
                )
                for seed in (0, second)
            ],
            offset,
        )
        assert 0 in {outcome.status for outcome in outcomes}
        expected = {}
        for seed in {0, second}:
            expected |= result(tmp_path / f"{seed}")
        found = result(out)
        assert len(found) in (20, 40)
        assert {name: expected[name] for name in found} == found
        assert not left_over(out)


def test_what_reads_a_run_beside_its_training(gmd, made, straight, tmp_path):
    """Reports and evaluations, one after the other, until the training has ended."""
    run = tmp_path / "run"
    training = gmd.start(*words(made), "--out", run)
    seen = 0
    while training.runs():
        for command in ("report", "evaluate"):
            outcome = ended_well(gmd(command, run))
            assert outcome.status in (0, 2), outcome.told
            seen += outcome.status == 0
    done(training.wait())
    assert seen, "this test has seen nothing"
    assert_same_run(straight / "run0", run)
    done(gmd("evaluate", run))
    assert not left_over(run)


def test_two_reports_and_two_comparisons_at_once(gmd, copied, tmp_path):
    run, second = copied("brats"), copied("brats", "second")
    outcomes = both(*[lambda: gmd.start("report", run)] * 2)
    assert {outcome.status for outcome in outcomes} == {0}
    outcomes = both(*[lambda: gmd.start("compare", run, second, "--out", tmp_path / "out")] * 2)
    assert 0 in {outcome.status for outcome in outcomes}
    assert {outcome.status for outcome in outcomes} <= {0, 2}
    assert not half_written(tmp_path)
    assert not left_over(tmp_path)
