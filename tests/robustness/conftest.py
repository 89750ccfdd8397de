"""Data and runs for attacks, made once; every test damages a copy."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.attacks import BRATS, SENTIMENT, done
from helpers.forked_gmd import Gmd, gmd_server


@pytest.fixture(scope="session")
def gmd() -> Iterator[Gmd]:
    """Runs a command in a process of its own, which begins at once."""
    with gmd_server() as server:
        yield server


@pytest.fixture(autouse=True)
def no_command_outlives_its_test(gmd: Gmd) -> Iterator[None]:
    yield
    gmd.end_all()


@pytest.fixture(scope="session")
def made(gmd: Gmd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cases`, `sequences.npz`, an evaluated run on each, `brats` and `sentiment`, and `other` cases."""
    place = tmp_path_factory.mktemp("made")
    done(gmd("phantom", "cases", "--cases", 6, "--shape", 16, 16, 16, cwd=place))
    done(gmd("phantom", "other", "--cases", 4, "--shape", 16, 16, 16, "--seed", 1, cwd=place))
    done(gmd("phantom", "sequences.npz", "--task", "sentiment", "--cases", 60, cwd=place))
    done(gmd("train", "brats", "--data", place / "cases", "--out", place / "brats", *BRATS))
    done(gmd("train", "sentiment", "--data", place / "sequences.npz", "--out", place / "sentiment", *SENTIMENT))
    for run in ("brats", "sentiment"):
        done(gmd("evaluate", place / run))
    return place


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies one of the things in `made` into the test's folder, and returns where it is."""

    def copy(name: str, to: str | None = None) -> Path:
        source, target = made / name, tmp_path / (to or name)
        return Path(shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target))

    return copy
