"""The public API is what docs/public-api.txt says: who changes it is told what to do, and does it on purpose."""

import re

import pytest

import gmd
import gmd_kernels
from docs.public_api import FILE, public_api
from gmd.cli.overview import COMMANDS

NEXT = (
    "the public API is not what docs/public-api.txt says:\n{}\n"
    "If that is wanted: a line in CHANGELOG.md; of what is gone, renamed, or does something else a row in "
    "docs/versions.md with what to do, and the old name stays as long as it says there; then "
    "`python -m docs.public_api`"
)


def by_name(text: str) -> dict[str, str]:
    """Name -> its line: of a function what stands before its parameters, of an option what stands before its type."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {re.split(r"\(|: | = | -> ", line)[0]: line for line in lines}


def changes(before: str, now: str) -> list[str]:
    """What differs between two texts of the API, a line each."""
    old, new = by_name(before), by_name(now)
    gone = [f"gone:    {old[name]}" for name in old if name not in new]
    added = [f"new:     {new[name]}" for name in new if name not in old]
    both = [name for name in old if name in new and old[name] != new[name]]
    return gone + added + [f"changed: {old[name]}\n     to: {new[name]}" for name in both]


@pytest.fixture(scope="module")
def now() -> str:
    return public_api()


def test_the_public_api_is_as_written_down(now):
    found = changes(FILE.read_text(encoding="utf-8"), now)
    assert not found, NEXT.format("\n".join(found))
    assert FILE.read_text(encoding="utf-8") == now, NEXT.format("the order of its lines")


def test_every_public_name_and_command_is_in_it(now):
    names = by_name(now)
    assert {f"gmd.{name}" for name in gmd.__all__} <= names.keys()
    assert {f"gmd_kernels.{name}" for name in gmd_kernels.__all__ if name != "weightings"} <= names.keys()
    assert {f"gmd_kernels.weightings.{name}" for name in gmd_kernels.weightings.__all__} <= names.keys()
    assert {name.split()[1] for name in names if name.startswith("gmd ")} == set(COMMANDS)
    assert "gmd train brats --width" in names
    assert "gmd.GMD.backward" in names


def test_a_change_is_named_with_what_it_was():
    before = "# about\ngmd.f(a: int = 1) -> int\ngmd.g()\ngmd train brats --width: float = 0.5\n"
    now = "# about\ngmd.f(a: int = 2) -> int\ngmd.h()\ngmd train brats --width: float = 0.5\n"
    assert changes(before, now) == [
        "gone:    gmd.g()",
        "new:     gmd.h()",
        "changed: gmd.f(a: int = 1) -> int\n     to: gmd.f(a: int = 2) -> int",
    ]
    assert not changes(before, before)
