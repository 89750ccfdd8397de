"""What torchrun says in the environment of the processes that it starts."""

import re

import pytest

from gmd.errors import UserError
from gmd.torchrun import Started, started

ALL = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def set_all(monkeypatch: pytest.MonkeyPatch, **changed: str) -> None:
    for name, value in (ALL | changed).items():
        monkeypatch.setenv(name, value)


def test_all_variables_make_one_of_several(monkeypatch: pytest.MonkeyPatch):
    set_all(monkeypatch, TORCHELASTIC_RESTART_COUNT="2")
    assert started() == Started(3, 4, 1, 2, 2)


@pytest.mark.parametrize("absent", ALL)
def test_who_lacks_one_is_alone(monkeypatch: pytest.MonkeyPatch, absent):
    set_all(monkeypatch)
    monkeypatch.delenv(absent)
    assert started() == Started()


@pytest.mark.parametrize("value", ["", "two", "-1", "1.5", "9" * 10, "²"])
def test_what_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, value):
    set_all(monkeypatch, WORLD_SIZE=value)
    with pytest.raises(UserError, match=re.escape(f"WORLD_SIZE: got {value!r} in the environment, expected a number")):
        started()


@pytest.mark.parametrize("changed", [{"RANK": "4"}, {"LOCAL_RANK": "2"}, {"LOCAL_WORLD_SIZE": "5"}])
def test_ranks_are_below_the_counts(monkeypatch: pytest.MonkeyPatch, changed):
    set_all(monkeypatch, **changed)
    with pytest.raises(UserError, match="no torchrun sets: expected ranks below the counts"):
        started()


@pytest.mark.parametrize(
    ("here", "command"),
    [
        (Started(), "gmd"),
        (Started(0, 2, 0, 2), "torchrun --nproc-per-node 2 -m gmd"),
        (Started(0, 4, 0, 2), "torchrun ... -m gmd"),
    ],
    ids=["alone", "one machine", "two machines"],
)
def test_how_to_start_the_next_command(here, command):
    assert here.command == command
