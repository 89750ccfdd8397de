"""What `say` prints: each argument a line, and nothing in it that a terminal acts on."""

import io
import sys

import pytest
from tqdm import tqdm

from gmd.errors import MOST_OF_A_LINE, UserError, shown_line
from gmd.printing import say, warn

HOSTILE = {
    "a line end": ("x\nline: 1 done, 0 failed", r"x\nline: 1 done, 0 failed"),
    "another line end": ("a\r\u2028\u0085b", r"a\r\u2028\x85b"),
    "a title and a clean screen": ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
    "of one byte, as older terminals have it": ("\x9b31m", r"\x9b31m"),
    "right to left": ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
    "invisible": ("a\u200bb\ufeff\u00ad", r"a\u200bb\ufeff\xad"),
    "a byte of a name": ("gr\udcf6sse", r"gr\xf6sse"),
    "half of a pair": ("\ud83d", r"\ud83d"),
    "letters": ("größe 病例 ●", "größe 病例 ●"),
}


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch):
    def put(name: str = "stdout", encoding: str = "utf-8") -> io.BytesIO:
        raw = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
        return raw

    return put


@pytest.mark.parametrize("case", HOSTILE)
def test_a_line_stays_one_and_acts_on_nothing(case: str, stream):
    given, expected = HOSTILE[case]
    out = stream()
    say(given, "after")
    assert out.getvalue().decode("utf-8") == f"{expected}\nafter\n"


def test_a_stream_that_lacks_letters(stream):
    """Whoever calls a function of gmd in Python has streams of any kind."""
    out = stream(encoding="ascii")
    say("● größe \udcff")
    assert out.getvalue() == b"x gr\\xf6\\xdfe \\xff\n"


def test_lines_of_a_table_and_paths(stream):
    err = stream("stderr")
    say(*["| a |", "| b |", ""], 3, error=True)
    assert err.getvalue() == b"| a |\n| b |\n\n3\n"


def test_a_closed_stream_takes_nothing(monkeypatch: pytest.MonkeyPatch):
    """As the shell's >&- leaves it."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    say("a")
    say("a", error=True)


def test_a_bar_steps_aside(stream):
    err = stream("stderr")
    with tqdm(total=2, file=sys.stderr) as bar:
        bar.update(1)
        say("between", error=True)
    lines = err.getvalue().decode("utf-8").split("\n")
    assert any(line.rpartition("\r")[2] == "between" for line in lines)


@pytest.mark.parametrize("letter", ["x", "\n", "\u202e"])
def test_an_overlong_line_keeps_its_ends(letter: str, stream):
    """A name may have any length, and what to do stands behind it."""
    message = f"cannot read {letter * 10_000_000}; give another file"
    out = stream()
    say(message)
    told = out.getvalue().decode("utf-8")
    assert len(told) <= MOST_OF_A_LINE + 1
    assert told.startswith("cannot read ")
    assert told.endswith("; give another file\n")
    assert " [...] " in told
    assert f"{UserError(message)}\n" == told
    assert shown_line(told[:-1]) == told[:-1], "showing it twice changes nothing"


def test_lines_below_a_message_are_bounded_one_by_one():
    error = UserError("choose:", ["a" * 5000, "b\nc"])
    first, second, third = str(error).split("\n")
    assert (first, third) == ("choose:", r"b\nc")
    assert len(second) == MOST_OF_A_LINE


def test_a_warning_shows_what_stands_in_it_and_where_it_comes_from():
    with pytest.warns(UserWarning, match="x") as caught:
        warn("x\n\x1b[2J", stacklevel=1)
    assert str(caught[0].message) == r"x\n\x1b[2J"
    assert caught[0].filename == __file__
