"""JSON, YAML and tables as anybody may have written them: what is no plain value is refused, at once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gmd.config.file import read_yaml
from gmd.data.segmentation.own_labels import read_scheme
from gmd.data.text_files import parse_json, parse_yaml, read_csv, read_json, read_utf8, write_json
from gmd.errors import UserError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 5000, "nested too deep"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "Infinity is no number"),
        ("1e400", "beyond 64 bits"),
        ("9" * 5000, "a number of 5000 digits"),
        ("-9223372036854775809", "beyond 64 bits"),
        ('{"a": 1, "b": 2, "a": 3}', "key 'a' is given twice"),
        (b"\xff\xfe[]", "utf-8"),
        ("", "Expecting value"),
        ("[] []", "Extra data"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_json_that_holds_no_plain_values(text: str | bytes, said: str):
    with pytest.raises(ValueError, match=said):
        parse_json(text)


def test_plain_values_of_json():
    assert parse_json('{"a": [1, -2.5e-3, true, null, "\\u00e9"], "b": {}}') == {
        "a": [1, -0.0025, True, None, "é"],
        "b": {},
    }
    assert parse_json("-9223372036854775808") == -(2**63)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deep"),
        ("- " * 5000, "nested too deep"),
        ("a: &x [1]\nb: *x", "alias"),
        ("&x [*x]", "alias"),
        ("a: 1\na: 2", "key 'a' is given twice"),
        ("b: {a: 1, a: 2}", "key 'a' is given twice"),
        ("a: " + "9" * 5000, "beyond 64 bits"),
        ("a: 0x" + "f" * 30, "beyond 64 bits"),
        ("!!python/object/apply:os.system [ls]", "constructor"),
        # what PyYAML's constructors do not expect
        ("!!int ''", "out of range"),
        ("!!float ''", "out of range"),
        ("!!bool x", "x"),
        ("!!timestamp x", "group"),
        ("a: 2001-99-99", "month"),
        ("a: !!binary x", "base64"),
        ("? {a: 1}\n: 2", "unhashable"),
    ],
    ids=lambda value: value[:20],
)
def test_yaml_that_holds_no_plain_values(text: str, said: str):
    with pytest.raises(ValueError, match=said):
        parse_yaml(text)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros_without_end(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_sparse_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


@pytest.mark.parametrize(
    "read", [read_json, read_yaml, lambda path: list(read_csv(path)), lambda p: read_scheme(str(p))]
)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_pipe, "is a named pipe"),
        (zeros_without_end, "is a device"),
        (Path.mkdir, "is a folder"),
        (a_sparse_file, "has more than"),
    ],
    ids=["pipe", "zeros", "folder", "sparse"],
)
def test_what_is_no_file_is_not_read(tmp_path: Path, read: Callable, make: Callable, said: str):
    make(path := tmp_path / "file.yaml")
    with pytest.raises(UserError, match=rf"file\.yaml: {said}"):
        read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1\n", "line 2 has 1 cells, expected 2"),
        (b"a,b\n1,2\n\n", "line 3 has 0 cells"),
        (b"", "has no columns, expected a, b"),
        (b"\na,b\n", "has the columns , expected a, b"),
        (b"b,a\n", "has the columns b, a, expected a, b"),
        (b'a,b\n"1,2\n', "line 2 is no line of a table"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", "line 2 is no line of a table"),
        (b"<html><body>log in</body></html>", "it is a web page"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_tables_of_something_else(tmp_path: Path, content: bytes, said: str):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"table\.csv: .*{said}"):
        list(read_csv(tmp_path / "table.csv", ("a", "b")))


def test_a_cell_may_hold_any_separator_of_lines(tmp_path: Path):
    (tmp_path / "table.csv").write_bytes('a,b\n"x\ny",\u2028z\x0b\n\udcff,é\n'.encode("utf-8", "surrogateescape"))
    lines = list(read_csv(tmp_path / "table.csv"))
    assert lines == [(1, ["a", "b"]), (3, ["x\ny", "\u2028z\x0b"]), (4, ["\udcff", "é"])]


def test_text_is_read_up_to_a_size(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("größer", encoding="utf-8")
    assert read_utf8(path, most=8) == "größer"
    with pytest.raises(UserError, match="more than 7 bytes"):
        read_utf8(path, most=7)


def test_json_is_written_whole_and_read_back(tmp_path: Path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"größer": [1, 2.5, None, True]})
    assert read_json(path) == {"größer": [1, 2.5, None, True]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"größer": [1, 2.5, None, True]}
