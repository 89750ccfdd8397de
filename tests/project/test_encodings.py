"""Text files are read and written as UTF-8, whatever the machine's own encoding is."""

import ast

import pytest

from helpers.architecture import sources_of
from helpers.places import ROOT

TEXT = {"read_text", "write_text"}
# those of archives too: their members are bytes
BYTES = {"os.open", "Image.open", "tarfile.open", "self._archive.open"}


def without_encoding(path: str, source: str) -> list[str]:
    """The calls that leave the encoding of a text file to the machine, as `file:line: call`."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        texts = [word.value for word in (*call.args, *(word.value for word in call.keywords)) if is_text(word)]
        opens = name == "open" and ast.unparse(call.func) not in BYTES
        binary = any("b" in text and set(text) <= set("rwabx+") for text in texts)
        if (name in TEXT or (opens and not binary)) and "encoding" not in {word.arg for word in call.keywords}:
            found.append(f"{path}:{call.lineno}: {ast.unparse(call)}")
    return found


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_every_text_file_has_an_encoding():
    found = [call for path, source in sources_of(ROOT).items() for call in without_encoding(path, source)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("path.read_text()", 1),
        ("open(path, 'a')", 1),
        ("path.open()", 1),
        ("path.write_text('b')", 1),
        ("open(path, 'rb+')", 0),
        ("path.open(mode='wb')", 0),
        ("path.read_text(encoding='utf-8')", 0),
        ("os.open(folder, flags)", 0),
        ("self._archive.open(member)", 0),
    ],
)
def test_a_call_without_one_is_found(source: str, count: int):
    assert len(without_encoding("a.py", source)) == count
