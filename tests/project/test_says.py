"""Whatever gmd prints goes through `say` and `warn` of `gmd.printing`, which show what a terminal would act on."""

import ast

import pytest

from helpers.architecture import sources_of
from helpers.places import ROOT

ALLOWED = {"gmd/printing.py", "gmd/cli/terminal.py"}  # the function itself, and what puts streams in its way
PAST_IT = {("tqdm", "write"), ("traceback", "print_exc"), ("warnings", "warn")}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}


def prints(source: str) -> list[str]:
    """Returns what the source prints past `say`: calls of print and of tqdm's write, and streams of `sys`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id in {"print", "pprint"}:
            found.append(f"{node.lineno}: {node.id}")
        if isinstance(node, ast.ImportFrom) and node.module == "sys":
            found += [f"{node.lineno}: sys.{name.name}" for name in node.names if name.name in STREAMS]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of, name = node.value.id, node.attr
            if (of == "sys" and name in STREAMS) or (of, name) in PAST_IT:
                found.append(f"{node.lineno}: {of}.{name}")
    return found


def test_nothing_is_printed_past_say():
    ours = {path: text for path, text in sources_of(ROOT).items() if path.startswith("gmd/")}
    past = [f"{path}:{line}" for path, text in ours.items() if path not in ALLOWED for line in prints(text)]
    assert not past, "use say or warn of gmd.printing"
    assert all(prints(ours[path]) for path in ALLOWED), "needs no exception any more"


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "import tqdm\ntqdm.write('a')",
        "import sys\nsys.stdout.write('a')",
        "import sys\nf(file=sys.stderr)",
        "from sys import stdout",
        "f = print",
    ],
)
def test_what_is_printed_past_say_is_found(source: str):
    assert len(prints(source)) == 1
