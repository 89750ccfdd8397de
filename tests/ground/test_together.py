"""What several processes at one command agree on: results, errors that one of them tells, and an end without a hang."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gmd import printing
from gmd.errors import UserError
from gmd.together import (
    Lost,
    agreed,
    by_first,
    gathered,
    in_turn,
    is_first,
    joined,
    processes,
    rank,
    refuse,
    shared_out,
    summed,
    waited_for,
)
from helpers.together_cases import together

ITEMS = "abcdefg"


class Special(UserError):
    """Which somebody catches."""


def outcome(work: Callable[[], Any]) -> tuple[str, str]:
    try:
        return "result", str(work())
    except UserError as error:
        return type(error).__name__ + " told elsewhere" * error.told_elsewhere, str(error)
    except KeyboardInterrupt:
        return "interrupted", ""


def fail_in(number: int, text: str = "no such file\nline 2") -> None:
    if rank() == number:
        first, *more = text.split("\n")
        raise UserError(first, more)


def interrupt_in(number: int) -> None:
    if rank() == number:
        raise KeyboardInterrupt


def lost() -> tuple[str, str]:
    """The first process waits, and the other one has ended."""
    return outcome(lambda: gathered(None, "step 7, the gradients of a+b")) if is_first() else ("gone", "")


def cases() -> dict[str, Any]:
    with joined():  # as the program has joined them
        told = printing._told
        found = {
            "who": (rank(), processes(), is_first(), told.text, told.errors),
            "gathered": gathered({"rank": rank()}, "a test"),
            "summed": summed([1, rank()], "a test"),
            "agreed": outcome(lambda: agreed(lambda: rank() * 10, "a test")),
            "by first": outcome(lambda: by_first(lambda: "written", "a test")),
            "error of the other": outcome(lambda: agreed(lambda: fail_in(1), "a test")),
            "error of the first": outcome(lambda: by_first(lambda: fail_in(0), "a test")),
            "error of all": outcome(lambda: refuse(Special("of all"), "a test")),
            "interruption": outcome(lambda: agreed(lambda: interrupt_in(1), "a test")),
            "shared out": outcome(lambda: shared_out(ITEMS, lambda item: f"{item}{rank()}", "a test")),
            "fewer items": outcome(lambda: shared_out("a", str.upper, "a test")),
            "no items": outcome(lambda: shared_out("", str.upper, "a test")),
            "error in an item": outcome(lambda: shared_out(ITEMS, lambda item: fail_in(1), "a test")),
            "stopped": outcome(lambda: shared_out(ITEMS, str, "a test", stop=lambda: rank() == 1)),
        }
    return found | {"lost": lost()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return together(2, tmp_path_factory.mktemp("together"), cases)


def test_who_is_who(found):
    assert [each["who"] for each in found] == [(0, 2, True, True, True), (1, 2, False, False, True)]


def test_values_meet(found):
    for each in found:
        assert each["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert each["summed"] == [2, 1]
    assert [each["agreed"] for each in found] == [("result", "0"), ("result", "10")]
    assert [each["by first"] for each in found] == [("result", "written"), ("result", "None")]


@pytest.mark.parametrize("case", ["error of the other", "error of the first", "error in an item"])
def test_an_error_of_one_is_one_of_all_and_told_by_the_first(found, case):
    text = "no such file\nline 2"
    assert [each[case] for each in found] == [("UserError", text), ("UserError told elsewhere", text)]


def test_an_error_that_all_have_is_told_once(found):
    assert [each["error of all"] for each in found] == [("Special", "of all"), ("Special told elsewhere", "of all")]


def test_an_interruption_of_one_is_one_of_all(found):
    for case in ("interruption", "stopped"):
        assert [each[case] for each in found] == [("interrupted", "")] * 2


def test_work_is_shared_out_and_comes_back_in_order(found):
    for each in found:
        assert each["shared out"] == ("result", str(["a0", "b1", "c0", "d1", "e0", "f1", "g0"]))
        assert each["fewer items"] == ("result", "['A']")
        assert each["no items"] == ("result", "[]")


def test_who_waits_for_a_process_that_is_gone_says_so(found):
    kind, text = found[0]["lost"]
    assert kind == Lost.__name__
    assert text.startswith("process 0 of 2 waited for the others at step 7, the gradients of a+b, and one of them has")


def hanging() -> tuple[str, str]:
    """The second process does something else for longer than the first one waits."""
    if not is_first():
        time.sleep(3)
        return "elsewhere", ""
    return outcome(lambda: summed([1], "step 3, its objectives"))


@pytest.mark.slow
def test_who_waits_for_a_process_that_hangs_ends_by_the_time_out(tmp_path: Path):
    (kind, text), _ = together(2, tmp_path, hanging, patience=timedelta(seconds=1))
    assert kind == Lost.__name__
    assert text.startswith("process 0 of 2 waited for the others at step 3, its objectives, and one of them has")
    assert "imed out" in text


def test_one_process_waits_for_nobody():
    with joined():
        assert (rank(), processes(), is_first()) == (0, 1, True)
        assert gathered(3, "a test") == [3]
        assert summed([3], "a test") == [3]
        assert agreed(lambda: 3, "a test") == by_first(lambda: 3, "a test") == 3
        assert shared_out(ITEMS, str.upper, "a test", stop=lambda: True) == in_turn(ITEMS, str.upper)
    with pytest.raises(UserError, match="bad"):
        refuse(UserError("bad"), "a test")
    with pytest.raises(KeyboardInterrupt):
        agreed(lambda: interrupt_in(0), "a test")


def test_only_one_process_prints_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(printing, "_told", printing._told)  # put back afterwards
    printing.tell(text=False, errors=True)
    printing.say("text")
    printing.say("error", error=True)
    printing.tell(text=False, errors=False)
    printing.say("error of all", error=True)
    assert capsys.readouterr() == ("", "error\n")


def test_an_error_in_one_process_by_itself_is_what_it_is():
    with pytest.raises(RuntimeError, match="Connection closed by peer"), waited_for("a test"):
        raise RuntimeError("Connection closed by peer")  # in one process by itself
