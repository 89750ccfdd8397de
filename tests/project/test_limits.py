"""No function is longer, and none branches more often, than can be read at once; no file is a drawer."""

import pytest

from helpers.architecture import sources_of
from helpers.limits import EXCEPTIONS, MOST_BRANCHES, MOST_LINES, MOST_LINES_OF_A_FILE, functions_of, over_the_limits
from helpers.places import ROOT

SOURCES = sources_of(ROOT)
assert len(SOURCES) > 100, "these tests would see nothing"


def test_functions_and_files_keep_to_the_limits():
    over = [sentence for path, source in SOURCES.items() for sentence in over_the_limits(path, source)]
    assert not over, "\n".join(over)


def test_every_exception_is_still_one():
    for path, name in EXCEPTIONS:
        [function] = [found for found in functions_of(SOURCES[path]) if found.name == name]
        assert function.lines > MOST_LINES or function.branches > MOST_BRANCHES, f"{name} needs no exception any more"


BRANCHES = [
    ("if a: pass", 1),
    ("if a:\n  pass\n elif b: pass\n else: pass", 2),
    ("for a in b: pass\n while c: pass", 2),
    ("try: pass\n except ValueError: pass\n except KeyError: pass\n finally: pass", 2),
    ("return a if b else c", 1),
    ("return a and b and c or d", 3),
    ("return [a for a in b for b in c if a if b]", 4),
    ("return {a: b for a in b}, {a for a in b}, (a for a in b)", 3),
    ("match a:\n  case 1: pass\n  case _: pass", 2),
    ("with a: pass", 0),
    ("def g():\n  if a: pass", 1),
]


@pytest.mark.parametrize(("body", "count"), BRANCHES, ids=[body for body, _ in BRANCHES])
def test_branches_are_counted(body, count):
    assert next(functions_of(f"def f():\n {body}\n")).branches == count


def test_the_limits_are_the_last_that_are_allowed():
    def function(lines=2, branches=0):
        return "async def f():\n" + " a\n" * (lines - 1 - branches) + " a if b else c\n" * branches

    assert next(functions_of(function(lines=40))).lines == 40, "this test would see nothing"
    assert not over_the_limits("x.py", function(MOST_LINES, MOST_BRANCHES))
    [sentence] = over_the_limits("x.py", function(MOST_LINES + 1))
    assert sentence.startswith("x.py:1: f has 41 lines and 0 branches")
    [sentence] = over_the_limits("x.py", "\n" + function(20, MOST_BRANCHES + 1))
    assert sentence.startswith("x.py:2: f has 20 lines and 13 branches")
    assert not over_the_limits("x.py", "a\n" * MOST_LINES_OF_A_FILE)
    assert over_the_limits("x.py", "a\n" * MOST_LINES_OF_A_FILE + "a\n")[0].startswith("x.py: 501 lines")
