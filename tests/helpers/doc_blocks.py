"""The code blocks and the links of a Markdown page, and what it takes to run the blocks as a reader would.

Blocks in an HTML comment, which readers do not see, are blocks like others: a page prepares there what it leaves out.
"""

import ast
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from helpers.places import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted({*DOCS.rglob("*.md")} - {*(DOCS / "demo").iterdir()})  # where `make demo` leaves tables

_FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


class Block(NamedTuple):
    """`line` is that of the first line of `code` in its page, counted from 1."""

    page: Path
    line: int
    language: str
    code: str

    @property
    def file(self) -> str | None:
        """Of a block that begins with `# NAME.py` or `# NAME.yaml`: the file that it is the content of."""
        named = _FILE.match(self.code)
        return named and named[1]

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start(3)) + 1, found[2], textwrap.dedent(found[3]))
        for found in _FENCE.finditer(text)
    ]


def shown_lines(page: Path) -> list[str]:
    """Returns the lines of a page that its readers see: without comments."""
    return re.sub(r"\n{3,}", "\n\n", _COMMENT.sub("", page.read_text(encoding="utf-8"))).splitlines()


def name_of(page: Path) -> str:
    """Returns the name of a page from docs/ on, `start.md` or `from/monai.md`, or from the root of the repository."""
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).as_posix()


def run_python(block: Block, namespace: dict) -> None:
    """In the page's namespace; a traceback names the page and its line."""
    moved = "\n" * (block.line - 1) + block.code
    exec(compile(moved, str(block.page), "exec"), namespace)


def commands_of(block: Block) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Of a block of shell lines, one command a line or continued by a backslash: environment, words."""
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        environment = {}
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            name, _, environment[name] = words.pop(0).partition("=")
        if words:
            yield environment, words


def links_of(page: Path) -> list[str]:
    """Targets of links and pictures, but for those on the web."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [target for target in _LINK.findall(prose) if not re.match(r"[a-z]+:", target)]


def anchors_of(page: Path) -> set[str]:
    """Of each heading as GitHub makes it: small letters, hyphens for spaces, no punctuation, numbered if not unique."""
    anchors: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        times = sum(
            other == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", other) is not None for other in anchors
        )
        anchors.add(f"{anchor}-{times}" if times else anchor)
    return anchors


def names_in(code: str) -> Iterator[str]:
    """Dotted names that code reads or sets, as `torch.optim.SGD` and, in it, `torch.optim`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and re.fullmatch(r"\w+(\.\w+)+", name := ast.unparse(node)):
            yield name


def imports_in(code: str) -> dict[str, list[str]]:
    """The names that the import statements of code bind, and the statements of each."""
    bound: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                bound.setdefault(alias.asname or alias.name.split(".")[0], []).append(ast.unparse(node))
    return bound
