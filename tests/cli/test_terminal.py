"""What is printed reaches every kind of terminal, and nothing that is printed can end a command."""

import errno
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import gmd.cli
import gmd.evaluation.segmentation.single_run
import gmd.report
from gmd.cli.terminal import on_any_terminal
from gmd.config import TrainBrats
from gmd.config.file import CONFIG, write_config
from gmd.errors import UserError, shown
from gmd.evaluation.segmentation.single_run import Evaluation

TABLE = "| t1 | flair |\n| ●  |   ○   |\n"


class Raw(io.RawIOBase):
    """A file that takes `room` bytes, and raises then."""

    def __init__(self, error: int | None = None, room: int = 0):
        self.content, self.error, self.room = b"", error, room

    def writable(self) -> bool:
        return True

    def write(self, content) -> int:
        if self.error is not None and len(self.content) >= self.room:
            raise OSError(self.error, os.strerror(self.error))
        self.content += bytes(content)
        return len(content)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch):
    """Puts files of an encoding, and perhaps an error, in the place of stdout and stderr."""

    def put(encoding: str = "utf-8", out: Raw | None = None, err: Raw | None = None) -> tuple[Raw, Raw]:
        raws = out or Raw(), err or Raw()
        for name, raw in zip(("stdout", "stderr"), raws, strict=True):
            stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="strict")
            monkeypatch.setattr(sys, name, stream)
        return raws

    return put


def command(*texts: str, status: int = 0, error: str | None = None):
    @on_any_terminal
    def run(arguments: list[str]) -> int:
        for text in texts:
            print(text)
        if error is not None:
            print(error, file=sys.stderr)
        return status

    return run


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8"])
def test_a_table_is_readable_in_any_encoding(streams, encoding: str):
    out, _ = streams(encoding)
    assert command(TABLE)([]) == 0
    expected = TABLE if encoding == "utf-8" else TABLE.replace("●", "x").replace("○", "-")
    assert out.content.decode(encoding) == expected + "\n"


@pytest.mark.parametrize(
    ("encoding", "is_shown"), [("ascii", r"\u75c5\u4f8b-\xe9-\xff"), ("utf-8", "病例-é-" + r"\xff")]
)
def test_names_of_any_script_and_of_no_encoding(streams, encoding: str, is_shown: str):
    name = "病例-é-" + os.fsdecode(b"\xff")
    out, err = streams(encoding)
    assert command(name, error=name)([]) == 0
    assert out.content.decode(encoding) == err.content.decode(encoding) == is_shown + "\n"


@pytest.mark.parametrize("room", [0, 9000])
def test_a_reader_that_has_gone_does_not_end_a_command(streams, tmp_path: Path, room: int):
    out, err = streams(out=Raw(errno.EPIPE, room))

    @on_any_terminal
    def run(arguments: list[str]) -> int:
        for _ in range(20):
            print("x" * 1000)
        sys.stdout.flush()
        (tmp_path / "result").touch()
        return 0

    assert run([]) == 141
    assert (tmp_path / "result").exists()
    assert len(out.content) in (0, 9000) or room
    assert err.content == b""
    assert command("x", status=2)([]) == 2, "a failure of its own has precedence"


def test_both_readers_gone(streams):
    streams(out=Raw(errno.EPIPE), err=Raw(errno.EPIPE))
    assert command("a", error="b")([]) == 141


def test_a_full_disk_is_one_line(streams):
    _, err = streams(out=Raw(errno.ENOSPC))
    assert command("a")([]) == 2
    assert err.content.decode() == (
        "gmd: error: stdout: No space left on device; what it should have shown is lost, files are written\n"
    )


def test_closed_streams(monkeypatch: pytest.MonkeyPatch, streams):
    """As the shell's >&- leaves them."""
    _, err = streams()
    monkeypatch.setattr(sys, "stdout", None)
    assert command("a")([]) == 2
    assert err.content.startswith(b"gmd: error: stdout: it is closed;")
    monkeypatch.setattr(sys, "stderr", None)
    assert command("a", error="b")([]) == 2
    monkeypatch.setattr(sys, "stdout", None)
    assert command()([]) == 0, "nothing to show"
    assert sys.stdout is None


def test_an_evaluation_whose_reader_has_gone_writes_its_report(
    monkeypatch: pytest.MonkeyPatch, streams, tmp_path: Path
):
    written = []

    def score_run(*_: object, **__: object) -> Evaluation:
        print(TABLE, flush=True)
        return Evaluation([], {})

    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "score_run", score_run)
    monkeypatch.setattr(gmd.report, "write_report", lambda run: written.append(run) or run)
    write_config(tmp_path / CONFIG, TrainBrats(Path("d")))
    streams("latin-1", out=Raw(errno.EPIPE))
    assert gmd.cli.main(["evaluate", str(tmp_path)]) == 141
    assert written == [tmp_path]


@pytest.mark.parametrize(
    ("text", "is_shown"),
    [
        ("a\r\nb\t\x1b[31m\x07", r"a\r\nb\t\x1b[31m\x07"),
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        ("病例 größe ● C:\\data", "病例 größe ● C:\\data"),
        ("\udce9", "\udce9"),  # a byte of a file's name, which the stream shows
    ],
)
def test_text_from_a_file_is_shown_without_what_a_terminal_acts_on(text: str, is_shown: str):
    assert shown(text) == shown(shown(text)) == str(UserError(text)) == is_shown
    assert shown("x" * 90, 80) == "x" * 80 + "..."
    assert shown("x" * 80, 80) == "x" * 80


def test_help_to_a_reader_that_has_gone(streams):
    streams(out=Raw(errno.EPIPE))
    with pytest.raises(SystemExit) as left:
        gmd.cli.main(["--help"])
    assert left.value.code == 141


@pytest.mark.parametrize(("code", "status", "said"), [(None, 0, b""), (3, 3, b""), ("no room", 1, b"no room\n")])
def test_a_library_that_exits_is_heard(streams, code: int | str | None, status: int, said: bytes):
    """As by sys.exit with a text, which Python prints."""

    @on_any_terminal
    def run(arguments: list[str]) -> int:
        sys.exit(code)

    _, err = streams()
    with pytest.raises(SystemExit) as left:
        run([])
    assert (left.value.code, err.content) == (status, said)


def test_streams_that_are_no_files_stay(monkeypatch: pytest.MonkeyPatch):
    """As in a notebook."""
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    assert command(TABLE)([]) == 0
    assert text.getvalue() == TABLE + "\n"


def test_what_another_stream_has_begun_is_not_lost(streams):
    out, _ = streams()
    print("before")
    assert command("within")([]) == 0
    print("after", flush=True)
    assert out.content == b"before\nwithin\nafter\n"


def test_an_error_with_what_a_file_held_is_one_plain_line(monkeypatch: pytest.MonkeyPatch, streams):
    def broken(run: Path, anonymous: bool) -> None:
        raise UserError("mosi.pkl: asks for os\r.system\n\x1b[2J\u202e●")

    monkeypatch.setattr(gmd.report, "write_report", broken)
    _, err = streams("ascii")
    assert gmd.cli.main(["report", "r"]) == 2
    assert err.content.decode() == "gmd: error: mosi.pkl: asks for os\\r.system\\n\\x1b[2J\\u202ex\n"


def test_warnings_are_a_line_without_code_and_once(streams):
    _, err = streams()

    @on_any_terminal
    def run(arguments: list[str]) -> int:
        for text in ("flair\nis odd", "flair\nis odd", "t1 is odd"):
            print("50 %", end="", file=sys.stderr)  # of a progress bar
            line = warnings.formatwarning(UserWarning(text), UserWarning, gmd.cli.__file__, 3)
            print(line, end="", file=sys.stderr)
        return 0

    assert run([]) == 0
    assert err.content.decode() == "50 %\ngmd: warning: flair\\nis odd\n50 %50 %\ngmd: warning: t1 is odd\n"


def test_warnings_of_libraries_say_where_they_come_from(streams):
    texts = []

    @on_any_terminal
    def run(arguments: list[str]) -> int:
        texts.append(warnings.formatwarning(UserWarning("slow"), UserWarning, "/lib/torch/nn.py", 7))
        return 0

    before = warnings.formatwarning
    streams()
    run([])
    assert texts == ["/lib/torch/nn.py:7: UserWarning: slow\n"]
    assert warnings.formatwarning is before


SHELL = {
    "a reader that goes": ("{gmd} --help | head -1", "usage: gmd", ""),
    "a full disk": ("{gmd} --help >/dev/full", "", "gmd: error: stdout: No space left on device;"),
    "closed": ("{gmd} --help >&-", "", "gmd: error: stdout: it is closed;"),
    "ascii": ("PYTHONIOENCODING=ascii {gmd} report nowhere●", "", "gmd: error: nowherex: no config.yaml"),
    "unbuffered": ("PYTHONUNBUFFERED=1 PYTHONIOENCODING=latin-1 {gmd} report ●", "", "gmd: error: x: no config.yaml"),
}


@pytest.mark.slow  # processes
@pytest.mark.parametrize("case", SHELL)
def test_in_a_shell(case: str, tmp_path: Path):
    line, out, err = SHELL[case]
    ran = subprocess.run(
        ["bash", "-c", line.format(gmd=f"{sys.executable} -m gmd")],
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(gmd.cli.__file__).parents[2])},
        check=False,
    )
    assert ran.stdout.startswith(out)
    assert ran.stderr.startswith(err)
    assert ran.stderr.count("\n") == bool(err)


def test_an_error_may_have_lines_of_its_own_and_none_of_a_files(monkeypatch: pytest.MonkeyPatch, capsys):
    """What there is to choose from stands line by line; a line end in a name does not make another."""
    error = UserError("choose one of these:", ["  one\r\n: x", "  two: y"])
    assert str(error) == "choose one of these:\n  one\\r\\n: x\n  two: y"
    monkeypatch.setattr("gmd.cli.parse.run", lambda arguments: raise_(error))
    assert gmd.cli.main(["train"]) == 2
    assert capsys.readouterr().err == f"gmd: error: {error}\n"


def raise_(error: Exception) -> None:
    raise error


ODD = "--\x1b]0;owned\x07\u202e\x9b2J"


@pytest.mark.parametrize("words", [[ODD], ["train", ODD], ["train", "brats", ODD], ["report", "a", ODD]])
def test_words_that_no_command_knows_are_shown(streams, words: list[str]):
    """A * of the shell stands for names of files, whoever has chosen them; tyro prints what it does not know."""
    _, err = streams()
    with pytest.raises(SystemExit):
        gmd.cli.main(words)
    told = err.content.decode("utf-8")
    assert r"\x1b]0;owned\x07\u202e\x9b2J" in told
    assert not any(letter in told for letter in "\x1b\x07\u202e\x9b")


def test_colours_and_moves_of_bars_stay(streams):
    out, _ = streams()
    text = "\x1b[1;31mred\x1b[0m\r\x1b[A\tx\n"
    assert command(text)([]) == 0
    assert out.content.decode("utf-8") == text + "\n"


def test_both_streams_full(streams):
    streams(out=Raw(errno.ENOSPC), err=Raw(errno.ENOSPC))
    assert command("a", error="b")([]) == 2


@pytest.mark.parametrize("trouble", [errno.ENOSPC, errno.EPIPE, errno.EBADF])
def test_who_does_not_see_the_bars_has_the_results(streams, trouble: int):
    """As with the shell's 2>&-, in a service or on a full disk."""
    out, _ = streams(err=Raw(trouble))
    assert command("a", error="50 %")([]) == 0
    assert out.content == b"a\n"
    assert command("a", error="what was wrong", status=2)([]) == 2
