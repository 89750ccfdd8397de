"""Which code made a row: a hash of what trains and scores, since rows of two codes would pass for one table."""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from bench.measure.host import ROOT

FOLDERS = ("gmd", "gmd_kernels", "csrc", "bench/evidence")
SUFFIXES = frozenset((".py", ".cpp", ".h", ".inl", ".cu", ".cuh"))
AFTERWARDS = ("gmd/advice", "gmd/report")  # read what has been trained and scored
DIGITS = 12


def code_hash(root: Path = ROOT) -> str:
    """Returns a hash of the sources that rows depend on, twelve digits: of their contents, not of a commit.

    So a change of the docs throws no hours away, and a change that is not committed makes rows of its own.

    root: of the repository
    """
    digest = hashlib.sha256()
    for path in sources(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:DIGITS]


def sources(root: Path) -> list[Path]:
    """Returns the files that rows depend on, sorted: FOLDERS, and what they need of bench/measure."""
    found = {path for folder in FOLDERS for path in (root / folder).rglob("*") if path.suffix in SUFFIXES}
    found = {path for path in found if not path.relative_to(root).as_posix().startswith(AFTERWARDS)}
    waiting = [path for path in found if path.is_relative_to(root / "bench")]
    while waiting:
        needed = set(_of_measure(waiting.pop(), root)) - found
        found |= needed
        waiting += needed
    return sorted(found)


def _of_measure(path: Path, root: Path) -> Iterator[Path]:
    """Yields the files of bench/measure that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            file = root / f"{name.replace('.', '/')}.py"
            if name.startswith("bench.measure.") and file.is_file():
                yield file
