"""The flow that ARCHITECTURE.md draws, read from its tables, and what in a source text goes against it.

A place is a row of the table of folders: a folder, `gmd/data`, or a single file, `gmd/errors.py`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PAGE = "ARCHITECTURE.md"
ROOTS = ("gmd_kernels", "gmd", "examples", "bench", "gpu")
KINDS = ("segmentation", "sequences")

_NAME = re.compile(r"`([^`]+)`")


class Import(NamedTuple):
    """One imported name."""

    line: int  # of the statement
    target: str  # the name as a path, `gmd/data/pairs`


def rows_of(page: str, header: str) -> list[list[str]]:
    """The cells of each row of the one Markdown table of `page` whose first header cell is `header`."""
    table = re.search(rf"^\| {re.escape(header)} \|.*\n\|[-:| ]+\|\n((?:\|.*\n?)+)", page, re.MULTILINE)
    if table is None:
        raise ValueError(f"{PAGE} has no table whose first column is called {header!r}")
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table[1].splitlines()]


def flow_of(page: str) -> dict[str, frozenset[str]]:
    """Each place -> the places that it may import, in the order of the table."""
    flow = {}
    for names, _, allowed in rows_of(page, "folder"):
        flow |= dict.fromkeys(_NAME.findall(names), frozenset(_NAME.findall(allowed)))
    return flow


def meeting_places_of(page: str) -> set[str]:
    """The files that may import from the rooms of both kinds of task."""
    return {name for cells in rows_of(page, "file") for name in _NAME.findall(cells[0])}


def place_of(target: str, flow: dict[str, frozenset[str]]) -> str | None:
    """The row that a file or an imported name belongs to: the longest one that it lies in. None: there is none."""
    target = target.removesuffix(".py")
    for name in (target, *map(str, PurePosixPath(target).parents)):
        for place in (name, f"{name}.py", f"{name}/__init__.py"):
            if place in flow:
                return place
    return None


def imports_of(source: str, path: str) -> Iterator[Import]:
    """What a file imports of this project, wherever in it: at the top, in functions, under conditions."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base_of(node, path)
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] in ROOTS:
                yield Import(node.lineno, name.replace(".", "/"))


def _base_of(node: ast.ImportFrom, path: str) -> str:
    """The package that names are imported from, without dots in front."""
    if node.level == 0:
        return node.module or ""
    package = PurePosixPath(path).parts[: -node.level]
    return ".".join([*package, *filter(None, [node.module])])


def kind_of(target: str) -> str | None:
    """`segmentation` or `sequences`, of a file or an imported name that is of one kind of task only."""
    return next((part for part in PurePosixPath(target.removesuffix(".py")).parts if part in KINDS), None)


def against_the_flow(flow: dict[str, frozenset[str]], path: str, source: str) -> list[str]:
    """A sentence for each import of `source`, the text of the file at `path`, that the table does not allow."""
    here, found = place_of(path, flow), []
    for line, target in imports_of(source, path):
        there = place_of(target, flow)
        if here is None or there is None:
            missing = path if here is None else target
            found.append(f"{path}:{line}: {missing} is in no row of {PAGE}: add its folder to the table.")
        elif there != here and there not in flow[here]:
            allowed = ", ".join(place for place in flow if place in flow[here]) or "nothing of this project"
            found.append(
                f"{path}:{line}: {here} imports {there}, and {PAGE} lets it import no more than {allowed}. Move what "
                f"is needed into a folder that stands before both, or let a folder behind both hand it over."
            )
    return list(dict.fromkeys(found))


def across_the_kinds(meeting_places: set[str], path: str, source: str) -> list[str]:
    """A sentence for each import by which one kind of task gets to know the other, outside of the files listed."""
    own = kind_of(path)
    imported = {kind: line for line, target in imports_of(source, path) if (kind := kind_of(target))}
    if own:
        return [
            f"{path}:{line}: a file of {own} imports one of {kind}: move what both need out of the two rooms."
            for kind, line in imported.items()
            if kind != own
        ]
    if len(imported) == len(KINDS) and path not in meeting_places:
        line = max(imported.values())
        return [
            f"{path}:{line}: it imports from the rooms of both {KINDS[0]} and {KINDS[1]}: let one of the files do so "
            f"that {PAGE} lists, or add it there with the reason."
        ]
    return []


def sources_of(root: Path) -> dict[str, str]:
    """Each Python file of the packages below `root`, as a path from there, and its text."""
    files = sorted(path for name in ROOTS for path in (root / name).rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in files}
