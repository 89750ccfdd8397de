"""SIGKILL at random moments of every command: nothing half-written, and the next call works and leaves nothing."""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.attacks import BRATS, SENTIMENT, done, ended_well, half_written, left_over
from helpers.results import result

pytestmark = pytest.mark.slow


class Killed(NamedTuple):
    """A command that is to be killed: its words, in a place that `prepare` has made, and how often."""

    words: tuple[object, ...]
    prepare: Callable[[Path, Path], object] = lambda made, place: None
    times: int = 3


def copied(*names: str) -> Callable[[Path, Path], object]:
    return lambda made, place: [shutil.copytree(made / name, place / name) for name in names]


def compared(made: Path, place: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(made / "brats", place / name)


def trained(task: str, *options: object) -> tuple[object, ...]:
    data, small = ("cases", BRATS) if task == "brats" else ("sequences.npz", SENTIMENT)
    return ("train", task, "--data", data, "--out", "run", *small, *options)


COMMANDS = {
    "phantom": Killed(("phantom", "new", "--cases", 8, "--shape", 24, 24, 24)),
    "phantom of sequences": Killed(("phantom", "new.npz", "--task", "sentiment", "--cases", 600)),
    "convert": Killed(("convert", "sequences.npz", "new.npz")),
    "train brats": Killed(trained("brats", "--epochs", 3), times=3),
    "train sentiment": Killed(trained("sentiment", "--epochs", 4), times=3),
    "train folds": Killed(trained("brats", "--folds", 2), times=3),
    "evaluate": Killed(("evaluate", "brats"), copied("brats")),
    "evaluate for the first time": Killed(
        ("evaluate", "brats"),
        lambda made, place: (copied("brats")(made, place), shutil.rmtree(place / "brats/evaluation")),
    ),
    "evaluate other data": Killed(("evaluate", "brats", "--data", "other"), copied("brats")),
    "evaluate sequences": Killed(("evaluate", "sentiment"), copied("sentiment")),
    "predict": Killed(("predict", "brats", "cases", "-o", "new", "--probabilities"), copied("brats")),
    "compare": Killed(("compare", "first", "second", "--out", "new"), compared),
    "report": Killed(("report", "brats"), copied("brats")),
}

BELIEVED_DONE = ("phantom", "phantom of sequences", "convert")  # commands that leave what is there as it is


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_can_be_given_again(gmd, made, tmp_path, name):
    command, place = COMMANDS[name], tmp_path / "place"

    def fresh() -> set[str]:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "cases").symlink_to(made / "cases")
        (place / "other").symlink_to(made / "other")
        (place / "sequences.npz").symlink_to(made / "sequences.npz")
        command.prepare(made, place)
        return set(content_names(place))

    before = fresh()
    start = time.monotonic()
    done(gmd(*command.words, cwd=place))
    lasts, expected = time.monotonic() - start, result(place)
    files = len(set(content_names(place)) - before)
    killed = 0
    for moment in moments(name, command.times, lasts, files):
        before = fresh()
        running = gmd.start(*command.words, cwd=place)
        running.wait_until(moment(lambda before=before: len(set(content_names(place)) - before)))
        running.kill()
        killed += running.wait().status == 137
        assert not (found := half_written(place)), found
        again = gmd(*command.words, *(["--resume"] if can_be_resumed(place) else []), cwd=place)
        if again.status == 2 and "already" in again.err and name in BELIEVED_DONE:
            done_so_far = {path: what for path, what in result(place).items() if "/." not in path}
            assert_same(done_so_far, {path: expected[path] for path in done_so_far})
            shutil.rmtree(place / "new") if (place / "new").is_dir() else (place / "new.npz").unlink()  # as it says
            again = gmd(*command.words, cwd=place)
        elif again.status == 2 and "already holds a run" in again.err:
            assert can_be_resumed(place) or not killed
            again = gmd(*command.words, "--resume", cwd=place)
        done(again)
        assert not left_over(place)
        assert_same(result(place), expected)
    assert killed, "every command had ended before it was to be killed"


def test_a_resumed_run_that_is_killed_can_be_resumed(gmd, made, tmp_path):
    """Again and again, until it has ended by itself: bit for bit the run that was never killed."""
    words = ("train", "sentiment", "--data", made / "sequences.npz", *SENTIMENT, "--epochs", 8, "--out", "run")
    straight, place = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, place):
        folder.mkdir()
    start = time.monotonic()
    done(gmd(*words, cwd=straight))
    lasts, moment = time.monotonic() - start, random.Random(5)
    for _ in range(5):
        running = gmd.start(*words, *(["--resume"] if can_be_resumed(place) else []), cwd=place)
        time.sleep(moment.uniform(0.2, 0.7) * lasts)
        running.kill()
        running.wait()
        assert not (found := half_written(place)), found
    done(gmd(*words, *(["--resume"] if can_be_resumed(place) else []), cwd=place))
    assert not left_over(place)
    assert_same(result(place), result(straight))


@pytest.mark.parametrize("signal", [2, 15])
def test_a_training_that_is_asked_to_stop_leaves_no_lock(gmd, made, tmp_path, signal):
    words = ("train", "sentiment", "--data", made / "sequences.npz", *SENTIMENT, "--epochs", 50, "--out", "run")
    running = gmd.start(*words, cwd=tmp_path)
    running.wait_until((tmp_path / "run" / "best.pt").exists)
    running.kill(signal)
    outcome = ended_well(running.wait())
    assert outcome.status == 130, outcome.told
    assert not left_over(tmp_path)
    running = gmd.start(*words, "--resume", cwd=tmp_path)
    lines = (tmp_path / "run" / "metrics.jsonl").read_bytes().count(b"\n")
    running.wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").read_bytes().count(b"\n") > lines + 3)
    running.kill(signal)
    assert ended_well(running.wait()).status == 130
    assert not half_written(tmp_path)
    assert not left_over(tmp_path)


def moments(name: str, times: int, lasts: float, files: int) -> Iterator[Callable]:
    """Yields functions of the number of new files, each of which makes a question: is it time?"""
    draw = random.Random(name)
    for time_of in range(times):
        if time_of % 2 and files > 1:
            number, delay = draw.randint(1, files), draw.uniform(0, 0.03)
            yield lambda count, number=number, delay=delay: lambda: count() >= number and time.sleep(delay) is None
        else:
            wait = draw.uniform(0.05, 0.95) * lasts

            def after(count: Callable[[], int], wait: float = wait) -> Callable[[], bool]:
                end = time.monotonic() + wait
                return lambda: time.monotonic() >= end

            yield after


def content_names(place: Path) -> list[str]:
    """While files come and go."""
    return [os.path.join(folder, name) for folder, inner, names in os.walk(place) for name in (*inner, *names)]


def can_be_resumed(place: Path) -> bool:
    """Whether the run, or a fold of it, has begun to train."""
    return any(place.glob("run/**/last.pt"))


def assert_same(found: dict[str, object], expected: dict[str, object]) -> None:
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    different = [name for name in expected if found[name] != expected[name]]
    assert not different, different
