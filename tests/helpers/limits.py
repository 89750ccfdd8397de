"""How long functions and files are, and how often they branch."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

MOST_LINES, MOST_BRANCHES, MOST_LINES_OF_A_FILE = 40, 12, 500
EXCEPTIONS = {
    ("gmd_kernels/triton_ops/owm_update_kernel.py", "_update_kernel"): (
        "Triton's kernels take every pointer and stride as an argument; sixteen of the lines are these and their shapes"
    ),
}
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)


class Measured(NamedTuple):
    """A function, with those defined in it."""

    name: str
    first_line: int
    lines: int  # from `def` to the end, docstring and blank lines included; decorators are not
    branches: int


def functions_of(source: str) -> Iterator[Measured]:
    """Every function and method of a source text, nested ones too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None, "parsed text has line numbers"
            branches = sum(map(branches_at, ast.walk(node)))
            yield Measured(node.name, node.lineno, node.end_lineno - node.lineno + 1, branches)


def branches_at(node: ast.AST) -> int:
    """How many ways on a node adds: one for each if, loop, except and case, for each `and` and `or` between two
    conditions, and in a comprehension one for each `for` and each `if`."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return isinstance(
        node, ast.If | ast.IfExp | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler | ast.match_case
    )


def over_the_limits(path: str, source: str) -> list[str]:
    """A sentence for each function of a file that is too long or branches too often, and for a file too long."""
    found = []
    for name, first_line, lines, branches in functions_of(source):
        if (lines > MOST_LINES or branches > MOST_BRANCHES) and (path, name) not in EXCEPTIONS:
            found.append(
                f"{path}:{first_line}: {name} has {lines} lines and {branches} branches, {MOST_LINES} and "
                f"{MOST_BRANCHES} are the most: give its parts names of their own."
            )
    if (length := len(source.splitlines())) > MOST_LINES_OF_A_FILE:
        found.append(f"{path}: {length} lines, {MOST_LINES_OF_A_FILE} are the most: it has more than one idea.")
    return found
